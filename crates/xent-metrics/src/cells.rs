//! Numbers sorted and counted, in memory that does not grow without end.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use crate::packed;

/// Bits of a mantissa: with all of them dropped, a cell is an octave.
const MANTISSA: u32 = 52;
/// As many octaves as there are: fewer cells cannot be asked for.
const LEAST: usize = 2 << (63 - MANTISSA);

/// Rows by a number ≥ 0 (∞ too): how many have it, and how many of these are right.
///
/// Every different number has a cell of its own as long as there are at most [`most`](Self::most) of them. Beyond that the last bits of all numbers are dropped, the same few
/// everywhere and no more than it takes, and a cell stands for its middle. How many bits that is follows from the numbers alone, not from their order or from
/// how they were split: merging gives what one run gives.
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
    /// How many of the last bits are dropped so far. While numbers come in there may be up to twice as many cells as there are in the end: were bits dropped one by one as soon as
    /// there is a cell too many, the next number would often be one too many again.
    dropped: u32,
    /// By the bits that are left: rows, and how many of them are right.
    cells: HashMap<u64, (u64, u64), BuildHasherDefault<Spread>>,
}

/// Spreads keys, whose last bits may all be 0, over a table.
#[derive(Debug, Clone, Copy, Default)]
struct Spread(u64);

impl Hasher for Spread {
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
    /// How many.
    pub rows: u64,
    /// How many of them are right.
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
    /// Of at most this many cells, and at least one an octave.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(LEAST), dropped: 0, cells: HashMap::default() }
    }

    /// How many cells there may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Takes a number ≥ 0 in; what is below 0 counts as 0.
    pub fn add(&mut self, value: f64, correct: bool) {
        // −0 and NaN become 0, too.
        let bits = if value > 0.0 { value.to_bits() } else { 0 };
        self.insert(bits >> self.dropped, 1, u64::from(correct));
        self.limit();
    }

    /// Takes others in.
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
        settled.keys().into_iter().map(|(key, rows, correct)| Cell { value: middle(key, settled.dropped), rows, correct }).collect()
    }

    /// The same in at most `most` cells.
    pub fn coarsened(&self, most: usize) -> Self {
        let mut coarse = Self { most: most.max(LEAST).min(self.most), ..self.clone() };
        coarse.shrink();
        coarse
    }

    /// How far a number may be from its cell's, relative to it: 0 if every number has its own.
    pub fn rounding(&self) -> f64 {
        let dropped = self.settled().dropped;
        if dropped == 0 { 0.0 } else { 2f64.powi(dropped as i32 - 1 - MANTISSA as i32) }
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.cells.values().map(|cell| cell.0).sum()
    }

    /// With as few cells as there are in the end.
    fn settled(&self) -> Cow<'_, Self> {
        if self.cells.len() <= self.most { Cow::Borrowed(self) } else { Cow::Owned(self.coarsened(self.most)) }
    }

    fn limit(&mut self) {
        if self.cells.len() > 2 * self.most {
            self.shrink();
        }
    }

    fn insert(&mut self, key: u64, rows: u64, correct: u64) {
        let cell = self.cells.entry(key).or_default();
        cell.0 += rows;
        cell.1 += correct;
    }

    /// Drops as few bits as leave few enough cells.
    fn shrink(&mut self) {
        if self.cells.len() <= self.most || self.dropped >= MANTISSA {
            return;
        }
        let mut keys: Vec<u64> = self.cells.keys().copied().collect();
        keys.sort_unstable();
        // Neighbours stay apart until the bits are dropped up to the highest in which they differ.
        let mut apart = [0usize; 65];
        keys.windows(2).for_each(|pair| apart[64 - (pair[0] ^ pair[1]).leading_zeros() as usize] += 1);
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
            // At once: keys come in the order of their hashes, in which a table that grows has to look far for room.
            self.cells.reserve(old.len());
            for (key, (rows, correct)) in old {
                self.insert(key >> more, rows, correct);
            }
        }
    }

    /// Key, rows, right rows, in order.
    fn keys(&self) -> Vec<(u64, u64, u64)> {
        let mut keys: Vec<_> = self.cells.iter().map(|(key, (rows, correct))| (*key, *rows, *correct)).collect();
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
        Self { most: cells.most, dropped: cells.dropped, keys: part(|cell| cell.0), rows: part(|cell| cell.1), correct: part(|cell| cell.2) }
    }
}

impl TryFrom<Packed> for Cells {
    type Error = &'static str;

    fn try_from(packed: Packed) -> Result<Self, Self::Error> {
        let Packed { most, dropped, keys, rows, correct } = packed;
        if dropped > MANTISSA || keys.len() != rows.len() || keys.len() != correct.len() || keys.len() > most {
            return Err("cells of different lengths, or more than there may be");
        }
        let largest = f64::INFINITY.to_bits() >> dropped;
        let total = rows.iter().try_fold(0u64, |total, rows| total.checked_add(*rows));
        let sound = most >= LEAST && total.is_some() && keys.is_sorted_by(|a, b| a < b) && keys.last().is_none_or(|key| *key <= largest);
        if !sound || rows.iter().zip(&correct).any(|(rows, correct)| correct > rows || *rows == 0) {
            return Err("cells that are not sorted, or have more right rows than rows");
        }
        let cells = keys.into_iter().zip(rows).zip(correct).map(|((key, rows), correct)| (key, (rows, correct))).collect();
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
