//! Whole rows, for what a single pass cannot compute: how the numbers change with a temperature
//! that is known only at the end.
//!
//! Every row has a hash of its number, label and logits. A sample retains the rows with the smallest
//! hashes, as many as fit into its budget: a heap holds (hash, place), the largest hash on top, and
//! a new row with a smaller hash takes the place of that one. So the sample depends on the set of
//! rows alone, whatever their files are called, and the sample of a union is the sample of the
//! samples.

use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use crate::input::{LabelledRows, Logits};
use crate::packed;

/// Rows within a budget of logits: all of them if they fit, otherwise a sample that depends neither
/// on the order of the rows nor on how they were split.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Packed", try_from = "Packed")]
pub struct Sample {
    classes: usize,
    /// The number of rows that fit.
    most: usize,
    /// The number of rows that were offered.
    seen: u64,
    /// Hash and place of each retained row.
    heap: BinaryHeap<(u64, usize)>,
    labels: Vec<u32>,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

#[derive(Serialize, Deserialize)]
struct Packed {
    classes: usize,
    most: usize,
    seen: u64,
    #[serde(with = "packed")]
    hashes: Vec<u64>,
    #[serde(with = "packed")]
    labels: Vec<u32>,
    #[serde(with = "packed")]
    single: Vec<f32>,
    #[serde(with = "packed")]
    double: Vec<f64>,
}

/// A row that may be retained: its position among the rows that it came with, and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    position: usize,
    hash: u64,
}

