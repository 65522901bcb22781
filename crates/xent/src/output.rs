//! What a call returns in addition to the gradient.

use std::fmt;

use crate::Real;

/// One value for the batch, or one per row ([`Reduction::None`](crate::Reduction::None)).
///
/// It prints as a number or as a list of numbers, and iterates over its values.
///
/// ```
/// use xent::{Config, Reduction, Rows};
/// let logits = [0.0_f64, 0.0, 3.0, 0.0];
/// let logits = Rows::new(&logits, 2)?;
/// let mean = Config::new().build()?.forward(&logits, &[0u8, 0])?.loss;
/// assert_eq!(format!("{mean:.3}"), "0.371"); // (ln 2 + ln(1 + e⁻³)) / 2
/// let rows = Config::new().reduction(Reduction::None).build()?.forward(&logits, &[0u8, 0])?.loss;
/// assert_eq!(format!("{rows:.3}"), "[0.693, 0.049]");
/// assert_eq!(rows.into_vec().len(), 2);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Reduced<F> {
    /// The batch's value.
    Scalar(F),
    /// One value per row, in the rows' order; 0 for ignored rows.
    Rows(Vec<F>),
}

impl<F> Reduced<F> {
    /// The rows' values; a batch's value as a slice of one.
    pub fn as_slice(&self) -> &[F] {
        match self {
            Self::Scalar(value) => std::slice::from_ref(value),
            Self::Rows(values) => values,
        }
    }

    /// The rows' values; a batch's value as a vector of one.
    pub fn into_vec(self) -> Vec<F> {
        match self {
            Self::Scalar(value) => vec![value],
            Self::Rows(values) => values,
        }
    }

    /// Iterates over [`as_slice`](Self::as_slice).
    pub fn iter(&self) -> std::slice::Iter<'_, F> {
        self.as_slice().iter()
    }
}

impl<F: Copy> Reduced<F> {
    /// The batch's value, if the reduction was sum or mean.
    pub fn scalar(&self) -> Option<F> {
        match self {
            Self::Scalar(value) => Some(*value),
            Self::Rows(_) => None,
        }
    }
}

impl<F: Real> Reduced<F> {
    /// The same in `f64`; exact.
    pub fn to_f64(&self) -> Reduced<f64> {
        match self {
            Self::Scalar(value) => Reduced::Scalar(value.to_f64()),
            Self::Rows(values) => {
                Reduced::Rows(values.iter().map(|value| value.to_f64()).collect())
            }
        }
    }
}

/// The number, or `[a, b, …]`; width and precision are each number's.
impl<F: fmt::Display> fmt::Display for Reduced<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(value) => value.fmt(f),
            Self::Rows(values) => {
                f.write_str("[")?;
                for (row, value) in values.iter().enumerate() {
                    if row > 0 {
                        f.write_str(", ")?;
                    }
                    value.fmt(f)?;
                }
                f.write_str("]")
            }
        }
    }
}

