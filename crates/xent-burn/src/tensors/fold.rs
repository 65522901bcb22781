//! From the statistics of a row to its loss, its parts and the coefficients of its gradient: the formulas of [`xent::rules`] in
//! tensor operations. SEMANTICS.md S4, S7 and S8.
//!
//! With R = ln(1 + rest) = lse − m, a part of the target with mass Y and shifted sum S costs Y·R + S. Rows that are ignored or
//! NaN hold any value.

use std::sync::Arc;

use xent::{Config, Masked};

use super::ops::{Value, log1p, select, sum, zero_where};
use super::rows::{Rows, Target};
use super::statistics::Statistics;
use super::table::Vector;

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
    /// On v, which is 0 on masked classes where those are taken out of the prior.
    pub(super) gamma: Option<(Arc<Vector>, Value)>,
    /// On a dense target.
    pub(super) tau: Value,
    /// On the hot classes, `[N, H]`.
    pub(super) beta: Value,
}

impl Folded {
    pub(super) fn new(config: &Config, rows: &Rows, statistics: &Statistics) -> Self {
        let (weight, epsilon, nothing, like) = (&rows.class_weight, &rows.epsilon, Value::Same(0.0), &statistics.rest);
        let r = Value::Each(log1p(&statistics.rest));
        let lse = &r + Value::Each(statistics.max.clone().cast(rows.table.wide));
        let (term, hard_hot, pi) = match &rows.target {
            Target::Hot(hot) => (&hot.term, &hot.share * &hot.term, &hot.prior),
            Target::Dense(_) => (&nothing, nothing.clone(), &nothing),
        };
        let dense = match &rows.target {
            Target::Hot(_) => None,
            Target::Dense(t) => Some((t, &Value::Same(1.0))),
        };
        let (hard_mass, shifted) = statistics.against(dense, &hard_hot, rows);
        let hard = &hard_mass * &r + shifted;

        let (mut in_effect, mut soft, mut soft_mass) = (epsilon.clone(), hard.clone(), nothing.clone());
        let (mut soft_hot, mut gamma) = (nothing.clone(), None);
        if let Some((v, sigma)) = &rows.prior {
            let (mut v, mut sigma, mut pi, mut nowhere) = (v.clone(), sigma.clone(), pi.clone(), None);
            if config.masked == Masked::Renormalise {
                // Only the classes that are not masked, rescaled to the former sum.
                let total = |v: &Vector| Value::Each(sum(&v.plain).cast(rows.table.wide));
                let all = &sigma * total(&v) + pi.sum();
                v = Arc::new(Vector::new(zero_where(&statistics.masked, &v.plain), &rows.table.term, rows.table.wide));
                if let Some((below, masked)) = &statistics.hot {
                    pi = pi.zero_where(masked, below);
                }
                let left = (&sigma * total(&v) + pi.sum()).tensor(like);
                let none = left.clone().greater_elem(0.0).bool_not();
                let factor = (all / Value::Each(left)).zero_where(&none, like);
                (sigma, pi, nowhere) = (sigma * &factor, pi * factor, Some(none));
            }
            soft_hot = pi * term;
            let (mass, shifted) = statistics.against(Some((&v, &sigma)), &soft_hot, rows);
            (soft, soft_mass) = (&mass * &r + shifted, mass);
            if let Some(nowhere) = &nowhere {
                in_effect = in_effect.zero_where(nowhere, like);
                soft = Value::Each(select(nowhere, &hard.tensor(like), &soft.tensor(like)));
            }
            gamma = Some((v, weight * &in_effect * sigma));
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
            gamma,
            beta: weight * (&tau * hard_hot + in_effect * soft_hot),
            tau: weight * tau,
        }
    }
}
