//! The first sweep over a row: its statistics.
//!
//! The largest logit of the row is not known before its end, so sums are taken against the largest
//! so far, block by block (Milakov and Gimelshein 2018, arXiv 1805.02867):
//!
//! ```text
//! for each block z[0..len):
//!     max, min = extremes of z                      min = −∞: there are masked classes
//!     max > m:   rest ← (rest + 1)·e^(m − max)      the old peak becomes one of the rest
//!                S    ← S + (Σ v so far)·(max − m)
//!                m    ← max, argmax ← its place
//!     e    ← e^(z − m)                              saved, and m with it, for the gradient
//!     rest ← rest + Σ e                             but for the peak itself, which is the 1 in 1 + rest
//!     S    ← S + Σ v·(m − z)                        and the same against t
//! ```
//!
//! All terms of all sums are ≥ 0. Leaving the peak out of `rest` keeps the loss of a row that is as
//! good as certain: log1p(rest) is exact to its last bits where ln(1 + rest) would be 0.

use fearless_simd::Simd;

use super::load::{load, target};
use super::scratch::{RowWorker, SavedPiece, blocks};
use crate::cpu::call::PriorVector;
use crate::cpu::kernels::block::{self, BLOCK, padded};
use crate::cpu::kernels::lanes::Lane;
use crate::cpu::logit::Logit;
use crate::cpu::memory::ClaimedClasses;
use crate::cpu::statistics::add_uniform;
use crate::element::sealed::Sealed;
use crate::rules::{Functional, RowPlan, RowStats};
use crate::{Element, Real};

impl<S: Simd, T: Logit> RowWorker<'_, S, T> {
    /// [`statistics`](Self::statistics) for a task of its own.
    pub(in crate::cpu) fn statistics_of_piece(
        &mut self,
        plan: &RowPlan,
        piece: &ClaimedClasses<'_, T>,
        saved: Option<&mut SavedPiece<'_, T::Real>>,
    ) -> RowStats {
        self.simd.vectorize(
            #[inline(always)]
            || self.statistics(plan, piece, saved),
        )
    }

    /// The statistics of a piece, with classes counted from the first of the logits; saves what its
    /// gradient needs.
    #[inline(always)]
    pub(super) fn statistics(
        &mut self,
        plan: &RowPlan,
        piece: &ClaimedClasses<'_, T>,
        mut saved: Option<&mut SavedPiece<'_, T::Real>>,
    ) -> RowStats {
        let (simd, call) = (self.simd, self.call);
        let mut running = RowStats::EMPTY;
        let first = call.first();
        let uniform = matches!(call.prior, PriorVector::Uniform);
        let in_place = call.transform.is_identity() && call.plan.allowed(plan.row).is_none();
        let mut scratch = std::mem::take(&mut self.z);
        for (block, (start, len)) in blocks(piece.classes()).enumerate() {
            let (e, z, reference_of_block) = match &mut saved {
                Some(saved) => (
                    saved.e.get_mut(block * BLOCK..).unwrap_or_default(),
                    saved.z.get_mut(block * BLOCK..).unwrap_or_default(),
                    saved.references.get_mut(block),
                ),
                None => (&mut [][..], &mut [][..], None),
            };
            let z = match piece.logits(start, len).filter(|_| in_place && z.is_empty()) {
                Some(z) => z,
                None => {
                    let z = if z.is_empty() { &mut scratch[..] } else { z };
                    load(simd, call, piece, start, len, z);
                    &z[..len]
                }
            };
            let (max, min) = block::extremes(simd, z);
            let masked = min == T::Real::NEG_INFINITY;
            for (j, hot) in plan.hot().iter().enumerate() {
                if let Some(z) = hot.class.checked_sub(first + start).and_then(|k| z.get(k)) {
                    running.put_hot(j, z.to_f64());
                }
            }
            let mut peak = None;
            if max.to_f64() > running.max {
                peak = block::position(simd, z, max);
                running.raise(max.to_f64(), start + peak.unwrap_or(0));
            }
            // All classes so far are masked, or NaN. Any finite reference serves, and NaN still
            // reaches the sums.
            let reference = if running.max == f64::NEG_INFINITY {
                T::Real::ZERO
            } else {
                T::Real::from_f64(running.max)
            };
            if plan.prior_scale.is_some() && !uniform {
                self.add_prior(plan, z, start, reference, masked, &mut running);
            }
            if call.plan.dense_targets() {
                let t = target(
                    simd,
                    call,
                    plan.row,
                    start,
                    len,
                    &mut self.t,
                    &mut self.wide,
                    Some(&mut running),
                );
                running.target.add(block::against(simd, z, t, reference, masked));
            }
            if let Some(saved) = reference_of_block {
                *saved = reference;
            }
            let e = if e.is_empty() { &mut self.g[..padded(len)] } else { &mut e[..padded(len)] };
            let next = piece.ahead(plan.row, start + len, BLOCK);
            let next_target = call.target_ahead(plan.row, start + len, BLOCK);
            let mut sums = block::exponentials(simd, z, reference, e, peak, masked, |from, len| {
                next.fetch(from, len);
                next_target.fetch(from, len);
            });
            running.rest += sums.rest;
            if plan.prior_scale.is_some() && uniform {
                if !sums.shifted.is_finite() {
                    sums.shifted = block::shifted_wide(z, |_| 1.0, reference);
                }
                add_uniform(&mut running, &sums, len, call.plan.table().renormalises());
            }
        }
        self.z = scratch;
        running
    }

    /// Sums a block against the prior's v.
    fn add_prior(
        &mut self,
        plan: &RowPlan,
        z: &[T::Real],
        start: usize,
        reference: T::Real,
        masked: bool,
        running: &mut RowStats,
    ) {
        if matches!(self.call.prior, PriorVector::PerRow) {
            self.load_own_prior(plan, start, z.len());
        }
        let len = padded(z.len());
        let against = |v: &[T::Real]| block::against(self.simd, z, v, reference, masked);
        let (mut part, plain) = match &self.call.prior {
            PriorVector::Shared { weighted, plain } => (
                against(&weighted[start..][..len]),
                plain.as_ref().map(|plain| against(&plain[start..][..len])),
            ),
            _ => (against(&self.v[..len]), self.plain_v.get(..len).map(against)),
        };
        // Where masks renormalise the prior, they share it out before class weights apply.
        let Functional { mass: open, masked_mass: closed, .. } = plain.unwrap_or(part);
        if self.call.plan.table().renormalises() {
            (part.masked_mass, part.masked) = (0.0, 0);
        }
        running.prior.add(part);
        running.open_prior += open;
        running.closed_prior += closed;
    }
}
