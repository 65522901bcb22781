//! The smoothed target written out, its entropy, and the gradient: `α·softmax(z) − γ·v − τ·t − Σ β_j δ_j`. SEMANTICS.md S4.3 and S9.

use burn::tensor::{Bool, DType, Tensor};
use xent::Masked;

use super::Composed;
use super::fold::TargetScalars;
use super::ops::{constant, select, sum, zero_where};
use super::prior::Mixed;
use super::statistics::Transformed;
use super::target::{Setting, Target};

/// The entries of a row's smoothed target, `[N, K]`, all scalars multiplied by `factor`.
pub(super) fn entries(scalars: &TargetScalars, factor: &Tensor<2>, target: &Target, prior: Option<&Mixed>, setting: &Setting, dtype: DType) -> Tensor<2> {
    let scaled = |scalar: &Tensor<2>| (scalar.clone() * factor.clone()).cast(dtype);
    let mut entries = match (&scalars.beta, &target.hot) {
        (Some(beta), Some(hot)) => hot.scattered(&scaled(beta), setting, dtype),
        _ => Tensor::zeros([setting.rows, setting.classes], (&setting.device, dtype)),
    };
    if let (Some(gamma), Some(prior)) = (&scalars.gamma, prior) {
        entries = entries + target.weighed(&prior.vector).cast(dtype) * scaled(gamma);
    }
    if let Some(dense) = &target.dense {
        entries = entries + target.weighed(dense).cast(dtype) * scaled(&scalars.tau);
    }
    entries
}

/// Σ −y ln(y/Y) of each row's smoothed target y, whose mass is Y, `[N, 1]`.
pub(super) fn floors(entries: Tensor<2>) -> Tensor<2> {
    let total = sum(&entries);
    let positive = entries.clone().greater_elem(0.0);
    // y/Y is at most 1, and 1 where a row has one class.
    let logarithm = (entries.clone() / total).log();
    let terms = select(&positive, &(entries.clone() * logarithm), &entries.zeros_like());
    -sum(&terms)
}

impl Composed<'_> {
    /// The gradient under an upstream gradient of 1, `[N, K]`. `factor` is what multiplies a row, `dead` where nothing is learnt from one, both `[N, 1]`.
    pub(super) fn unit_gradient(&self, factor: &Tensor<2>, dead: &Tensor<2, Bool>) -> Tensor<2> {
        let Self { config, setting, target, transformed, prior, statistics, folded, .. } = self;
        let Transformed { z, masked, forbidden } = transformed;
        let dtype = setting.dtype;
        let factor = factor.clone() / config.temperature;
        let on_exp = (folded.alpha.clone() * factor.clone() / (statistics.rest.clone() + 1.0)).cast(dtype);
        let softmax = (z.clone() - statistics.max.clone()).exp() * on_exp;
        let mut gradient = softmax - entries(&folded.target, &factor, target, prior.as_ref(), setting, dtype);
        if let Some(cap) = config.softcap {
            let tanh = z.clone() / cap;
            let slope = (-tanh.clone() + 1.0) * (tanh + 1.0);
            gradient = gradient * zero_where(masked, &slope);
        }
        if config.masked == Masked::Renormalise {
            gradient = zero_where(masked, &gradient);
        }
        gradient = select(&statistics.nan, &constant(f64::NAN, dtype, &setting.device), &gradient);
        if let Some(forbidden) = forbidden {
            gradient = zero_where(forbidden, &gradient);
        }
        zero_where(dead, &gradient)
    }
}
