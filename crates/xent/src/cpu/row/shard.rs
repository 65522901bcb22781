//! A row whose other classes are elsewhere: its two sweeps as two calls.
//!
//! Nothing is saved in between but the statistics of the whole row, so that the second sweep takes
//! its exponentials again. By then the row's largest logit is known, and serves all blocks as the
//! reference.

use fearless_simd::Simd;

use super::scratch::{PIECE, RowWorker, SavedPiece};
use crate::Element;
use crate::cpu::kernels::block::BLOCK;
use crate::cpu::logit::Logit;
use crate::cpu::memory::ClaimedClasses;
use crate::rules::{RowGradient, RowPlan, RowStats, ShardStats};

impl<S: Simd, T: Logit> RowWorker<'_, S, T> {
    /// What the logits say of a kept row. `want_prior_sums`: whether its floor asks for more.
    pub(in crate::cpu) fn statistics_of_shard(
        &mut self,
        plan: &RowPlan,
        row: &mut ClaimedClasses<'_, T>,
        want_prior_sums: bool,
    ) -> ShardStats {
        let mut stats = RowStats::EMPTY;
        for piece in row.pieces(PIECE) {
            stats = stats.merge(self.statistics_of_piece(plan, &piece, None));
        }
        let prior_sums = match want_prior_sums && plan.prior_scale.is_some() {
            true => self.prior_sums(plan, row),
            false => [0.0; 2],
        };
        ShardStats { stats: stats.offset_classes(self.call.first()), prior_sums }
    }

    /// Writes the gradient of a kept row. `references` is room for one per block of a piece.
    pub(in crate::cpu) fn gradient_of_shard(
        &mut self,
        gradient: &RowGradient<'_>,
        row: &mut ClaimedClasses<'_, T>,
        references: &mut Vec<T::Real>,
    ) {
        references.clear();
        references.resize(PIECE / BLOCK, T::Real::from_f64(gradient.stats.max));
        let saved = SavedPiece { e: &mut [], z: &mut [], references };
        for mut piece in row.pieces(PIECE) {
            self.gradient_of_piece(gradient, &mut piece, &saved);
        }
    }
}
