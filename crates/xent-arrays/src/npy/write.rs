//! From an array to the bytes of a file.

use super::array::{Array, Shape};
use super::{MAGIC, MOST_AXES};

/// The entries start at a multiple of this.
const ALIGNMENT: usize = 64;

/// The `.npy` file (version 1.0, little-endian, C order) of an array.
pub fn encode(array: Array) -> Vec<u8> {
    debug_assert!(array.shape().len() <= MOST_AXES, "the header's length fits its 16 bits");
    let dtype = array.dtype();
    let order = if dtype.size() == 1 { '|' } else { '<' };
    let mut header = format!(
        "{{'descr': '{order}{}', 'fortran_order': False, 'shape': {}, }}",
        dtype.code(),
        Shape(array.shape())
    );
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(ALIGNMENT) - before;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');

    let mut file = Vec::with_capacity(before + padded + array.values().len() * dtype.size());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[1, 0]);
    file.extend_from_slice(&(padded as u16).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    array.into_values().encode(&mut file);
    file
}
