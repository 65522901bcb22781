//! `α·softmax(z) − γ·v − τ·t − Σ β_j δ_j`, formed on the device from coefficients a row.

use candle_core::{Device, Tensor, WithDType};
use xent::Real;
use xent::rules::{Folded, RowPlan, RowStats};

use super::vectors::{Vectors, constant, floats, masked, select};
use crate::Result;
use crate::attach::Backward;

/// A row's coefficients; those of a row without gradient are all 0.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowCoefficients {
    /// Whether the row has a gradient at all. Entries of one that has none are not multiplied by 0 but replaced: whatever an ignored row holds, NaN too, stays there.
    live: bool,
    /// What is taken off the logits before they are exponentiated.
    max: f64,
    /// On e^(z − max).
    on_exp: f64,
    /// On the prior's v.
    gamma: f64,
    /// On the dense target.
    tau: f64,
    /// On the hot classes.
    beta: [f64; 2],
    /// Added to every entry: NaN for a row whose logits make it so (S8), masked classes and all; else 0.
    everywhere: f64,
}

impl RowCoefficients {
    /// Of the gradient, all multiplied by `factor` and the row's weight.
    pub(super) fn of_gradient(plan: &RowPlan, stats: &RowStats, folded: &Folded, factor: f64) -> Self {
        let (gradient, factor) = (folded.gradient, factor * folded.scale());
        let on_hot = |j: usize| if j < plan.hot().len() { gradient.beta[j] * factor } else { 0.0 };
        Self {
            live: true,
            max: if stats.max.is_finite() { stats.max } else { 0.0 },
            on_exp: gradient.alpha * factor / (1.0 + stats.rest),
            gamma: gradient.gamma * factor,
            tau: gradient.tau * factor,
            beta: [on_hot(0), on_hot(1)],
            everywhere: if folded.is_nan() { f64::NAN } else { 0.0 },
        }
    }

    /// Of the smoothed target alone.
    pub(super) fn of_target(folded: &Folded) -> Self {
        let gradient = folded.gradient;
        Self { gamma: gradient.gamma, tau: gradient.tau, beta: gradient.beta, ..Self::default() }
    }
}

/// [`RowCoefficients`] as columns `[N, 1]`, `[N, 2]` for β.
pub(super) struct Coefficients {
    live: Tensor,
    max: Tensor,
    on_exp: Tensor,
    gamma: Tensor,
    tau: Tensor,
    beta: Tensor,
    everywhere: Tensor,
}

impl Coefficients {
    pub(super) fn new<F: Real + WithDType>(rows: impl Iterator<Item = RowCoefficients>, device: &Device) -> Result<Self> {
        let rows: Vec<RowCoefficients> = rows.collect();
        let column = |of: fn(&RowCoefficients) -> f64| floats::<F>(&rows.iter().map(of).collect::<Vec<f64>>(), (rows.len(), 1), device);
        let beta: Vec<f64> = rows.iter().flat_map(|row| row.beta).collect();
        Ok(Self {
            live: Tensor::from_iter(rows.iter().map(|row| u8::from(row.live)), device)?.reshape((rows.len(), 1))?,
            max: column(|row| row.max)?,
            on_exp: column(|row| row.on_exp)?,
            gamma: column(|row| row.gamma)?,
            tau: column(|row| row.tau)?,
            beta: floats::<F>(&beta, (rows.len(), 2), device)?,
            everywhere: column(|row| row.everywhere)?,
        })
    }
}

/// The gradient, but for the upstream gradient.
pub(crate) struct Gradient {
    coefficients: Coefficients,
    vectors: Vectors,
}

impl Gradient {
    pub(super) fn new(coefficients: Coefficients, vectors: Vectors) -> Self {
        Self { coefficients, vectors }
    }
}

impl Backward for Gradient {
    fn backward(&self, logits: &Tensor, upstream: &Tensor) -> Result<Tensor> {
        let Self { coefficients, vectors } = self;
        let z = vectors.transformed(&logits.detach())?;
        let zero = constant(0.0, &z)?;
        let masked = masked(&z)?;

        let softmax = z.broadcast_sub(&coefficients.max)?.exp()?.broadcast_mul(&coefficients.on_exp)?;
        let mut gradient = (softmax - vectors.target_entries(&z, coefficients)?)?;
        if let Some(cap) = vectors.transform.softcap {
            let tanh = (&z / cap)?;
            gradient = (gradient * select(&masked, &zero, &((1.0 - &tanh)? * (1.0 + &tanh)?)?)?)?;
        }
        let upstream = upstream.detach().reshape(((), 1))?;
        gradient = gradient.broadcast_mul(&upstream)?;
        if vectors.renormalises {
            gradient = select(&masked, &zero, &gradient)?;
        }
        gradient = gradient.broadcast_add(&coefficients.everywhere)?;
        if let Some(allowed) = &vectors.allowed {
            gradient = select(allowed, &gradient, &zero)?;
        }
        gradient = select(&coefficients.live, &gradient, &zero)?;
        vectors.shape.like_logits(&gradient.to_dtype(logits.dtype())?)
    }
}

impl Vectors {
    /// `γ·v + τ·t + Σ β_j δ_j`, the smoothed target under its coefficients, `[N, K]`, in their dtype.
    pub(super) fn target_entries(&self, z: &Tensor, coefficients: &Coefficients) -> Result<Tensor> {
        let dtype = coefficients.beta.dtype();
        let mut entries = Tensor::zeros(z.shape(), dtype, z.device())?;
        if let Some(prior) = &self.prior {
            let v = prior.weighted.to_dtype(dtype)?;
            let v = if self.renormalises { select(&masked(z)?, &constant(0.0, &v)?, &v)? } else { v };
            entries = (entries + v.broadcast_mul(&coefficients.gamma)?)?;
        }
        if let Some(target) = &self.target {
            entries = (entries + target.weighted.to_dtype(dtype)?.broadcast_mul(&coefficients.tau)?)?;
        }
        match &self.hot {
            Some(hot) => Ok(entries.scatter_add(hot, &coefficients.beta, 1)?),
            None => Ok(entries),
        }
    }
}
