//! What is counted for each class, for recall, precision and the classwise calibration error.
//!
//! The classwise error needs, for each class and each equal-width bin, the sum of the class's
//! probabilities over all rows and how many of these rows have the class as their label. That is K
//! additions per row. With many classes nearly every probability lies in the first bin, so:
//!
//! 1. the row's probabilities, rounded to multiples of 2^−40, are added to one f64 per class by a
//!    vector kernel ([`spread`](Reader::spread)). Such sums are exact for 2¹³ rows, after which
//!    they are moved into integers ([`settle`](Classes::settle));
//! 2. a probability above the first bin is subtracted again and counted in its own bin, which is
//!    allocated per class when it is first used;
//! 3. the number of rows in the first bin is the number of all rows less those in the other bins.

use serde::{Deserialize, Serialize};

use crate::bins::{Bin, Bins, ShareSum};
use crate::packed;
use crate::row::{Reader, Row};
use crate::sum::ExactSum;

/// The number of rows over which an f64 sums multiples of 2^−40 exactly.
const EXACT_ROWS: u32 = 1 << 13;

/// Counts for each class, and its probabilities in all rows by equal-width bins.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Packed", try_from = "Packed")]
pub struct Classes {
    binning: Bins,
    rows: u64,
    counts: Vec<Counts>,
    /// For each class, Σ p in the first bin, and how many of its own rows are there.
    first: Vec<(ShareSum, u64)>,
    /// The other bins, as many as there are in all: torchmetrics has one more.
    upper: Vec<Option<Box<[Bin]>>>,
    /// For each class, Σ p over the last rows.
    fresh: Vec<f64>,
    fresh_rows: u32,
}

/// The rows of a class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Rows with this label.
    pub rows: u64,
    /// Rows with this label that are predicted so.
    pub correct: u64,
    /// Rows predicted so.
    pub predicted: u64,
    /// −ln p of the label, over the rows with this label, if there are any: of a million classes
    /// most may have none.
    pub nll: Option<Box<ExactSum>>,
}

#[derive(Serialize, Deserialize)]
struct Packed {
    binning: Bins,
    rows: u64,
    #[serde(with = "packed")]
    class_rows: Vec<u64>,
    #[serde(with = "packed")]
    class_correct: Vec<u64>,
    #[serde(with = "packed")]
    class_predicted: Vec<u64>,
    /// Of the classes with rows, in order.
    class_nll: Vec<ExactSum>,
    #[serde(with = "packed")]
    first_shares: Vec<u128>,
    #[serde(with = "packed")]
    first_correct: Vec<u64>,
    /// class·bins + bin.
    #[serde(with = "packed")]
    upper: Vec<u64>,
    #[serde(with = "packed")]
    upper_rows: Vec<u64>,
    #[serde(with = "packed")]
    upper_correct: Vec<u64>,
    #[serde(with = "packed")]
    upper_shares: Vec<u128>,
}

impl Classes {
    pub(crate) fn new(classes: usize, binning: Bins) -> Self {
        Self {
            binning,
            rows: 0,
            counts: vec![Counts::default(); classes],
            first: vec![Default::default(); classes],
            upper: vec![None; classes],
            fresh: vec![0.0; classes.next_multiple_of(8)],
            fresh_rows: 0,
        }
    }

    /// The counts of each class.
    pub fn counts(&self) -> &[Counts] {
        &self.counts
    }

