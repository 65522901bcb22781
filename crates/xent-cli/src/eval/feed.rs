//! The rows of a data set, a block at a time, from as many files as it has.

use xent_arrays::{Block, LabelRows, LogitRows, Place, open_labels, open_logits};

use crate::error::{Error, Result};

/// Bytes of logits in a block, about.
const BLOCK: u64 = 1 << 22;
/// Most rows of a block, where they are short.
const MOST_ROWS: u64 = 1 << 16;

/// A data set that is being read.
pub struct Feed {
    logits: Vec<Place>,
    labels: Vec<Place>,
    /// The file that is being read, and its row.
    current: Option<(Box<dyn LogitRows>, u64)>,
    current_labels: Option<Box<dyn LabelRows>>,
    /// The next file.
    next: usize,
    next_labels: usize,
    classes: usize,
    /// Blocks that were given out.
    blocks: usize,
}

/// Rows of one file.
pub struct Piece {
    /// Which block it is, so that the first of several errors can be told.
    pub number: usize,
    /// The file, by its place among the logits'.
    pub source: usize,
    /// The number of the first row there.
    pub first: u64,
    /// The logits.
    pub block: Block,
    /// One label a row.
    pub labels: Vec<i64>,
    /// Bytes of the file that the rows took, about.
    pub bytes: u64,
}

impl Feed {
    /// Opens the first files.
    pub fn open(logits: Vec<Place>, labels: Vec<Place>) -> Result<Self> {
        let mut feed = Self { logits, labels, current: None, current_labels: None, next: 0, next_labels: 0, classes: 0, blocks: 0 };
        feed.open_next()?;
        Ok(feed)
    }

    /// K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Bytes of logits in all, where files say how many rows they have; else their sizes.
    pub fn bytes(&self) -> u64 {
        self.logits.iter().filter_map(|place| std::fs::metadata(&place.file).ok()).map(|metadata| metadata.len()).sum()
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// A file that is not what it should be, or has more or fewer labels than logits.
    pub fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let Some((rows, row)) = &mut self.current else { return self.end() };
            let most = (BLOCK / rows.row_bytes().max(1)).clamp(1, MOST_ROWS);
            let block = rows.next(most as usize).map_err(Error::input)?;
            let bytes = rows.row_bytes() * block.rows as u64;
            let first = *row;
            *row += block.rows as u64;
            if block.rows == 0 {
                if self.logits.len() == self.labels.len() {
                    self.end_of_labels()?;
                }
                self.open_next()?;
                continue;
            }
            let labels = self.labels(block.rows, first)?;
            self.blocks += 1;
            return Ok(Some(Piece { number: self.blocks, source: self.next - 1, first, block, labels, bytes }));
        }
    }

    /// The next file of logits, with that of its labels if each has its own.
    fn open_next(&mut self) -> Result<()> {
        self.current = None;
        let Some(place) = self.logits.get(self.next) else { return Ok(()) };
        let paired = self.logits.len() == self.labels.len();
        let labels = if paired { self.labels.get(self.next) } else { self.labels.first() };
        let rows = open_logits(place, labels).map_err(Error::input)?;
        if self.next > 0 && rows.classes() != self.classes {
            return Err(Error::input(format!("{place}: {} classes, expected {} as in {}", rows.classes(), self.classes, self.logits[0])));
        }
        self.classes = rows.classes();
        if paired {
            let labels = open_labels(&self.labels[self.next]).map_err(Error::input)?;
            if let (Some(expected), Some(found)) = (rows.rows(), labels.rows())
                && expected != found
            {
                return Err(Error::input(format!("{}: {found} labels, expected {expected}, one for each row of {place}", self.labels[self.next])));
            }
            self.current_labels = Some(labels);
            self.next_labels = self.next + 1;
        }
        self.current = Some((rows, 0));
        self.next += 1;
        Ok(())
    }

    fn labels(&mut self, rows: usize, first: u64) -> Result<Vec<i64>> {
        let mut labels = Vec::with_capacity(rows);
        while labels.len() < rows {
            let read = match &mut self.current_labels {
                Some(current) => current.next(rows - labels.len(), &mut labels).map_err(Error::input)?,
                None => 0,
            };
            if read == 0 {
                let paired = self.logits.len() == self.labels.len();
                let Some(place) = self.labels.get(self.next_labels).filter(|_| !paired) else {
                    let last = &self.labels[self.next_labels.max(1) - 1];
                    let place = &self.logits[self.next - 1];
                    return Err(Error::input(format!("{last}: no label for row {} of {place}, expected one a row", first + labels.len() as u64)));
                };
                self.current_labels = Some(open_labels(place).map_err(Error::input)?);
                self.next_labels += 1;
            }
        }
        Ok(labels)
    }

    /// After the last row there may be no labels.
    fn end(&mut self) -> Result<Option<Piece>> {
        self.end_of_labels()?;
        while self.next_labels < self.labels.len() {
            self.current_labels = Some(open_labels(&self.labels[self.next_labels]).map_err(Error::input)?);
            self.next_labels += 1;
            self.end_of_labels()?;
        }
        Ok(None)
    }

    fn end_of_labels(&mut self) -> Result<()> {
        let Some(current) = &mut self.current_labels else { return Ok(()) };
        if current.next(1, &mut Vec::new()).map_err(Error::input)? > 0 {
            return Err(Error::input(format!("{}: more labels than there are rows of logits", self.labels[self.next_labels - 1])));
        }
        self.current_labels = None;
        Ok(())
    }
}
