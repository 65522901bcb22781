//! What can go wrong, sorted by whose fault it is: that decides the exit code.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

/// An error with the whole of its message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options or the data: exit code 2.
    #[error("{0}")]
    Input(String),
    /// Everything else: exit code 1.
    #[error("{0}")]
    Failed(String),
}

/// What most functions of the program return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Options or data that cannot be used.
    pub fn input(message: impl Display) -> Self {
        Self::Input(message.to_string())
    }

    /// Something that should have worked.
    pub fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }

    /// A file that was named and cannot be read.
    pub fn reading(path: &Path, error: impl Display) -> Self {
        Self::Input(format!("cannot read {}: {error}", path.display()))
    }

    /// A file or folder that cannot be written.
    pub fn writing(path: &Path, error: impl Display) -> Self {
        Self::Failed(format!("cannot write {}: {error}", path.display()))
    }

    /// 2 for input, 1 for the rest.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
