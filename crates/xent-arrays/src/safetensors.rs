//! safetensors: a JSON header, which the format's own crate checks, then the tensors' bytes, which
//! may begin at any position.

use std::io::Read;
use std::path::Path;

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
        let dtype = dtype(info.dtype)
            .ok_or_else(|| Problem::logit_type(name, format!("{:?}", info.dtype)))?;
        let header = Header {
            dtype,
            byte_order: ByteOrder::Little,
            fortran_order: false,
            shape: info.shape.clone(),
        };
        header.entries()?;
        let (file, _) = open_regular(path)?;
        let entries = Entries::File(file, 8 + length + info.data_offsets.0 as u64);
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
