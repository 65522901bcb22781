//! The temperature under which a model's probabilities fit labels best.

use super::logits::{Logits, largest};

/// β = 1/T is searched for here. Where the labels always have the largest logit no β is too large, and the upper end is the answer.
const LEAST_BETA: f64 = 0.05;
const LARGEST_BETA: f64 = 20.0;

/// A fitted temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    /// T; logits are divided by it.
    pub value: f64,
    /// Whether the search ended at an end of its range: the labels would have it beyond.
    pub capped: bool,
}

/// The T in [0.05, 20] that minimises the mean of −ln softmax(z/T)\[label\].
///
/// In β = 1/T the mean is convex with derivative `mean(E_p[z] − z_y)` and second derivative `mean(Var_p[z])`, so a Newton step that is kept inside a shrinking
/// bracket finds the one minimum.
pub fn fit_temperature(logits: &Logits, labels: &[u32]) -> Temperature {
    let derivatives = |beta: f64| derivatives(logits, labels, beta);
    if derivatives(LARGEST_BETA).0 <= 0.0 {
        return Temperature { value: 1.0 / LARGEST_BETA, capped: true };
    }
    if derivatives(LEAST_BETA).0 >= 0.0 {
        return Temperature { value: 1.0 / LEAST_BETA, capped: true };
    }
    let (mut low, mut high, mut beta) = (LEAST_BETA, LARGEST_BETA, 1.0);
    // A Newton step or at least a halving each time: 200 are more than doubles can tell apart.
    for _ in 0..200 {
        let (slope, curvature) = derivatives(beta);
        if slope > 0.0 {
            high = beta;
        } else {
            low = beta;
        }
        let newton = beta - slope / curvature;
        let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        if (next - beta).abs() <= 1e-12 * beta {
            break;
        }
        beta = next;
    }
    Temperature { value: 1.0 / beta, capped: false }
}

/// First and second derivative in β of the mean over rows of −ln softmax(βz)\[label\]. Logits are taken relative to the row's largest.
fn derivatives(logits: &Logits, labels: &[u32], beta: f64) -> (f64, f64) {
    let (mut slope, mut curvature) = (0.0, 0.0);
    for (row, &label) in logits.rows().zip(labels) {
        let top = largest(row).1;
        let (mut mass, mut first, mut second) = (0.0, 0.0, 0.0);
        for z in row {
            let below = z - top;
            let weight = (beta * below).exp();
            mass += weight;
            first += weight * below;
            second += weight * below * below;
        }
        let mean = first / mass;
        slope += mean - (row[label as usize] - top);
        curvature += second / mass - mean * mean;
    }
    (slope / logits.len() as f64, curvature / logits.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows (0, z) of two classes of which a share is right: the best β makes sigmoid(βz) that share.
    #[test]
    fn by_hand() {
        let logits = Logits::new([0.0, 2.0].repeat(4), 2);
        let fitted = fit_temperature(&logits, &[1, 1, 1, 0]);
        assert!(!fitted.capped);
        assert!((fitted.value - 2.0 / 3f64.ln()).abs() < 1e-9, "{fitted:?}");
    }

    #[test]
    fn separable_labels_end_at_the_cap() {
        let logits = Logits::new([0.0, 2.0].repeat(4), 2);
        assert_eq!(fit_temperature(&logits, &[1; 4]), Temperature { value: 0.05, capped: true });
        assert_eq!(fit_temperature(&logits, &[0; 4]), Temperature { value: 20.0, capped: true });
    }

    proptest! {
        #[test]
        fn scaling_the_logits_scales_the_temperature(values in prop::collection::vec(-3.0..3.0f64, 60), labels in prop::collection::vec(0..3u32, 20), scale in 0.5..2.0f64) {
            let logits = Logits::new(values, 3);
            let (one, other) = (fit_temperature(&logits, &labels), fit_temperature(&logits.over(scale), &labels));
            if !one.capped && !other.capped {
                prop_assert!((one.value / scale / other.value - 1.0).abs() < 1e-7, "{one:?} {other:?}");
            }
        }

        #[test]
        fn no_other_temperature_is_better(values in prop::collection::vec(-3.0..3.0f64, 60), labels in prop::collection::vec(0..3u32, 20), other in 0.05..20.0f64) {
            let logits = Logits::new(values, 3);
            let nll = |temperature| logits.over(temperature).nll_and_accuracy(&labels).unwrap().0;
            prop_assert!(nll(fit_temperature(&logits, &labels).value) <= nll(other) + 1e-12);
        }
    }
}
