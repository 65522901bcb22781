//! What can be wrong with a call, and how it reaches functions that return `candle_core::Result`.

use candle_core::DType;

/// A configuration, a batch or a tensor that cannot be used. No call panics on its input.
///
/// Converts into [`candle_core::Error`], so that `?` works in functions that return [`candle_core::Result`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option of [`xent::Config`] outside its range.
    #[error(transparent)]
    Config(#[from] xent::ConfigError),
    /// A batch that does not fit the criterion or the logits: a label outside the classes, ε or a weight outside its range. Rows are numbered in C order of the
    /// logits' axes without the class axis.
    #[error(transparent)]
    Input(#[from] xent::InputError),
    /// Logits without classes, or a view that its storage does not hold.
    #[error(transparent)]
    View(#[from] xent::ViewError),
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
    #[error("{name} has dtype {}, expected {expected}", .found.as_str())]
    Dtype {
        /// Which tensor.
        name: &'static str,
        /// Its dtype.
        found: DType,
        /// What was expected.
        expected: &'static str,
    },
    /// An error of candle's own: a class axis that the logits do not have, or a failed allocation or copy.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => Self::wrap(other),
        }
    }
}
