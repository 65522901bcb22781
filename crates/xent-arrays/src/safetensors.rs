//! safetensors: a header in JSON, checked by the format's own crate, then the tensors' bytes, which may begin at any position.

use std::io::Read;
use std::path::Path;

use safetensors::Dtype as Type;
use safetensors::tensor::Metadata;

use crate::error::{Problem, names};
use crate::npy::{ByteOrder, Dtype, Header};
use crate::numbers::{Bytes, Numbers, open_regular};

/// Longest header that is read. One with a thousand tensors has some 100,000 bytes.
const LONGEST_HEADER: u64 = 1 << 24;

/// A tensor: that with the name, or the only one that `fits`.
pub fn open(path: &Path, name: Option<&str>, fits: fn(&Header) -> bool) -> Result<Numbers, Problem> {
    let unreadable = |what: String| Problem::Safetensors(what);
    let (mut file, size) = open_regular(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| unreadable(format!("the file ends after {size} bytes, inside the header's length")))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER || length > size - 8 {
        return Err(unreadable(format!("a header of {length} bytes in a file of {size}, expected at most {}", LONGEST_HEADER.min(size - 8))));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    let found = size - 8 - length;
    if metadata.data_len() as u64 != found {
        return Err(Problem::Length { what: "the tensors".to_string(), found: found.to_string(), expected: metadata.data_len() as u64 });
    }
    let keys = metadata.offset_keys();
    let all = || names("tensor", keys.iter().map(String::as_str));
    let open = |name: &str| -> Result<Numbers, Problem> {
        let info = metadata.info(name).ok_or_else(|| Problem::Missing { what: "tensor", name: name.to_string(), has: all() })?;
        let Some(dtype) = dtype(info.dtype) else {
            return Err(Problem::LogitType { what: name.to_string(), found: format!("{:?}", info.dtype) });
        };
        let header = Header { dtype, byte_order: ByteOrder::Little, fortran_order: false, shape: info.shape.clone() };
        header.entries()?;
        let (file, _) = open_regular(path)?;
        let bytes = Bytes::File(file, 8 + length + info.data_offsets.0 as u64);
        Ok(Numbers { file: path.to_path_buf(), name: name.to_string(), header, bytes })
    };
    if let Some(name) = name {
        return open(name);
    }
    let mut candidates = keys.iter().filter_map(|key| open(key).ok()).filter(|numbers| fits(&numbers.header));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        _ if keys.len() == 1 => open(&keys[0]),
        _ => Err(Problem::Ambiguous { has: all() }),
    }
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
