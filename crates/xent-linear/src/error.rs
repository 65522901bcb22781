//! What can be wrong with a call.

/// The error of every public call. When a call returns one, nothing has been written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option, a batch or a view that xent rejects.
    #[error(transparent)]
    Xent(#[from] xent::Error),
    /// A matrix of another shape than the others ask for.
    #[error("{name} has shape {found:?}, expected {expected}")]
    Shape {
        /// Which matrix.
        name: &'static str,
        /// Its rows and columns.
        found: [usize; 2],
        /// What was expected, in words and numbers.
        expected: String,
    },
    /// A slice of another length than the matrices ask for.
    #[error("{name}: {len} entries, expected {expected}")]
    Length {
        /// Which slice.
        name: &'static str,
        /// Its length.
        len: usize,
        /// What was expected, in words and numbers.
        expected: String,
    },
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<xent::InputError> for Error {
    fn from(error: xent::InputError) -> Self {
        Self::Xent(error.into())
    }
}
