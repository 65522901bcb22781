//! What can be wrong with a call, and how it reaches functions that return `candle_core::Result`.

use candle_core::DType;

/// A configuration, a batch or a tensor that cannot be used. No call panics on its input.
///
/// Converts into [`candle_core::Error`], so that `?` works in functions that return
/// [`candle_core::Result`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of xent: an option outside its range, a batch that does not fit the criterion, a
    /// tensor whose shape does not go with that of the logits. Rows are numbered in C order of the
    /// axes of the logits without the class axis.
    #[error(transparent)]
    Xent(#[from] xent::Error),
    /// A tensor whose dtype cannot be used.
    #[error("{name} has dtype {}, expected {expected}", .found.as_str())]
    Dtype {
        /// Which tensor.
        name: &'static str,
        /// Its dtype.
        found: DType,
        /// What was expected.
        expected: &'static str,
    },
    /// A tensor of a linear layer whose shape does not go with those of the others.
    #[error("{name} has shape {found:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        name: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What was expected, in words and numbers.
        expected: String,
    },
    /// An error of xent-linear that the checks before it did not find.
    #[error(transparent)]
    Linear(xent_linear::Error),
    /// An error of candle, for example a failed allocation or copy.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<xent_linear::Error> for Error {
    fn from(error: xent_linear::Error) -> Self {
        match error {
            xent_linear::Error::Xent(error) => Self::Xent(error),
            other => Self::Linear(other),
        }
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => Self::wrap(other),
        }
    }
}
