//! The labels of the rows: class indices, or the likeliest classes of soft targets.

use xent_arrays::{ClassNames, LabelRows, LogitRows, Place, open_labels};

use super::beside::open_rows;
use super::probabilities::doubles;
use crate::data::{NO_DISTRIBUTION, is_distribution};
use crate::error::{Error, Result};

/// The labels of a file.
pub enum Labels {
    /// Class indices.
    Indices(Box<dyn LabelRows>),
    /// Distributions over the classes.
    Soft {
        /// The file.
        place: Place,
        /// Its rows.
        rows: Box<dyn LogitRows>,
        /// The number of rows that were read.
        read: usize,
    },
}

impl Labels {
    /// Opens a file of class indices, or of soft targets.
    pub fn open(place: &Place, soft: bool, classes: &ClassNames) -> Result<Self> {
        if !soft {
            return open_labels(place, classes).map(Self::Indices).map_err(Error::input);
        }
        Ok(Self::Soft {
            place: place.clone(),
            rows: open_rows(place).map_err(Error::input)?,
            read: 0,
        })
    }

    /// The number of classes, if the file says it.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::Indices(_) => None,
            Self::Soft { rows, .. } => Some(rows.classes()),
        }
    }

    /// The number of rows, if the file declares it before it is read.
    pub fn rows(&self) -> Option<u64> {
        match self {
            Self::Indices(labels) => labels.rows(),
            Self::Soft { rows, .. } => rows.rows(),
        }
    }

    /// Appends the next labels, at most `most`, and returns how many; 0 at the end. The likeliest
    /// class is the first on ties.
    ///
    /// # Errors
    /// The file cannot be read, or a row is no distribution.
    pub fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize> {
        let (place, rows, read) = match self {
            Self::Indices(labels) => return labels.next(most, into).map_err(Error::input),
            Self::Soft { place, rows, read } => (place, rows, read),
        };
        let (classes, block) = (rows.classes(), rows.next(most).map_err(Error::input)?);
        for (row, targets) in doubles(&block.floats.decode()).chunks(classes).enumerate() {
            if !is_distribution(targets) {
                return Err(Error::input(format!(
                    "{place}: row {} {NO_DISTRIBUTION}",
                    *read + row
                )));
            }
            let likeliest = targets.iter().copied().fold(0.0, f64::max);
            into.push(targets.iter().position(|t| *t == likeliest).unwrap_or(0) as i64);
        }
        *read += block.rows;
        Ok(block.rows)
    }
}
