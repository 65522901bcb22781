//! The logits of a part, and what follows from them row by row.

use xent::{Config, Criterion, Form, Output, Rows};

use crate::error::{Error, Result};

/// Logits `[rows, classes]`, at least two classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    values: Vec<f64>,
    classes: usize,
}

impl Logits {
    /// From a row-major buffer whose length is a multiple of `classes`.
    pub fn new(values: Vec<f64>, classes: usize) -> Self {
        Self { values, classes }
    }

    /// K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.classes
    }

    /// The rows in order.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.classes)
    }

    /// Divided by a temperature.
    pub fn over(&self, temperature: f64) -> Self {
        Self { values: self.values.iter().map(|z| z / temperature).collect(), classes: self.classes }
    }

    /// What a criterion says of these rows: loss, nll, floor, how many are right.
    pub fn evaluate(&self, criterion: &Criterion, labels: &[u32]) -> Result<Output<f64>> {
        let rows = Rows::new(&self.values, self.len(), self.classes).map_err(Error::failed)?;
        criterion.forward(&rows, labels).map_err(Error::failed)
    }

    /// −ln p of the labels, mean over the rows, and the share of rows that are right.
    pub fn nll_and_accuracy(&self, labels: &[u32]) -> Result<(f64, f64)> {
        let criterion = Config::new().build().map_err(Error::failed)?;
        let output = self.evaluate(&criterion, labels)?;
        Ok((output.nll.scalar().unwrap_or(f64::NAN), output.correct as f64 / labels.len() as f64))
    }

    /// KL(truth ‖ softmax), mean over the rows, and the entropy of the truth; `truth` is `[rows, classes]`.
    pub fn kl_and_entropy(&self, truth: &[f64]) -> Result<(f64, f64)> {
        let criterion = Config::new().form(Form::KlDivergence).build().map_err(Error::failed)?;
        let logits = Rows::new(&self.values, self.len(), self.classes).map_err(Error::failed)?;
        let truth = Rows::new(truth, self.len(), self.classes).map_err(Error::failed)?;
        let output = criterion.forward(&logits, truth).map_err(Error::failed)?;
        Ok((output.loss.scalar().unwrap_or(f64::NAN), output.floor.scalar().unwrap_or(f64::NAN)))
    }
}

/// The largest value (its first index on ties).
pub fn largest(row: &[f64]) -> (usize, f64) {
    row.iter().copied().enumerate().fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nll_accuracy_and_kl_by_hand() {
        let logits = Logits::new(vec![0.0, 3f64.ln(), 0.0, 0.0], 2);
        let (nll, accuracy) = logits.nll_and_accuracy(&[0, 0]).unwrap();
        assert!((nll - (4f64.ln() + 2f64.ln()) / 2.0).abs() < 1e-15);
        assert_eq!(accuracy, 0.5);
        // Truth (1/2, 1/2) and (1, 0): KL ½ ln(2/1) + ½ ln(2/3) = ½ ln(4/3), and ln 2; entropies ln 2 and 0.
        let (kl, entropy) = logits.kl_and_entropy(&[0.5, 0.5, 1.0, 0.0]).unwrap();
        assert!((kl - (0.5 * (4f64 / 3.0).ln() + 2f64.ln()) / 2.0).abs() < 1e-15);
        assert!((entropy - 2f64.ln() / 2.0).abs() < 1e-15);
    }

    #[test]
    fn a_confident_row_keeps_its_digits() {
        let (nll, _) = Logits::new(vec![0.0, 60.0], 2).nll_and_accuracy(&[1]).unwrap();
        assert!((nll / (-60f64).exp() - 1.0).abs() < 1e-9, "{nll}");
    }
}
