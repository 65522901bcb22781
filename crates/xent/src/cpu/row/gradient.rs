//! The second sweep over a row: its gradient.
//!
//! For each block, from its saved e = e^(z − reference):
//!
//! ```text
//! g  ← a·e + b          a = α·factor·e^(reference − m) / (1 + rest)
//!                       b = −γ·factor where v is 1 everywhere, else 0
//! g  ← g − γ·factor·v   where v is not 1 everywhere
//! g  ← g − τ·factor·t   where there is a dense target
//! g  ← g·slope(z)       under a softcap
//! g  ← 0                on classes that are not allowed, and on all masked ones where masks
//!                       renormalise the prior
//! g_hot ← its own entry, formed in f64 and rounded once
//! ```
//!
//! The factor is the row's share of upstream over the denominator. Where the first line is all
//! there is, the block is written straight to where the gradient goes; otherwise it is made in
//! scratch memory.

use fearless_simd::Simd;

use super::load::{load, overwrite_masked, target};
use super::scratch::{RowWorker, SavedPiece, blocks};
use crate::buffer::Buffer;
use crate::cpu::call::PriorVector;
use crate::cpu::kernels::block::{self, BLOCK, padded};
use crate::cpu::kernels::lanes;
use crate::cpu::logit::Logit;
use crate::cpu::memory::{ClaimedClasses, ScaledRow};
use crate::element::sealed::Sealed;
use crate::rules::RowGradient;
use crate::{Element, Real};

