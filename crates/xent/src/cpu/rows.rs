//! All rows of a call: which kernels take them, and how threads share them.

use fearless_simd::Simd;

use super::Instructions;
use super::call::Call;
use super::instructions::on_level;
use super::memory::{ClaimedClasses, Memory};
use super::number::Number;
use super::parallel::{self, threads};
use super::row::{Blocks, Kept, PIECE};
use super::tile::{self, Tiles};
use crate::rules::{FloorMemo, Parts, RowGradient, RowParts, RowPlan, RowStats};

/// The parts of all rows and, where the memory has a place for it, their gradient.
pub(super) fn run<T: Number>(instructions: Instructions, call: &Call<'_, T>, memory: &mut Memory<'_, T>) -> Parts<T::Real> {
    on_level!(instructions.level_or_baseline(), simd => rows(simd, call, memory))
}

fn rows<S: Simd, T: Number>(simd: S, call: &Call<'_, T>, memory: &mut Memory<'_, T>) -> Parts<T::Real> {
    let mut parts = call.plan.parts();
    let (rows, classes) = (call.plan.rows(), call.classes());
    if tile::suits(call, memory.logits_layout()) {
        let worker = || (Tiles::new(simd, call), call.plan.floor_memo());
        parallel::for_each_chunk(&mut parts, memory.claim(), classes, worker, |(tiles, memo), mut claim, mut chunk| {
            simd.vectorize(
                #[inline(always)]
                || tiles.run(&mut claim, &mut chunk, memo),
            );
        });
        return parts;
    }
    if classes > PIECE && rows < 2 * threads() {
        let (mut kept, mut memo) = (call.has_gradient.then(|| Kept::new(call)), call.plan.floor_memo());
        let (mut all, mut claim) = (parts.all(), memory.claim());
        while let Some(mut row) = claim.next_row() {
            all.push(shared_row(simd, call, &mut row, kept.as_mut(), &mut memo));
        }
        return parts;
    }
    let worker = || (Blocks::new(simd, call), call.has_gradient.then(|| Kept::new(call)), call.plan.floor_memo());
    parallel::for_each_chunk(&mut parts, memory.claim(), classes, worker, |(blocks, kept, memo), mut claim, mut chunk| {
        simd.vectorize(
            #[inline(always)]
            || {
                let mut plan = RowPlan::default();
                while let Some(mut row) = claim.next_row() {
                    chunk.push(match kept {
                        Some(kept) => blocks.forward_backward(&mut row, &mut plan, kept, memo),
                        None => blocks.forward(&mut row, &mut plan, memo),
                    });
                }
            },
        );
    });
    parts
}

/// A row whose pieces are shared by the threads.
fn shared_row<S: Simd, T: Number>(
    simd: S,
    call: &Call<'_, T>,
    row: &mut ClaimedClasses<'_, T>,
    mut kept: Option<&mut Kept<T::Real>>,
    memo: &mut FloorMemo,
) -> Option<RowParts> {
    let blocks = || Blocks::new(simd, call);
    let Some(plan) = call.plan.row(row.row()) else {
        blocks().fill(row, 0.0, None);
        return None;
    };
    let pieces = row.shared_pieces(PIECE);
    let running: Vec<RowStats> = match &mut kept {
        Some(kept) => parallel::map(pieces.zip(kept.pieces()).collect(), blocks, |blocks, (piece, mut kept)| {
            blocks.statistics_of_piece(&plan, &piece.classes, Some(&mut kept))
        }),
        None => parallel::map(pieces.collect(), blocks, |blocks, piece| blocks.statistics_of_piece(&plan, &piece.classes, None)),
    };
    let stats = running.into_iter().fold(RowStats::EMPTY, RowStats::merge);
    let folded = call.plan.fold(&plan, &stats, memo);
    let parts = folded.parts(blocks().floor(&plan, &folded, row));
    if let Some(kept) = kept {
        match RowGradient::new(&plan, &stats, &folded, call.factors.of(row.row()), call.transform) {
            Ok(gradient) => {
                parallel::map(row.shared_pieces(PIECE).zip(kept.pieces()).collect(), blocks, |blocks, (mut piece, kept)| {
                    blocks.gradient_of_piece(&gradient, &mut piece.classes, &kept);
                });
            }
            Err(value) => blocks().fill(row, value, call.plan.allowed(row.row()).filter(|_| value.is_nan())),
        }
    }
    Some(parts)
}
