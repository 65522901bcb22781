//! Rows that are kept whole, for what one pass cannot know: how the numbers change with a temperature that is found only at the end.

use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use crate::evaluation::Rows;
use crate::packed;
use crate::row::Logits;

/// Rows within a budget of logits: all of them if they fit, else a sample.
///
/// The sample is that of the rows with the smallest hashes of (file, row), so it does not depend on the order in which rows come, nor on how they were split: the sample of a
/// union is the sample of the samples.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Packed", try_from = "Packed")]
pub struct Kept {
    classes: usize,
    /// Rows that fit.
    most: usize,
    /// Rows that were offered.
    seen: u64,
    /// Hash and place of each.
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

/// Identifies a file, so that its rows' hashes differ from those of others.
pub(crate) fn hash_source(source: &str) -> u64 {
    // FNV-1a; `mix` does the rest.
    source.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Kept {
    /// At most `budget` logits, in rows of `classes`.
    pub fn new(classes: usize, budget: usize) -> Self {
        Self { classes, most: (budget / classes.max(1)).max(1), seen: 0, heap: BinaryHeap::new(), labels: Vec::new(), values: Values::F32(Vec::new()) }
    }

    /// Offers a row.
    pub fn offer(&mut self, source: &str, row: u64, logits: Logits<'_>, label: u32) {
        self.offer_hashed(mix(hash_source(source).wrapping_add(row.wrapping_mul(0x9e37_79b9_7f4a_7c15))), logits, label);
        self.seen += 1;
    }

    /// Offers some of these rows, by their places among them.
    pub fn offer_rows(&mut self, rows: &Rows<'_>, places: &[usize]) {
        for place in places {
            self.offer(rows.source, rows.first + *place as u64, rows.logits.part(place * self.classes..(place + 1) * self.classes), rows.labels[*place] as u32);
        }
    }

    /// How many rows were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    fn offer_hashed(&mut self, hash: u64, logits: Logits<'_>, label: u32) {
        if self.labels.len() < self.most {
            let place = self.labels.len();
            self.labels.push(label);
            self.heap.push((hash, place));
            self.values.write(place, self.classes, self.most, logits);
        } else if self.heap.peek().is_some_and(|(largest, _)| hash < *largest)
            && let Some((_, place)) = self.heap.pop()
        {
            self.labels[place] = label;
            self.heap.push((hash, place));
            self.values.write(place, self.classes, self.most, logits);
        }
    }

    /// Takes others in.
    pub fn merge(&mut self, other: &Self) {
        self.most = self.most.min(other.most);
        for (hash, place) in &other.heap {
            self.offer_hashed(*hash, other.values.row(*place, other.classes), other.labels[*place]);
        }
        while self.labels.len() > self.most {
            self.shrink();
        }
        self.seen += other.seen;
    }

    /// Whether every row is here.
    pub fn complete(&self) -> bool {
        self.seen == self.labels.len() as u64
    }

    /// How many rows are here.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// A row and its label.
    pub fn row(&self, place: usize) -> (Logits<'_>, usize) {
        (self.values.row(place, self.classes), self.labels[place] as usize)
    }

    /// Drops the row with the largest hash and moves the last into its place.
    fn shrink(&mut self) {
        let Some((_, place)) = self.heap.pop() else { return };
        let last = self.labels.len() - 1;
        let moved = self.values.row(last, self.classes).to_owned();
        self.values.write(place, self.classes, self.most, moved.view());
        self.labels[place] = self.labels[last];
        self.labels.pop();
        self.values.truncate(last * self.classes);
        self.heap = self.heap.drain().map(|(hash, other)| (hash, if other == last { place } else { other })).collect();
    }
}

impl Values {
    /// Puts a row into a place, of at most `most`.
    fn write(&mut self, place: usize, classes: usize, most: usize, logits: Logits<'_>) {
        let (at, limit) = (place * classes, most * classes);
        if let (Self::F32(values), Logits::F64(_)) = (&*self, logits) {
            *self = Self::F64(values.iter().map(|z| f64::from(*z)).collect());
        }
        match (self, logits) {
            (Self::F32(values), Logits::F32(logits)) => write(values, at, limit, logits.iter().copied()),
            (Self::F64(values), Logits::F32(logits)) => write(values, at, limit, logits.iter().map(|z| f64::from(*z))),
            (Self::F64(values), Logits::F64(logits)) => write(values, at, limit, logits.iter().copied()),
            // Widened above.
            (Self::F32(_), Logits::F64(_)) => {}
        }
    }

    fn row(&self, place: usize, classes: usize) -> Logits<'_> {
        let range = place * classes..(place + 1) * classes;
        self.view().part(range)
    }

    fn view(&self) -> Logits<'_> {
        match self {
            Self::F32(values) => Logits::F32(values),
            Self::F64(values) => Logits::F64(values),
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::F32(values) => values.truncate(len),
            Self::F64(values) => values.truncate(len),
        }
    }
}

impl Logits<'_> {
    fn to_owned(self) -> Values {
        match self {
            Self::F32(values) => Values::F32(values.to_vec()),
            Self::F64(values) => Values::F64(values.to_vec()),
        }
    }
}

