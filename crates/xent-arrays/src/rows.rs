//! Rows a block at a time.

use half::{bf16, f16};

use crate::error::ArrayError;
use crate::npy::{ByteOrder, Dtype, Number};

/// Logits of rows that follow one another.
#[derive(Debug, Clone)]
pub struct Block {
    /// How many rows.
    pub rows: usize,
    /// `[rows, classes]`.
    pub floats: Floats,
}

/// Numbers, as they were read: decoding them is left to whoever has a thread for it.
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
    /// Numbers in single precision, if they fit it without loss, else in double.
    pub fn decode(self) -> Self {
        match self {
            Self::Encoded(bytes, Dtype::F64, order) => Self::F64(numbers(&bytes, order)),
            Self::Encoded(bytes, Dtype::F16, order) => Self::F32(numbers::<f16>(&bytes, order).into_iter().map(f32::from).collect()),
            Self::Encoded(bytes, Dtype::Bf16, order) => Self::F32(numbers::<bf16>(&bytes, order).into_iter().map(f32::from).collect()),
            Self::Encoded(bytes, _, order) => Self::F32(numbers(&bytes, order)),
            decoded => decoded,
        }
    }
}

pub(crate) fn numbers<T: Number>(bytes: &[u8], order: ByteOrder) -> Vec<T> {
    let mut numbers = Vec::with_capacity(bytes.len() / size_of::<T>());
    T::decode(bytes, order, &mut numbers);
    numbers
}

/// A file's logits, from its first row to its last.
pub trait LogitRows: Send {
    /// K.
    fn classes(&self) -> usize;
    /// How many rows there are, where the file says so before it has been read.
    fn rows(&self) -> Option<u64>;
    /// Bytes of the file that a row takes, about.
    fn row_bytes(&self) -> u64;
    /// The next rows, at most so many; none at the end.
    ///
    /// # Errors
    /// What the file has there is not what it should have.
    fn next(&mut self, most: usize) -> Result<Block, ArrayError>;
}

/// A file's labels, from the first to the last.
pub trait LabelRows: Send {
    /// How many there are, where the file says so before it has been read.
    fn rows(&self) -> Option<u64>;
    /// Appends the next ones, at most so many, and says how many came; 0 at the end.
    ///
    /// # Errors
    /// What the file has there is not what it should have.
    fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, ArrayError>;
}
