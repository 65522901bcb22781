//! Work over threads.
//!
//! What is to be done arrives as a `dyn Fn`: generic code around rayon would be compiled again for
//! each of its callers, and its callers' kernels again at each place that calls them.

use std::sync::{Mutex, PoisonError};

use super::logit::Logit;
use super::memory::ClaimedRows;
use crate::Element;
use crate::rules::{Parts, PartsMut};
use crate::threads::{Stop, on_threads, threads};

/// Elements that are worth a task of their own.
const GRAIN: usize = 1 << 15;

/// Tasks per thread, so that a thread that is held up does not hold up the others.
const TASKS_PER_THREAD: usize = 8;

/// Elements of a task at most, since a call that is to stop does so between tasks.
const LONGEST: usize = 1 << 22;

/// Work on some rows and the places of their parts, with what a thread has for it.
type RunChunk<'a, T, W> =
    dyn Fn(&mut W, ClaimedRows<'_, T>, PartsMut<'_, <T as Element>::Real>) + Sync + 'a;

/// Shares out rows and the places of their parts over threads: runs `run` on some of both at a
/// time, with what `worker` made for its thread.
pub(super) fn for_each_chunk<T: Logit, W>(
    parts: &mut Parts<T::Real>,
    mut claim: ClaimedRows<'_, T>,
    classes: usize,
    worker: &(dyn Fn() -> W + Sync),
    run: &RunChunk<'_, T, W>,
) {
    let per_task = rows_per_task(claim.rows().len(), classes);
    if claim.rows().len() <= per_task {
        return run(&mut worker(), claim, parts.all());
    }
    let chunks: Vec<_> = parts
        .chunks_mut(per_task)
        .into_iter()
        .map(|parts| (claim.split_front(parts.rows().len()), parts))
        .collect();
    let workers = threads().min(chunks.len());
    let (queue, stop) = (Mutex::new(chunks.into_iter()), Stop::of_this_call());
    on_threads(workers, &|| {
        let mut memory = worker();
        while let Some((claim, parts)) = next(&queue).filter(|_| !stop.is_set()) {
            run(&mut memory, claim, parts);
        }
    });
}

/// How many rows are a task.
pub(super) fn rows_per_task(rows: usize, classes: usize) -> usize {
    let threads = threads();
    let fair = if threads == 1 { rows } else { rows / (threads * TASKS_PER_THREAD) };
    fair.max(GRAIN / classes).min(LONGEST / classes).max(1)
}

/// `map` of the items, in order, over threads, each with what `worker` made for its thread.
pub(super) fn map<I: Send, W, O: Send>(
    items: Vec<I>,
    worker: &(dyn Fn() -> W + Sync),
    map: &(dyn Fn(&mut W, I) -> O + Sync),
) -> Vec<O> {
    let workers = threads().min(items.len());
    let mut results: Vec<Option<O>> = items.iter().map(|_| None).collect();
    let queue = Mutex::new(items.into_iter().zip(&mut results));
    on_threads(workers, &|| {
        let mut memory = worker();
        while let Some((item, result)) = next(&queue) {
            *result = Some(map(&mut memory, item));
        }
    });
    drop(queue);
    results.into_iter().flatten().collect()
}

fn next<I: Iterator>(queue: &Mutex<I>) -> Option<I::Item> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}
