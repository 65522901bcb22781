//! What a call returns beside the gradient.

use crate::Real;

/// A value a row ([`Reduction::None`](crate::Reduction::None)) or one for the batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Reduced<F> {
    /// The batch's.
    Scalar(F),
    /// One a row, in the rows' order; 0 for ignored rows.
    Rows(Vec<F>),
}

impl<F: Copy> Reduced<F> {
    /// The batch's value, if the reduction was sum or mean.
    pub fn scalar(&self) -> Option<F> {
        match self {
            Self::Scalar(value) => Some(*value),
            Self::Rows(_) => None,
        }
    }

    /// The rows' values; a batch's value as a slice of one.
    pub fn as_slice(&self) -> &[F] {
        match self {
            Self::Scalar(value) => std::slice::from_ref(value),
            Self::Rows(values) => values,
        }
    }
}

impl<F: Real> Reduced<F> {
    /// The same in `f64`; exact.
    pub fn to_f64(&self) -> Reduced<f64> {
        match self {
            Self::Scalar(value) => Reduced::Scalar(value.to_f64()),
            Self::Rows(values) => Reduced::Rows(values.iter().map(|value| value.to_f64()).collect()),
        }
    }
}

/// The loss and what came with it from the same pass. `F` is `f64` for `f64` logits and `f32` for all others; natural logarithms throughout (nats).
///
/// `loss = (1−ε)·nll + smoothing + z_loss`, less `floor` in the KL form, where ε is the same in all rows. SEMANTICS.md S4 defines each.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Output<F> {
    /// The loss.
    pub loss: Reduced<F>,
    /// What the loss would be with ε = 0 and without z-loss: comparable between runs with different ε.
    pub nll: Reduced<F>,
    /// ε times the cross-entropy to the prior.
    pub smoothing: Reduced<F>,
    /// λ·lse².
    pub z_loss: Reduced<F>,
    /// The lowest value that the cross-entropy can reach: the entropy of the smoothed target, where that sums to 1 (SEMANTICS.md S4.3 for class weights).
    pub floor: Reduced<F>,
    /// ln Σ e^z, one a row; 0 for ignored rows.
    pub lse: Vec<F>,
    /// Kept rows whose largest logit (first index on ties) is the target's largest class.
    pub correct: usize,
    /// What a mean divides by, whatever the reduction.
    pub denominator: f64,
    /// Rows that were ignored.
    pub ignored: usize,
    /// Kept rows whose loss is NaN or infinite.
    pub non_finite: usize,
    /// The first of them.
    pub first_non_finite: Option<usize>,
}

impl<F: Real> Output<F> {
    /// The same in `f64`; exact. For callers that learn the logits' dtype only when they run.
    pub fn to_f64(&self) -> Output<f64> {
        Output {
            loss: self.loss.to_f64(),
            nll: self.nll.to_f64(),
            smoothing: self.smoothing.to_f64(),
            z_loss: self.z_loss.to_f64(),
            floor: self.floor.to_f64(),
            lse: self.lse.iter().map(|lse| lse.to_f64()).collect(),
            correct: self.correct,
            denominator: self.denominator,
            ignored: self.ignored,
            non_finite: self.non_finite,
            first_non_finite: self.first_non_finite,
        }
    }
}
