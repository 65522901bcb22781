//! From a file to an array.

use std::fs::{File, Metadata};
use std::io::{BufReader, Read};
use std::path::Path;

use super::array::{Array, Shape};
use super::header::Header;
use super::values::Values;
use super::{LONGEST_HEADER, MAGIC};
use crate::error::Problem;

/// Reads a `.npy` file.
///
/// # Errors
/// [`Problem`] unless the path is a regular file (its size must be known beforehand: pipes and
/// devices are rejected) whose contents are exactly what its header declares.
pub fn read(path: &Path) -> Result<Array, Problem> {
    let (file, size) = open_regular(path)?;
    read_sized(BufReader::new(file), size)
}

/// Opens a regular file, whose size can be checked against what the file declares, and returns that
/// size.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64), Problem> {
    let not_regular = || {
        Problem("it is a folder, pipe or device, expected a regular file, whose size can be checked against its header".to_string())
    };
    let regular = |metadata: Metadata| {
        if metadata.is_file() { Ok(metadata.len()) } else { Err(not_regular()) }
    };
    // Before the file is opened: opening a pipe waits for a writer.
    regular(std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    let size = regular(file.metadata()?)?;
    Ok((file, size))
}

/// Reads an array from `size` bytes.
fn read_sized(mut reader: impl Read, size: u64) -> Result<Array, Problem> {
    let header = read_header(&mut reader, size)?;
    let values = Values::read(&mut reader, header.dtype, header.entries()?, header.byte_order)?;
    Ok(Array::new(header.shape, header.fortran_order, values))
}

/// Reads the header of an array that takes `size` bytes in all and leaves exactly the entries to be
/// read.
///
/// # Errors
/// [`Problem`] unless as many bytes follow as the header declares.
pub fn read_header(reader: &mut impl Read, size: u64) -> Result<Header, Problem> {
    let mut start = [0u8; 8];
    let whole = usize::try_from(size).map_or(start.len(), |size| size.min(start.len()));
    reader.read_exact(&mut start[..whole])?;
    if !start.starts_with(MAGIC) {
        let found = start[..whole.min(MAGIC.len())].escape_ascii();
        return Err(Problem(format!(
            "it begins with '{found}', expected the .npy format's '{}'",
            MAGIC.escape_ascii()
        )));
    }
    let needs = |needed: u64| {
        if size < needed {
            Err(Problem(format!(
                "the file ends after {size} bytes, inside the header, which needs {needed}"
            )))
        } else {
            Ok(())
        }
    };
    needs(8)?;
    let mut length = [0u8; 4];
    let width = match (start[6], start[7]) {
        (1, 0) => 2,
        (2 | 3, 0) => 4,
        (major, minor) => {
            return Err(Problem(format!(".npy version {major}.{minor}, expected 1.0, 2.0 or 3.0")));
        }
    };
    needs(8 + width)?;
    reader.read_exact(&mut length[..width as usize])?;
    let length = u32::from_le_bytes(length);
    if length as usize > LONGEST_HEADER {
        return Err(Problem(format!(
            "a header of {length} bytes, expected at most {LONGEST_HEADER}"
        )));
    }
    let before = 8 + width + u64::from(length);
    needs(before)?;
    let mut text = vec![0; length as usize];
    reader.read_exact(&mut text)?;
    let header = Header::parse(&text)?;

    let entries = header.entries()?;
    let bytes = (entries * header.dtype.size()) as u64;
    if size - before != bytes {
        let (shape, dtype, found) = (Shape(&header.shape), header.dtype.name(), size - before);
        return Err(Problem(format!(
            "shape {shape} of {dtype} has {bytes} bytes, but {found} follow the header"
        )));
    }
    Ok(header)
}

#[cfg(test)]
mod tests;
