//! A row of logits against a distribution over the classes instead of one of them.

/// What a row's probabilities p = softmax(z/T) are against its targets t, in f64.
///
/// ```
/// let row = xent_metrics::SoftRow::new(&[0.0, 3f64.ln()], &[0.5, 0.5], 1.0).unwrap();
/// assert!((row.nll - 0.5 * (4f64.ln() + (4.0f64 / 3.0).ln())).abs() < 1e-15);
/// assert!((row.entropy - 2f64.ln()).abs() < 1e-15 && (row.brier - 0.125).abs() < 1e-15);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftRow {
    /// `−Σ_k t_k ln p_k`; a class with t = 0 contributes nothing.
    pub nll: f64,
    /// `−Σ_k t_k ln t_k`, which the NLL cannot be below.
    pub entropy: f64,
    /// `Σ_k (p_k − t_k)²`.
    pub brier: f64,
}

impl SoftRow {
    /// Of as many logits as targets; none if a logit is NaN or +∞, or all are −∞.
    pub fn new(logits: &[f64], targets: &[f64], temperature: f64) -> Option<Self> {
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if logits.iter().any(|z| z.is_nan()) || !max.is_finite() {
            return None;
        }
        let top = logits.iter().position(|z| *z == max)?;
        let below = |z: f64| (max - z) / temperature;
        // Without the largest, whose e^0 = 1 would absorb the digits of the others.
        let others = logits.iter().enumerate().filter(|(class, _)| *class != top);
        let log_mass = libm::log1p(others.map(|(_, z)| libm::exp(-below(*z))).sum());
        let mut row = Self { nll: 0.0, entropy: 0.0, brier: 0.0 };
        for (z, t) in logits.iter().zip(targets) {
            let nll = below(*z) + log_mass;
            if *t > 0.0 {
                row.nll += t * nll;
                row.entropy -= t * libm::log(*t);
            }
            row.brier += (libm::exp(-nll) - t) * (libm::exp(-nll) - t);
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Logits;
    use crate::row::Reader;

    #[test]
    fn a_certain_target_is_a_label() {
        let logits = [1.5, -0.25, 0.0, 2.0];
        for (label, temperature) in [(0, 1.0), (3, 0.5), (1, 3.0)] {
            let mut targets = [0.0; 4];
            targets[label] = 1.0;
            let soft = SoftRow::new(&logits, &targets, temperature).unwrap();
            let row = Reader::default().read(Logits::F64(&logits), label, temperature).unwrap();
            assert!((soft.nll - row.nll).abs() < 1e-14 && (soft.brier - row.brier).abs() < 1e-14);
            assert_eq!(soft.entropy, 0.0);
        }
    }

    #[test]
    fn the_targets_themselves_are_the_best() {
        let targets = [0.5, 0.25, 0.25, 0.0];
        let logits = targets.map(f64::ln);
        let row = SoftRow::new(&logits, &targets, 1.0).unwrap();
        assert!((row.nll - row.entropy).abs() < 1e-15 && row.brier < 1e-30, "{row:?}");
        assert!((row.entropy - 1.5 * 2f64.ln()).abs() < 1e-15);
        assert_eq!(SoftRow::new(&logits, &[0.0, 0.0, 0.0, 1.0], 1.0).unwrap().nll, f64::INFINITY);
    }

    #[test]
    fn rows_without_numbers() {
        for bad in [[f64::NAN, 0.0], [f64::INFINITY, 0.0], [f64::NEG_INFINITY; 2]] {
            assert_eq!(SoftRow::new(&bad, &[0.5, 0.5], 1.0), None, "{bad:?}");
        }
        // A confident row keeps its digits.
        let row = SoftRow::new(&[60.0, 0.0, 0.0], &[1.0, 0.0, 0.0], 1.0).unwrap();
        assert!((row.nll / (2.0 * (-60f64).exp()) - 1.0).abs() < 1e-14, "{row:?}");
    }
}
