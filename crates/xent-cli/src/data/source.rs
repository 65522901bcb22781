//! Where a data set comes from.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::dataset::Dataset;
use super::{digits, idx, mixture, table};
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

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let path = PathBuf::from(text);
        match text {
            "digits" => Ok(Self::Digits),
            "mixture" => Ok(Self::Mixture),
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

    /// Reads or generates the data; `label` names the class column of a table.
    pub fn load(&self, label: Option<&str>) -> Result<Dataset> {
        if label.is_some() && !matches!(self, Self::Table(_)) {
            return Err(Error::input(format!(
                "--label names a column of a CSV file; --data {self} is not a CSV file"
            )));
        }
        let dataset = match self {
            Self::Digits => digits::load()?,
            Self::Mixture => mixture::generate(),
            Self::Table(path) => table::read(path, label)?,
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
        assert_eq!("digits".parse(), Ok(Source::Digits));
        assert!("no/such/place".parse::<Source>().unwrap_err().contains("no/such/place"));
    }
}
