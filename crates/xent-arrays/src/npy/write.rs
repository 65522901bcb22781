//! From an array to a file.

use std::io::{Result, Write};

use super::array::{Array, Shape};
use super::values::Dtype;
use super::{MAGIC, MOST_AXES};

/// The entries start at a multiple of this.
const ALIGNMENT: usize = 64;

/// Writes an array as a `.npy` file (version 1.0, little-endian), in the order that it has in
/// memory, piece by piece.
///
/// # Errors
/// Those of `out`.
pub fn write(array: &Array, out: &mut dyn Write) -> Result<()> {
    write_header(array.dtype(), array.shape(), array.fortran_order(), out)?;
    array.values().write(out)
}

/// Writes what comes before the entries of an array, which follow in little-endian order.
///
/// # Errors
/// Those of `out`.
pub fn write_header(
    dtype: Dtype,
    shape: &[usize],
    fortran_order: bool,
    out: &mut dyn Write,
) -> Result<()> {
    debug_assert!(shape.len() <= MOST_AXES, "the header's length fits its 16 bits");
    let order = if dtype.size() == 1 { '|' } else { '<' };
    let mut header = format!(
        "{{'descr': '{order}{}', 'fortran_order': {}, 'shape': {}, }}",
        dtype.code(),
        if fortran_order { "True" } else { "False" },
        Shape(shape)
    );
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(ALIGNMENT) - before;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');

    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&(padded as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())
}