impl<S: Simd, T: Logit> RowWorker<'_, S, T> {
    /// [`gradient`](Self::gradient) for a task of its own.
    pub(in crate::cpu) fn gradient_of_piece(
        &mut self,
        row: &RowGradient<'_>,
        piece: &mut ClaimedClasses<'_, T>,
        saved: &SavedPiece<'_, T::Real>,
    ) {
        self.simd.vectorize(
            #[inline(always)]
            || self.gradient(row, piece, saved),
        );
    }

    /// The gradient of a piece, from what was saved of it.
    #[inline(always)]
    pub(super) fn gradient(
        &mut self,
        row: &RowGradient<'_>,
        piece: &mut ClaimedClasses<'_, T>,
        saved: &SavedPiece<'_, T::Real>,
    ) {
        let RowGradient { plan, stats, .. } = *row;
        let (simd, call) = (self.simd, self.call);
        let narrow = T::Real::from_f64;
        let (allowed, renormalises, softcap) =
            (call.plan.allowed(plan.row), call.plan.table().renormalises(), call.transform.softcap);
        let uniform = matches!(call.prior, PriorVector::Uniform) || row.on_prior() == 0.0;
        let plain = uniform
            && !renormalises
            && softcap.is_none()
            && allowed.is_none()
            && !call.plan.dense_targets();
        let (on_exp, first) = (row.on_exp(), call.first());
        let hot: [Option<(usize, T::Real)>; 2] = std::array::from_fn(|j| self.hot(row, j));
        for (block, (start, len)) in blocks(piece.classes()).enumerate() {
            let whole = padded(len);
            let below = saved.references[block].to_f64() - stats.max;
            let on_block = narrow(if below == 0.0 { on_exp } else { on_exp * below.exp() });
            let everywhere = narrow(if uniform { -row.on_prior() } else { 0.0 });
            let hot = hot.map(|hot| {
                hot.and_then(|(class, value)| {
                    Some((class.checked_sub(first + start).filter(|&k| k < len)?, value))
                })
            });
            let next = piece.ahead(piece.row() + 1, start, BLOCK);
            let ahead = |from, len| next.fetch(from, len);
            let e = match saved.e.get(block * BLOCK..).filter(|e| !e.is_empty()) {
                Some(e) => &e[..whole],
                None => {
                    self.exponentials_again(piece, start, len, saved.references[block]);
                    &self.e[..whole]
                }
            };
            if plain
                && piece.write_scaled(
                    simd,
                    start,
                    len,
                    ScaledRow { e, a: on_block, b: everywhere, hot },
                    ahead,
                )
            {
                continue;
            }
            block::scaled(simd, e, on_block, everywhere, &mut self.g[..whole], ahead);
            if !uniform {
                if matches!(call.prior, PriorVector::PerRow) {
                    self.load_own_prior(plan, start, len);
                }
                let v = if let PriorVector::Shared { weighted, .. } = &call.prior {
                    &weighted[start..][..whole]
                } else {
                    &self.v[..whole]
                };
                block::add_scaled(simd, &mut self.g[..whole], v, narrow(-row.on_prior()));
            }
            if call.plan.dense_targets() {
                let t = target(simd, call, plan.row, start, len, &mut self.t, &mut self.wide, None);
                block::add_scaled(simd, &mut self.g[..whole], t, narrow(-row.on_target()));
            }
            if call.gradient_asks_for_logits() {
                let z = match saved.z.get(block * BLOCK..).filter(|z| !z.is_empty()) {
                    Some(z) => &z[..whole],
                    None => {
                        load(simd, call, piece, start, len, &mut self.z);
                        &self.z[..whole]
                    }
                };
                if let Some(cap) = softcap {
                    block::softcap_slope(simd, &mut self.g[..whole], z, narrow(1.0 / cap));
                }
                if renormalises {
                    block::clear_masked(simd, &mut self.g[..whole], z);
                }
            }
            if !renormalises {
                overwrite_masked(&mut self.g[..len], allowed, start, T::Real::ZERO);
            }
            hot.into_iter().flatten().for_each(|(entry, value)| self.g[entry] = value);
            self.write(piece, start, len);
        }
    }

    /// e^(z − reference) of a block into `self.e`, for rows too long to save it: to the same bits
    /// as in the first sweep.
    fn exponentials_again(
        &mut self,
        piece: &ClaimedClasses<'_, T>,
        start: usize,
        len: usize,
        reference: T::Real,
    ) {
        if self.e.is_empty() {
            self.e = Buffer::new(padded(BLOCK), T::Real::ZERO);
        }
        load(self.simd, self.call, piece, start, len, &mut self.z);
        let next = piece.ahead(piece.row(), start + len, BLOCK);
        block::exponentials(
            self.simd,
            &self.z[..len],
            reference,
            &mut self.e[..padded(len)],
            None,
            true,
            |from, len| next.fetch(from, len),
        );
    }

    /// The `j`-th hot class and its entry; `None` if there is none here, or masks make it 0.
    #[inline(always)]
    fn hot(&self, row: &RowGradient<'_>, j: usize) -> Option<(usize, T::Real)> {
        let class = row.plan.hot().get(j)?.class;
        self.call.plan.here().contains(&class).then_some(())?;
        let mut exp = [0.0; 8];
        lanes::exp_of_minus(self.simd, &[row.stats.max - row.stats.hot[j]; 8], &mut exp);
        let p = exp[0] / (1.0 + row.stats.rest);
        row.hot_entry(self.call.plan, j, p).map(|value| (class, T::to_be_rounded(value)))
    }

    /// Writes one value to every class of a row; but where it is NaN, 0 to those that are not allowed.
    pub(in crate::cpu) fn fill(&mut self, row: &mut ClaimedClasses<'_, T>, value: f64) {
        let allowed = self.call.plan.allowed(row.row()).filter(|_| value.is_nan());
        for (start, len) in blocks(row.classes()) {
            self.g[..len].fill(T::Real::from_f64(value));
            overwrite_masked(&mut self.g[..len], allowed, start, T::Real::ZERO);
            self.write(row, start, len);
        }
    }

    #[inline(always)]
    fn write(&mut self, claim: &mut ClaimedClasses<'_, T>, start: usize, len: usize) {
        claim.write(self.simd, start, &self.g[..len], &mut self.rounded);
    }
}
