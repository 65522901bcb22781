//! What makes a row's gradient, for either family of kernels.

use crate::plan::{Folded, Plan, RowPlan, RowStats, Transform};

/// `α·p − γ·v − τ·t − Σ β_j δ_j`, times the row's factors.
pub(super) struct RowGradient<'p> {
    pub(super) plan: &'p RowPlan,
    pub(super) stats: &'p RowStats,
    folded: &'p Folded,
    softcap: Option<f64>,
    /// Upstream over the denominator and the temperature, and the row's weight.
    factor: f64,
}

impl<'p> RowGradient<'p> {
    /// `factor` is upstream over the denominator; without one the gradient is 0. `Err` is the value of all entries where they have one.
    #[inline(always)]
    pub(super) fn new(plan: &'p RowPlan, stats: &'p RowStats, folded: &'p Folded, factor: Option<f64>, transform: Transform) -> Result<Self, f64> {
        match factor {
            None => Err(0.0),
            Some(_) if folded.is_nan() => Err(f64::NAN),
            Some(factor) => Ok(Self { plan, stats, folded, softcap: transform.softcap, factor: factor * folded.scale() / transform.temperature }),
        }
    }

    /// On e^(z − max).
    #[inline(always)]
    pub(super) fn on_exp(&self) -> f64 {
        self.folded.gradient.alpha * self.factor / (1.0 + self.stats.rest)
    }

    /// On the prior's v, to be taken off.
    #[inline(always)]
    pub(super) fn on_prior(&self) -> f64 {
        self.folded.gradient.gamma * self.factor
    }

    /// On a dense target, to be taken off.
    #[inline(always)]
    pub(super) fn on_target(&self) -> f64 {
        self.folded.gradient.tau * self.factor
    }

    /// The entry at the `j`-th hot class, whose softmax is `p`: p and y nearly cancel there, so it is formed in f64 and rounded once. `None` where masks make it 0.
    #[inline(always)]
    pub(super) fn hot_entry(&self, plan: &Plan<'_>, j: usize, p: f64) -> Option<f64> {
        let (hot, z) = (&self.plan.hot()[j], self.stats.hot[j]);
        let forbidden = plan.allowed(self.plan.row).is_some_and(|allowed| !allowed[hot.class]);
        if forbidden || (plan.renormalises() && z == f64::NEG_INFINITY) {
            return None;
        }
        let mut prior = 0.0;
        if self.folded.gradient.gamma != 0.0 {
            let mut v = [0.0];
            plan.fill_prior(self.plan, hot.class, &mut v);
            prior = self.folded.gradient.gamma * v[0] * hot.weight;
        }
        let slope = self.softcap.map_or(1.0, |cap| if z == f64::NEG_INFINITY { 0.0 } else { (1.0 - z / cap) * (1.0 + z / cap) });
        Some((self.folded.gradient.alpha * p - prior - self.folded.gradient.beta[j]) * self.factor * slope)
    }
}
