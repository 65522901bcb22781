//! The entropy floor of rows for which the rules cannot give it in closed form.
//!
//! The floor is what the cross-entropy cannot fall below, the entropy of the smoothed target y over
//! its sum Y: Σ −y ln(y/Y). It does not depend on the logits, but for which of them are masked.
//! Each block of y is put together from t or v, the hot classes and their coefficients, and its
//! entropy added up.

use fearless_simd::Simd;

use super::load::{load, target};
use super::scratch::{RowWorker, blocks};
use crate::cpu::call::PriorVector;
use crate::cpu::kernels::block::{self, padded};
use crate::cpu::kernels::lanes::Lane;
use crate::cpu::logit::Logit;
use crate::cpu::memory::ClaimedClasses;
use crate::element::sealed::Sealed;
use crate::rules::sum::Sum;
use crate::rules::{Folded, RowPlan, relative_entropy_term};
use crate::{Element, Real};

impl<S: Simd, T: Logit> RowWorker<'_, S, T> {
    /// The entropy floor of a row, which the claim has all classes of.
    pub(in crate::cpu) fn floor(
        &mut self,
        plan: &RowPlan,
        folded: &Folded,
        row: &ClaimedClasses<'_, T>,
    ) -> f64 {
        folded.floor.unwrap_or_else(|| {
            let mut sum = Sum::default();
            for (start, len) in blocks(row.classes()) {
                sum.add(if self.call.plan.dense_targets() {
                    self.dense_floor(plan, folded, row, start, len)
                } else {
                    self.sparse_floor(plan, folded, row, start, len)
                });
            }
            sum.total()
        })
    }

    /// Σ v and Σ v ln v of a row's prior over the classes of the logits, after class weights; without
    /// masked classes where masks renormalise the prior. From those of all shards the rules make the
    /// floor, in f64 as [`floor`](Self::floor) does.
    pub(super) fn prior_sums(&mut self, plan: &RowPlan, row: &ClaimedClasses<'_, T>) -> [f64; 2] {
        let (call, renormalises) = (self.call, self.call.plan.table().renormalises());
        let (mut mass, mut xlogx) = (Sum::default(), Sum::default());
        for (start, len) in blocks(row.classes()) {
            if renormalises {
                load(self.simd, call, row, start, len, &mut self.z);
            }
            let (first, whole) = (call.first() + start, padded(len));
            call.plan.fill_prior(plan, first, &mut self.wide[..len]);
            let weights = call.plan.table().class_weights();
            for (k, (v, z)) in self.wide[..len].iter_mut().zip(&*self.z).enumerate() {
                let out = renormalises && *z == T::Real::NEG_INFINITY;
                *v *= if out { 0.0 } else { weights.map_or(1.0, |weights| weights[first + k]) };
            }
            self.wide[len..whole].fill(0.0);
            mass.add(self.wide[..len].iter().copied().collect::<Sum>().total());
            xlogx.add(-block::entropy(self.simd, &self.wide[..whole], 1.0, 0.0, 1.0));
        }
        [mass.total(), xlogx.total()]
    }

    /// A block's part of the floor of a dense target: y = τ·t + γ·v.
    fn dense_floor(
        &mut self,
        plan: &RowPlan,
        folded: &Folded,
        row: &ClaimedClasses<'_, T>,
        start: usize,
        len: usize,
    ) -> f64 {
        let (on, total) = (folded.coefficients, folded.target_mass());
        let (simd, whole, narrow) = (self.simd, padded(len), T::Real::from_f64);
        let t = target(simd, self.call, plan.row, start, len, &mut self.t, &mut self.wide, None);
        let renormalises = self.call.plan.table().renormalises();
        let uniform = matches!(self.call.prior, PriorVector::Uniform);
        let everywhere = if uniform && !renormalises { on.gamma } else { 0.0 };
        // So that 1/Y and y/Y stay among f32's normal numbers.
        let is_normal = (1e-20..1e20).contains(&total);
        let scalars = on.gamma == 0.0 || (uniform && !renormalises);
        if is_normal && scalars && len == whole {
            return block::entropy(simd, t, narrow(on.tau), narrow(everywhere), total);
        }
        block::scaled(simd, t, narrow(on.tau), narrow(everywhere), &mut self.g[..whole], |_, _| ());
        if !scalars {
            if renormalises {
                load(self.simd, self.call, row, start, len, &mut self.z);
            }
            if matches!(self.call.prior, PriorVector::PerRow) {
                self.load_own_prior(plan, start, len);
            }
            let gamma = T::Real::from_f64(on.gamma);
            for k in (0..len).filter(|&k| !renormalises || self.z[k] != T::Real::NEG_INFINITY) {
                let v = match &self.call.prior {
                    PriorVector::Uniform => T::Real::ONE,
                    PriorVector::Shared { weighted, .. } => weighted[start + k],
                    PriorVector::PerRow => self.v[k],
                };
                self.g[k] += gamma * v;
            }
        }
        self.g[len..whole].fill(T::Real::ZERO);
        if is_normal {
            block::entropy(simd, &self.g[..whole], T::Real::ONE, T::Real::ZERO, total)
        } else {
            self.g[..len]
                .iter()
                .map(|y| -relative_entropy_term(y.to_f64(), total))
                .collect::<Sum>()
                .total()
        }
    }

    /// A block's part of the floor of one or two hot classes and a prior: y = γ·v + Σ β_j·[k =
    /// hot_j], in f64.
    fn sparse_floor(
        &mut self,
        plan: &RowPlan,
        folded: &Folded,
        row: &ClaimedClasses<'_, T>,
        start: usize,
        len: usize,
    ) -> f64 {
        let (target, total) = (folded.coefficients, folded.target_mass());
        let whole = padded(len);
        self.wide[..whole].fill(0.0);
        if target.gamma > 0.0 {
            let renormalises = self.call.plan.table().renormalises();
            if renormalises {
                load(self.simd, self.call, row, start, len, &mut self.z);
            }
            self.call.plan.fill_prior(plan, start, &mut self.wide[..len]);
            let weights = self.call.plan.table().class_weights();
            for (k, (y, z)) in self.wide[..len].iter_mut().zip(&*self.z).enumerate() {
                let out = renormalises && *z == T::Real::NEG_INFINITY;
                *y *= if out {
                    0.0
                } else {
                    target.gamma * weights.map_or(1.0, |weights| weights[start + k])
                };
            }
        }
        for (hot, beta) in plan.hot().iter().zip(target.beta) {
            if let Some(y) = hot.class.checked_sub(start).and_then(|k| self.wide[..len].get_mut(k))
            {
                *y += beta;
            }
        }
        if (1e-200..1e200).contains(&total) {
            block::entropy(self.simd, &self.wide[..whole], 1.0, 0.0, total)
        } else {
            self.wide[..len]
                .iter()
                .map(|&y| -relative_entropy_term(y, total))
                .collect::<Sum>()
                .total()
        }
    }
}
