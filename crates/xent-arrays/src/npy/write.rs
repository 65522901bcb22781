//! From an array to a file.

use std::io::{Result, Write};

use super::array::{Array, Shape};
use super::{MAGIC, MOST_AXES};

/// The entries start at a multiple of this.
const ALIGNMENT: usize = 64;

/// Writes an array as a `.npy` file (version 1.0, little-endian), in the order that it has in
/// memory, piece by piece.
///
/// # Errors
/// Those of `out`.
pub fn write(array: &Array, out: &mut dyn Write) -> Result<()> {
    debug_assert!(array.shape().len() <= MOST_AXES, "the header's length fits its 16 bits");
    let dtype = array.dtype();
    let order = if dtype.size() == 1 { '|' } else { '<' };
    let mut header = format!(
        "{{'descr': '{order}{}', 'fortran_order': {}, 'shape': {}, }}",
        dtype.code(),
        if array.fortran_order() { "True" } else { "False" },
        Shape(array.shape())
    );
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(ALIGNMENT) - before;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');

    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&(padded as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    array.values().write(out)
}
