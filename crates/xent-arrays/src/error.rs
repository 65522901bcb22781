//! What can be wrong with a file.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::npy::NpyError;

/// A file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct ArrayError {
    /// The file as it was named.
    pub file: PathBuf,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a file. No message contains more than a few of the file's own bytes, and
/// those escaped.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system reports an error.
    #[error(transparent)]
    Io(std::io::Error),
    /// The `.npy` format is violated.
    #[error(transparent)]
    Npy(NpyError),
    /// The file's name does not say which format it has.
    #[error("its name ends in {0}, expected .npy, .npz, .safetensors, .csv or .parquet")]
    Extension(String),
    /// The named array does not exist.
    #[error("it has no {what} '{name}'; it has {has}")]
    Missing {
        /// Array, tensor or column.
        what: &'static str,
        /// The requested name.
        name: String,
        /// The names that exist.
        has: String,
    },
    /// Several arrays could be meant.
    #[error("it has {has}; expected a name after the file's, FILE:NAME, to say which is meant")]
    Ambiguous {
        /// The names that exist.
        has: String,
    },
    /// A name was given for a file that has a single array.
    #[error("a .npy file has one array without a name, but '{0}' was requested")]
    Nameless(String),
    /// The array has a type that logits or labels do not have.
    #[error("{what}: {found}, expected {expected}")]
    Type {
        /// The array.
        what: String,
        /// Its type.
        found: String,
        /// The types that it may have.
        expected: &'static str,
    },
    /// The shape is not one of rows and classes.
    #[error("{what}: shape {shape}, expected [rows, classes] with at least two classes")]
    Shape {
        /// The array.
        what: String,
        /// Its shape.
        shape: String,
    },
    /// The array is in Fortran order, in a file that can only be read from front to back.
    #[error(
        "{0}: Fortran order in an archive, expected C order (numpy.ascontiguousarray makes it)"
    )]
    FortranOrder(String),
    /// A label is outside of the range of class indices.
    #[error("row {row}: the label is {found}, expected an integer of 64 bits")]
    Label {
        /// The row, from 0.
        row: u64,
        /// The label.
        found: String,
    },
    /// A cell of a table is not a number, or has no value.
    #[error("row {row}, column {column}: {found}, expected {expected}")]
    Cell {
        /// The row, from 0.
        row: u64,
        /// The column's name.
        column: String,
        /// The cell's contents, shortened.
        found: String,
        /// What it should contain.
        expected: &'static str,
    },
    /// A row has another number of entries than the first row.
    #[error("row {row} has {found}, expected {expected}")]
    Ragged {
        /// The row, from 0.
        row: u64,
        /// How many entries it has, and of what.
        found: String,
        /// How many it should have.
        expected: usize,
    },
    /// The bytes of an archive's member are not those that were written.
    #[error("{0}: its checksum is wrong: the file is damaged")]
    Checksum(String),
    /// There are more or fewer bytes than declared.
    #[error("{what}: {found} bytes, expected {expected}")]
    Length {
        /// The array.
        what: String,
        /// Bytes that exist.
        found: String,
        /// Bytes that are declared.
        expected: u64,
    },
    /// A Parquet page declares more than it can have.
    #[error("column {column}, the page at byte {at}: {found}, expected {expected}")]
    Page {
        /// The column's name.
        column: String,
        /// The position of the page's header.
        at: u64,
        /// What the page declares.
        found: String,
        /// What it can have.
        expected: String,
    },
    /// The file's format is violated.
    #[error("the {what} is not readable: {why}")]
    Unreadable {
        /// The file, or the part of it.
        what: &'static str,
        /// The reason.
        why: String,
    },
}

/// A reader's own problem travels through [`Read`](std::io::Read) inside of an
/// [`io::Error`](std::io::Error).
impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Io)
    }
}

impl From<NpyError> for Problem {
    fn from(error: NpyError) -> Self {
        match error {
            NpyError::Io(error) => error.into(),
            other => Self::Npy(other),
        }
    }
}

impl Problem {
    pub(crate) fn unreadable(what: &'static str, why: impl Display) -> Self {
        Self::Unreadable { what, why: why.to_string() }
    }

    pub(crate) fn logit_type(what: impl Into<String>, found: &str) -> Self {
        Self::Type {
            what: what.into(),
            found: found.to_string(),
            expected: "float16, bfloat16, float32 or float64",
        }
    }

    pub(crate) fn label_type(what: impl Into<String>, found: &str) -> Self {
        Self::Type { what: what.into(), found: found.to_string(), expected: "integers" }
    }

    /// With the file's name.
    pub(crate) fn in_file(self, file: &Path) -> ArrayError {
        ArrayError { file: file.to_path_buf(), problem: self }
    }
}

/// The first few of the names that a file has, for a message.
pub(crate) fn names<'a>(what: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> = names.into_iter().map(excerpt).collect();
    names.sort();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => format!("no {what}s"),
        (_, 0) => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

/// The beginning of a text from a file, escaped because it goes to a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 32;
    let shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if text.chars().count() > SHOWN { shown + "…" } else { shown }
}