    pub(crate) fn add(&mut self, reader: &Reader, row: &Row, label: usize) {
        self.rows += 1;
        let counts = &mut self.counts[label];
        counts.rows += 1;
        counts.correct += u64::from(row.predicted == label);
        counts.nll.get_or_insert_default().add(row.nll);
        self.counts[row.predicted].predicted += 1;
        // A little below the edge, so that rounding does not hide a class from the exact
        // comparison.
        let edge = 0.999_999 / self.binning.count as f64;
        if reader.spread(edge, &mut self.fresh) {
            let (e, scale) = reader.weights();
            let least = edge / scale;
            // Most of the row is below the edge: whole pieces are skipped at once.
            const PIECE: usize = 32;
            let pieces = e.chunks(PIECE).enumerate().filter(|(_, piece)| {
                piece.iter().fold(0.0, |most: f64, e| if *e > most { *e } else { most }) >= least
            });
            for class in pieces
                .flat_map(|(piece, es)| piece * PIECE..piece * PIECE + es.len())
                .filter(|class| e[*class] >= least)
            {
                let p = e[class] * scale;
                let bin = self.binning.bin_of(p);
                if bin > 0 {
                    self.fresh[class] -= share(p);
                    let upper = self.upper[class]
                        .get_or_insert_with(|| vec![Bin::default(); self.binning.count].into());
                    upper[bin - 1].add(p, class == label);
                }
            }
        }
        if self.binning.bin_of(row.probability) == 0 {
            self.first[label].1 += 1;
        }
        self.fresh_rows += 1;
        if self.fresh_rows == EXACT_ROWS {
            self.settle();
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.settle();
        self.rows += other.rows;
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            a.rows += b.rows;
            a.correct += b.correct;
            a.predicted += b.predicted;
            if let Some(nll) = &b.nll {
                a.nll.get_or_insert_default().merge(nll);
            }
        }
        for (a, b) in self.first.iter_mut().zip(other.settled()) {
            a.0.0 += b.0.0;
            a.1 += b.1;
        }
        for (a, b) in self.upper.iter_mut().zip(&other.upper) {
            match (a, b) {
                (Some(a), Some(b)) => a.iter_mut().zip(&b[..]).for_each(|(a, b)| a.merge(b)),
                (a @ None, b) => *a = b.clone(),
                (_, None) => {}
            }
        }
    }

    /// The bins that have rows, as (class, bin), for each class from the lowest up.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (usize, Bin)> {
        let each = self.settled().zip(&self.upper).enumerate();
        each.flat_map(|(class, (first, upper))| {
            let bins = upper.iter().flat_map(|bins| bins.iter());
            let above: u64 = bins.clone().map(|bin| bin.rows).sum();
            let first = Bin {
                rows: self.rows.saturating_sub(above),
                correct: first.1,
                confidence: first.0,
            };
            std::iter::once(first)
                .chain(bins.copied())
                .filter(|bin| bin.rows > 0)
                .map(move |bin| (class, bin))
        })
    }

    /// One-vs-rest ECE of each class: Σ over bins of |rows of the class − Σ p| over the rows.
    pub fn errors(&self) -> Vec<f64> {
        let mut errors = vec![0.0; self.counts.len()];
        self.cells().for_each(|(class, bin)| errors[class] += bin.gap() / self.rows as f64);
        errors
    }

    /// The first bins with the last rows.
    fn settled(&self) -> impl Iterator<Item = (ShareSum, u64)> {
        self.first.iter().zip(&self.fresh).map(|((share, rows), fresh)| {
            // A class that has just moved all its mass to other bins may be below 0 by a rounding
            // error, less than the earlier sums are above 0.
            let units = (*fresh * (1u64 << 40) as f64) as i64;
            (ShareSum(share.0.wrapping_add_signed(i128::from(units) << 20)), *rows)
        })
    }

    fn settle(&mut self) {
        self.first = self.settled().collect();
        self.fresh.fill(0.0);
        self.fresh_rows = 0;
    }
}

/// A probability as the kernel rounds it.
fn share(p: f64) -> f64 {
    const ROUND: f64 = 1.5 * (1u64 << 12) as f64;
    (p + ROUND) - ROUND
}

impl PartialEq for Classes {
    fn eq(&self, other: &Self) -> bool {
        (self.rows, &self.counts) == (other.rows, &other.counts) && self.cells().eq(other.cells())
    }
}

