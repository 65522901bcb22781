//! From the statistics of a row to its loss, its parts and the coefficients of its gradient: the
//! formulas of [`xent::rules`] in tensor operations. SEMANTICS.md S4, S7 and S8.
//!
//! With R = ln(1 + rest) = lse − m, a part of the target with mass Y and shifted sum S costs Y·R +
//! S. Rows that are ignored or NaN hold any value.

use burn::tensor::Tensor;
use xent::{Config, Masked};

use super::ops::{Value, log1p, select, sum, zero_where};
use super::rows::Rows;
use super::statistics::Statistics;

/// Columns `[N, 1]`, before row weights.
pub(super) struct Folded {
    /// Without z-loss, and without the floor that KL divergence subtracts.
    pub(super) cross_entropy: Value,
    pub(super) nll: Value,
    pub(super) smoothing: Value,
    pub(super) z_loss: Value,
    pub(super) lse: Value,
    /// The mass of the smoothed target.
    pub(super) mass: Value,
    /// On v, without masked classes where those are taken out of the prior.
    pub(super) gamma: Value,
    pub(super) v: Option<Tensor<2>>,
    /// On a dense target.
    pub(super) tau: Value,
    /// On the hot classes, `[N, H]`.
    pub(super) beta: Value,
}

impl Folded {
    pub(super) fn new(config: &Config, rows: &Rows, statistics: &Statistics) -> Self {
        let (table, weight, epsilon, like) =
            (&rows.table, &rows.class_weight, &rows.epsilon, &statistics.rest);
        let r = Value::Each(log1p(&statistics.rest));
        let lse = &r + Value::Each(statistics.max.clone().cast(table.wide));
        let term = rows.at_hot(&table.term);

        let of_dense = Value::Same(if rows.dense.is_some() { 1.0 } else { 0.0 });
        let hard_hot = &rows.share * &term;
        let (hard_mass, shifted) =
            statistics.against(rows.dense.as_ref(), &of_dense, &hard_hot, rows);
        let hard = &hard_mass * &r + shifted;

        let (mut v, mut sigma, mut pi, mut nowhere) =
            (rows.v.clone(), rows.sigma.clone(), rows.pi.clone(), None);
        if config.masked == Masked::Renormalise && !matches!(sigma, Value::Same(0.0)) {
            // On the classes that are not masked alone, rescaled to the former sum.
            let plain = v.unwrap_or_else(|| statistics.z.ones_like());
            let open = zero_where(&statistics.masked, &plain);
            let total = |v: &Tensor<2>| &sigma * Value::Each(sum(v).cast(table.wide));
            let open_pi = statistics
                .hot
                .as_ref()
                .map_or(pi.clone(), |(below, masked)| pi.zero_where(masked, below));
            let (all, left) =
                (total(&plain) + pi.sum(), (total(&open) + open_pi.sum()).tensor(like));
            let none = left.clone().greater_elem(0.0).bool_not();
            let factor = (all / Value::Each(left)).zero_where(&none, like);
            (v, sigma, pi, nowhere) = (Some(open), sigma * &factor, open_pi * factor, Some(none));
        }
        let soft_hot = pi * term;
        let (soft_mass, shifted) = statistics.against(v.as_ref(), &sigma, &soft_hot, rows);
        let mut soft = &soft_mass * &r + shifted;
        // Rows whose prior has no class left are not smoothed.
        let mut in_effect = epsilon.clone();
        if let Some(nowhere) = &nowhere {
            in_effect = in_effect.zero_where(nowhere, like);
            soft = Value::Each(select(nowhere, &hard.tensor(like), &soft.tensor(like)));
        }

        let nll = weight * hard;
        let smoothing = weight * epsilon.times(&soft);
        let tau = in_effect.complement();
        Self {
            cross_entropy: epsilon.complement().times(&nll) + &smoothing,
            nll,
            smoothing,
            z_loss: &lse * Value::Same(config.z_loss) * &lse,
            lse,
            mass: weight * (&tau * hard_mass + &in_effect * soft_mass),
            gamma: weight * &in_effect * sigma,
            v,
            beta: weight * (&tau * hard_hot + in_effect * soft_hot),
            tau: weight * tau,
        }
    }
}
