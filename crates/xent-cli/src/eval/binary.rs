//! Models of two classes with one score per row: that of class 1, where class 0 has the logit 0.

use xent_arrays::{ArrayError, Block, Floats, LogitRows, Place, open_numbers};

use super::probabilities::doubles;

/// What a model's score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// The logit of class 1.
    Logit,
    /// Its probability.
    Probability,
}

/// The scores of a file as rows of two classes.
pub struct Scores {
    inner: Box<dyn LogitRows>,
    score: Score,
}

impl Scores {
    /// Opens the file.
    pub fn open(place: &Place, score: Score) -> Result<Self, ArrayError> {
        Ok(Self { inner: open_numbers(place)?, score })
    }
}

impl LogitRows for Scores {
    fn classes(&self) -> usize {
        2
    }

    fn rows(&self) -> Option<u64> {
        self.inner.rows()
    }

    fn row_bytes(&self) -> u64 {
        self.inner.row_bytes()
    }

    fn next(&mut self, most: usize) -> Result<Block, ArrayError> {
        let block = self.inner.next(most)?;
        let beside = |score: f64| match self.score {
            Score::Logit => 0.0,
            Score::Probability => 1.0 - score,
        };
        let scores = doubles(&block.floats.decode());
        let rows = scores.into_iter().flat_map(|score| [beside(score), score]).collect();
        Ok(Block { rows: block.rows, floats: Floats::F64(rows) })
    }
}
