//! What comes out of one call of the loss.

use serde::{Deserialize, Serialize};

use crate::dtype::Dtype;
use crate::number;

/// Everything that comes out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    /// L, reduced: one value, or under [`Reduction::None`](crate::Reduction::None) one a row; so
    /// are `nll`, `smoothing`, `floor` and `z_loss`.
    #[serde(with = "number::list")]
    pub loss: Vec<f64>,
    /// What the loss would be with ε = 0 (S4.1).
    #[serde(with = "number::list")]
    pub nll: Vec<f64>,
    /// The smoothing's part of the loss (S4.1).
    #[serde(with = "number::list")]
    pub smoothing: Vec<f64>,
    /// The lowest cross-entropy that these targets allow (S4.3).
    #[serde(with = "number::list")]
    pub floor: Vec<f64>,
    /// z-loss (S4.5).
    #[serde(with = "number::list")]
    pub z_loss: Vec<f64>,
    /// One a row (S1).
    #[serde(with = "number::list")]
    pub lse: Vec<f64>,
    /// In C order of the case's `shape` (S9).
    #[serde(with = "number::list")]
    pub grad: Vec<f64>,
    /// Kept rows predicted right (S10).
    pub correct: usize,
    /// D (S6).
    #[serde(with = "number")]
    pub denominator: f64,
    /// Ignored rows (S10).
    pub ignored: usize,
    /// Kept rows whose loss is NaN or infinite (S8).
    pub non_finite: usize,
    /// The first of them.
    pub first_non_finite: Option<usize>,
}

impl Answer {
    /// This answer as a backend for `dtype` reports it (S11): losses and lse in the format of its
    /// arithmetic, the gradient in `dtype`.
    pub fn reported(mut self, dtype: Dtype) -> Answer {
        let Answer { loss, nll, smoothing, floor, z_loss, lse, .. } = &mut self;
        for value in [loss, nll, smoothing, floor, z_loss, lse].into_iter().flatten() {
            *value = dtype.compute().round(*value);
        }
        self.grad.iter_mut().for_each(|entry| *entry = dtype.round(*entry));
        self
    }
}
