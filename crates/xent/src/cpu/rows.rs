//! All rows of a call: which kernels take them, and how threads share them.

use fearless_simd::Simd;

use super::Instructions;
use super::call::Call;
use super::instructions::on_level;
use super::parallel::{self, threads};
use super::row::{Blocks, Kept, PIECE};
use super::tile::{self, Tiles};
use crate::Element;
use crate::rules::{FloorMemo, Parts, RowGradient, RowParts, RowPlan, RowStats};

/// The parts of all rows and, where the call has a sink, their gradients.
pub(crate) fn run<T: Element>(instructions: Instructions, call: &Call<'_, T>) -> Parts<T::Real> {
    on_level!(instructions.level_or_baseline(), simd => rows(simd, call))
}

fn rows<S: Simd, T: Element>(simd: S, call: &Call<'_, T>) -> Parts<T::Real> {
    let mut parts = call.plan.parts();
    let (rows, classes) = (call.plan.rows(), call.classes());
    if tile::suits(call) {
        let worker = || (Tiles::new(simd, call), call.plan.floor_memo());
        parallel::for_each_chunk(&mut parts, rows, classes, worker, |(tiles, memo), mut chunk| {
            simd.vectorize(
                #[inline(always)]
                || tiles.run(&mut chunk, memo),
            );
            call.finish();
        });
        return parts;
    }
    if classes > PIECE && rows < 2 * threads() {
        let (mut kept, mut memo) = (call.sink.as_ref().map(|_| Kept::new(call)), call.plan.floor_memo());
        let mut all = parts.all();
        for row in all.rows() {
            all.push(shared_row(simd, call, row, kept.as_mut(), &mut memo));
        }
        return parts;
    }
    let worker = || (Blocks::new(simd, call), call.sink.as_ref().map(|_| Kept::new(call)), call.plan.floor_memo());
    parallel::for_each_chunk(&mut parts, rows, classes, worker, |(blocks, kept, memo), mut chunk| {
        simd.vectorize(
            #[inline(always)]
            || {
                let mut plan = RowPlan::default();
                for row in chunk.rows() {
                    chunk.push(match kept {
                        Some(kept) => blocks.forward_backward(row, &mut plan, kept, memo),
                        None => blocks.forward(row, &mut plan, memo),
                    });
                }
            },
        );
        call.finish();
    });
    parts
}

/// A row whose pieces are shared by the threads.
fn shared_row<S: Simd, T: Element>(simd: S, call: &Call<'_, T>, row: usize, mut kept: Option<&mut Kept<T::Real>>, memo: &mut FloorMemo) -> Option<RowParts> {
    let blocks = || Blocks::new(simd, call);
    let Some(plan) = call.plan.row(row) else {
        blocks().fill(row, 0.0, None);
        call.finish();
        return None;
    };
    let pieces: Vec<RowStats> = match &mut kept {
        Some(kept) => parallel::map(kept.pieces().collect(), blocks, |blocks, mut piece| blocks.statistics_of_piece(&plan, piece.start, Some(&mut piece))),
        None => parallel::map((0..call.classes()).step_by(PIECE).collect(), blocks, |blocks, start| blocks.statistics_of_piece(&plan, start, None)),
    };
    let stats = pieces.into_iter().fold(RowStats::EMPTY, RowStats::merge);
    let folded = call.plan.fold(&plan, &stats, memo);
    let parts = folded.parts(blocks().floor(&plan, &folded));
    if let Some(kept) = kept {
        match RowGradient::new(&plan, &stats, &folded, call.factors.of(row), call.transform) {
            Ok(gradient) => {
                parallel::map(kept.pieces().collect(), blocks, |blocks, piece| {
                    blocks.gradient_of_piece(&gradient, &piece);
                    call.finish();
                });
            }
            Err(value) => {
                blocks().fill(row, value, call.plan.allowed(row).filter(|_| value.is_nan()));
                call.finish();
            }
        }
    }
    Some(parts)
}
