//! What can be wrong with a file.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// A file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct ArrayError {
    /// The file as it was named.
    pub file: PathBuf,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a file, in a sentence: where in the file, what was found and what was
/// expected. No message contains more than a few of the file's own bytes, and those escaped.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Problem(pub(crate) String);

/// A reader's own problem travels through [`Read`](std::io::Read) inside of an
/// [`io::Error`](std::io::Error), which has the same message.
impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Problem {
    /// The format is violated.
    pub(crate) fn unreadable(what: &str, why: impl Display) -> Self {
        Self(format!("the {what} is not readable: {why}"))
    }

    /// The file has no array, tensor or column of this name.
    pub(crate) fn missing(what: &str, name: &str, has: impl Display) -> Self {
        Self(format!("it has no {what} '{name}'; it has {has}"))
    }

    /// Several arrays could be meant.
    pub(crate) fn ambiguous(has: impl Display) -> Self {
        Self(format!(
            "it has {has}; expected a name after the file's, FILE:NAME, to say which is meant"
        ))
    }

    pub(crate) fn logit_type(what: &str, found: impl Display) -> Self {
        Self(format!("{what}: {found}, expected float16, bfloat16, float32 or float64"))
    }

    pub(crate) fn label_type(what: &str, found: impl Display) -> Self {
        Self(format!("{what}: {found}, expected integers"))
    }

    /// The shape is not one of rows and classes.
    pub(crate) fn shape(what: &str, shape: impl Display) -> Self {
        Self(format!("{what}: shape {shape}, expected [rows, classes] with at least two classes"))
    }

    /// A label is outside of the range of class indices.
    pub(crate) fn label(row: u64, found: impl Display) -> Self {
        Self(format!("row {row}: the label is {found}, expected an integer of 64 bits"))
    }

    /// A cell of a table is not a number, or has no value.
    pub(crate) fn cell(row: u64, column: &str, found: impl Display, expected: &str) -> Self {
        Self(format!("row {row}, column {column}: {found}, expected {expected}"))
    }

    /// A row has another number of entries than the first row.
    pub(crate) fn ragged(row: u64, found: impl Display, expected: usize) -> Self {
        Self(format!("row {row} has {found}, expected {expected}"))
    }

    /// There are more or fewer bytes than declared.
    pub(crate) fn length(what: &str, found: impl Display, expected: u64) -> Self {
        Self(format!("{what}: {found} bytes, expected {expected}"))
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
