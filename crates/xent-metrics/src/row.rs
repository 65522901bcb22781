//! The numbers that one row of logits yields.

use crate::input::Logits;
use crate::vectors::{Extremes, Vectors};

/// The numbers of a row from which all metrics are computed, in f64. Formulas:
/// [S12](xent::semantics#s12-metrics).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The class with the largest logit, the first on ties.
    pub predicted: usize,
    /// The number of classes ahead of the label: with a larger logit, or an equal one and a smaller
    /// index. 0 means that the row is right.
    pub rank: usize,
    /// `p_max`.
    pub confidence: f64,
    /// `p_y`.
    pub probability: f64,
    /// `−ln p_y`.
    pub nll: f64,
    /// `−Σ_k ln p_k / K`: the cross-entropy to the uniform distribution.
    pub uniform: f64,
    /// `Σ_k (p_k − [k = y])²`, in \[0, 2\].
    pub brier: f64,
    /// `max z − ln mean exp` of the other logits, which is `logit(p_max) + ln(K−1)`.
    pub gap: f64,
    /// `max z − mean` of the other logits.
    pub plain_gap: f64,
}

/// The derivatives in β of a row's −ln softmax(βz)\[label\].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RowSlopes {
    /// The first, `E_p[z] − z_y`.
    pub first: f64,
    /// The second, `Var_p[z]`.
    pub second: f64,
    /// The first at β = 0: the mean of the logits less the label's.
    pub at_zero: f64,
    /// `max z − z_y`, the limit of the first for β → ∞.
    pub behind: f64,
}

/// A row cannot be evaluated: it has a NaN or +∞, or nothing except −∞.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotFinite;

/// Computes the numbers of rows; reuses its buffers from one row to the next.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    vectors: Vectors,
    z: Vec<f64>,
    e: Vec<f64>,
    /// Σ e of the last row.
    mass: f64,
    /// Its largest logit, and Σ max − z over its other classes that are not masked.
    max: f64,
    below: f64,
}

impl Reader {
    /// Reads a row of at least two logits, divided by a temperature.
    pub fn read(
        &mut self,
        row: Logits<'_>,
        label: usize,
        temperature: f64,
    ) -> Result<Row, NotFinite> {
        let Extremes { max, bad, masked } = self.prepare(row);
        if bad || max == f64::NEG_INFINITY {
            return Err(NotFinite);
        }
        let classes = row.count();
        // Only the reciprocal of a subnormal temperature overflows.
        let beta = (1.0 / temperature).min(f64::MAX);
        let top = self.z.iter().position(|z| *z == max).unwrap_or(0);
        let logit = self.z[label];
        let rank = if label == top { 0 } else { self.vectors.ahead(&self.z, logit, label) };
        // Without the largest, because its e^0 = 1 would absorb the digits of the others.
        self.z[top] = f64::NEG_INFINITY;
        let others = self.vectors.exponentials(&self.z, max, beta, &mut self.e);
        let rest = others.mass;
        let mass = 1.0 + rest;
        let below = if masked { f64::INFINITY } else { others.below * beta };
        let log_mass = libm::log1p(rest);
        let (weight, brier) = if label == top {
            (1.0, others.squares + rest * rest)
        } else {
            let weight = self.e[label];
            (weight, 1.0 + (others.squares - weight * weight) + (mass - weight) * (mass - weight))
        };
        let gap = if rest > 1e-280 {
            0.0 - libm::log(rest / (classes - 1) as f64)
        } else {
            self.wide_gap(max, beta, classes)
        };
        self.e[top] = 1.0;
        (self.mass, self.max, self.below) = (mass, max, others.below);
        Ok(Row {
            predicted: top,
            rank,
            confidence: 1.0 / mass,
            probability: weight / mass,
            nll: log_mass + (max - logit) * beta,
            uniform: log_mass + below / classes as f64,
            brier: brier / (mass * mass),
            gap,
            plain_gap: below / (classes - 1) as f64,
        })
    }

    /// The largest logit of the row that was read over the 4-norm of its logits, both after their
    /// mean is subtracted: a confidence that no temperature changes (MaxLogit-pNorm: Cattelan and
    /// Silva 2024, arXiv 2305.15508). Masked classes are left out; 0 if all logits are equal.
    pub(crate) fn normalised(&self) -> f64 {
        // The largest is no longer in z, nor is a masked class.
        let others = self.z.iter().filter(|z| **z > f64::NEG_INFINITY).count();
        let lead = self.below / (others + 1) as f64;
        let scale = 1.0 / lead;
        if !(lead > 0.0 && scale.is_finite()) {
            return 0.0;
        }
        // In units of the largest; lanes, so that no addition waits for the one before.
        let mean = self.max - lead;
        let mut lanes = [0.0; 8];
        let (chunks, _) = self.z.as_chunks::<8>();
        for chunk in chunks {
            for (lane, z) in lanes.iter_mut().zip(chunk) {
                let centred = if *z > f64::NEG_INFINITY { (z - mean) * scale } else { 0.0 };
                let square = centred * centred;
                *lane += square * square;
            }
        }
        libm::sqrt(1.0 / libm::sqrt(1.0 + lanes.iter().sum::<f64>()))
    }

