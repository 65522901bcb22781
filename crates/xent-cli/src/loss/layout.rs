//! How an array of logits is rows of classes, and what shapes go with it.

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use xent_arrays::npy::{self, Array, Shape, Values};

/// The shape of the logits and which of its axes is the classes'.
#[derive(Debug, Clone)]
pub struct Layout {
    shape: Vec<usize>,
    axis: usize,
}

impl Layout {
    /// `axis` counts from the end if negative.
    pub fn new(shape: &[usize], axis: isize) -> Result<Self> {
        let rank = shape.len();
        let counted = if axis < 0 { axis.checked_add_unsigned(rank) } else { Some(axis) };
        let axis = counted.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank).ok_or_else(|| match rank {
            0 => Error::input("shape () has no class axis, expected at least one axis"),
            _ => Error::input(format!("--axis {axis} is no axis of shape {}, expected -{rank} to {}", Shape(shape), rank - 1)),
        })?;
        if shape[axis] == 0 {
            return Err(Error::input(format!("the class axis of shape {} has length 0, expected at least 1 class", Shape(shape))));
        }
        Ok(Self { shape: shape.to_vec(), axis })
    }

    /// The logits' shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The class axis.
    pub fn axis(&self) -> usize {
        self.axis
    }

    /// K.
    pub fn classes(&self) -> usize {
        self.shape[self.axis]
    }

    /// The shape without the class axis: that of whatever has one entry a row.
    pub fn row_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        shape.remove(self.axis);
        shape
    }

    /// All axes in order, but the class axis last.
    pub fn classes_last(&self) -> Vec<usize> {
        (0..self.shape.len()).filter(|&axis| axis != self.axis).chain([self.axis]).collect()
    }

    /// Reads a file with one entry a row; its entries in the rows' order.
    pub fn read_rows(&self, path: &Path, what: &'static str) -> Result<Values> {
        let array = read(path)?;
        let row_shape = self.row_shape();
        if array.shape() != row_shape {
            return Err(self.misfit(path, Shape(array.shape()), format!("{}, {what} a row", Shape(&row_shape))));
        }
        Ok(array.into_values())
    }

    /// The error for an array whose shape does not go with the logits.
    pub fn misfit(&self, path: &Path, shape: impl fmt::Display, expected: impl fmt::Display) -> Error {
        Error::in_file(path, format!("shape {shape} does not go with logits of shape {}, expected {expected}", Shape(&self.shape)))
    }

    /// Where row `row` lies on the row axes, if that is not its number.
    pub fn position(&self, mut row: usize) -> Option<Vec<usize>> {
        let mut position = self.row_shape();
        for index in position.iter_mut().rev() {
            let length = *index;
            *index = row.checked_rem(length)?;
            row /= length;
        }
        (position.len() > 1).then_some(position)
    }
}

/// Reads an array.
pub fn read(path: &Path) -> Result<Array> {
    npy::read(path).map_err(|error| Error::reading(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_count_from_both_ends() {
        for (axis, expected) in [(0, 0), (2, 2), (-1, 2), (-3, 0)] {
            assert_eq!(Layout::new(&[2, 3, 4], axis).unwrap().axis(), expected);
        }
        for axis in [3, -4, isize::MAX, isize::MIN] {
            let error = Layout::new(&[2, 3, 4], axis).unwrap_err().to_string();
            assert_eq!(error, format!("--axis {axis} is no axis of shape (2, 3, 4), expected -3 to 2"));
        }
        assert!(Layout::new(&[], -1).is_err());
        assert!(Layout::new(&[2, 0], -1).is_err());
        assert!(Layout::new(&[0, 2], -1).is_ok());
    }

    #[test]
    fn rows_are_the_other_axes() {
        let layout = Layout::new(&[2, 3, 4], 1).unwrap();
        assert_eq!((layout.row_shape(), layout.classes(), layout.classes_last()), (vec![2, 4], 3, vec![0, 2, 1]));
        assert_eq!(layout.position(7), Some(vec![1, 3]));
        assert_eq!(Layout::new(&[2, 3], -1).unwrap().position(1), None);
        assert_eq!(Layout::new(&[0, 2, 3], -1).unwrap().position(0), None);
    }
}
