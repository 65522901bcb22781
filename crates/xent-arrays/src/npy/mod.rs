//! NumPy's `.npy` files, read strictly, because a file may come from anyone.
//!
//! Everything that a header declares is checked against the size of the file before memory is
//! allocated for it, so reading takes about as much memory as the file has bytes, and time linear
//! in them. Format: NumPy Enhancement Proposal 1 and the documentation of `numpy.lib.format`;
//! versions 1.0, 2.0 and 3.0.
//!
//! In addition to NumPy's own numbers, `V2` is read as bfloat16: that is what NumPy writes for the
//! `bfloat16` of the package ml_dtypes.

mod array;
mod header;
mod read;
mod values;
mod write;

pub use array::{Array, Shape};
pub use header::Header;
pub(crate) use read::open_regular;
pub use read::{read, read_header};
pub(crate) use values::Entry;
pub use values::{ByteOrder, Dtype, Values};
pub use write::{write, write_header};

/// The first bytes of every `.npy` file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read, NumPy's own limit. A header of the longest shape has about 1400
/// bytes.
const LONGEST_HEADER: usize = 10_000;
/// Most axes of an array, NumPy's own limit.
const MOST_AXES: usize = 64;
