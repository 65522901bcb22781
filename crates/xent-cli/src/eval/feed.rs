//! The rows of a data set, one block at a time, from all of its files.

use xent_arrays::{ArrayError, Block, ClassNames, Columns, LogitRows, Place, open_logits};

use super::beside::Beside;
use super::binary::{Score, Scores};
use super::labels::Labels;
use crate::error::{Error, Result};

/// Approximate number of bytes of logits in a block.
const BLOCK: u64 = 1 << 22;
/// The most rows of a block.
const MOST_ROWS: u64 = 1 << 16;

/// What is evaluated.
pub struct Input<'a> {
    /// The files of the logits, in order.
    pub logits: &'a [Place],
    /// Those of the labels.
    pub labels: &'a [Place],
    /// Where the classes are.
    pub reading: &'a Reading,
    /// The files have probabilities, whose logarithms are the logits.
    pub probabilities: bool,
    /// The labels are soft targets.
    pub soft: bool,
}

impl<'a> Input<'a> {
    /// Whether each file of logits has its own labels.
    pub fn is_paired(&self) -> bool {
        self.logits.len() == self.labels.len()
    }

    /// The labels of a file of logits: its own, or the first of those that go on from file to file.
    pub fn labels_of(&self, file: usize) -> Option<&'a Place> {
        if self.is_paired() { self.labels.get(file) } else { self.labels.first() }
    }
}

/// Where the classes are in the files, the same for all.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Which columns of tables are classes.
    pub columns: Columns,
    /// The axis of arrays that has the classes.
    pub axis: Option<isize>,
    /// The names of the classes, if they are not those of the columns.
    pub class_names: Vec<String>,
    /// There is one score per row instead.
    pub score: Option<Score>,
}

impl Reading {
    /// Opens logits; `labels` are those of the same rows.
    pub fn open(
        &self,
        place: &Place,
        labels: Option<&Place>,
    ) -> std::result::Result<Box<dyn LogitRows>, ArrayError> {
        match self.score {
            Some(score) => Ok(Box::new(Scores::open(place, score)?)),
            None => open_logits(place, labels, &self.columns, self.axis),
        }
    }
}

/// A data set that is being read. If there are as many files of labels as of logits, each file of
/// logits has its own labels; otherwise the labels continue from file to file.
pub struct Feed<'a> {
    input: &'a Input<'a>,
    paired: bool,
    /// The file that is being read, and the number of its next row.
    current: Option<(Box<dyn LogitRows>, u64)>,
    current_labels: Option<Labels>,
    /// The next file.
    next: usize,
    next_labels: usize,
    classes: usize,
    /// What the classes are called, by the first file that says so.
    names: Vec<String>,
    labels_called: ClassNames,
    /// Other numbers of the same rows.
    beside: Vec<Beside>,
    /// The number of blocks so far.
    blocks: usize,
}

/// Rows of one file, with their labels.
pub struct Piece {
    /// The number of the block, so that the first of several errors can be found.
    pub number: usize,
    /// The index of the file among those of the logits.
    pub source: usize,
    /// The number of the first row in that file.
    pub first: u64,
    /// The logits.
    pub block: Block,
    /// One label per row.
    pub labels: Vec<i64>,
    /// What stands beside the rows, in the order of [`Feed::beside`].
    pub beside: Vec<Vec<f64>>,
    /// Approximate number of bytes that the rows take in the file.
    pub bytes: u64,
}

impl<'a> Feed<'a> {
    /// Opens the first files.
    pub fn open(input: &'a Input<'a>) -> Result<Self> {
        let mut feed = Self {
            input,
            paired: input.is_paired(),
            current: None,
            current_labels: None,
            next: 0,
            next_labels: 0,
            classes: 0,
            names: Vec::new(),
            labels_called: ClassNames::new(&input.reading.class_names),
            beside: Vec::new(),
            blocks: 0,
        };
        feed.open_next()?;
        Ok(feed)
    }

    /// With other numbers of the same rows.
    pub fn beside(self, beside: Vec<Beside>) -> Self {
        Self { beside, ..self }
    }

    /// What the classes are called, if the files say so.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What labels may be called.
    pub fn labels_called(&self) -> &ClassNames {
        &self.labels_called
    }