fn write<T>(values: &mut Vec<T>, at: usize, limit: usize, row: impl ExactSizeIterator<Item = T>) {
    if at == values.len() {
        if values.capacity() < at + row.len() {
            // Twice as much, but not beyond the budget.
            values.reserve_exact(at.min(limit.saturating_sub(at)).max(row.len()));
        }
        values.extend(row);
    } else {
        values[at..at + row.len()].iter_mut().zip(row).for_each(|(old, new)| *old = new);
    }
}

impl From<Kept> for Packed {
    fn from(kept: Kept) -> Self {
        let mut order: Vec<(u64, usize)> = kept.heap.iter().copied().collect();
        order.sort_unstable();
        let (mut single, mut double) = (Vec::new(), Vec::new());
        for (_, place) in &order {
            match kept.values.row(*place, kept.classes) {
                Logits::F32(row) => single.extend(row),
                Logits::F64(row) => double.extend(row),
            }
        }
        let labels = order.iter().map(|(_, place)| kept.labels[*place]).collect();
        Self { classes: kept.classes, most: kept.most, seen: kept.seen, hashes: order.into_iter().map(|(hash, _)| hash).collect(), labels, single, double }
    }
}

impl TryFrom<Packed> for Kept {
    type Error = &'static str;

    fn try_from(packed: Packed) -> Result<Self, Self::Error> {
        let rows = packed.labels.len();
        let logits = rows.checked_mul(packed.classes).ok_or("more logits than there can be")?;
        let values = match (packed.single.len(), packed.double.len()) {
            (single, 0) if single == logits => Values::F32(packed.single),
            (0, double) if double == logits => Values::F64(packed.double),
            _ => return Err("kept rows whose logits are too many or too few"),
        };
        let sound = packed.classes >= 2 && packed.most >= 1 && rows <= packed.most && rows as u64 <= packed.seen && packed.hashes.len() == rows;
        if !sound || packed.labels.iter().any(|label| *label as usize >= packed.classes) {
            return Err("kept rows that contradict one another");
        }
        let view = values.view();
        let finite = match view {
            Logits::F32(values) => values.iter().all(|z| *z < f32::INFINITY),
            Logits::F64(values) => values.iter().all(|z| *z < f64::INFINITY),
        };
        if !finite {
            return Err("kept rows with NaN or infinite logits");
        }
        let heap = packed.hashes.into_iter().enumerate().map(|(place, hash)| (hash, place)).collect();
        Ok(Self { classes: packed.classes, most: packed.most, seen: packed.seen, heap, labels: packed.labels, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(kept: &mut Kept, rows: std::ops::Range<u64>) {
        for row in rows {
            let logits = [row as f32, 1.0, 2.0];
            kept.offer("file", row, Logits::F32(&logits), row as u32 % 3);
        }
    }

    fn written(kept: &Kept) -> String {
        serde_json::to_string(kept).unwrap()
    }

    #[test]
    fn the_sample_does_not_depend_on_the_split() {
        let mut whole = Kept::new(3, 30);
        offer(&mut whole, 0..100);
        assert_eq!((whole.len(), whole.complete()), (10, false));
        let (mut left, mut right) = (Kept::new(3, 30), Kept::new(3, 30));
        offer(&mut right, 40..100);
        offer(&mut left, 0..40);
        right.merge(&left);
        assert_eq!(written(&right), written(&whole));
        let read: Kept = serde_json::from_str(&written(&whole)).unwrap();
        assert_eq!(written(&read), written(&whole));
        // A smaller budget has the smaller sample.
        let (mut small, mut large) = (Kept::new(3, 12), Kept::new(3, 300));
        offer(&mut small, 0..50);
        offer(&mut large, 50..100);
        large.merge(&small);
        let mut direct = Kept::new(3, 12);
        offer(&mut direct, 0..100);
        assert_eq!(written(&large), written(&direct));
    }

    #[test]
    fn every_row_is_as_likely() {
        let mut kept = Kept::new(3, 3 * 2000);
        offer(&mut kept, 0..20_000);
        let mean = (0..kept.len()).map(|place| if let (Logits::F32(row), _) = kept.row(place) { f64::from(row[0]) } else { f64::NAN }).sum::<f64>() / 2000.0;
        // Uniform over 0..20000: sd of the mean 20000/√12/√2000 = 129.
        assert!((mean - 10_000.0).abs() < 4.0 * 129.0, "{mean}");
    }

    #[test]
    fn both_precisions_mix() {
        let (mut kept, mut other) = (Kept::new(2, 100), Kept::new(2, 100));
        kept.offer("a", 0, Logits::F32(&[1.5, 2.0]), 0);
        other.offer("b", 0, Logits::F64(&[0.1, 2.0]), 1);
        kept.merge(&other);
        assert!(kept.complete() && matches!(kept.row(1).0, Logits::F64([0.1, 2.0])) && matches!(kept.row(0).0, Logits::F64([1.5, 2.0])));
    }
}
