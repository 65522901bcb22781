//! Numbers sorted and counted, in bounded memory.
//!
//! A number ≥ 0 sorts like its bits, so a hash map from bits to counts is a sorted multiset. Each
//! different number has its own cell until there are too many cells. Then the lowest bits of all
//! keys are dropped, as few as necessary, and neighbouring cells merge:
//!
//! ```text
//! 0.5000001   0.5000002   0.75          3 cells of 64-bit keys
//! 0.500000·               0.750000·     2 cells of keys without their last bits
//! ```
//!
//! How many bits are dropped depends on the set of numbers alone, so any order and any split of the
//! numbers lead to the same cells.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use crate::packed;

/// Bits of a mantissa: when all of them are dropped, a cell is an octave.
const MANTISSA: u32 = 52;
/// The number of octaves: the least number of cells.
const LEAST: usize = 2 << (63 - MANTISSA);

/// Counts rows by a number ≥ 0 (∞ included): how many rows have it, and how many of these are
/// right.
///
/// Each different number has its own cell up to a given number of cells. Beyond that the lowest
/// bits of all numbers are dropped, the same and as few as necessary for all, and a cell stands for
/// its middle. The result depends on the numbers alone, not on their order or on how they were
/// split.
///
/// ```
/// use xent_metrics::Cells;
/// let mut cells = Cells::new(4096);
/// for (x, right) in [(0.5, true), (0.25, false), (0.5, false)] { cells.add(x, right); }
/// let cells = cells.sorted();
/// assert_eq!((cells[1].value, cells[1].rows, cells[1].correct), (0.5, 2, 1));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Packed", try_from = "Packed")]
pub struct Cells {
    most: usize,
    /// The number of bits that are dropped so far. While numbers are added there may be up to twice
    /// as many cells as in the end, because dropping a bit at the first cell too many would often
    /// have to be repeated for the next number.
    dropped: u32,
    /// By the remaining bits: the number of rows and of right rows.
    cells: HashMap<u64, (u64, u64), BuildHasherDefault<KeyHasher>>,
}

/// Spreads keys, whose lowest bits may all be 0, over a table.
#[derive(Debug, Clone, Copy, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, key: u64) {
        let wide = u128::from(self.0 ^ key) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Rows with the same number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The number, or the middle of its cell.
    pub value: f64,
    /// The number of rows.
    pub rows: u64,
    /// The number of right rows.
    pub correct: u64,
}

#[derive(Serialize, Deserialize)]
struct Packed {
    most: usize,
    dropped: u32,
    #[serde(with = "packed")]
    keys: Vec<u64>,
    #[serde(with = "packed")]
    rows: Vec<u64>,
    #[serde(with = "packed")]
    correct: Vec<u64>,
}

impl Cells {
    /// At most this many cells, but at least one per octave.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(LEAST), dropped: 0, cells: HashMap::default() }
    }

    /// Adds a number ≥ 0; anything below 0 counts as 0.
    pub fn add(&mut self, value: f64, correct: bool) {
        // −0 and NaN become 0, too.
        let bits = if value > 0.0 { value.to_bits() } else { 0 };
        self.insert(bits >> self.dropped, 1, u64::from(correct));
        self.limit();
    }

    /// Adds other cells.
    pub fn merge(&mut self, other: &Self) {
        self.most = self.most.min(other.most);
        self.drop_bits(self.dropped.max(other.dropped));
        self.cells.reserve(other.cells.len().min(self.most));
        for (key, (rows, correct)) in &other.cells {
            self.insert(key >> (self.dropped - other.dropped), *rows, *correct);
            self.limit();
        }
    }

    /// The cells from low to high.
    pub fn sorted(&self) -> Vec<Cell> {
        let settled = self.settled();
        settled
            .keys()
            .into_iter()
            .map(|(key, rows, correct)| Cell { value: middle(key, settled.dropped), rows, correct })
            .collect()
    }

    /// The same in at most `most` cells.
    pub fn coarsened(&self, most: usize) -> Self {
        let mut coarse = Self { most: most.max(LEAST).min(self.most), ..self.clone() };
        coarse.shrink();
        coarse
    }

    /// The largest relative difference between a number and its cell's: 0 if every number has its
    /// own cell.
    pub fn rounding(&self) -> f64 {
        let dropped = self.settled().dropped;
        if dropped == 0 { 0.0 } else { 2f64.powi(dropped as i32 - 1 - MANTISSA as i32) }
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.cells.values().map(|cell| cell.0).sum()
    }

    /// With as few cells as in the end.
    fn settled(&self) -> Cow<'_, Self> {
        if self.cells.len() <= self.most {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(self.coarsened(self.most))
        }
    }

    fn limit(&mut self) {
        if self.cells.len() > self.most.saturating_mul(2) {
            self.shrink();
        }
    }

    fn insert(&mut self, key: u64, rows: u64, correct: u64) {
        let cell = self.cells.entry(key).or_default();
        cell.0 += rows;
        cell.1 += correct;
    }

    /// Drops as few bits as possible so that at most `most` cells remain.
    fn shrink(&mut self) {
        if self.cells.len() <= self.most || self.dropped >= MANTISSA {
            return;
        }
        let mut keys: Vec<u64> = self.cells.keys().copied().collect();
        keys.sort_unstable();
        // Two neighbours merge when the highest bit in which they differ is dropped.
        let mut apart = [0usize; 65];
        keys.windows(2)
            .for_each(|pair| apart[64 - (pair[0] ^ pair[1]).leading_zeros() as usize] += 1);
        let (mut cells, mut more) = (keys.len(), 0);
        while cells > self.most && self.dropped + more < MANTISSA {
            more += 1;
            cells -= apart[more as usize];
        }
        self.drop_bits(self.dropped + more);
    }

    fn drop_bits(&mut self, dropped: u32) {
        let more = dropped - self.dropped;
        if more > 0 {
            self.dropped = dropped;
            let old = std::mem::take(&mut self.cells);
            // Reserved at once: keys come in the order of their hashes, for which a growing table
            // probes long runs.
            self.cells.reserve(old.len());
            for (key, (rows, correct)) in old {
                self.insert(key >> more, rows, correct);
            }
        }
    }

    /// Key, rows, right rows, in order.
    fn keys(&self) -> Vec<(u64, u64, u64)> {
        let mut keys: Vec<_> =
            self.cells.iter().map(|(key, (rows, correct))| (*key, *rows, *correct)).collect();
        keys.sort_unstable();
        keys
    }
}

