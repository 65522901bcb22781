//! NumPy's `.npy` files, read strictly: they come from strangers.
//!
//! Everything that a header claims is checked against the size of the file before memory is taken for it, so that reading costs at most about the file's size and time
//! linear in it. Format: NumPy Enhancement Proposal 1 and the documentation of `numpy.lib.format`; versions 1.0, 2.0 and 3.0.
//!
//! Beside NumPy's own numbers, `V2` is read as bfloat16: that is what NumPy writes for the `bfloat16` of the package ml_dtypes.

mod array;
mod error;
mod header;
mod read;
mod values;
mod write;

pub use array::{Array, Shape};
pub use error::NpyError;
pub use header::Header;
pub use read::{read, read_header};
pub use values::{ByteOrder, Dtype, Number, Values};
pub use write::encode;

/// What every `.npy` file begins with.
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read, NumPy's own limit. A header of the longest shape has about 1400 bytes.
const LONGEST_HEADER: usize = 10_000;
/// Most axes of an array, NumPy's own limit.
const MOST_AXES: usize = 64;
