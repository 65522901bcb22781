//! Rows counted by confidence, in bins of equal width.

use serde::{Deserialize, Serialize, Serializer};

/// The number of bins, unless another is asked for.
pub const BINS: usize = 15;

/// The bin to which a confidence on an edge belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binning {
    /// (a, b], and 0 in the first bin: Guo et al. 2017 (arXiv 1706.04599).
    #[default]
    RightClosed,
    /// \[a, b) in float32, and one more bin for confidence 1: torchmetrics 1.9.
    Torchmetrics,
    /// \[a, b), the last bin closed: netcal 1.4 (NumPy's histograms).
    Netcal,
}

impl Binning {
    /// The bin of a probability among `bins`; `bins` itself is the additional one of
    /// [`Torchmetrics`](Self::Torchmetrics).
    pub fn bin_of(self, confidence: f64, bins: usize) -> usize {
        let edge = |bin: usize| match self {
            Self::Torchmetrics => f64::from(single_edge(bin, bins)),
            _ => bin as f64 / bins as f64,
        };
        let confidence =
            if self == Self::Torchmetrics { f64::from(confidence as f32) } else { confidence };
        // The product can round across an edge, so it is compared with the edges themselves.
        let guess = ((confidence * bins as f64) as usize).min(bins - 1);
        match self {
            Self::RightClosed if guess > 0 && confidence <= edge(guess) => guess - 1,
            Self::RightClosed if guess + 1 < bins && confidence > edge(guess + 1) => guess + 1,
            Self::RightClosed => guess,
            Self::Torchmetrics if confidence >= 1.0 => bins,
            _ if guess > 0 && confidence < edge(guess) => guess - 1,
            _ if guess + 1 < bins && confidence >= edge(guess + 1) => guess + 1,
            _ => guess,
        }
    }

    /// The number of bins, the additional one included.
    pub fn slots(self, bins: usize) -> usize {
        bins + usize::from(self == Self::Torchmetrics)
    }
}

/// Bins of equal width: how many, and where their edges belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bins {
    pub edges: Binning,
    pub count: usize,
}

impl Bins {
    pub fn bin_of(self, confidence: f64) -> usize {
        self.edges.bin_of(confidence, self.count)
    }

    pub fn slots(self) -> usize {
        self.edges.slots(self.count)
    }
}

/// An edge as `torch.linspace` computes it in float32: from both ends to the middle.
fn single_edge(bin: usize, bins: usize) -> f32 {
    // There a product and a difference are rounded once, together.
    let step = f64::from(1.0 / bins as f32);
    (if bin < bins.div_ceil(2) { step * bin as f64 } else { 1.0 - step * (bins - bin) as f64 })
        as f32
}

/// A sum of probabilities in units of 2^−60: an integer, so it is the same in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShareSum(pub(crate) u128);

impl ShareSum {
    pub(crate) const UNIT: f64 = 1.0 / (1u64 << 60) as f64;

    pub(crate) fn add(&mut self, probability: f64) {
        self.0 += u128::from((probability * (1u64 << 60) as f64) as u64);
    }

    /// As a number.
    pub fn value(self) -> f64 {
        self.0 as f64 * Self::UNIT
    }
}

/// As a number.
impl Serialize for ShareSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.value())
    }
}

/// The rows of one bin, as sums, so that bins of several runs can be added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// The number of rows.
    pub rows: u64,
    /// The number of right rows.
    pub correct: u64,
    /// The sum of their confidences.
    pub confidence: ShareSum,
}

impl Bin {
    pub(crate) fn add(&mut self, confidence: f64, correct: bool) {
        self.rows += 1;
        self.correct += u64::from(correct);
        self.confidence.add(confidence);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.correct += other.correct;
        self.confidence.0 += other.confidence.0;
    }

    /// Share of the rows that are right; NaN without rows.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.rows as f64
    }

    /// Mean confidence; NaN without rows.
    pub fn mean_confidence(&self) -> f64 {
        self.confidence.value() / self.rows as f64
    }

    /// |number of right rows − sum of confidences|.
    pub(crate) fn gap(&self) -> f64 {
        (self.correct as f64 - self.confidence.value()).abs()
    }

    /// The 95 % interval of Wilson (1927) around the share of right rows.
    pub fn accuracy_interval(&self) -> (f64, f64) {
        const Z: f64 = 1.959963984540054;
        let (n, p) = (self.rows as f64, self.accuracy());
        let middle = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        ((middle - half) / scale, (middle + half) / scale)
    }
}

/// Rows by confidence, as a reliability diagram shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reliability {
    /// From low to high confidence.
    pub bins: Vec<Bin>,
}

