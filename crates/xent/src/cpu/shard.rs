//! All rows of a shard of a vocabulary: their statistics and, once those of all shards are known,
//! their gradients.
//!
//! Classes lie along the lanes, however few there are.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};

use super::call::Call;
use super::instructions::on_level;
use super::logit::Logit;
use super::memory::{ClaimedRows, Memory};
use super::parallel;
use super::row::RowWorker;
use crate::element::sealed::ForEachType;
use crate::rules::{GradientFactors, Plan, RowGradient, RowPlan, ShardStats};
use crate::{Element, InputError, Upstream};

/// The statistics of each row; of ignored ones, those of no class.
///
/// # Errors
/// None: a scalar upstream gradient is right for every plan.
pub(crate) fn statistics_of_shard<T: Element>(
    plan: &Plan<'_>,
    memory: &mut Memory<'_, T>,
) -> Result<Vec<ShardStats>, InputError> {
    let want_prior_sums = plan.shard_columns().prior_sums;
    let factors = plan.gradient_factors(&Upstream::Scalar(1.0))?;
    Ok(T::call::<Statistics<'_, '_>>((plan, factors, memory, want_prior_sums)))
}

/// As many classes take the time of merging a row of one shard.
const CLASSES_PER_MERGE: usize = 128;

/// The statistics of each whole row from what all shards sent: see
/// [`Plan::merge_shards`](crate::rules::Plan), over threads.
pub(crate) fn merge_shards(plan: &Plan<'_>, shards: &[(Range<usize>, &[f64])]) -> Vec<ShardStats> {
    let per_task = parallel::rows_per_task(plan.rows(), CLASSES_PER_MERGE * shards.len().max(1));
    let task = |start| start..plan.rows().min(start + per_task);
    let tasks = (0..plan.rows()).step_by(per_task).map(task).collect();
    parallel::map(tasks, &|| (), &|_, rows| plan.merge_shards(shards, rows)).concat()
}

/// Writes the gradient of each row. `rows` has the statistics of whole rows, over all shards.
pub(crate) fn gradient_of_shard<T: Element>(
    plan: &Plan<'_>,
    factors: GradientFactors<'_>,
    rows: &[ShardStats],
    memory: &mut Memory<'_, T>,
) {
    T::call::<Gradient<'_, '_>>((plan, factors, memory, rows));
}

/// Compiled with this crate for each type of logits.
struct Statistics<'a, 'm>(PhantomData<(&'a (), &'m ())>);

struct Gradient<'a, 'm>(PhantomData<(&'a (), &'m ())>);

macro_rules! for_each_type {
    ($name:ident, $what:ty => $output:ty, $function:ident) => {
        impl<'a, 'm: 'a> ForEachType for $name<'a, 'm> {
            type Input<T: Element> =
                (&'a Plan<'a>, GradientFactors<'a>, &'a mut Memory<'m, T>, $what);
            type Output<T: Element> = $output;

            fn f64(input: Self::Input<f64>) -> $output {
                $function(input)
            }

            fn f32(input: Self::Input<f32>) -> $output {
                $function(input)
            }

            fn f16(input: Self::Input<f16>) -> $output {
                $function(input)
            }

            fn bf16(input: Self::Input<bf16>) -> $output {
                $function(input)
            }
        }
    };
}
for_each_type!(Statistics, bool => Vec<ShardStats>, statistics);
for_each_type!(Gradient, &'a [ShardStats] => (), gradient);

fn statistics<'a, T: Logit>(
    (plan, factors, memory, want_prior_sums): <Statistics<'a, '_> as ForEachType>::Input<T>,
) -> Vec<ShardStats> {
    let call = &Call::new(plan, memory, factors);
    let tasks = tasks(memory.claim(), call.classes());
    on_level!(plan.instructions().level_or_baseline(), simd => parallel::map(
        tasks,
        &|| (RowWorker::new(simd, call), RowPlan::default()),
        &|(worker, row_plan), mut claim| {
            let mut stats = Vec::with_capacity(claim.rows().len());
            while let Some(mut row) = claim.next_row() {
                stats.push(match plan.row_into(row.row(), row_plan) {
                    true => worker.statistics_of_shard(row_plan, &mut row, want_prior_sums),
                    false => ShardStats::EMPTY,
                });
            }
            stats
        },
    ))
    .concat()
}

fn gradient<'a, T: Logit>(
    (plan, factors, memory, rows): <Gradient<'a, '_> as ForEachType>::Input<T>,
) {
    let call = &Call::new(plan, memory, factors);
    let tasks = tasks(memory.claim(), call.classes());
    on_level!(plan.instructions().level_or_baseline(), simd => parallel::map(
        tasks,
        &|| (RowWorker::new(simd, call), RowPlan::default(), plan.floor_memo(), Vec::new()),
        &|(worker, row_plan, memo, references), mut claim| {
            while let Some(mut row) = claim.next_row() {
                let number = row.row();
                if !plan.row_into(number, row_plan) {
                    worker.fill(&mut row, 0.0);
                    continue;
                }
                let stats = &rows[number].stats;
                let folded = plan.fold(row_plan, stats, memo);
                let factor = call.factors.of(number);
                match RowGradient::new(row_plan, stats, &folded, factor, call.transform) {
                    Ok(of_row) => worker.gradient_of_shard(&of_row, &mut row, references),
                    Err(value) => worker.fill(&mut row, value),
                }
            }
        },
    ));
}

/// The rows as one claim for each task, in order.
fn tasks<'c, T: Logit>(mut claim: ClaimedRows<'c, T>, classes: usize) -> Vec<ClaimedRows<'c, T>> {
    let per_task = parallel::rows_per_task(claim.rows().len(), classes);
    (0..claim.rows().len().div_ceil(per_task)).map(|_| claim.split_front(per_task)).collect()
}
