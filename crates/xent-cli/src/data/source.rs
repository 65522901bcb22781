//! Where a data set comes from.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::dataset::Dataset;
use super::table::{self, TableOptions};
use super::{digits, idx, mixture};
use crate::error::{Error, Result};

/// Fewer rows are too few to train on some, validate on others and test on the rest.
const FEWEST_ROWS: usize = 36;

/// The value of `--data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The handwritten digits that are part of the program.
    Digits,
    /// The generated mixture of Gaussians.
    Mixture,
    /// A CSV file.
    Table(PathBuf),
    /// A folder with IDX files like MNIST's.
    Idx(PathBuf),
}

impl TryFrom<OsString> for Source {
    type Error = String;

    fn try_from(text: OsString) -> std::result::Result<Self, String> {
        let path = PathBuf::from(&text);
        match text.to_str() {
            Some("digits") => Ok(Self::Digits),
            Some("mixture") => Ok(Self::Mixture),
            _ if path.is_dir() => Ok(Self::Idx(path)),
            _ if path.is_file() => Ok(Self::Table(path)),
            _ => Err(format!(
                "no file or folder of this name; expected digits, mixture, a CSV file or a folder with IDX files, got {text:?}"
            )),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Digits => f.write_str("digits"),
            Self::Mixture => f.write_str("mixture"),
            Self::Table(path) | Self::Idx(path) => write!(f, "{}", path.display()),
        }
    }
}

/// As it was given.
impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Source {
    /// The files that are read.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Digits | Self::Mixture => Vec::new(),
            Self::Table(path) => vec![path.clone()],
            Self::Idx(folder) => std::fs::read_dir(folder)
                .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
                .unwrap_or_default(),
        }
    }

    /// Reads or generates the data.
    pub fn load(&self, options: &TableOptions) -> Result<Dataset> {
        if let Some((option, _)) = options.given().next()
            && !matches!(self, Self::Table(_))
        {
            return Err(Error::input(format!(
                "--{option} names columns of a CSV file; --data {self} is not a CSV file"
            )));
        }
        let dataset = match self {
            Self::Digits => digits::load()?,
            Self::Mixture => mixture::generate(),
            Self::Table(path) => table::read(path, options)?,
            Self::Idx(folder) => idx::read_folder(folder)?,
        };
        let (rows, classes) = (dataset.labels.len(), dataset.classes.len());
        if classes < 2 {
            return Err(Error::input(format!(
                "{self}: all {rows} rows are of one class; expected at least two classes"
            )));
        }
        if rows < FEWEST_ROWS {
            return Err(Error::input(format!(
                "{self}: {rows} rows; expected at least {FEWEST_ROWS} to train, validate and test on"
            )));
        }
        Ok(dataset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_name_or_something_that_exists() {
        assert_eq!(Source::try_from(OsString::from("digits")), Ok(Source::Digits));
        let absent = Source::try_from(OsString::from("no/such/place"));
        assert!(absent.unwrap_err().contains("no/such/place"));
    }
}
