//! From a row's statistics to its loss, its parts and the scalars of its gradient, as columns `[N, 1]`. SEMANTICS.md S4, S7, S8 and S9.

use burn::tensor::Tensor;

use super::ops::{log1p, select, times};
use super::prior::Mixed;
use super::statistics::{Statistics, Sums};
use super::target::{Setting, Target};
use crate::CrossEntropyConfig;

/// Before row weights; the loss without what KL divergence takes off. Rows that are ignored or NaN hold any finite number.
pub(super) struct Folded {
    pub(super) loss: Tensor<2>,
    pub(super) nll: Tensor<2>,
    pub(super) smoothing: Tensor<2>,
    pub(super) z_loss: Tensor<2>,
    pub(super) lse: Tensor<2>,
    /// On p.
    pub(super) alpha: Tensor<2>,
    pub(super) target: TargetScalars,
}

/// The smoothed target is `γ·v + τ·t + Σ β_j δ_j`.
pub(super) struct TargetScalars {
    pub(super) gamma: Option<Tensor<2>>,
    pub(super) tau: Tensor<2>,
    /// `[N, H]`.
    pub(super) beta: Option<Tensor<2>>,
}

impl Folded {
    pub(super) fn new(config: &CrossEntropyConfig, target: &Target, prior: Option<&Mixed>, statistics: &Statistics, setting: &Setting) -> Self {
        let r = log1p(&statistics.rest);
        let lse = statistics.max.clone().cast(setting.wide) + r.clone();
        let ones = lse.ones_like();
        let scale = if target.per_row { target.mean_weight(setting.wide) } else { None }.unwrap_or_else(|| ones.clone());

        let hot_mass = target.hot.as_ref().map(|hot| match target.per_class() {
            Some(weights) => hot.share.clone() * hot.of(weights).cast(setting.wide),
            None => hot.share.clone(),
        });
        let of_target = match (&target.hot, &hot_mass, &target.dense) {
            (Some(hot), Some(mass), _) => statistics.sums_at(&hot.class, mass),
            (_, _, Some(dense)) => statistics.sums(&target.weighed(dense)),
            _ => Sums { mass: lse.zeros_like(), shifted: lse.zeros_like() },
        };
        let cross_entropy = |sums: &Sums| sums.mass.clone() * r.clone() + sums.shifted.clone();
        let hard = cross_entropy(&of_target);

        let (mut smoothing, mut mass, mut tau, mut gamma) = (lse.zeros_like(), of_target.mass.clone(), ones.clone(), None);
        if let (Some(prior), Some(epsilon)) = (prior, &target.epsilon) {
            let epsilon = epsilon.clone().expand([setting.rows, 1]);
            let of_prior = statistics.sums(&target.weighed(&prior.vector));
            let mut soft = times(&prior.scale.clone().expand([setting.rows, 1]), &cross_entropy(&of_prior));
            mass = (-epsilon.clone() + 1.0) * mass + epsilon.clone() * prior.scale.clone() * of_prior.mass;
            tau = -epsilon.clone() + 1.0;
            let mut on_prior = epsilon.clone() * prior.scale.clone();
            if let Some(nowhere) = &prior.nowhere {
                soft = select(nowhere, &hard, &soft);
                mass = select(nowhere, &of_target.mass, &mass);
                tau = select(nowhere, &ones, &tau);
                on_prior = select(nowhere, &ones.zeros_like(), &on_prior);
            }
            smoothing = scale.clone() * times(&epsilon, &soft);
            gamma = Some(scale.clone() * on_prior);
        }
        let nll = scale.clone() * hard;
        let remaining = match &target.epsilon {
            Some(epsilon) if prior.is_some() => times(&(-epsilon.clone() + 1.0).expand([setting.rows, 1]), &nll),
            _ => nll.clone(),
        };
        let z_loss = lse.clone() * lse.clone() * config.z_loss;
        let tau = scale.clone() * tau;
        Self {
            loss: remaining + smoothing.clone() + z_loss.clone(),
            nll,
            smoothing,
            z_loss,
            alpha: scale * mass + lse.clone() * (2.0 * config.z_loss),
            lse,
            target: TargetScalars { gamma, beta: hot_mass.map(|mass| mass * tau.clone()), tau },
        }
    }
}
