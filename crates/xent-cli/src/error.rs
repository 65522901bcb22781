//! What can go wrong, by its cause, which decides the exit code.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

/// An error with its whole message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options or the data cannot be used: exit code 2.
    #[error("{0}")]
    Input(String),
    /// Anything else: exit code 1.
    #[error("{0}")]
    Failed(String),
}

/// The result of most functions of the program.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Options or data that cannot be used.
    pub fn input(message: impl Display) -> Self {
        Self::Input(message.to_string())
    }

    /// A failure of the system or of the program itself.
    pub fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }

    /// Contents of a file that cannot be used.
    pub fn in_file(path: &Path, message: impl Display) -> Self {
        Self::Input(format!("{}: {message}", path.display()))
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