    /// K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The size of all files of logits.
    pub fn bytes(&self) -> u64 {
        self.input
            .logits
            .iter()
            .filter_map(|place| std::fs::metadata(&place.file).ok())
            .map(|metadata| metadata.len())
            .sum()
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// A file cannot be read, or has more or fewer labels than logits.
    pub fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let Some((rows, row)) = &mut self.current else { return self.end() };
            let most = (BLOCK / rows.row_bytes().max(1)).clamp(1, MOST_ROWS);
            let block = rows.next(most as usize).map_err(Error::input)?;
            let bytes = rows.row_bytes() * block.rows as u64;
            let first = *row;
            *row += block.rows as u64;
            if block.rows == 0 {
                if self.paired {
                    self.end_of_labels()?;
                }
                self.open_next()?;
                continue;
            }
            let labels = self.labels(block.rows, first)?;
            let place = || format!("row {first} of {}", self.input.logits[self.next - 1]);
            let numbers = self.beside.iter_mut().map(|beside| beside.take(block.rows, &place));
            let beside = numbers.collect::<Result<_>>()?;
            self.blocks += 1;
            return Ok(Some(Piece {
                number: self.blocks,
                source: self.next - 1,
                first,
                block,
                labels,
                beside,
                bytes,
            }));
        }
    }

    /// Opens the next file of logits, and that of its labels if it has its own.
    fn open_next(&mut self) -> Result<()> {
        self.current = None;
        let Some(place) = self.input.logits.get(self.next) else { return Ok(()) };
        // Soft targets are no column of a table.
        let labels = self.input.labels_of(self.next).filter(|_| !self.input.soft);
        let rows = self.input.reading.open(place, labels).map_err(Error::input)?;
        if self.next > 0 && rows.classes() != self.classes {
            return Err(Error::input(format!(
                "{place}: {} classes, expected {} as in {}",
                rows.classes(),
                self.classes,
                self.input.logits[0]
            )));
        }
        self.classes = rows.classes();
        self.check_names(place, rows.class_names())?;
        if self.paired {
            self.open_labels()?;
            let found = self.current_labels.as_ref().and_then(|labels| labels.rows());
            if let (Some(expected), Some(found)) = (rows.rows(), found)
                && expected != found
            {
                let (labels, place) =
                    (&self.input.labels[self.next], &self.input.logits[self.next]);
                return Err(Error::input(format!(
                    "{labels}: {found} labels, expected {expected}, one for each row of {place}"
                )));
            }
        }
        self.current = Some((rows, 0));
        self.next += 1;
        Ok(())
    }

    /// Checks that the classes are the same, in the same order, as in the files before.
    fn check_names(&mut self, place: &Place, names: &[String]) -> Result<()> {
        let given = &self.input.reading.class_names;
        if !given.is_empty() && given.len() != self.classes {
            return Err(Error::input(format!(
                "{place}: {} classes, but --class-names has {} names",
                self.classes,
                given.len()
            )));
        }
        if self.names.is_empty() {
            self.names = names.to_vec();
            if given.is_empty() {
                self.labels_called = ClassNames::new(names);
            }
        }
        match names.iter().zip(&self.names).position(|(name, before)| name != before) {
            Some(class) => Err(Error::input(format!(
                "{place}: class {class} is called {}, expected {} as in the files before",
                names[class], self.names[class]
            ))),
            None => Ok(()),
        }
    }

    /// Opens the next file of labels, if there is one.
    fn open_labels(&mut self) -> Result<bool> {
        let Some(place) = self.input.labels.get(self.next_labels) else { return Ok(false) };
        let labels = Labels::open(place, self.input.soft, &self.labels_called)?;
        if let Some(found) = labels.classes().filter(|found| *found != self.classes) {
            return Err(Error::input(format!(
                "{place}: {found} classes, expected {} as the logits have",
                self.classes
            )));
        }
        self.current_labels = Some(labels);
        self.next_labels += 1;
        Ok(true)
    }

    fn labels(&mut self, rows: usize, first: u64) -> Result<Vec<i64>> {
        let mut labels = Vec::with_capacity(rows);
        while labels.len() < rows {
            let read = match &mut self.current_labels {
                Some(current) => current.next(rows - labels.len(), &mut labels)?,
                None => 0,
            };
            if read == 0 && (self.paired || !self.open_labels()?) {
                let last = &self.input.labels[self.next_labels.max(1) - 1];
                let (row, place) = (first + labels.len() as u64, &self.input.logits[self.next - 1]);
                return Err(Error::input(format!(
                    "{last}: no label for row {row} of {place}, expected one per row"
                )));
            }
        }
        Ok(labels)
    }

    /// Checks that there are no labels after the last row.
    fn end(&mut self) -> Result<Option<Piece>> {
        self.end_of_labels()?;
        while self.open_labels()? {
            self.end_of_labels()?;
        }
        self.beside.iter_mut().try_for_each(Beside::end)?;
        Ok(None)
    }

    fn end_of_labels(&mut self) -> Result<()> {
        let Some(current) = &mut self.current_labels else { return Ok(()) };
        if current.next(1, &mut Vec::new())? > 0 {
            return Err(Error::input(format!(
                "{}: more labels than there are rows of logits",
                self.input.labels[self.next_labels - 1]
            )));
        }
        self.current_labels = None;
        Ok(())
    }
}
