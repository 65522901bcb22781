//! The temperature at which a model's probabilities fit the labels best.
//!
//! In β = 1/T the mean negative log-likelihood is convex, with derivative `mean(E_p[z] − z_y)` and
//! second derivative `mean(Var_p[z])`. The search keeps a bracket [low, high] around the minimum
//! and takes a Newton step whenever it stays inside, otherwise it halves the bracket.

use rayon::prelude::*;
use serde::Serialize;

use crate::bins::Binning;
use crate::input::Logits;
use crate::row::Reader;
use crate::sample::Sample;
use crate::sum::ExactSum;
use crate::tally::Tally;

/// The range of the search for β. If all labels have the largest logit, no β is too large, and the
/// upper end is the result.
const LEAST_BETA: f64 = 0.05;
const LARGEST_BETA: f64 = 20.0;
/// The number of rows that a thread takes at a time.
const PIECE: usize = 256;

/// A temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Temperature {
    /// T; logits are divided by it.
    pub value: f64,
    /// Whether the search ended at an end of its range, 0.05 to 20: the minimum lies beyond.
    pub capped: bool,
    /// The number of rows that it was fitted to; none if it was known beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

impl Temperature {
    /// A temperature that was known beforehand.
    pub(crate) fn known(value: f64) -> Self {
        Self { value, capped: false, rows: None }
    }
}

/// The T in \[0.05, 20\] that minimises the mean of −ln softmax(z/T)\[label\] over `rows` rows;
/// none without rows. Rows whose label has the logit −∞, which no temperature changes, are left
/// out.
pub fn fit_temperature<'a>(
    rows: usize,
    row: &(dyn Fn(usize) -> (Logits<'a>, usize) + Sync),
) -> Option<Temperature> {
    let derivatives = |beta: f64| derivatives(rows, row, beta);
    let found =
        |value: f64, capped: bool| Some(Temperature { value, capped, rows: Some(rows as u64) });
    if rows == 0 {
        return None;
    }
    if derivatives(LARGEST_BETA).0 <= 0.0 {
        return found(1.0 / LARGEST_BETA, true);
    }
    if derivatives(LEAST_BETA).0 >= 0.0 {
        return found(1.0 / LEAST_BETA, true);
    }
    let (mut low, mut high, mut beta) = (LEAST_BETA, LARGEST_BETA, 1.0);
    // Each step at least halves the bracket or is a Newton step: 200 are more than f64 can resolve.
    for _ in 0..200 {
        let (slope, curvature) = derivatives(beta);
        if slope > 0.0 {
            high = beta;
        } else {
            low = beta;
        }
        let newton = beta - slope / curvature;
        let next = if newton >= low && newton <= high { newton } else { 0.5 * (low + high) };
        let done = (next - beta).abs() <= 1e-12 * beta;
        beta = next;
        if done {
            break;
        }
    }
    found(1.0 / beta, false)
}

/// The means of the first and second derivatives, from exact sums, so that they have the same bits
/// on any number of threads.
fn derivatives<'a>(
    rows: usize,
    row: &(dyn Fn(usize) -> (Logits<'a>, usize) + Sync),
    beta: f64,
) -> (f64, f64) {
    let piece = |piece: usize| {
        let (mut reader, mut slope, mut curvature) =
            (Reader::default(), ExactSum::default(), ExactSum::default());
        for place in piece * PIECE..rows.min((piece + 1) * PIECE) {
            let (logits, label) = row(place);
            let (first, second) = reader.slopes(logits, label, beta);
            if first.is_finite() {
                slope.add(first);
                curvature.add(second);
            }
        }
        (slope, curvature)
    };
    let merge = |(mut slope, mut curvature): (ExactSum, ExactSum),
                 (other_slope, other_curvature)| {
        slope.merge(&other_slope);
        curvature.merge(&other_curvature);
        (slope, curvature)
    };
    let (slope, curvature) =
        (0..rows.div_ceil(PIECE)).into_par_iter().map(piece).reduce(Default::default, merge);
    (slope.value() / rows as f64, curvature.value() / rows as f64)
}

impl Sample {
    /// The sums of all retained rows at a temperature. Mistakes are left out, because the rows'
    /// numbers are not known here.
    pub(crate) fn tally(&self, temperature: f64, binning: Binning) -> Tally {
        let empty = || (Tally::new(self.classes(), binning), Reader::default());
        let add = |(mut tally, mut reader): (Tally, Reader), place: usize| {
            let (logits, label) = self.row(place);
            if let Ok(row) = reader.read(logits, label, temperature) {
                tally.add_unnamed(&reader, &row, label);
            }
            (tally, reader)
        };
        let pieces = self.len().div_ceil(rayon::current_num_threads().max(1)).max(1);
        let tallies = (0..self.len())
            .into_par_iter()
            .with_min_len(pieces)
            .fold(empty, add)
            .map(|(tally, _)| tally);
        tallies.reduce(
            || Tally::new(self.classes(), binning),
            |mut tally, other| {
                tally.merge(&other);
                tally
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fit(logits: &[f64], classes: usize, labels: &[usize]) -> Temperature {
        fit_temperature(labels.len(), &|row| {
            (Logits::F64(&logits[row * classes..(row + 1) * classes]), labels[row])
        })
        .unwrap()
    }

    fn nll(logits: &[f64], classes: usize, labels: &[usize], temperature: f64) -> f64 {
        let mut reader = Reader::default();
        let rows = logits.chunks(classes).zip(labels);
        rows.map(|(row, label)| reader.read(Logits::F64(row), *label, temperature).unwrap().nll)
            .sum::<f64>()
            / labels.len() as f64
    }

    /// Rows (0, z) of two classes of which a share is right: the best β makes sigmoid(βz) that
    /// share.
    #[test]
    fn by_hand() {
        let fitted = fit(&[0.0, 2.0].repeat(4), 2, &[1, 1, 1, 0]);
        assert!(!fitted.capped);
        assert!((fitted.value - 2.0 / 3f64.ln()).abs() < 1e-12, "{fitted:?}");
    }

    #[test]
    fn separable_labels_end_at_the_cap() {
        let fitted = |label| fit(&[0.0, 2.0].repeat(4), 2, &[label; 4]);
        assert_eq!((fitted(1).value, fitted(1).capped), (0.05, true));
        assert_eq!((fitted(0).value, fitted(0).capped), (20.0, true));
        assert_eq!(fit_temperature(0, &|_| (Logits::F64(&[]), 0)), None);
    }

    proptest! {
        #[test]
        fn scaling_the_logits_scales_the_temperature(values in prop::collection::vec(-3.0..3.0f64, 60), labels in prop::collection::vec(0..3usize, 20), scale in 0.5..2.0f64) {
            let scaled: Vec<f64> = values.iter().map(|z| z / scale).collect();
            let (one, other) = (fit(&values, 3, &labels), fit(&scaled, 3, &labels));
            if !one.capped && !other.capped {
                prop_assert!((one.value / scale / other.value - 1.0).abs() < 1e-9, "{one:?} {other:?}");
            }
        }

        #[test]
        fn no_other_temperature_is_better(values in prop::collection::vec(-3.0..3.0f64, 60), labels in prop::collection::vec(0..3usize, 20), other in 0.05..20.0f64) {
            prop_assert!(nll(&values, 3, &labels, fit(&values, 3, &labels).value) <= nll(&values, 3, &labels, other) + 1e-12);
        }
    }
}
