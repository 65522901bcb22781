//! Rows, one block at a time.

use half::{bf16, f16};

use crate::error::ArrayError;
use crate::npy::{ByteOrder, Dtype, Entry};

/// The logits of consecutive rows.
#[derive(Debug, Clone)]
pub struct Block {
    /// The number of rows.
    pub rows: usize,
    /// `[rows, classes]`.
    pub floats: Floats,
}

/// Numbers as they were read: the caller decodes them, on a thread of its choice.
#[derive(Debug, Clone)]
pub enum Floats {
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
    /// A file's bytes.
    Encoded(Vec<u8>, Dtype, ByteOrder),
}

impl Floats {
    /// Numbers in single precision if they fit without loss, otherwise in double precision.
    pub fn decode(self) -> Self {
        match self {
            Self::Encoded(bytes, Dtype::F64, order) => Self::F64(decoded(&bytes, order)),
            Self::Encoded(bytes, Dtype::F16, order) => {
                Self::F32(decoded::<f16>(&bytes, order).into_iter().map(f32::from).collect())
            }
            Self::Encoded(bytes, Dtype::Bf16, order) => {
                Self::F32(decoded::<bf16>(&bytes, order).into_iter().map(f32::from).collect())
            }
            Self::Encoded(bytes, _, order) => Self::F32(decoded(&bytes, order)),
            decoded => decoded,
        }
    }
}

fn decoded<T: Entry>(bytes: &[u8], order: ByteOrder) -> Vec<T> {
    let mut entries = Vec::with_capacity(bytes.len() / size_of::<T>());
    T::decode(bytes, order, &mut entries);
    entries
}

/// The logits of a file, from its first row to its last.
pub trait LogitRows: Send {
    /// K.
    fn classes(&self) -> usize;
    /// The names of the classes, if the file has them.
    fn class_names(&self) -> &[String] {
        &[]
    }
    /// The number of rows, if the file declares it before it is read.
    fn rows(&self) -> Option<u64>;
    /// Approximate number of bytes that a row takes in the file.
    fn row_bytes(&self) -> u64;
    /// The next rows, at most `most`; none at the end.
    ///
    /// # Errors
    /// The file's contents there are not what they should be.
    fn next(&mut self, most: usize) -> Result<Block, ArrayError>;
}

/// The labels of a file, from the first to the last.
pub trait LabelRows: Send {
    /// The number of labels, if the file declares it before it is read.
    fn rows(&self) -> Option<u64>;
    /// Appends the next labels, at most `most`, and returns how many; 0 at the end.
    ///
    /// # Errors
    /// The file's contents there are not what they should be.
    fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, ArrayError>;
}
