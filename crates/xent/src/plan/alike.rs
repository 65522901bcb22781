//! Many rows at once, where nothing but their statistics tells them apart: one class each, one ε, no weights, nothing masked. [`Plan::fold`] on arrays, operation by operation, so
//! that a row has the same bits whichever of the two it goes through.

use super::{FloorMemo, Plan, RowPlan, RowStats};
use crate::Form;

/// What the rows of such a batch have in common.
pub(crate) struct Alike {
    epsilon: f64,
    z_loss: f64,
    /// On v, and beyond that on the true class.
    prior_scale: f64,
    prior: f64,
    /// The mass of v.
    mass: f64,
    /// Of the gradient.
    pub(crate) alpha: f64,
    pub(crate) gamma: f64,
    pub(crate) beta: f64,
    floor: f64,
    excess: f64,
}

/// Statistics of some rows, and their parts; see [`RowStats`] and [`RowParts`](super::RowParts).
#[derive(Default)]
pub(crate) struct AlikeRows {
    pub(crate) max: Vec<f64>,
    pub(crate) log1p_rest: Vec<f64>,
    /// max − z at the class.
    pub(crate) below: Vec<f64>,
    pub(crate) shifted: Vec<f64>,
    pub(crate) loss: Vec<f64>,
    pub(crate) nll: Vec<f64>,
    pub(crate) smoothing: Vec<f64>,
    pub(crate) z_loss: Vec<f64>,
    pub(crate) floor: Vec<f64>,
    pub(crate) lse: Vec<f64>,
    /// α of each row: z-loss makes it the row's own.
    pub(crate) alpha: Vec<f64>,
}

impl AlikeRows {
    /// Room for so many.
    pub(crate) fn new(rows: usize) -> Self {
        let room = || vec![0.0; rows];
        Self {
            max: room(),
            log1p_rest: room(),
            below: room(),
            shifted: room(),
            loss: room(),
            nll: room(),
            smoothing: room(),
            z_loss: room(),
            floor: room(),
            lse: room(),
            alpha: room(),
        }
    }

    /// Whether the first `n` are so far from f64's ends that all parts will be finite.
    #[inline(always)]
    pub(crate) fn are_tame(&self, n: usize) -> bool {
        const TAME: f64 = 1e100;
        let tame = |values: &[f64]| values[..n].iter().fold(true, |tame, value| tame & (value.abs() < TAME));
        tame(&self.max) & tame(&self.log1p_rest) & tame(&self.below) & tame(&self.shifted)
    }

    /// Leaves nothing of an ignored row.
    pub(crate) fn ignore(&mut self, row: usize) {
        for part in [&mut self.loss, &mut self.nll, &mut self.smoothing, &mut self.z_loss, &mut self.floor, &mut self.lse] {
            part[row] = 0.0;
        }
    }
}

impl Plan<'_> {
    /// What rows have in common, where that is all but their statistics; `v_mass` is the mass of v as backends sum it.
    pub(crate) fn alike(&self, v_mass: f64) -> Option<Alike> {
        if self.labels.is_none() || self.rows_differ || self.renormalises || self.batch.allowed.is_some() {
            return None;
        }
        // The fold of any row says what they share.
        let plan: RowPlan = self.template;
        let mut stats = RowStats::new(0.0, 0, 0.0);
        if plan.prior_scale.is_some() {
            stats.prior.mass = v_mass;
        }
        let folded = self.fold(&plan, &stats, &mut FloorMemo::new(1));
        let (gradient, floor) = (folded.gradient, folded.floor?);
        // A vector v has other values at other classes, and the floor with them.
        if !self.uniform && gradient.gamma > 0.0 {
            return None;
        }
        Some(Alike {
            epsilon: plan.epsilon,
            z_loss: self.criterion.config.z_loss,
            prior_scale: plan.prior_scale.unwrap_or(0.0),
            prior: plan.hot()[0].prior,
            mass: v_mass,
            alpha: gradient.alpha,
            gamma: gradient.gamma,
            beta: gradient.beta[0],
            floor,
            excess: if self.criterion.config.form == Form::KlDivergence { floor } else { 0.0 },
        })
    }
}

impl Alike {
    /// The parts of the rows from their statistics.
    #[inline(always)]
    pub(crate) fn fold(&self, rows: &mut AlikeRows) {
        let n = rows.max.len();
        let (max, log1p_rest, below, shifted) = (&rows.max[..n], &rows.log1p_rest[..n], &rows.below[..n], &rows.shifted[..n]);
        let (loss, nll, smoothing, z_loss) = (&mut rows.loss[..n], &mut rows.nll[..n], &mut rows.smoothing[..n], &mut rows.z_loss[..n]);
        let (lse, alpha) = (&mut rows.lse[..n], &mut rows.alpha[..n]);
        let mass = self.prior_scale * self.mass + self.prior;
        let smooth = if self.epsilon == 0.0 { 0.0 } else { 1.0 };
        for i in 0..n {
            let r = log1p_rest[i];
            lse[i] = max[i] + r;
            nll[i] = r + below[i];
            let cross_entropy = mass * r + (self.prior_scale * shifted[i] + self.prior * below[i]);
            smoothing[i] = smooth * (self.epsilon * cross_entropy);
            z_loss[i] = self.z_loss * lse[i] * lse[i];
            let kept = if self.epsilon == 1.0 { 0.0 } else { (1.0 - self.epsilon) * nll[i] };
            loss[i] = (kept + smoothing[i] + z_loss[i]) - self.excess;
            alpha[i] = self.alpha + 2.0 * self.z_loss * lse[i];
        }
        rows.floor[..n].fill(self.floor);
    }
}
