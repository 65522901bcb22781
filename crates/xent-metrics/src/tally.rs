//! Everything that is counted and summed at one temperature.

use serde::{Deserialize, Serialize};

use crate::bins::{Bin, Bins};
use crate::cells::Cells;
use crate::classes::Classes;
use crate::mistakes::Mistakes;
use crate::packed;
use crate::row::{Reader, Row};
use crate::sum::ExactSum;

/// The most confidences that are distinguished: risk by coverage and bins of equal mass are exact
/// up to this many.
pub(crate) const CONFIDENCES: usize = 1 << 19;
/// The most values of the other measures that are distinguished: only intervals and quantiles
/// depend on them.
const VALUES: usize = 1 << 14;
/// A label among this many largest logits counts for top-5 accuracy.
pub(crate) const TOP: usize = 5;

/// Sums over rows at one temperature. They merge: in any order and any grouping, the result is the
/// same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub(crate) rows: u64,
    pub(crate) correct: u64,
    pub(crate) top: u64,
    /// Rows whose prediction is the class before their label, and the class after it.
    pub(crate) beside: [u64; 2],
    pub(crate) nll: ExactSum,
    pub(crate) uniform: ExactSum,
    pub(crate) brier: ExactSum,
    pub(crate) gap: ExactSum,
    pub(crate) plain_gap: ExactSum,
    pub(crate) confidence: Cells,
    pub(crate) nll_cells: Cells,
    pub(crate) brier_cells: Cells,
    pub(crate) gap_cells: Cells,
    pub(crate) binning: Bins,
    #[serde(with = "bins")]
    pub(crate) bins: Vec<Bin>,
    pub(crate) classes: Classes,
    pub(crate) mistakes: Mistakes,
}

impl Tally {
    /// Of no rows.
    pub(crate) fn new(classes: usize, binning: Bins) -> Self {
        Self {
            rows: 0,
            correct: 0,
            top: 0,
            beside: [0; 2],
            nll: ExactSum::default(),
            uniform: ExactSum::default(),
            brier: ExactSum::default(),
            gap: ExactSum::default(),
            plain_gap: ExactSum::default(),
            confidence: Cells::new(CONFIDENCES),
            nll_cells: Cells::new(VALUES),
            brier_cells: Cells::new(VALUES),
            gap_cells: Cells::new(VALUES),
            binning,
            bins: vec![Bin::default(); binning.slots()],
            classes: Classes::new(classes, binning),
            mistakes: Mistakes::default(),
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether no row has been added.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds the row that `reader` has just read, with its place in a file.
    pub(crate) fn add(
        &mut self,
        reader: &Reader,
        row: &Row,
        label: usize,
        source: &str,
        number: u64,
    ) {
        self.add_unnamed(reader, row, label);
        if row.rank > 0 {
            self.mistakes.add(row, label, source, number);
        }
    }

    /// Adds the row that `reader` has just read.
    pub(crate) fn add_unnamed(&mut self, reader: &Reader, row: &Row, label: usize) {
        let correct = row.rank == 0;
        self.rows += 1;
        self.correct += u64::from(correct);
        self.top += u64::from(row.rank < TOP);
        self.beside[0] += u64::from(row.predicted + 1 == label);
        self.beside[1] += u64::from(row.predicted == label + 1);
        self.nll.add(row.nll);
        self.uniform.add(row.uniform);
        self.brier.add(row.brier);
        self.gap.add(row.gap);
        self.plain_gap.add(row.plain_gap);
        self.confidence.add(row.confidence, correct);
        self.nll_cells.add(row.nll, correct);
        self.brier_cells.add(row.brier, correct);
        self.gap_cells.add(row.gap, correct);
        self.bins[self.binning.bin_of(row.confidence)].add(row.confidence, correct);
        self.classes.add(reader, row, label);
    }

    /// Adds other sums, which must have the same number of classes and the same binning.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.correct += other.correct;
        self.top += other.top;
        self.beside[0] += other.beside[0];
        self.beside[1] += other.beside[1];
        self.nll.merge(&other.nll);
        self.uniform.merge(&other.uniform);
        self.brier.merge(&other.brier);
        self.gap.merge(&other.gap);
        self.plain_gap.merge(&other.plain_gap);
        self.confidence.merge(&other.confidence);
        self.nll_cells.merge(&other.nll_cells);
        self.brier_cells.merge(&other.brier_cells);
        self.gap_cells.merge(&other.gap_cells);
        self.bins.iter_mut().zip(&other.bins).for_each(|(bin, other)| bin.merge(other));
        self.classes.merge(&other.classes);
        self.mistakes.merge(&other.mistakes);
    }

    /// Whether all parts count the same rows, which the parts of a file might not.
    pub(crate) fn is_consistent(&self, classes: usize, binning: Bins) -> bool {
        let cells = [&self.confidence, &self.nll_cells, &self.brier_cells, &self.gap_cells];
        let counts = self.classes.counts();
        self.correct <= self.top
            && self.top <= self.rows
            && self.beside.iter().all(|beside| *beside <= self.rows - self.correct)
            && cells.iter().all(|cells| cells.rows() == self.rows)
            && self.binning == binning
            && self.bins.len() == binning.slots()
            && self.bins.iter().map(|bin| bin.rows).sum::<u64>() == self.rows
            && counts.len() == classes
            && counts.iter().map(|counts| counts.rows).sum::<u64>() == self.rows
            && counts.iter().all(|counts| counts.correct <= counts.rows)
    }
}

/// Bins in JSON: for each its rows, its right rows and its sum of confidences.
mod bins {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::{Bin, packed};
    use crate::bins::ShareSum;

    pub fn serialize<S: Serializer>(bins: &[Bin], serializer: S) -> Result<S::Ok, S::Error> {
        let numbers: Vec<u128> = bins
            .iter()
            .flat_map(|bin| [u128::from(bin.rows), u128::from(bin.correct), bin.confidence.0])
            .collect();
        packed::serialize(&numbers, serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Bin>, D::Error> {
        let numbers: Vec<u128> = packed::deserialize(deserializer)?;
        let (bins, rest) = numbers.as_chunks::<3>();
        let bin = |[rows, correct, share]: &[u128; 3]| -> Option<Bin> {
            let (rows, correct) = (
                u64::try_from(*rows).ok().filter(|rows| *rows < 1 << 50)?,
                u64::try_from(*correct).ok()?,
            );
            (correct <= rows && *share <= u128::from(rows + 1) << 60).then_some(Bin {
                rows,
                correct,
                confidence: ShareSum(*share),
            })
        };
        let bins: Option<Vec<Bin>> = bins.iter().map(bin).collect();
        bins.filter(|_| rest.is_empty())
            .ok_or_else(|| D::Error::custom("bins that contradict themselves"))
    }
}