impl Candidate {
    /// A row with its number in its file. Only rows that are equal in all of these have equal
    /// hashes, and it does not matter which of those is retained.
    pub fn new(position: usize, number: u64, logits: Logits<'_>, label: usize) -> Self {
        let hash = match logits {
            Logits::F32(values) => hash(values.iter().map(|z| f64::from(*z))),
            Logits::F64(values) => hash(values.iter().copied()),
        };
        Self { position, hash: mix(mix(hash ^ number) ^ label as u64) }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

/// Of a row's logits, in lanes that do not wait for one another.
fn hash(values: impl ExactSizeIterator<Item = f64>) -> u64 {
    const LANES: usize = 8;
    let mut lanes = [0u64; LANES];
    for (i, value) in values.enumerate() {
        let lane = &mut lanes[i % LANES];
        // The rotation takes the highest bits, to which a product only carries, to the lowest.
        *lane = (lane.rotate_left(23) ^ value.to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    lanes.into_iter().fold(0, |hash, lane| mix(hash ^ lane))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014), a bijection that mixes all bits.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Sample {
    /// At most `budget` logits, in rows of `classes`.
    pub fn new(classes: usize, budget: usize) -> Self {
        Self::of_rows(classes, (budget / classes.max(1)).max(1))
    }

    fn of_rows(classes: usize, most: usize) -> Self {
        Self {
            classes,
            most,
            seen: 0,
            heap: BinaryHeap::new(),
            labels: Vec::new(),
            values: Values::F32(Vec::new()),
        }
    }

    /// Offers some of these rows.
    pub fn offer(&mut self, rows: &LabelledRows<'_>, candidates: &[Candidate]) {
        for Candidate { position: at, hash } in candidates {
            let logits = rows.logits.part(at * self.classes..(at + 1) * self.classes);
            self.offer_hashed(*hash, logits, rows.labels[*at] as u32);
        }
        self.seen += candidates.len() as u64;
    }

    fn offer_hashed(&mut self, hash: u64, logits: Logits<'_>, label: u32) {
        let place = if self.labels.len() < self.most {
            self.labels.push(label);
            self.labels.len() - 1
        } else if self.heap.peek().is_some_and(|(largest, _)| hash < *largest)
            && let Some((_, place)) = self.heap.pop()
        {
            self.labels[place] = label;
            place
        } else {
            return;
        };
        self.heap.push((hash, place));
        self.values.write(place, self.classes, self.most, logits);
    }

    /// Adds another sample; the smaller budget of the two remains.
    pub fn merge(&mut self, other: &Self) {
        if other.most < self.most {
            let larger = std::mem::replace(self, Self::of_rows(self.classes, other.most));
            self.merge(&larger);
        }
        for (hash, place) in &other.heap {
            self.offer_hashed(*hash, other.values.row(*place, other.classes), other.labels[*place]);
        }
        self.seen += other.seen;
    }

    /// The number of rows that were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn classes(&self) -> usize {
        self.classes
    }

    /// A retained row and its label.
    pub(crate) fn row(&self, place: usize) -> (Logits<'_>, usize) {
        (self.values.row(place, self.classes), self.labels[place] as usize)
    }
}

impl Values {
    /// Writes a row to one of at most `most` places.
    fn write(&mut self, place: usize, classes: usize, most: usize, logits: Logits<'_>) {
        let (at, limit) = (place * classes, most.saturating_mul(classes));
        if let (Self::F32(values), Logits::F64(_)) = (&*self, logits) {
            *self = Self::F64(values.iter().map(|z| f64::from(*z)).collect());
        }
        match (self, logits) {
            (Self::F32(values), Logits::F32(logits)) => {
                write(values, at, limit, logits.iter().copied())
            }
            (Self::F64(values), Logits::F32(logits)) => {
                write(values, at, limit, logits.iter().map(|z| f64::from(*z)))
            }
            (Self::F64(values), Logits::F64(logits)) => {
                write(values, at, limit, logits.iter().copied())
            }
            // Widened above.
            (Self::F32(_), Logits::F64(_)) => {}
        }
    }

    fn row(&self, place: usize, classes: usize) -> Logits<'_> {
        self.view().part(place * classes..(place + 1) * classes)
    }

    fn view(&self) -> Logits<'_> {
        match self {
            Self::F32(values) => Logits::F32(values),
            Self::F64(values) => Logits::F64(values),
        }
    }
}

fn write<T>(values: &mut Vec<T>, at: usize, limit: usize, row: impl ExactSizeIterator<Item = T>) {
    if at == values.len() {
        if values.capacity() < at + row.len() {
            // Doubles the capacity, but not beyond the budget.
            values.reserve_exact(at.min(limit.saturating_sub(at)).max(row.len()));
        }
        values.extend(row);
    } else {
        values[at..at + row.len()].iter_mut().zip(row).for_each(|(old, new)| *old = new);
    }
}

impl From<Sample> for Packed {
    fn from(sample: Sample) -> Self {
        let mut order: Vec<(u64, usize)> = sample.heap.iter().copied().collect();
        order.sort_unstable();
        let (mut single, mut double) = (Vec::new(), Vec::new());
        for (_, place) in &order {
            match sample.values.row(*place, sample.classes) {
                Logits::F32(row) => single.extend(row),
                Logits::F64(row) => double.extend(row),
            }
        }
        let labels = order.iter().map(|(_, place)| sample.labels[*place]).collect();
        Self {
            classes: sample.classes,
            most: sample.most,
            seen: sample.seen,
            hashes: order.into_iter().map(|(hash, _)| hash).collect(),
            labels,
            single,
            double,
        }
    }
}

impl TryFrom<Packed> for Sample {
    type Error = &'static str;

