//! Rows of probabilities, and what they are told by.

/// How far a sum may be from 1, after rounding to a few digits.
const TOLERANCE: f64 = 2e-3;

/// The warning about logits that all are.
pub const SEEM_PROBABILITIES: &str = "every row is from 0 to 1 and sums to 1, so these seem to be probabilities, not logits; --probabilities takes them for what they are";

/// The error about one that is none.
pub const NO_DISTRIBUTION: &str =
    "is no distribution: its entries are not from 0 to 1 with a sum of 1";

/// Whether a row is in [0, 1] and sums to 1.
pub fn is_distribution(row: &[f64]) -> bool {
    row.iter().all(|p| (0.0..=1.0).contains(p)) && (row.iter().sum::<f64>() - 1.0).abs() < TOLERANCE
}
