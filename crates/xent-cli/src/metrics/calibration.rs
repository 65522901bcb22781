//! How well confidences match the share of rows that are right.

use rand::{Rng, RngExt};
use serde::Serialize;

use super::gap::confidence;
use super::logits::{Logits, largest};

/// Number of equal-width bins.
pub const BINS: usize = 15;

/// How often chance is drawn.
const DRAWS: usize = 200;

/// Rows sorted by confidence into bins of equal width: bin b holds confidences in (b/n, (b+1)/n], the first also 0.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// From low to high confidence.
    pub bins: Vec<Bin>,
}

/// The rows of one bin, as sums, so that bins of several runs add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bin {
    /// How many.
    pub rows: usize,
    /// How many of them are right.
    pub correct: usize,
    /// The sum of their confidences.
    pub confidence: f64,
}

impl Bin {
    /// Share of the rows that are right; NaN without rows.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.rows as f64
    }

    /// Mean confidence; NaN without rows.
    pub fn mean_confidence(&self) -> f64 {
        self.confidence / self.rows as f64
    }

    /// The 95 % interval of Wilson (1927) about the share that is right: between which true shares it is not surprising.
    pub fn accuracy_interval(&self) -> (f64, f64) {
        const Z: f64 = 1.959963984540054;
        let (n, p) = (self.rows as f64, self.accuracy());
        let middle = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        ((middle - half) / scale, (middle + half) / scale)
    }
}

impl Reliability {
    /// From the logits' softmax.
    pub fn new(logits: &Logits, labels: &[u32]) -> Self {
        let rows = logits.rows().zip(labels).map(|(row, &label)| (confidence(row), largest(row).0 == label as usize));
        Self::from_confidences(rows, BINS)
    }

    fn from_confidences(rows: impl IntoIterator<Item = (f64, bool)>, bins: usize) -> Self {
        let mut result = vec![Bin::default(); bins];
        for (confidence, correct) in rows {
            let bin = &mut result[bin_of(confidence, bins)];
            bin.rows += 1;
            bin.correct += usize::from(correct);
            bin.confidence += confidence;
        }
        Self { bins: result }
    }

    /// The rows of another taken in.
    pub fn add(&mut self, other: &Self) {
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.rows += other.rows;
            bin.correct += other.correct;
            bin.confidence += other.confidence;
        }
    }

    /// Number of rows in all bins.
    pub fn rows(&self) -> usize {
        self.bins.iter().map(|bin| bin.rows).sum()
    }

    /// Expected calibration error: Σ over bins of (share of rows)·|accuracy − mean confidence|.
    pub fn ece(&self) -> f64 {
        self.bins.iter().map(|bin| (bin.correct as f64 - bin.confidence).abs()).sum::<f64>() / self.rows() as f64
    }
}

/// The bin (b/n, (b+1)/n] that holds a confidence. The product can round across an edge, hence the second look.
fn bin_of(confidence: f64, bins: usize) -> usize {
    let edge = |bin: usize| bin as f64 / bins as f64;
    let guess = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
    if guess > 0 && confidence <= edge(guess) {
        guess - 1
    } else if guess + 1 < bins && confidence > edge(guess + 1) {
        guess + 1
    } else {
        guess
    }
}

/// The ECE that chance alone makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChanceEce {
    /// Its mean.
    pub mean: f64,
    /// What it stays below 19 times in 20: an ECE above this is more than chance.
    pub usual: f64,
}

/// The ECE that these confidences would score if every one of them were exactly the probability of being right, over resampled labels.
/// It is above 0 because a finite number of rows scatters.
pub fn chance_ece(logits: &Logits, rng: &mut impl Rng) -> ChanceEce {
    let confidences: Vec<f64> = logits.rows().map(confidence).collect();
    let draw = |_| Reliability::from_confidences(confidences.iter().map(|&p| (p, rng.random::<f64>() < p)), BINS).ece();
    let mut draws: Vec<f64> = (0..DRAWS).map(draw).collect();
    draws.sort_by(f64::total_cmp);
    ChanceEce { mean: draws.iter().sum::<f64>() / DRAWS as f64, usual: draws[DRAWS * 19 / 20] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seed::{Purpose, stream};

    fn ece(confidences: &[f64], correct: &[u8], bins: usize) -> f64 {
        Reliability::from_confidences(confidences.iter().copied().zip(correct.iter().map(|c| *c == 1)), bins).ece()
    }

    #[test]
    fn edges_belong_to_the_bin_below() {
        let confidences = [0.6, 0.6, 0.8, 0.8, 1.0, 1.0, 1.0, 0.95];
        assert!((ece(&confidences, &[1, 0, 1, 1, 1, 1, 0, 1], 5) - 0.19375).abs() < 1e-15);
        assert_eq!([0.0, 0.2, 0.2000001, 1.0].map(|confidence| bin_of(confidence, 5)), [0, 0, 1, 4]);
        for bins in 1..40 {
            for bin in 0..bins {
                assert_eq!(bin_of((bin + 1) as f64 / bins as f64, bins), bin, "upper edge of {bin} of {bins}");
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
        // 8 of 10: (0.490, 0.943), as tables have it; and never a point, not even for all right.
        let (low, high) = Bin { rows: 10, correct: 8, confidence: 9.0 }.accuracy_interval();
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4, "{low} {high}");
        let (low, high) = Bin { rows: 2, correct: 2, confidence: 1.0 }.accuracy_interval();
        assert!(low < 0.5 && (high - 1.0).abs() < 1e-12);
    }

    #[test]
    fn chance_is_what_scatter_makes() {
        // All confidences are 1/2 (K = 2, equal logits): a bin of n rows is off by E|Binomial(n, ½)/n − ½| ≈ √(1/(2πn)).
        let rows = 1000;
        let chance = chance_ece(&Logits::new(vec![0.0; 2 * rows], 2), &mut stream(1, Purpose::Chance));
        let expected = (1.0 / (2.0 * std::f64::consts::PI * rows as f64)).sqrt();
        assert!((chance.mean / expected - 1.0).abs() < 0.2, "{chance:?}, expected about {expected}");
        // 95 % of a normal distribution lie within 1.96 deviations, whose mean size is 0.798 deviations.
        assert!((chance.usual / chance.mean / (1.96 / 0.798) - 1.0).abs() < 0.2, "{chance:?}");
        // Certain rows leave nothing to chance.
        let certain = Logits::new([800.0, 0.0].repeat(10), 2);
        assert_eq!(chance_ece(&certain, &mut stream(1, Purpose::Chance)), ChanceEce { mean: 0.0, usual: 0.0 });
    }

    proptest! {
        #[test]
        fn every_confidence_lies_in_its_bin(confidence in 0.0..=1.0f64, bins in 1..50usize) {
            let bin = bin_of(confidence, bins);
            prop_assert!(bin < bins);
            prop_assert!(confidence <= (bin + 1) as f64 / bins as f64);
            prop_assert!(confidence > bin as f64 / bins as f64 || bin == 0);
        }

        #[test]
        fn ece_lies_between_the_mean_difference_and_one(rows in prop::collection::vec((0.0..=1.0f64, any::<bool>()), 1..60)) {
            let reliability = Reliability::from_confidences(rows.iter().copied(), BINS);
            let n = rows.len() as f64;
            let difference = rows.iter().map(|(p, right)| f64::from(u8::from(*right)) - p).sum::<f64>() / n;
            prop_assert!(reliability.ece() <= 1.0 + 1e-12);
            prop_assert!(reliability.ece() >= difference.abs() - 1e-12);
        }
    }
}