    /// The probabilities of a row of at least two logits, divided by a temperature.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn probabilities(
        &mut self,
        row: Logits<'_>,
        temperature: f64,
    ) -> Result<impl Iterator<Item = f64>, NotFinite> {
        self.read(row, 0, temperature)?;
        let (e, scale) = self.weights();
        Ok(e[..row.count()].iter().map(move |e| e * scale))
    }

    /// e^(z − max) of the row that was read, and the reciprocal of their sum.
    pub(crate) fn weights(&self) -> (&[f64], f64) {
        (&self.e, 1.0 / self.mass)
    }

    /// Adds the row's probabilities, rounded to multiples of 2^−40, to `sums`; returns whether any
    /// reaches `threshold`.
    pub(crate) fn spread(&self, threshold: f64, sums: &mut [f64]) -> bool {
        let (e, scale) = self.weights();
        self.vectors.spread(e, scale, threshold * self.mass, sums)
    }

    /// The derivatives in β = 1/T of −ln softmax(βz)\[label\].
    pub(crate) fn slopes(
        &mut self,
        row: Logits<'_>,
        label: usize,
        beta: f64,
    ) -> Result<RowSlopes, NotFinite> {
        let Extremes { max, bad, masked } = self.prepare(row);
        if bad || max == f64::NEG_INFINITY {
            return Err(NotFinite);
        }
        let behind = max - self.z[label];
        let sums = self.vectors.exponentials(&self.z, max, beta, &mut self.e);
        let mean = sums.first / sums.mass;
        let open = if masked {
            self.z.iter().filter(|z| **z > f64::NEG_INFINITY).count()
        } else {
            row.count()
        };
        Ok(RowSlopes {
            first: behind - mean,
            second: (sums.second / sums.mass - mean * mean).max(0.0),
            at_zero: behind - sums.below / open as f64,
            behind,
        })
    }

    fn prepare(&mut self, row: Logits<'_>) -> Extremes {
        match row {
            Logits::F32(row) => self.vectors.prepare(row, &mut self.z),
            Logits::F64(row) => self.vectors.prepare(row, &mut self.z),
        }
    }

    /// The gap if the exponentials below the largest logit underflow: computed relative to the
    /// second largest, which is still in `z`.
    fn wide_gap(&self, max: f64, beta: f64, classes: usize) -> f64 {
        let second = self.z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if second == f64::NEG_INFINITY {
            return f64::INFINITY;
        }
        let mass: f64 = self.z.iter().map(|z| libm::exp((z - second) * beta)).sum();
        (max - second) * beta - libm::log(mass / (classes - 1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(row: &[f64], label: usize) -> Row {
        Reader::default().read(Logits::F64(row), label, 1.0).unwrap()
    }

    #[test]
    fn by_hand() {
        // p = (¼, ¾).
        let row = read(&[0.0, 3f64.ln()], 0);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        assert_eq!((row.predicted, row.rank), (1, 1));
        near(row.confidence, 0.75);
        near(row.probability, 0.25);
        near(row.nll, 4f64.ln());
        near(row.uniform, (4f64.ln() + (4.0 / 3.0f64).ln()) / 2.0);
        near(row.brier, 2.0 * 0.75 * 0.75);
        near(row.gap, 3f64.ln());
        near(row.plain_gap, 3f64.ln());
    }

    #[test]
    fn normalised_by_hand() {
        let normalised = |row: &[f64], temperature: f64| {
            let mut reader = Reader::default();
            reader.read(Logits::F64(row), 0, temperature).unwrap();
            reader.normalised()
        };
        // Centred: 2, −1, −1; the 4-norm is (16 + 1 + 1)^¼.
        let expected = 2.0 / 18f64.powf(0.25);
        for (scale, shift) in [(1.0, 0.0), (1e-3, 7.0), (1e100, 0.0), (1e-100, 0.0)] {
            let row = [3.0, 0.0, 0.0].map(|z| z * scale + shift);
            for temperature in [1.0, 0.3] {
                let found = normalised(&row, temperature);
                assert!((found / expected - 1.0).abs() < 1e-11, "{scale}: {found}");
            }
        }
        let masked = [0.0, f64::NEG_INFINITY, 3.0, 0.0];
        assert!((normalised(&masked, 1.0) / expected - 1.0).abs() < 1e-14);
        // A tie of the largest: 1, 1, −2.
        let tied = normalised(&[5.0, 5.0, 2.0], 1.0);
        assert!((tied - 18f64.powf(-0.25)).abs() < 1e-14, "{tied}");
        assert_eq!(
            [normalised(&[2.0; 9], 1.0), normalised(&[1.0, f64::NEG_INFINITY], 1.0)],
            [0.0; 2]
        );
    }

    #[test]
    fn probabilities_by_hand() {
        let mut reader = Reader::default();
        let row = [2.0 * 3f64.ln(), 0.0, f64::NEG_INFINITY];
        let found: Vec<f64> = reader.probabilities(Logits::F64(&row), 2.0).unwrap().collect();
        assert!(found.len() == 3 && found[2] == 0.0, "{found:?}");
        assert!((found[0] - 0.75).abs() < 1e-15 && (found[1] - 0.25).abs() < 1e-15, "{found:?}");
        assert!(reader.probabilities(Logits::F64(&[f64::NAN, 0.0]), 1.0).is_err());
    }

    #[test]
    fn ties_go_to_the_first() {
        assert_eq!(
            (
                read(&[1.0, 1.0, 0.0], 0).rank,
                read(&[1.0, 1.0, 0.0], 1).rank,
                read(&[1.0, 1.0, 0.0], 2).rank
            ),
            (0, 1, 2)
        );
        assert_eq!(read(&[0.0, 1.0, 1.0], 2).predicted, 1);
    }

    #[test]
    fn rows_that_differ_by_a_constant_have_the_same_numbers_at_every_temperature() {
        for temperature in [0.3, 1.1, 1.2, 7.0, 1e-310] {
            let read = |row: &[f64]| {
                Reader::default().read(Logits::F64(row), 0, temperature).unwrap().confidence
            };
            assert_eq!(read(&[1.0, 0.0]), read(&[3.0, 2.0]), "{temperature}");
        }
    }

    #[test]
    fn confident_rows_keep_their_digits() {
        let row = read(&[60.0, 0.0, 0.0], 0);
        assert!((row.nll / (2.0 * (-60f64).exp()) - 1.0).abs() < 1e-14);
        assert_eq!(read(&[1e4, 0.0, 0.0], 1).gap, 1e4);
        assert_eq!(read(&[1e300, 0.0], 1).nll, 1e300);
        assert_eq!(read(&[5.0, f64::NEG_INFINITY], 0).gap, f64::INFINITY);
    }

    #[test]
    fn masked_classes_have_no_probability() {
        let row = read(&[0.0, f64::NEG_INFINITY, 0.0], 0);
        assert_eq!(
            (row.confidence, row.nll, row.uniform, row.plain_gap),
            (0.5, 2f64.ln(), f64::INFINITY, f64::INFINITY)
        );
        assert_eq!(row.gap, 2f64.ln());
        assert_eq!(read(&[0.0, f64::NEG_INFINITY, 0.0], 1).nll, f64::INFINITY);
        for bad in [[f64::NAN, 0.0], [f64::INFINITY, 0.0], [f64::NEG_INFINITY; 2], [0.0, f64::NAN]]
        {
            assert_eq!(
                Reader::default().read(Logits::F64(&bad), 0, 1.0),
                Err(NotFinite),
                "{bad:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_textbook_agrees(row in prop::collection::vec(-30.0..30.0f64, 2..40), label in 0..40usize, temperature in 0.3..3.0f64) {
            let label = label % row.len();
            let found = Reader::default().read(Logits::F64(&row), label, temperature).unwrap();
            let exponentials: Vec<f64> = row.iter().map(|z| (z / temperature).exp()).collect();
            let sum: f64 = exponentials.iter().sum();
            let p: Vec<f64> = exponentials.iter().map(|e| e / sum).collect();
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
            prop_assert!(near(found.nll, -p[label].ln()));
            prop_assert!(near(found.uniform, -p.iter().map(|p| p.ln()).sum::<f64>() / row.len() as f64));
            prop_assert!(near(found.confidence, p.iter().copied().fold(0.0, f64::max)));
            let brier: f64 = p.iter().enumerate().map(|(k, p)| (p - f64::from(u8::from(k == label))).powi(2)).sum();
            prop_assert!(near(found.brier, brier));
            prop_assert_eq!(found.rank, row.iter().filter(|z| **z > row[label]).count());
        }
    }
}
