//! From a file to an array.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::array::{Array, Shape};
use super::error::NpyError;
use super::header::Header;
use super::values::{ByteOrder, Dtype, Number, Values};
use super::{LONGEST_HEADER, MAGIC};

/// Bytes that are decoded at a time; a multiple of every number's size.
const PART: usize = 1 << 16;

/// Reads a `.npy` file.
///
/// # Errors
/// [`NpyError`] unless the path is a regular file (its size has to be known beforehand: pipes and devices are refused) which is exactly what its header says.
pub fn read(path: &Path) -> Result<Array, NpyError> {
    // Before the file is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(NpyError::NotRegular);
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(NpyError::NotRegular);
    }
    read_sized(BufReader::new(file), metadata.len())
}

/// Reads an array from `size` bytes.
fn read_sized(mut reader: impl Read, size: u64) -> Result<Array, NpyError> {
    let header = read_header(&mut reader, size)?;
    let values = values(&mut reader, header.dtype, header.entries()?, header.byte_order)?;
    Ok(Array::new(header.shape, header.fortran_order, values))
}

/// Reads what comes before an array's numbers, of `size` bytes in all: exactly the numbers are left.
///
/// # Errors
/// [`NpyError`] unless as many bytes follow as the header says.
pub fn read_header(reader: &mut impl Read, size: u64) -> Result<Header, NpyError> {
    let mut start = [0u8; 8];
    let whole = usize::try_from(size).map_or(start.len(), |size| size.min(start.len()));
    reader.read_exact(&mut start[..whole])?;
    if !start.starts_with(MAGIC) {
        return Err(NpyError::Magic(start[..whole.min(MAGIC.len())].to_vec()));
    }
    let needs = |needed: u64| if size < needed { Err(NpyError::ShortHeader { size, needed }) } else { Ok(()) };
    needs(8)?;
    let mut length = [0u8; 4];
    let width = match (start[6], start[7]) {
        (1, 0) => 2,
        (2 | 3, 0) => 4,
        (major, minor) => return Err(NpyError::Version(major, minor)),
    };
    needs(8 + width)?;
    reader.read_exact(&mut length[..width as usize])?;
    let length = u32::from_le_bytes(length);
    if length as usize > LONGEST_HEADER {
        return Err(NpyError::LongHeader(length.into()));
    }
    let before = 8 + width + u64::from(length);
    needs(before)?;
    let mut text = vec![0; length as usize];
    reader.read_exact(&mut text)?;
    let header = Header::parse(&text)?;

    let entries = header.entries()?;
    let bytes = (entries * header.dtype.size()) as u64;
    if size - before != bytes {
        return Err(NpyError::Size { shape: Shape(&header.shape).to_string(), dtype: header.dtype.name(), expected: bytes, found: size - before });
    }
    Ok(header)
}

fn values(reader: &mut impl Read, dtype: Dtype, entries: usize, order: ByteOrder) -> Result<Values, NpyError> {
    Ok(match dtype {
        Dtype::Bool => Values::Bool(truths(numbers(reader, entries, order)?)?),
        Dtype::I8 => Values::I8(numbers(reader, entries, order)?),
        Dtype::I16 => Values::I16(numbers(reader, entries, order)?),
        Dtype::I32 => Values::I32(numbers(reader, entries, order)?),
        Dtype::I64 => Values::I64(numbers(reader, entries, order)?),
        Dtype::U8 => Values::U8(numbers(reader, entries, order)?),
        Dtype::U16 => Values::U16(numbers(reader, entries, order)?),
        Dtype::U32 => Values::U32(numbers(reader, entries, order)?),
        Dtype::U64 => Values::U64(numbers(reader, entries, order)?),
        Dtype::F16 => Values::F16(numbers(reader, entries, order)?),
        Dtype::Bf16 => Values::Bf16(numbers(reader, entries, order)?),
        Dtype::F32 => Values::F32(numbers(reader, entries, order)?),
        Dtype::F64 => Values::F64(numbers(reader, entries, order)?),
    })
}

/// `entries` numbers, whose bytes have been seen to exist.
fn numbers<T: Number>(reader: &mut impl Read, entries: usize, order: ByteOrder) -> Result<Vec<T>, NpyError> {
    let mut left = entries * size_of::<T>();
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(entries).map_err(|_| NpyError::Memory(left as u64))?;
    let mut part = vec![0; left.min(PART)];
    while left > 0 {
        let bytes = &mut part[..left.min(PART)];
        reader.read_exact(bytes)?;
        T::decode(bytes, order, &mut numbers);
        left -= bytes.len();
    }
    Ok(numbers)
}

fn truths(bytes: Vec<u8>) -> Result<Vec<bool>, NpyError> {
    match bytes.iter().position(|&byte| byte > 1) {
        Some(entry) => Err(NpyError::Bool { entry, byte: bytes[entry] }),
        None => Ok(bytes.into_iter().map(|byte| byte == 1).collect()),
    }
}

#[cfg(test)]
mod tests;
