//! What can be wrong with a call.

use burn::tensor::DType;

/// A configuration, a batch or a tensor that cannot be used. Functions that return a plain tensor, as burn's own do, panic with its message; all others return it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option outside its range.
    #[error(transparent)]
    Config(#[from] xent::ConfigError),
    /// A batch that does not fit the criterion or the logits: a label outside the classes, ε or a weight outside its range. Rows are numbered in C order of the
    /// logits' axes without the class axis.
    #[error(transparent)]
    Input(#[from] xent::InputError),
    /// Logits without classes.
    #[error(transparent)]
    View(#[from] xent::ViewError),
    /// A class axis that the logits do not have.
    #[error("the class axis is {axis}, expected an axis of logits of shape {logits:?}: {} to {}", -(.logits.len() as isize), .logits.len() as isize - 1)]
    Axis {
        /// The axis, from the end where negative.
        axis: isize,
        /// The logits' shape.
        logits: Vec<usize>,
    },
    /// A tensor whose shape does not go with the logits'.
    #[error("{name} has shape {found:?}, expected {expected} beside logits of shape {logits:?} with the classes on axis {axis}")]
    Shape {
        /// Which tensor.
        name: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What was expected, in words and numbers.
        expected: String,
        /// The logits' shape.
        logits: Vec<usize>,
        /// The logits' class axis.
        axis: usize,
    },
    /// A tensor whose dtype cannot be used.
    #[error("{name} has dtype {}, expected {expected}", .found.name())]
    Dtype {
        /// Which tensor.
        name: &'static str,
        /// Its dtype.
        found: DType,
        /// What was expected.
        expected: &'static str,
    },
    /// A call that cannot be answered as it was asked.
    #[error("{0}")]
    Call(String),
    /// A tensor that could not be read back.
    #[error("burn could not read a tensor: {0}")]
    Read(String),
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
