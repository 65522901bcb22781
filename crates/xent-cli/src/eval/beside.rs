//! Numbers of the rows other than their logits and labels, from files of their own.

use xent_arrays::{ArrayError, Columns, LogitRows, Place, open_logits};

use super::probabilities::doubles;
use crate::error::{Error, Result};

/// Opens a file of rows of numbers.
type Open = Box<dyn Fn(&Place) -> std::result::Result<Box<dyn LogitRows>, ArrayError> + Send>;

/// Rows of numbers, from one file after the other.
pub struct Beside {
    places: Vec<Place>,
    open: Open,
    current: Option<Box<dyn LogitRows>>,
    /// The next file.
    next: usize,
    width: usize,
}

impl Beside {
    /// Opens the first file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(places: Vec<Place>, open: Open) -> Result<Self> {
        let mut beside = Self { places, open, current: None, next: 0, width: 0 };
        beside.open_next()?;
        Ok(beside)
    }

    /// The numbers of each row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The numbers of the next `rows` rows, in double precision.
    ///
    /// # Errors
    /// A file cannot be read, or the last one has ended; `place` says which row that was for.
    pub fn take(&mut self, rows: usize, place: &dyn Fn() -> String) -> Result<Vec<f64>> {
        let mut numbers = Vec::with_capacity(rows * self.width);
        while numbers.len() < rows * self.width {
            let left = rows - numbers.len() / self.width;
            let Some(current) = &mut self.current else {
                let last = &self.places[self.places.len() - 1];
                return Err(Error::input(format!(
                    "{last}: too few rows: none for the rows from {} on",
                    place()
                )));
            };
            let block = current.next(left).map_err(Error::input)?;
            if block.rows == 0 {
                self.open_next()?;
                continue;
            }
            numbers.extend(doubles(&block.floats.decode()));
        }
        Ok(numbers)
    }

    /// Checks that there are no rows after the last one that was taken.
    pub fn end(&mut self) -> Result<()> {
        while let Some(current) = &mut self.current {
            if current.next(1).map_err(Error::input)?.rows > 0 {
                return Err(Error::input(format!(
                    "{}: more rows than there are rows of logits",
                    self.places[self.next - 1]
                )));
            }
            self.open_next()?;
        }
        Ok(())
    }

    fn open_next(&mut self) -> Result<()> {
        self.current = None;
        let Some(place) = self.places.get(self.next) else { return Ok(()) };
        let rows = (self.open)(place).map_err(Error::input)?;
        if self.next > 0 && rows.classes() != self.width {
            return Err(Error::input(format!(
                "{place}: {} numbers per row, expected {} as in {}",
                rows.classes(),
                self.width,
                self.places[0]
            )));
        }
        self.width = rows.classes();
        self.current = Some(rows);
        self.next += 1;
        Ok(())
    }
}

/// Opens a file of rows of numbers, such as soft targets or features.
pub fn open_rows(place: &Place) -> std::result::Result<Box<dyn LogitRows>, ArrayError> {
    open_logits(place, None, &Columns::default(), None)
}
