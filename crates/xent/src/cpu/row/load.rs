//! Blocks on their way into scratch memory: logits, the prior's v, dense targets.

use std::hint::select_unpredictable;

use fearless_simd::Simd;

use super::scratch::RowWorker;
use crate::Element;
use crate::cpu::call::Call;
use crate::cpu::kernels::block::{self, padded};
use crate::cpu::kernels::lanes::Lane;
use crate::cpu::logit::{DenseTarget, Logit};
use crate::cpu::memory::ClaimedClasses;
use crate::element::sealed::Sealed;
use crate::rules::{RowPlan, RowStats};

impl<S: Simd, T: Logit> RowWorker<'_, S, T> {
    /// A block of a prior that rows do not share: weighted into `v` and, where sums without class
    /// weights are needed, as it is into `plain_v`.
    pub(super) fn load_own_prior(&mut self, plan: &RowPlan, start: usize, len: usize) {
        let wide = &mut self.wide[..len];
        let first = self.call.first() + start;
        self.call.plan.fill_prior(plan, first, wide);
        let narrow = |out: &mut [T::Real], v: &dyn Fn(usize) -> f64| {
            out[..len].iter_mut().enumerate().for_each(|(k, out)| *out = T::Real::from_f64(v(k)));
            out[len..padded(len)].fill(T::Real::ZERO);
        };
        match self.call.plan.table().class_weights() {
            Some(weights) => narrow(&mut self.v, &|k| wide[k] * weights[first + k]),
            None => narrow(&mut self.v, &|k| wide[k]),
        }
        if !self.plain_v.is_empty() {
            narrow(&mut self.plain_v, &|k| wide[k]);
        }
    }
}

/// Transformed logits of a block into `z`, which is whole chunks; beyond them, any value.
#[inline(always)]
pub(super) fn load<S: Simd, T: Logit>(
    simd: S,
    call: &Call<'_, T>,
    claim: &ClaimedClasses<'_, T>,
    start: usize,
    len: usize,
    z: &mut [T::Real],
) {
    claim.read(simd, start, &mut z[..len]);
    if !call.transform.is_identity() {
        block::transform(
            simd,
            &mut z[..padded(len)],
            call.transform.temperature,
            call.transform.softcap,
        );
    }
    overwrite_masked(&mut z[..len], call.plan.allowed(claim.row()), start, T::Real::NEG_INFINITY);
}

/// A block of the dense target, weighted, with zeros to the end of its last chunk: where it lies in
/// memory if it is that already, else in `room`. `running` is told its largest entry before
/// weights.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn target<'t, S: Simd, T: Logit>(
    simd: S,
    call: &'t Call<'_, T>,
    row: usize,
    start: usize,
    len: usize,
    room: &'t mut [T::Real],
    wide: &mut [f64],
    running: Option<&mut RowStats>,
) -> &'t [T::Real] {
    if let Some(t) = call.target(row, start, len).filter(|t| t.len() == padded(len)) {
        running.into_iter().for_each(|running| target_peak(simd, t, start, running));
        return t;
    }
    let room = &mut room[..padded(len)];
    let (t, beyond) = room.split_at_mut(len);
    beyond.fill(T::Real::ZERO);
    if call
        .plan
        .probabilities()
        .is_some_and(|probabilities| T::Real::read(simd, probabilities, row, start, t))
    {
        running.into_iter().for_each(|running| target_peak(simd, t, start, running));
    } else {
        let wide = &mut wide[..len];
        call.plan.fill_target(row, start, wide);
        t.iter_mut().zip(&*wide).for_each(|(t, wide)| *t = T::Real::from_f64(*wide));
        running.into_iter().for_each(|running| target_peak(simd, wide, start, running));
    }
    if let Some(weights) = &call.weights {
        block::multiply(simd, room, &weights[start..][..room.len()]);
    }
    room
}

/// Tells `running` the largest entry of a block of a dense target, and the first class that has it.
#[inline(always)]
fn target_peak<S: Simd, R: Lane>(simd: S, t: &[R], start: usize, running: &mut RowStats) {
    let (max, _) = block::extremes(simd, t);
    running.raise_target(max.to_f64(), || start + block::position(simd, t, max).unwrap_or(0));
}

/// Puts `value` on the classes that the mask does not allow; `values` are those of the classes from
/// `start` on.
#[inline(always)]
pub(super) fn overwrite_masked<R: Lane>(
    values: &mut [R],
    allowed: Option<&[bool]>,
    start: usize,
    value: R,
) {
    let Some(allowed) = allowed else { return };
    values
        .iter_mut()
        .zip(&allowed[start..])
        .for_each(|(entry, allowed)| *entry = select_unpredictable(*allowed, *entry, value));
}
