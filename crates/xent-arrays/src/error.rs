//! What can be wrong with a file.

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

/// What is wrong with a file. No message carries more than a few of the file's own bytes, and those escaped.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The `.npy` format.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// A name that says no format.
    #[error("its name ends in {0}, expected .npy, .npz, .safetensors, .csv or .parquet")]
    Extension(String),
    /// An array that is not there.
    #[error("it has no {what} '{name}'; it has {has}")]
    Missing {
        /// Array, tensor or column.
        what: &'static str,
        /// As it was asked for.
        name: String,
        /// What there is.
        has: String,
    },
    /// Several that could be meant.
    #[error("it has {has}; expected a name behind the file's, FILE:NAME, to say which is meant")]
    Ambiguous {
        /// What there is.
        has: String,
    },
    /// A name where there is but one array.
    #[error("a .npy file has one array without a name, but '{0}' was asked for")]
    Nameless(String),
    /// A type that logits do not have.
    #[error("{what}: {found}, expected float16, bfloat16, float32 or float64")]
    LogitType {
        /// Where.
        what: String,
        /// What type it is.
        found: String,
    },
    /// A type that labels do not have.
    #[error("{what}: {found}, expected integers")]
    LabelType {
        /// Where.
        what: String,
        /// What type it is.
        found: String,
    },
    /// A shape that is not one of rows and classes.
    #[error("{what}: shape {shape}, expected [rows, classes] with at least two classes")]
    Shape {
        /// Where.
        what: String,
        /// The shape.
        shape: String,
    },
    /// Columns first, in a file that can only be read from front to back.
    #[error("{0}: Fortran order in an archive, expected C order (numpy.ascontiguousarray makes it)")]
    FortranOrder(String),
    /// A number that a class index cannot be.
    #[error("row {row}: the label is {found}, expected an integer of 64 bits")]
    Label {
        /// Row, from 0.
        row: u64,
        /// What stands there.
        found: String,
    },
    /// A cell of a table that is no number.
    #[error("row {row}, column {column}: '{found}', expected {expected}")]
    Cell {
        /// Row, from 0.
        row: u64,
        /// The column's name.
        column: String,
        /// What stands there, shortened.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A row with another number of entries than the first.
    #[error("row {row} has {found}, expected {expected}")]
    Ragged {
        /// Row, from 0.
        row: u64,
        /// How many, of what.
        found: String,
        /// As many as should be there.
        expected: usize,
    },
    /// An entry that is missing.
    #[error("row {row}, column {column}: no value, expected one")]
    Null {
        /// Row, from 0.
        row: u64,
        /// The column's name.
        column: String,
    },
    /// A line that no table has.
    #[error("a line of more than {0} bytes")]
    LongLine(usize),
    /// An archive that is none, or that is not to be trusted.
    #[error("the archive is not readable: {0}")]
    Archive(String),
    /// The member's bytes are not those that were written.
    #[error("{0}: its checksum is wrong: the file is damaged")]
    Checksum(String),
    /// More or fewer bytes than were declared.
    #[error("{what}: {found} bytes, expected {expected}")]
    Length {
        /// Where.
        what: String,
        /// Bytes there.
        found: String,
        /// Bytes declared.
        expected: u64,
    },
    /// A safetensors header.
    #[error("the safetensors header is not readable: {0}")]
    Safetensors(String),
    /// Parquet.
    #[error("the Parquet file is not readable: {0}")]
    Parquet(String),
    /// A page that claims what it does not have.
    #[error("column {column}, the page at byte {at}: {found}, expected {expected}")]
    Page {
        /// The column's name.
        column: String,
        /// Where its header is.
        at: u64,
        /// What it claims.
        found: String,
        /// What it can have.
        expected: String,
    },
    /// CSV.
    #[error("the CSV file is not readable: {0}")]
    Csv(String),
}

impl Problem {
    /// With the file's name.
    pub(crate) fn in_file(self, file: &Path) -> ArrayError {
        ArrayError { file: file.to_path_buf(), problem: self }
    }
}

/// What a file has, for a message: the first few names.
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

/// The beginning of a text from a file, escaped: it goes to a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 32;
    let shown: String = text.chars().take(SHOWN).flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect();
    if text.chars().count() > SHOWN { shown + "…" } else { shown }
}