impl Reliability {
    /// Adds the rows of another.
    pub fn add(&mut self, other: &Self) {
        self.bins.iter_mut().zip(&other.bins).for_each(|(bin, other)| bin.merge(other));
    }

    /// The number of rows in all bins.
    pub fn rows(&self) -> u64 {
        self.bins.iter().map(|bin| bin.rows).sum()
    }

    /// Expected calibration error: Σ over bins of (share of rows)·|accuracy − mean confidence|.
    pub fn ece(&self) -> f64 {
        self.bins.iter().map(Bin::gap).sum::<f64>() / self.rows() as f64
    }

    /// Maximum calibration error: the largest |accuracy − mean confidence| of the bins that have
    /// rows.
    pub fn mce(&self) -> f64 {
        self.bins
            .iter()
            .filter(|bin| bin.rows > 0)
            .map(|bin| bin.gap() / bin.rows as f64)
            .fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Confidences and whether they are right, in (a, b] bins.
    fn reliability(rows: impl IntoIterator<Item = (f64, bool)>, bins: usize) -> Reliability {
        let mut result = vec![Bin::default(); bins];
        for (confidence, correct) in rows {
            result[Binning::RightClosed.bin_of(confidence, bins)].add(confidence, correct);
        }
        Reliability { bins: result }
    }

    fn ece(confidences: &[f64], correct: &[u8], bins: usize) -> f64 {
        reliability(confidences.iter().copied().zip(correct.iter().map(|c| *c == 1)), bins).ece()
    }

    #[test]
    fn edges_belong_to_the_bin_below() {
        let confidences = [0.6, 0.6, 0.8, 0.8, 1.0, 1.0, 1.0, 0.95];
        assert!((ece(&confidences, &[1, 0, 1, 1, 1, 1, 0, 1], 5) - 0.19375).abs() < 1e-15);
        assert_eq!(
            [0.0, 0.2, 0.2000001, 1.0].map(|confidence| Binning::RightClosed.bin_of(confidence, 5)),
            [0, 0, 1, 4]
        );
        assert_eq!(
            [0.0, 0.2, 0.1999999, 1.0].map(|confidence| Binning::Netcal.bin_of(confidence, 5)),
            [0, 1, 0, 4]
        );
        assert_eq!(
            [0.0, 0.2, 0.1999999, 1.0]
                .map(|confidence| Binning::Torchmetrics.bin_of(confidence, 5)),
            [0, 1, 0, 5]
        );
        for bins in 1..40 {
            for bin in 0..bins {
                let edge = (bin + 1) as f64 / bins as f64;
                assert_eq!(
                    Binning::RightClosed.bin_of(edge, bins),
                    bin,
                    "upper edge of {bin} of {bins}"
                );
                assert_eq!(
                    Binning::Netcal.bin_of(edge, bins),
                    (bin + 1).min(bins - 1),
                    "upper edge of {bin} of {bins}"
                );
            }
        }
    }

    #[test]
    fn ece_by_hand() {
        // One bin: accuracy 1/2 against mean confidence 0.75; and always right with confidence 1.
        assert!((ece(&[0.7, 0.8], &[1, 0], 1) - 0.25).abs() < 1e-15);
        assert_eq!(ece(&[1.0, 1.0], &[1, 1], 15), 0.0);
    }

    #[test]
    fn the_interval_is_wilsons() {
        let bin = |rows, correct| {
            let mut bin = Bin::default();
            (0..rows).for_each(|row| bin.add(0.9, row < correct));
            bin.accuracy_interval()
        };
        // 8 of 10: (0.490, 0.943), as tables have it; and never a point, not even for all right.
        let (low, high) = bin(10, 8);
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4, "{low} {high}");
        let (low, high) = bin(2, 2);
        assert!(low < 0.5 && (high - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn every_confidence_lies_in_its_bin(confidence in 0.0..=1.0f64, bins in 1..50usize) {
            let bin = Binning::RightClosed.bin_of(confidence, bins);
            prop_assert!(bin < bins);
            prop_assert!(confidence <= (bin + 1) as f64 / bins as f64);
            prop_assert!(confidence > bin as f64 / bins as f64 || bin == 0);
        }

        #[test]
        fn ece_lies_between_the_mean_difference_and_one(rows in prop::collection::vec((0.0..=1.0f64, any::<bool>()), 1..60)) {
            let reliability = reliability(rows.iter().copied(), BINS);
            let n = rows.len() as f64;
            let difference = rows.iter().map(|(p, right)| f64::from(u8::from(*right)) - p).sum::<f64>() / n;
            prop_assert!(reliability.ece() <= 1.0 + 1e-12);
            prop_assert!(reliability.ece() >= difference.abs() - 1e-12);
        }
    }
}
