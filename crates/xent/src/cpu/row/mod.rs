//! Classes along the lanes: one row at a time.
//!
//! A row of K classes is cut the same way wherever it is computed:
//!
//! ```text
//! row      K classes
//! piece    65,536 classes      knows nothing of the others until their statistics merge: the
//!                              pieces of a long row are shared out over threads
//! block     8,192 classes      is swept twice while it is near
//! segment       8 vectors      is added up in lanes of the logits' own type (kernels/block.rs)
//! ```
//!
//! Two sweeps, of which only the first reads the row from memory:
//!
//! 1. Statistics (`statistics.rs`). Each block's largest logit is found, its exponentials against
//!    the largest logit so far are added up, and they are saved, with that reference.
//! 2. Gradient (`gradient.rs`), once the whole row is known and the rules have made its
//!    coefficients: what was saved, still in the second-level cache, is multiplied by a factor that
//!    makes up for each block's reference, and targets are taken off.
//!
//! So each class costs one exponential. Rows that are too long for the cache save nothing but the
//! references, and take their exponentials again, to the same bits. In between, a few criteria need
//! a sweep for the entropy of the target (`floor.rs`). Of a row whose other classes are elsewhere, the
//! two sweeps are two calls (`shard.rs`).

mod floor;
mod gradient;
mod load;
mod many;
mod scratch;
mod shard;
mod statistics;

pub(super) use many::ManyRows;
pub(super) use scratch::{PIECE, RowWorker, SavedRow};

use fearless_simd::Simd;

use super::kernels::lanes;
use super::logit::Logit;
use super::memory::ClaimedClasses;
use crate::rules::{FloorMemo, Folded, RowGradient, RowParts, RowPlan, RowStats};

impl<S: Simd, T: Logit> RowWorker<'_, S, T> {
    /// The loss of a row, which the claim has all classes of; `None` if it is ignored.
    #[inline(always)]
    pub(super) fn forward(
        &mut self,
        row: &mut ClaimedClasses<'_, T>,
        plan: &mut RowPlan,
        memo: &mut FloorMemo,
    ) -> Option<RowParts> {
        self.call.plan.row_into(row.row(), plan).then_some(())?;
        let mut running = RowStats::EMPTY;
        for piece in row.pieces(PIECE) {
            running = running.merge(self.statistics(plan, &piece, None));
        }
        let folded = self.fold(plan, &running, memo);
        Some(folded.parts(self.floor(plan, &folded, row)))
    }

    /// The loss of a row, which the claim has all classes of, and its gradient; `None` and zeros if
    /// it is ignored.
    #[inline(always)]
    pub(super) fn forward_backward(
        &mut self,
        row: &mut ClaimedClasses<'_, T>,
        plan: &mut RowPlan,
        saved: &mut SavedRow<T::Real>,
        memo: &mut FloorMemo,
    ) -> Option<RowParts> {
        if !self.call.plan.row_into(row.row(), plan) {
            self.fill(row, 0.0);
            return None;
        }
        let mut running = RowStats::EMPTY;
        for (piece, mut saved) in row.pieces(PIECE).zip(saved.pieces()) {
            running = running.merge(self.statistics(plan, &piece, Some(&mut saved)));
        }
        let stats = running;
        let folded = self.fold(plan, &stats, memo);
        let parts = folded.parts(self.floor(plan, &folded, row));
        match RowGradient::new(
            plan,
            &stats,
            &folded,
            self.call.factors.of(row.row()),
            self.call.transform,
        ) {
            Ok(gradient) => row
                .pieces(PIECE)
                .zip(saved.pieces())
                .for_each(|(mut piece, saved)| self.gradient(&gradient, &mut piece, &saved)),
            Err(value) => self.fill(row, value),
        }
        Some(parts)
    }

    /// As [`Plan::fold`](crate::rules::Plan::fold), with the logarithm that rows have which are
    /// folded many at a time.
    #[inline(always)]
    pub(super) fn fold(&self, plan: &RowPlan, stats: &RowStats, memo: &mut FloorMemo) -> Folded {
        let mut log = [0.0; 8];
        self.simd.vectorize(
            #[inline(always)]
            || lanes::ln_1p_of(self.simd, &[stats.rest; 8], &mut log),
        );
        self.call.plan.fold_with(plan, stats, log[0], memo)
    }
}
