//! Work over threads.

use crate::Real;
use crate::rules::{Parts, PartsMut};

/// Elements that are worth a task of their own.
#[cfg(feature = "rayon")]
const GRAIN: usize = 1 << 15;

/// Tasks that a thread gets, so that one that is held up does not hold up the others.
#[cfg(feature = "rayon")]
const TASKS_A_THREAD: usize = 8;

/// How many threads there are to share work.
pub(super) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}

/// Runs `run` on the rows in pieces, each with the memory that `worker` made for its thread.
#[cfg(feature = "rayon")]
pub(super) fn for_each_chunk<F: Real, W>(
    parts: &mut Parts<F>,
    rows: usize,
    classes: usize,
    worker: impl Fn() -> W + Sync,
    run: impl Fn(&mut W, PartsMut<'_, F>) + Sync,
) {
    use std::sync::{Mutex, PoisonError};
    let threads = threads();
    let per_task = (GRAIN / classes).max(rows / (threads * TASKS_A_THREAD)).max(1);
    if threads == 1 || rows <= per_task {
        return run(&mut worker(), parts.all());
    }
    let chunks = parts.chunks_mut(per_task);
    let workers = threads.min(chunks.len());
    let queue = Mutex::new(chunks.into_iter());
    rayon::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|_| {
                let mut memory = worker();
                loop {
                    let chunk = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(chunk) = chunk else { break };
                    run(&mut memory, chunk);
                }
            });
        }
    });
}

/// Runs `run` on the rows, with the memory that `worker` made.
#[cfg(not(feature = "rayon"))]
pub(super) fn for_each_chunk<F: Real, W>(parts: &mut Parts<F>, _: usize, _: usize, worker: impl Fn() -> W, run: impl Fn(&mut W, PartsMut<'_, F>)) {
    run(&mut worker(), parts.all());
}

/// `map` of the items, in order, each with memory that `worker` made.
#[cfg(feature = "rayon")]
pub(super) fn map<I: Send, W, O: Send>(items: Vec<I>, worker: impl Fn() -> W + Sync + Send, map: impl Fn(&mut W, I) -> O + Sync + Send) -> Vec<O> {
    use rayon::prelude::*;
    items.into_par_iter().map_init(worker, map).collect()
}

/// `map` of the items, in order, with the memory that `worker` made.
#[cfg(not(feature = "rayon"))]
pub(super) fn map<I, W, O>(items: Vec<I>, worker: impl Fn() -> W, map: impl Fn(&mut W, I) -> O) -> Vec<O> {
    let mut worker = worker();
    items.into_iter().map(|item| map(&mut worker, item)).collect()
}