    fn try_from(packed: Packed) -> Result<Self, Self::Error> {
        let rows = packed.labels.len();
        let logits = rows.checked_mul(packed.classes).ok_or("more logits than there can be")?;
        let values = match (packed.single.len(), packed.double.len()) {
            (single, 0) if single == logits => Values::F32(packed.single),
            (0, double) if double == logits => Values::F64(packed.double),
            _ => return Err("sampled rows with too many or too few logits"),
        };
        let valid = packed.classes >= 2
            && packed.most >= 1
            && rows <= packed.most
            && rows as u64 <= packed.seen
            && packed.hashes.len() == rows;
        if !valid || packed.labels.iter().any(|label| *label as usize >= packed.classes) {
            return Err("sampled rows that contradict one another");
        }
        let finite = match values.view() {
            Logits::F32(values) => values.iter().all(|z| *z < f32::INFINITY),
            Logits::F64(values) => values.iter().all(|z| *z < f64::INFINITY),
        };
        if !finite {
            return Err("sampled rows with NaN or infinite logits");
        }
        let heap =
            packed.hashes.into_iter().enumerate().map(|(place, hash)| (hash, place)).collect();
        Ok(Self {
            classes: packed.classes,
            most: packed.most,
            seen: packed.seen,
            heap,
            labels: packed.labels,
            values,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer_row(sample: &mut Sample, row: u64, logits: Logits<'_>, label: i64) {
        let rows = LabelledRows { source: "file", first: row, logits, labels: &[label] };
        sample.offer(&rows, &[Candidate::new(0, row, logits, label as usize)]);
    }

    fn offer(sample: &mut Sample, rows: std::ops::Range<u64>) {
        for row in rows {
            offer_row(sample, row, Logits::F32(&[row as f32, 1.0, 2.0]), row as i64 % 3);
        }
    }

    fn written(sample: &Sample) -> String {
        serde_json::to_string(sample).unwrap()
    }

    #[test]
    fn the_sample_does_not_depend_on_the_split() {
        let mut whole = Sample::new(3, 30);
        offer(&mut whole, 0..100);
        assert_eq!((whole.len(), whole.seen()), (10, 100));
        let (mut left, mut right) = (Sample::new(3, 30), Sample::new(3, 30));
        offer(&mut right, 40..100);
        offer(&mut left, 0..40);
        right.merge(&left);
        assert_eq!(written(&right), written(&whole));
        let read: Sample = serde_json::from_str(&written(&whole)).unwrap();
        assert_eq!(written(&read), written(&whole));
        // A smaller budget has the smaller sample.
        let (mut small, mut large) = (Sample::new(3, 12), Sample::new(3, 300));
        offer(&mut small, 0..50);
        offer(&mut large, 50..100);
        large.merge(&small);
        let mut direct = Sample::new(3, 12);
        offer(&mut direct, 0..100);
        assert_eq!(written(&large), written(&direct));
    }

    #[test]
    fn hashes_tell_contents_apart() {
        let of = |number, logits: &[f64], label| {
            Candidate::new(0, number, Logits::F64(logits), label).hash
        };
        let row = vec![1.0; 20];
        let mut hashes = vec![of(0, &row, 0), of(1, &row, 0), of(0, &row, 1)];
        // Signs of two logits of one lane, which are the highest bits.
        for flipped in [vec![0], vec![0, 8], vec![1, 9], vec![8, 16], vec![0, 1]] {
            let mut row = row.clone();
            flipped.into_iter().for_each(|i: usize| row[i] = -1.0);
            hashes.push(of(0, &row, 0));
        }
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
        // The same numbers in single precision.
        assert_eq!(Candidate::new(0, 7, Logits::F32(&[0.5; 9]), 3).hash, of(7, &[0.5; 9], 3));
    }

    #[test]
    fn every_row_is_as_likely() {
        let mut sample = Sample::new(3, 3 * 2000);
        offer(&mut sample, 0..20_000);
        let mean = (0..sample.len())
            .map(|place| {
                if let (Logits::F32(row), _) = sample.row(place) {
                    f64::from(row[0])
                } else {
                    f64::NAN
                }
            })
            .sum::<f64>()
            / 2000.0;
        // Uniform over 0..20000: sd of the mean 20000/√12/√2000 = 129.
        assert!((mean - 10_000.0).abs() < 4.0 * 129.0, "{mean}");
    }

    #[test]
    fn both_precisions_mix() {
        let (mut sample, mut other) = (Sample::new(2, 100), Sample::new(2, 100));
        offer_row(&mut sample, 0, Logits::F32(&[1.5, 2.0]), 0);
        offer_row(&mut other, 0, Logits::F64(&[0.1, 2.0]), 1);
        sample.merge(&other);
        assert!(
            sample.seen() == 2
                && matches!(sample.row(1).0, Logits::F64([0.1, 2.0]))
                && matches!(sample.row(0).0, Logits::F64([1.5, 2.0]))
        );
    }
}
