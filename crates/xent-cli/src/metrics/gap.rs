//! The logit gap: how far the predicted class stands above the others.

use super::logits::{Logits, largest};

/// `max z − ln mean exp` of the other logits, which is `logit(p_max) + ln(K−1)`.
///
/// At the optimum of a smoothed loss all other logits are equal and this is their distance from the largest. The exponentials are taken relative to the second
/// largest logit, so that the gap stays right where `1 − p_max` would round to 0.
fn logit_gap(row: &[f64]) -> f64 {
    let (top, first) = largest(row);
    let others = || row.iter().enumerate().filter(|(k, _)| *k != top).map(|(_, z)| *z);
    let second = others().fold(f64::NEG_INFINITY, f64::max);
    let mean = others().map(|z| (z - second).exp()).sum::<f64>() / (row.len() - 1) as f64;
    (first - second) - mean.ln()
}

/// The mean over the rows.
pub fn mean_logit_gap(logits: &Logits) -> f64 {
    logits.rows().map(logit_gap).sum::<f64>() / logits.len() as f64
}

/// `p_max` of a row.
pub fn confidence(row: &[f64]) -> f64 {
    1.0 / (1.0 + (row.len() - 1) as f64 * (-logit_gap(row)).exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_others_stand_at_their_distance() {
        assert!((logit_gap(&[1.0, 5.5, 1.0, 1.0]) - 4.5).abs() < 1e-15);
        assert_eq!(logit_gap(&[2.0, 2.0, 2.0]), 0.0);
        assert!((mean_logit_gap(&Logits::new(vec![3.0, 0.0, 0.0, 1.0], 2)) - 2.0).abs() < 1e-15);
    }

    #[test]
    fn huge_gaps_are_still_right() {
        assert_eq!(logit_gap(&[1e4, 0.0, 0.0]), 1e4);
        assert_eq!(confidence(&[1e4, 0.0, 0.0]), 1.0);
    }

    proptest! {
        #[test]
        fn it_is_the_logit_of_the_confidence(row in prop::collection::vec(-8.0..8.0f64, 2..12)) {
            let sum: f64 = row.iter().map(|z| z.exp()).sum();
            let p = row.iter().map(|z| z.exp() / sum).fold(0.0, f64::max);
            prop_assert!((confidence(&row) - p).abs() < 1e-12);
            let logit = (p / (1.0 - p)).ln() + ((row.len() - 1) as f64).ln();
            prop_assert!((logit_gap(&row) - logit).abs() < 1e-8);
        }

        #[test]
        fn it_does_not_see_a_shift(row in prop::collection::vec(-8.0..8.0f64, 2..12), shift in -1e3..1e3f64) {
            let shifted: Vec<f64> = row.iter().map(|z| z + shift).collect();
            prop_assert!((logit_gap(&row) - logit_gap(&shifted)).abs() < 1e-9);
        }
    }
}
