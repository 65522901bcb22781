//! What can be wrong with a call.

use burn::tensor::DType;

/// The error of every call. Functions that return a plain tensor, as burn's own do, panic with its
/// message; all others return it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option, a batch or a shape that xent rejects. Rows are numbered in C order of the logits'
    /// axes without the class axis.
    #[error(transparent)]
    Xent(#[from] xent::Error),
    /// A tensor whose dtype is not supported.
    #[error("{name} has dtype {}, expected {expected}", .found.name())]
    Dtype {
        /// Which tensor.
        name: &'static str,
        /// Its dtype.
        found: DType,
        /// What was expected.
        expected: &'static str,
    },
    /// A call that cannot be answered as requested.
    #[error("{0}")]
    Call(String),
    /// An error of xent-linear that the checks before it did not find.
    #[error(transparent)]
    Linear(xent_linear::Error),
    /// A tensor that could not be read back.
    #[error("burn could not read a tensor: {0}")]
    Read(String),
}

impl From<xent_linear::Error> for Error {
    fn from(error: xent_linear::Error) -> Self {
        match error {
            xent_linear::Error::Xent(error) => Self::Xent(error),
            other => Self::Linear(other),
        }
    }
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
