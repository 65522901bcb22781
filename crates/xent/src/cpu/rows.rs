//! All rows of a call: which kernels take them, and how threads share them.

use fearless_simd::Simd;

use super::call::Call;
use super::instructions::on_level;
use super::logit::Logit;
use super::memory::{ClaimedClasses, Memory};
use super::parallel;
use super::row::{ManyRows, PIECE, RowWorker, SavedRow};
use super::tile::{self, TileWorker};
use crate::rules::{FloorMemo, Parts, RowGradient, RowParts, RowPlan, RowStats};
use crate::threads::{Stop, threads};

/// The parts of all rows and, where the memory has a place for it, their gradient.
pub(super) fn run<T: Logit>(call: &Call<'_, T>, memory: &mut Memory<'_, T>) -> Parts<T::Real> {
    on_level!(call.plan.instructions().level_or_baseline(), simd => rows(simd, call, memory))
}

fn rows<S: Simd, T: Logit>(
    simd: S,
    call: &Call<'_, T>,
    memory: &mut Memory<'_, T>,
) -> Parts<T::Real> {
    let mut parts = call.plan.parts();
    let (rows, classes) = (call.plan.rows(), call.classes());
    if tile::suits(call, memory.logits_layout()) {
        let worker = || (TileWorker::new(simd, call), call.plan.floor_memo());
        parallel::for_each_chunk(
            &mut parts,
            memory.claim(),
            classes,
            &worker,
            &|(worker, memo), mut claim, mut parts| {
                simd.vectorize(
                    #[inline(always)]
                    || worker.run(&mut claim, &mut parts, memo),
                );
            },
        );
        return parts;
    }
    if classes > PIECE && rows < 2 * threads() {
        let (mut saved, mut memo) =
            (call.has_gradient.then(|| SavedRow::new(call)), call.plan.floor_memo());
        let (mut all, mut claim) = (parts.all(), memory.claim());
        let stop = Stop::of_this_call();
        while let Some(mut row) = claim.next_row().filter(|_| !stop.is_set()) {
            all.push(shared_row(simd, call, &mut row, saved.as_mut(), &mut memo));
        }
        return parts;
    }
    let worker = || {
        (
            RowWorker::new(simd, call),
            call.has_gradient.then(|| SavedRow::new(call)),
            call.plan.floor_memo(),
            ManyRows::new(call),
        )
    };
    parallel::for_each_chunk(
        &mut parts,
        memory.claim(),
        classes,
        &worker,
        &|(worker, saved, memo, many), mut claim, mut parts| {
            simd.vectorize(
                #[inline(always)]
                || {
                    let mut plan = RowPlan::default();
                    let at_a_time = many.as_ref().map_or(1, ManyRows::len);
                    while let Some(mut tile) = claim.next_tile(at_a_time) {
                        if let Some(many) = many
                            && worker.many(&mut tile, many, &mut parts)
                        {
                            continue;
                        }
                        for i in 0..tile.rows().len() {
                            let mut row = tile.row(i);
                            parts.push(match saved {
                                Some(saved) => {
                                    worker.forward_backward(&mut row, &mut plan, saved, memo)
                                }
                                None => worker.forward(&mut row, &mut plan, memo),
                            });
                        }
                    }
                },
            );
        },
    );
    parts
}

/// A row whose pieces are shared by the threads.
fn shared_row<S: Simd, T: Logit>(
    simd: S,
    call: &Call<'_, T>,
    row: &mut ClaimedClasses<'_, T>,
    mut saved: Option<&mut SavedRow<T::Real>>,
    memo: &mut FloorMemo,
) -> Option<RowParts> {
    let worker = || RowWorker::new(simd, call);
    let Some(plan) = call.plan.row(row.row()) else {
        worker().fill(row, 0.0);
        return None;
    };
    let pieces = row.shared_pieces(PIECE);
    let running: Vec<RowStats> = match &mut saved {
        Some(saved) => parallel::map(pieces.zip(saved.pieces()).collect(), &worker, &|worker,
                                                                                      (
            piece,
            mut saved,
        )| {
            worker.statistics_of_piece(&plan, &piece.classes, Some(&mut saved))
        }),
        None => parallel::map(pieces.collect(), &worker, &|worker, piece| {
            worker.statistics_of_piece(&plan, &piece.classes, None)
        }),
    };
    let stats = running.into_iter().fold(RowStats::EMPTY, RowStats::merge);
    let folded = worker().fold(&plan, &stats, memo);
    let parts = folded.parts(worker().floor(&plan, &folded, row));
    if let Some(saved) = saved {
        match RowGradient::new(&plan, &stats, &folded, call.factors.of(row.row()), call.transform) {
            Ok(gradient) => {
                parallel::map(
                    row.shared_pieces(PIECE).zip(saved.pieces()).collect(),
                    &worker,
                    &|worker, (mut piece, saved)| {
                        worker.gradient_of_piece(&gradient, &mut piece.classes, &saved);
                    },
                );
            }
            Err(value) => worker().fill(row, value),
        }
    }
    Some(parts)
}