impl From<Classes> for Packed {
    fn from(mut classes: Classes) -> Self {
        classes.settle();
        let count = |count: fn(&Counts) -> u64| classes.counts.iter().map(count).collect();
        let upper = || {
            let bins = classes
                .upper
                .iter()
                .enumerate()
                .flat_map(|(class, bins)| bins.iter().map(move |bins| (class, bins)));
            bins.flat_map(|(class, bins)| {
                bins.iter()
                    .enumerate()
                    .map(move |(bin, cell)| (class * classes.binning.count + bin, cell))
            })
            .filter(|(_, bin)| bin.rows > 0)
        };
        Self {
            binning: classes.binning,
            rows: classes.rows,
            class_rows: count(|counts| counts.rows),
            class_correct: count(|counts| counts.correct),
            class_predicted: count(|counts| counts.predicted),
            first_shares: classes.first.iter().map(|first| first.0.0).collect(),
            first_correct: classes.first.iter().map(|first| first.1).collect(),
            upper: upper().map(|(place, _)| place as u64).collect(),
            upper_rows: upper().map(|(_, bin)| bin.rows).collect(),
            upper_correct: upper().map(|(_, bin)| bin.correct).collect(),
            upper_shares: upper().map(|(_, bin)| bin.confidence.0).collect(),
            class_nll: classes
                .counts
                .into_iter()
                .filter_map(|counts| counts.nll.map(|nll| *nll))
                .collect(),
        }
    }
}

impl TryFrom<Packed> for Classes {
    type Error = &'static str;

    fn try_from(packed: Packed) -> Result<Self, Self::Error> {
        /// More rows than any file has, and few enough that sums over thousands of files do not
        /// overflow.
        const MOST: u64 = 1 << 50;
        let len = packed.class_rows.len();
        let same = [
            packed.class_correct.len(),
            packed.class_predicted.len(),
            packed.first_shares.len(),
            packed.first_correct.len(),
        ];
        let with_rows = packed.class_rows.iter().filter(|rows| **rows > 0).count();
        let places = packed.upper.len();
        let same_places =
            [packed.upper_rows.len(), packed.upper_correct.len(), packed.upper_shares.len()];
        if same.iter().any(|other| *other != len)
            || packed.class_nll.len() != with_rows
            || same_places.iter().any(|other| *other != places)
        {
            return Err("classes whose arrays differ in length");
        }
        let counts = [
            &packed.class_rows,
            &packed.class_correct,
            &packed.class_predicted,
            &packed.first_correct,
            &packed.upper_rows,
            &packed.upper_correct,
        ];
        let shares = packed.first_shares.iter().chain(&packed.upper_shares);
        let valid = counts.iter().all(|counts| counts.iter().all(|count| *count <= packed.rows))
            && packed.rows <= MOST;
        let limit = (u128::from(packed.rows) + 1) << 60;
        if !valid
            || !(1..=1000).contains(&packed.binning.count)
            || shares.clone().any(|share| *share > limit)
            || packed.upper.iter().any(|place| *place >= len as u64 * packed.binning.count as u64)
        {
            return Err("classes with more than all rows in one place");
        }
        let mut classes = Self::new(len, packed.binning);
        classes.rows = packed.rows;
        let each =
            packed.class_rows.into_iter().zip(packed.class_correct).zip(packed.class_predicted);
        let mut nll = packed.class_nll.into_iter().map(Box::new);
        classes.counts = each
            .map(|((rows, correct), predicted)| {
                let nll = if rows > 0 { nll.next() } else { None };
                Counts { rows, correct, predicted, nll }
            })
            .collect();
        classes.first =
            packed.first_shares.into_iter().map(ShareSum).zip(packed.first_correct).collect();
        for (i, place) in packed.upper.into_iter().enumerate() {
            let count = packed.binning.count;
            let bins = classes.upper[place as usize / count]
                .get_or_insert_with(|| vec![Bin::default(); count].into());
            bins[place as usize % count] = Bin {
                rows: packed.upper_rows[i],
                correct: packed.upper_correct[i],
                confidence: ShareSum(packed.upper_shares[i]),
            };
        }
        Ok(classes)
    }
}
