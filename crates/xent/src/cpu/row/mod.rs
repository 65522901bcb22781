//! Classes along the lanes: one row at a time, block by block.
//!
//! A row's trip: each block is widened and transformed into first-level cache, its exponentials against the largest logit so far are added up and kept, and when the whole
//! row is known a second sweep over what was kept, still in second-level cache, makes the gradient. One exponential a class; the logits are read from memory once.
//!
//! Rows are cut into pieces of [`PIECE`] classes that know nothing of each other until their statistics merge. The tree of blocks and pieces depends on K alone, so that a
//! row has the same bits alone or in a batch, on one thread or shared by many.

mod floor;
mod gradient;
mod load;
mod scratch;
mod statistics;

pub(super) use scratch::{Blocks, Kept, PIECE};

use fearless_simd::Simd;

use super::memory::ClaimedClasses;
use super::number::Number;
use crate::rules::{FloorMemo, RowGradient, RowParts, RowPlan, RowStats};

impl<S: Simd, T: Number> Blocks<'_, S, T> {
    /// The loss of a row; `None` if it is ignored.
    #[inline(always)]
    pub(super) fn forward(&mut self, row: &mut ClaimedClasses<'_, T>, plan: &mut RowPlan, memo: &mut FloorMemo) -> Option<RowParts> {
        self.call.plan.row_into(row.row(), plan).then_some(())?;
        let mut running = RowStats::EMPTY;
        for piece in row.pieces(PIECE) {
            running = running.merge(self.statistics(plan, &piece, None));
        }
        let folded = self.call.plan.fold(plan, &running, memo);
        Some(folded.parts(self.floor(plan, &folded, row)))
    }

    /// The loss of a row and its gradient.
    #[inline(always)]
    pub(super) fn forward_backward(
        &mut self,
        row: &mut ClaimedClasses<'_, T>,
        plan: &mut RowPlan,
        kept: &mut Kept<T::Real>,
        memo: &mut FloorMemo,
    ) -> Option<RowParts> {
        if !self.call.plan.row_into(row.row(), plan) {
            self.fill(row, 0.0, None);
            return None;
        }
        let mut running = RowStats::EMPTY;
        for (piece, mut kept) in row.pieces(PIECE).zip(kept.pieces()) {
            running = running.merge(self.statistics(plan, &piece, Some(&mut kept)));
        }
        let stats = running;
        let folded = self.call.plan.fold(plan, &stats, memo);
        let parts = folded.parts(self.floor(plan, &folded, row));
        match RowGradient::new(plan, &stats, &folded, self.call.factors.of(row.row()), self.call.transform) {
            Ok(gradient) => row.pieces(PIECE).zip(kept.pieces()).for_each(|(mut piece, kept)| self.gradient(&gradient, &mut piece, &kept)),
            Err(value) => self.fill(row, value, self.call.plan.allowed(row.row()).filter(|_| value.is_nan())),
        }
        Some(parts)
    }
}
