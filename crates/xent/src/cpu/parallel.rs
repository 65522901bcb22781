//! Work over threads.

use super::logit::Logit;
use super::memory::ClaimedRows;
use crate::rules::{Parts, PartsMut};

/// Elements that are worth a task of their own.
#[cfg(feature = "rayon")]
const GRAIN: usize = 1 << 15;

/// Tasks per thread, so that a thread that is held up does not hold up the others.
#[cfg(feature = "rayon")]
const TASKS_PER_THREAD: usize = 8;

/// How many threads there are to share work.
pub(super) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}

/// Shares out rows and the places of their parts over threads: runs `run` on some of both at a
/// time, with what `worker` made for its thread.
#[cfg(feature = "rayon")]
pub(super) fn for_each_chunk<T: Logit, W>(
    parts: &mut Parts<T::Real>,
    mut claim: ClaimedRows<'_, T>,
    classes: usize,
    worker: impl Fn() -> W + Sync,
    run: impl Fn(&mut W, ClaimedRows<'_, T>, PartsMut<'_, T::Real>) + Sync,
) {
    use std::sync::{Mutex, PoisonError};
    let (threads, rows) = (threads(), claim.rows().len());
    let per_task = (GRAIN / classes).max(rows / (threads * TASKS_PER_THREAD)).max(1);
    if threads == 1 || rows <= per_task {
        return run(&mut worker(), claim, parts.all());
    }
    let chunks: Vec<_> = parts
        .chunks_mut(per_task)
        .into_iter()
        .map(|parts| (claim.split_front(parts.rows().len()), parts))
        .collect();
    let workers = threads.min(chunks.len());
    let queue = Mutex::new(chunks.into_iter());
    rayon::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|_| {
                let mut memory = worker();
                loop {
                    let chunk = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((claim, parts)) = chunk else { break };
                    run(&mut memory, claim, parts);
                }
            });
        }
    });
}

/// Runs `run` on all rows and the places of their parts, with what `worker` made.
#[cfg(not(feature = "rayon"))]
pub(super) fn for_each_chunk<T: Logit, W>(
    parts: &mut Parts<T::Real>,
    claim: ClaimedRows<'_, T>,
    _: usize,
    worker: impl Fn() -> W,
    run: impl Fn(&mut W, ClaimedRows<'_, T>, PartsMut<'_, T::Real>),
) {
    run(&mut worker(), claim, parts.all());
}

/// `map` of the items, in order, over threads, each with what `worker` made for its thread.
#[cfg(feature = "rayon")]
pub(super) fn map<I: Send, W, O: Send>(
    items: Vec<I>,
    worker: impl Fn() -> W + Sync + Send,
    map: impl Fn(&mut W, I) -> O + Sync + Send,
) -> Vec<O> {
    use rayon::prelude::*;
    items.into_par_iter().map_init(worker, map).collect()
}

/// `map` of the items, in order, with what `worker` made.
#[cfg(not(feature = "rayon"))]
pub(super) fn map<I, W, O>(
    items: Vec<I>,
    worker: impl Fn() -> W,
    map: impl Fn(&mut W, I) -> O,
) -> Vec<O> {
    let mut worker = worker();
    items.into_iter().map(|item| map(&mut worker, item)).collect()
}
