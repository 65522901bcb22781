//! Data sets: where they come from and what they are once they are here.

mod digits;
mod idx;
mod mixture;
mod split;
mod table;

use std::path::PathBuf;

use crate::error::{Error, Result};

pub use split::{Part, PartRows, Parts};

/// Where rows come from, as `--data` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The handwritten digits that the program carries.
    Digits,
    /// The generated mixture of Gaussians.
    Mixture,
    /// A CSV file.
    Table(PathBuf),
    /// A folder with IDX files as MNIST has them.
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
            _ => Err(format!("no file or folder of this name; expected digits, mixture, a CSV file or a folder with IDX files, got {text:?}")),
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

/// The features of all rows, row after row.
#[derive(Debug, Clone, PartialEq)]
pub enum Features {
    /// Pixels, 0 to `full_scale`; a network sees them divided by it.
    Bytes {
        /// `[rows, width]`.
        values: Vec<u8>,
        /// What becomes 1.
        full_scale: f32,
    },
    /// Numbers.
    Reals {
        /// `[rows, width]`.
        values: Vec<f64>,
        /// One entry a column: whether a network sees it with mean 0 and standard deviation 1 (over the training rows) or as it is.
        standardise: Vec<bool>,
    },
}

/// Rows with a class each.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// What they are and whose, in a sentence or two.
    pub about: String,
    /// Number of features of a row.
    pub width: usize,
    /// The features.
    pub features: Features,
    /// The class of each row.
    pub labels: Vec<u32>,
    /// What each class is called; at least two.
    pub classes: Vec<String>,
    /// Where the data came with a test part of their own: the first row of it.
    pub given_test: Option<usize>,
    /// Where the truth is known: p(class | features), `[rows, classes]`.
    pub truth: Option<Vec<f64>>,
}

/// Too few rows to train on some, validate on others and test on the rest.
const FEWEST_ROWS: usize = 36;

impl Dataset {
    /// Reads or generates the data; `label` names the class column of a table.
    pub fn load(source: &Source, label: Option<&str>) -> Result<Self> {
        if label.is_some() && !matches!(source, Source::Table(_)) {
            return Err(Error::input(format!("--label names a column of a CSV file; --data {source} is none")));
        }
        let dataset = match source {
            Source::Digits => digits::load()?,
            Source::Mixture => mixture::generate(),
            Source::Table(path) => table::read(path, label)?,
            Source::Idx(folder) => idx::read_folder(folder)?,
        };
        let (rows, classes) = (dataset.labels.len(), dataset.classes.len());
        if classes < 2 {
            return Err(Error::input(format!("{source}: all {rows} rows are of one class; expected at least two classes")));
        }
        if rows < FEWEST_ROWS {
            return Err(Error::input(format!("{source}: {rows} rows; expected at least {FEWEST_ROWS} to train, validate and test on")));
        }
        Ok(dataset)
    }
}

/// Numbers the distinct names in order (as numbers where all are numbers) and the rows by them.
fn number_classes(names: &[String]) -> (Vec<u32>, Vec<String>) {
    let mut classes: Vec<String> = names.iter().collect::<std::collections::HashSet<_>>().into_iter().cloned().collect();
    if classes.iter().all(|name| name.parse::<f64>().is_ok_and(f64::is_finite)) {
        let number = |name: &String| name.parse::<f64>().unwrap_or(f64::NAN);
        classes.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b)));
    } else {
        classes.sort();
    }
    let index: std::collections::HashMap<&str, u32> = classes.iter().zip(0..).map(|(name, k)| (name.as_str(), k)).collect();
    let labels = names.iter().map(|name| index[name.as_str()]).collect();
    (labels, classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbered_as_numbers_or_as_texts() {
        let names = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        assert_eq!(number_classes(&names(&["10", "9", "9", "-1"])), (vec![2, 1, 1, 0], names(&["-1", "9", "10"])));
        assert_eq!(number_classes(&names(&["b", "10", "9"])), (vec![2, 0, 1], names(&["10", "9", "b"])));
    }

    #[test]
    fn a_source_is_a_name_or_something_that_exists() {
        assert_eq!("digits".parse(), Ok(Source::Digits));
        assert!("no/such/place".parse::<Source>().unwrap_err().contains("no/such/place"));
    }
}
