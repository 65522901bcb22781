//! The logits of a part, and the numbers computed from them.

use xent::{Config, Criterion, Form, Output, Rows};
use xent_metrics::{
    Evaluation, LabelledRows, Logits, Reader, Settings, Temperature, fit_temperature,
};

use crate::error::{Error, Result};

/// Logits `[rows, classes]`, at least two classes.
#[derive(Debug, Clone, PartialEq)]
pub struct PartLogits {
    values: Vec<f64>,
    classes: usize,
}

impl PartLogits {
    /// From a row-major buffer whose length is a multiple of `classes`.
    pub fn new(values: Vec<f64>, classes: usize) -> Self {
        Self { values, classes }
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.classes
    }

    fn row(&self, row: usize) -> Logits<'_> {
        Logits::F64(&self.values[row * self.classes..(row + 1) * self.classes])
    }

    /// Evaluates a criterion on these rows: loss, nll, floor, number of right rows.
    pub fn evaluate(&self, criterion: &Criterion, labels: &[u32]) -> Result<Output<f64>> {
        let rows = Rows::new(&self.values, self.classes).map_err(Error::failed)?;
        criterion.forward(&rows, labels).map_err(Error::failed)
    }

    /// −ln p of the labels, mean over the rows.
    pub fn nll(&self, labels: &[u32]) -> Result<f64> {
        let output = self.evaluate(&Config::new().build().map_err(Error::failed)?, labels)?;
        Ok(output.nll.scalar().unwrap_or(f64::NAN))
    }

    /// KL(truth ‖ softmax(z/T)), mean over the rows, and the entropy of the truth; `truth` is
    /// `[rows, classes]`.
    pub fn kl_and_entropy(&self, truth: &[f64], temperature: f64) -> Result<(f64, f64)> {
        let criterion = Config::new()
            .form(Form::KlDivergence)
            .temperature(temperature)
            .build()
            .map_err(Error::failed)?;
        let logits = Rows::new(&self.values, self.classes).map_err(Error::failed)?;
        let truth = Rows::new(truth, self.classes).map_err(Error::failed)?;
        let output = criterion.forward(&logits, truth).map_err(Error::failed)?;
        Ok((output.loss.scalar().unwrap_or(f64::NAN), output.floor.scalar().unwrap_or(f64::NAN)))
    }

    /// The temperature that fits the labels best.
    pub fn fit_temperature(&self, labels: &[u32]) -> Result<Temperature> {
        fit_temperature(labels.len(), &|row| (self.row(row), labels[row] as usize))
            .ok_or_else(|| Error::failed("no rows to fit a temperature to"))
    }

    /// The metrics of `xent eval`, raw and at a temperature.
    pub fn evaluation(&self, labels: &[u32], temperature: f64) -> Result<Evaluation> {
        let mut evaluation = Evaluation::new(Settings {
            temperature: Some(temperature),
            sample_logits: 1,
            ..Settings::new(self.classes)
        });
        let labels: Vec<i64> = labels.iter().map(|label| i64::from(*label)).collect();
        let rows = LabelledRows {
            source: "the part",
            first: 0,
            logits: Logits::F64(&self.values),
            labels: &labels,
        };
        evaluation.add(&rows).map_err(Error::failed)?;
        Ok(evaluation)
    }

    /// The mean logit gap over the rows; NaN if there is a row without one.
    pub fn mean_gap(&self) -> f64 {
        let mut reader = Reader::default();
        let gaps = (0..self.len())
            .map(|row| reader.read(self.row(row), 0, 1.0).map_or(f64::NAN, |row| row.gap));
        gaps.sum::<f64>() / self.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nll_and_kl_by_hand() {
        let logits = PartLogits::new(vec![0.0, 3f64.ln(), 0.0, 0.0], 2);
        assert!((logits.nll(&[0, 0]).unwrap() - (4f64.ln() + 2f64.ln()) / 2.0).abs() < 1e-15);
        // Truth (1/2, 1/2) and (1, 0): KL ½ ln(2/1) + ½ ln(2/3) = ½ ln(4/3), and ln 2; entropies ln
        // 2 and 0.
        let (kl, entropy) = logits.kl_and_entropy(&[0.5, 0.5, 1.0, 0.0], 1.0).unwrap();
        assert!((kl - (0.5 * (4f64 / 3.0).ln() + 2f64.ln()) / 2.0).abs() < 1e-15);
        assert!((entropy - 2f64.ln() / 2.0).abs() < 1e-15);
        // At temperature ½ the first row is softmax(0, ln 9).
        let (kl, _) = logits.kl_and_entropy(&[0.0, 1.0, 1.0, 0.0], 0.5).unwrap();
        assert!((kl - ((10.0 / 9.0f64).ln() + 2f64.ln()) / 2.0).abs() < 1e-15);
    }

    #[test]
    fn the_gap_and_the_evaluation_agree() {
        let logits = PartLogits::new(vec![3.0, 0.0, 0.0, 1.0], 2);
        assert!((logits.mean_gap() - 2.0).abs() < 1e-15);
        let evaluation = logits.evaluation(&[0, 0], 2.0).unwrap();
        assert_eq!(evaluation.raw().accuracy(), 0.5);
        assert!((evaluation.raw().mean_nll() - logits.nll(&[0, 0]).unwrap()).abs() < 1e-15);
        assert!(evaluation.scaled().unwrap().mean_nll() < evaluation.raw().mean_nll());
    }
}