impl<F> IntoIterator for Reduced<F> {
    type Item = F;
    type IntoIter = std::vec::IntoIter<F>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<'a, F> IntoIterator for &'a Reduced<F> {
    type Item = &'a F;
    type IntoIter = std::slice::Iter<'a, F>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The loss and what the same pass computed with it. `F` is `f64` for `f64` logits and `f32` for
/// all others; logarithms are natural (nats).
///
/// `loss = (1−ε)·nll + smoothing + z_loss`, minus `floor` in the KL form, if ε is the same in all
/// rows. [S4](crate::semantics#s4-the-loss-of-a-row) defines each of them. `nll`, `smoothing` and
/// `floor` are reduced as the loss is. So is `z_loss`, except that a mean over class weights
/// averages it over the kept rows ([S6](crate::semantics#s6-reduction)).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Output<F> {
    /// The loss.
    pub loss: Reduced<F>,
    /// What the loss would be with ε = 0 and without z-loss: comparable between runs with different
    /// ε. Class weights and row weights are included.
    pub nll: Reduced<F>,
    /// ε times the cross-entropy to the prior.
    pub smoothing: Reduced<F>,
    /// The z-loss, λ·lse².
    pub z_loss: Reduced<F>,
    /// The lowest value that the cross-entropy can reach: the entropy of the smoothed target if
    /// that sums to 1 (in general: [S4.3](crate::semantics#s43-the-entropy-floor)).
    pub floor: Reduced<F>,
    /// `ln Σ e^z`, `[N]`; 0 for ignored rows.
    pub lse: Vec<F>,
    /// The first class with the largest logit, `[N]`; −1 for ignored rows and for rows of NaN
    /// ([S8](crate::semantics#s8-non-finite-values)). Empty unless asked for:
    /// [`Batch::predictions`](crate::Batch::predictions).
    pub predicted: Vec<i64>,
    /// Which rows [`correct`](Self::correct) counts, `[N]`. Empty as `predicted` is.
    pub correct_rows: Vec<bool>,
    /// Kept rows whose largest logit (first index on ties) is the target's largest class.
    pub correct: usize,
    /// The denominator of a mean ([S6](crate::semantics#s6-reduction)), reported for every
    /// reduction.
    pub denominator: f64,
    /// The number of rows N, including ignored ones.
    pub rows: usize,
    /// Rows that were ignored.
    pub ignored: usize,
    /// Kept rows whose loss is NaN or infinite.
    pub non_finite: usize,
    /// The index of the first of them.
    pub first_non_finite: Option<usize>,
}

impl<F> Output<F> {
    /// The share of kept rows that are [`correct`](Self::correct); NaN if no row is kept.
    ///
    /// ```
    /// use xent::{Config, Rows};
    /// let logits = [2.0f32, 0.0, 3.0, 0.0, 9.0, 9.0]; // 3 rows of 2 classes
    /// let output = Config::new().ignore_index(-100).build()?.forward(&Rows::new(&logits, 2)?, &[0i64, 1, -100])?;
    /// assert_eq!((output.rows, output.ignored, output.accuracy()), (3, 1, 0.5));
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / (self.rows - self.ignored) as f64
    }
}

impl<F: Real> Output<F> {
    /// Converts to `f64`, exactly. For callers that know the dtype of the logits only at run time.
    pub fn to_f64(&self) -> Output<f64> {
        Output {
            loss: self.loss.to_f64(),
            nll: self.nll.to_f64(),
            smoothing: self.smoothing.to_f64(),
            z_loss: self.z_loss.to_f64(),
            floor: self.floor.to_f64(),
            lse: self.lse.iter().map(|lse| lse.to_f64()).collect(),
            predicted: self.predicted.clone(),
            correct_rows: self.correct_rows.clone(),
            correct: self.correct,
            denominator: self.denominator,
            rows: self.rows,
            ignored: self.ignored,
            non_finite: self.non_finite,
            first_non_finite: self.first_non_finite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_as_numbers() {
        let (one, rows) = (Reduced::Scalar(0.465f32), Reduced::Rows(vec![0.5f32, 0.0, f32::NAN]));
        assert_eq!(one.to_string(), "0.465");
        assert_eq!(format!("{one:.1} {one:>7.2}"), "0.5    0.47");
        assert_eq!(format!("{rows} {rows:.2}"), "[0.5, 0, NaN] [0.50, 0.00, NaN]");
        assert_eq!(Reduced::<f64>::Rows(vec![]).to_string(), "[]");
    }

    #[test]
    fn it_is_its_values() {
        let (one, rows) = (Reduced::Scalar(3.0), Reduced::Rows(vec![1.0, 2.0]));
        assert_eq!((one.scalar(), rows.scalar()), (Some(3.0), None));
        assert_eq!((one.as_slice(), rows.as_slice()), (&[3.0][..], &[1.0, 2.0][..]));
        assert_eq!(one.iter().chain(&rows).sum::<f64>(), 6.0);
        let mut sum = 0.0;
        for value in rows.clone() {
            sum += value;
        }
        assert_eq!((sum, one.into_vec(), rows.into_vec()), (3.0, vec![3.0], vec![1.0, 2.0]));
    }

    #[test]
    fn accuracy_of_nothing_is_not_a_number() {
        let none = Reduced::Scalar(0.0);
        let parts = || none.clone();
        let (loss, nll, smoothing, z_loss, floor) = (parts(), parts(), parts(), parts(), parts());
        let output = Output {
            loss,
            nll,
            smoothing,
            z_loss,
            floor,
            lse: vec![0.0; 4],
            predicted: vec![],
            correct_rows: vec![],
            correct: 1,
            denominator: 3.0,
            rows: 4,
            ignored: 1,
            non_finite: 0,
            first_non_finite: None,
        };
        assert_eq!(output.accuracy(), 1.0 / 3.0);
        assert!(Output { correct: 0, ignored: 4, ..output }.accuracy().is_nan());
    }
}
