//! safetensors: a JSON header, which the format's own crate checks, then the tensors' bytes, which
//! may begin at any position.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use half::f16;
use safetensors::Dtype as Type;
use safetensors::tensor::Metadata;

use crate::error::Problem;
use crate::npy::{ByteOrder, Dtype, Header, open_regular};
use crate::stored::{Entries, StoredArray};

/// The longest header that is read. The header of a thousand tensors has about 100,000 bytes.
const LONGEST_HEADER: u64 = 1 << 24;

/// A tensor: the one called `name`, or the only one that `fits`.
pub fn open(
    path: &Path,
    name: Option<&str>,
    fits: fn(&Header) -> bool,
) -> Result<StoredArray, Problem> {
    let unreadable = |why: String| Problem::unreadable("safetensors header", why);
    let (mut file, size) = open_regular(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| {
        unreadable(format!("the file ends after {size} bytes, inside the header's length"))
    })?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER || length > size - 8 {
        return Err(unreadable(format!(
            "a header of {length} bytes in a file of {size}, expected at most {}",
            LONGEST_HEADER.min(size - 8)
        )));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    let found = size - 8 - length;
    if metadata.data_len() as u64 != found {
        return Err(Problem::length("the tensors", found, metadata.data_len() as u64));
    }
    let keys = metadata.offset_keys();
    StoredArray::choose("tensor", &keys, name, fits, |index| {
        let name = &keys[index];
        let info = metadata.info(name).ok_or_else(|| unreadable(format!("no tensor {name}")))?;
        let narrow = Narrow::of(info.dtype);
        let dtype = narrow.map_or_else(|| dtype(info.dtype), |_| Some(Dtype::F16));
        let dtype = dtype.ok_or_else(|| Problem::logit_type(name, format!("{:?}", info.dtype)))?;
        let header = Header {
            dtype,
            byte_order: ByteOrder::Little,
            fortran_order: false,
            shape: info.shape.clone(),
        };
        header.entries()?;
        let (mut file, _) = open_regular(path)?;
        let start = 8 + length + info.data_offsets.0 as u64;
        let entries = match narrow {
            None => Entries::File(file, start),
            Some(narrow) => {
                file.seek(SeekFrom::Start(start))?;
                let bytes = (info.data_offsets.1 - info.data_offsets.0) as u64;
                Entries::Stream(Box::new(Widened::new(BufReader::new(file.take(bytes)), narrow)))
            }
        };
        Ok(StoredArray { file: path.to_path_buf(), name: name.clone(), header, entries })
    })
}

fn dtype(dtype: Type) -> Option<Dtype> {
    Some(match dtype {
        Type::BOOL => Dtype::Bool,
        Type::U8 => Dtype::U8,
        Type::I8 => Dtype::I8,
        Type::I16 => Dtype::I16,
        Type::U16 => Dtype::U16,
        Type::F16 => Dtype::F16,
        Type::BF16 => Dtype::Bf16,
        Type::I32 => Dtype::I32,
        Type::U32 => Dtype::U32,
        Type::F32 => Dtype::F32,
        Type::F64 => Dtype::F64,
        Type::I64 => Dtype::I64,
        Type::U64 => Dtype::U64,
        _ => return None,
    })
}

/// Floats of eight bits. Half precision has all of them exactly.
#[derive(Debug, Clone, Copy)]
enum Narrow {
    /// Four bits of exponent, three of significand, no infinities (Micikevicius et al. 2022).
    E4M3,
    /// The upper half of half precision.
    E5M2,
}

impl Narrow {
    fn of(dtype: Type) -> Option<Self> {
        match dtype {
            Type::F8_E4M3 => Some(Self::E4M3),
            Type::F8_E5M2 => Some(Self::E5M2),
            _ => None,
        }
    }

    fn widen(self, byte: u8) -> f16 {
        let Self::E4M3 = self else {
            return f16::from_bits(u16::from(byte) << 8);
        };
        let (exponent, significand) = (i32::from(byte >> 3 & 15), f32::from(byte & 7) / 8.0);
        let size = match (exponent, byte & 7) {
            (15, 7) => f32::NAN,
            (0, _) => significand * 2f32.powi(-6),
            _ => (1.0 + significand) * 2f32.powi(exponent - 7),
        };
        f16::from_f32(if byte >> 7 == 1 { -size } else { size })
    }
}

/// Reads entries of one byte as half precision, little-endian.
struct Widened<R> {
    inner: R,
    table: [[u8; 2]; 256],
    /// The second byte of an entry whose first one was the last that fitted.
    second: Option<u8>,
}

impl<R: Read> Widened<R> {
    fn new(inner: R, narrow: Narrow) -> Self {
        let table = std::array::from_fn(|byte| narrow.widen(byte as u8).to_le_bytes());
        Self { inner, table, second: None }
    }
}

impl<R: Read> Read for Widened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut bytes = [0; 1 << 12];
        let kept = self.second.take();
        let Some((first, rest)) = buffer.split_first_mut() else {
            self.second = kept;
            return Ok(0);
        };
        if let Some(second) = kept {
            *first = second;
            return Ok(1);
        }
        let most = (1 + rest.len()).div_ceil(2).min(bytes.len());
        let read = self.inner.read(&mut bytes[..most])?;
        for (byte, entry) in bytes[..read].iter().zip(buffer.chunks_mut(2)) {
            let wide = self.table[usize::from(*byte)];
            entry.copy_from_slice(&wide[..entry.len()]);
            self.second = (entry.len() == 1).then_some(wide[1]);
        }
        Ok((2 * read).min(buffer.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_are_those_of_their_formats() {
        // The largest, the smallest normal and the smallest number of each, from their definition.
        for (narrow, byte, value) in [
            (Narrow::E4M3, 0x7e, 448.0),
            (Narrow::E4M3, 0x08, 2f32.powi(-6)),
            (Narrow::E4M3, 0x01, 2f32.powi(-9)),
            (Narrow::E4M3, 0xb9, -0.5625 * 2.0),
            (Narrow::E4M3, 0x00, 0.0),
            (Narrow::E5M2, 0x7b, 57344.0),
            (Narrow::E5M2, 0x04, 2f32.powi(-14)),
            (Narrow::E5M2, 0x01, 2f32.powi(-16)),
            (Narrow::E5M2, 0xbd, -1.25),
            (Narrow::E5M2, 0xfc, f32::NEG_INFINITY),
        ] {
            assert_eq!(narrow.widen(byte).to_f32(), value, "{narrow:?} {byte:#x}");
        }
        assert!(Narrow::E4M3.widen(0x7f).is_nan() && Narrow::E4M3.widen(0xff).is_nan());
        assert!(Narrow::E5M2.widen(0x7d).is_nan());
        // All of them, as PyTorch reads them.
        for (narrow, sum) in [(Narrow::E4M3, 10815.75), (Narrow::E5M2, 720895.9995117188)] {
            let all = (0..=255).map(|byte| narrow.widen(byte).to_f64()).filter(|x| x.is_finite());
            assert_eq!(all.map(f64::abs).sum::<f64>(), sum);
        }
    }

    #[test]
    fn pieces_of_any_length_have_every_byte() {
        let bytes: Vec<u8> = (0..=255).collect();
        let all: Vec<u8> =
            bytes.iter().flat_map(|byte| Narrow::E5M2.widen(*byte).to_le_bytes()).collect();
        for length in [1, 2, 3, 7, 600] {
            let mut reader = Widened::new(&bytes[..], Narrow::E5M2);
            let (mut found, mut piece) = (Vec::new(), vec![0; length]);
            while let Ok(read @ 1..) = reader.read(&mut piece) {
                found.extend_from_slice(&piece[..read]);
            }
            assert_eq!(found, all, "{length}");
        }
    }
}