/// The number in the middle of a cell; ∞ has a cell of its own.
fn middle(key: u64, dropped: u32) -> f64 {
    const INFINITY: u64 = f64::INFINITY.to_bits();
    let low = key << dropped;
    let half = if dropped == 0 || low >= INFINITY || key == 0 { 0 } else { 1 << (dropped - 1) };
    f64::from_bits((low + half).min(INFINITY))
}

impl PartialEq for Cells {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.settled(), other.settled());
        (a.most, a.dropped, &a.cells) == (b.most, b.dropped, &b.cells)
    }
}

impl From<Cells> for Packed {
    fn from(mut cells: Cells) -> Self {
        cells.shrink();
        let keys = cells.keys();
        let part = |part: fn(&(u64, u64, u64)) -> u64| keys.iter().map(part).collect();
        Self {
            most: cells.most,
            dropped: cells.dropped,
            keys: part(|cell| cell.0),
            rows: part(|cell| cell.1),
            correct: part(|cell| cell.2),
        }
    }
}

impl TryFrom<Packed> for Cells {
    type Error = &'static str;

    fn try_from(packed: Packed) -> Result<Self, Self::Error> {
        let Packed { most, dropped, keys, rows, correct } = packed;
        if dropped > MANTISSA
            || keys.len() != rows.len()
            || keys.len() != correct.len()
            || keys.len() > most
        {
            return Err("cells of different lengths, or more than there may be");
        }
        let largest = f64::INFINITY.to_bits() >> dropped;
        let total = rows.iter().try_fold(0u64, |total, rows| total.checked_add(*rows));
        let valid = most >= LEAST
            && total.is_some()
            && keys.is_sorted_by(|a, b| a < b)
            && keys.last().is_none_or(|key| *key <= largest);
        if !valid || rows.iter().zip(&correct).any(|(rows, correct)| correct > rows || *rows == 0) {
            return Err("cells that are not sorted, or have more right rows than rows");
        }
        let cells = keys
            .into_iter()
            .zip(rows)
            .zip(correct)
            .map(|((key, rows), correct)| (key, (rows, correct)))
            .collect();
        Ok(Self { most, dropped, cells })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(most: usize, values: &[f64]) -> Cells {
        let mut cells = Cells::new(0);
        cells.most = most;
        values.iter().for_each(|value| cells.add(*value, *value > 0.5));
        cells
    }

    #[test]
    fn too_many_numbers_are_put_together_where_they_are_closest() {
        let values: Vec<f64> = (0..100_000).map(|i| 0.5 + f64::from(i) / 200_000.0).collect();
        let cells = cells(4096, &values);
        assert!((1e-6..1e-3).contains(&cells.rounding()), "{}", cells.rounding());
        let sorted = cells.sorted();
        assert!(sorted.len() <= 4096 && sorted.len() > 2048);
        assert_eq!(sorted.iter().map(|cell| cell.rows).sum::<u64>(), 100_000);
        assert_eq!(cells.rows(), 100_000);
        let mean = sorted.iter().map(|cell| cell.rows as f64 * cell.value).sum::<f64>() / 1e5;
        assert!((mean - 0.75).abs() < 1e-4, "{mean}");
    }

    #[test]
    fn ends_of_the_range() {
        let cells = cells(4096, &[0.0, -0.0, f64::INFINITY, 5e-324, f64::MAX]).coarsened(1);
        let sorted: Vec<f64> = cells.sorted().iter().map(|cell| cell.value).collect();
        assert_eq!((sorted[0], sorted[sorted.len() - 1]), (0.0, f64::INFINITY));
        assert!(sorted.iter().all(|value| !value.is_nan()));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(values in prop::collection::vec(0.0..1.0f64, 1..300), at in 0..300usize, most in 1..40usize) {
            let whole = cells(most, &values);
            let (left, right) = values.split_at(at % values.len());
            let mut parts = cells(most, right);
            parts.merge(&cells(most, left));
            prop_assert_eq!(&parts, &whole);
            let exact: Vec<f64> = cells(1000, &values).sorted().iter().map(|cell| cell.value).collect();
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            sorted.dedup();
            prop_assert_eq!(exact, sorted);
        }

        #[test]
        fn written_and_read(values in prop::collection::vec(0.0..1.0f64, 0..300)) {
            let cells = cells(4096, &values);
            let json = serde_json::to_string(&cells).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Cells>(&json).unwrap(), &cells);
        }
    }
}
