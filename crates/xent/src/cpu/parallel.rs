//! Work over threads.
//!
//! What is to be done arrives as a `dyn Fn`: generic code around rayon would be compiled again for
//! each of its callers, and its callers' kernels again at each place that calls them.

use std::sync::{Mutex, PoisonError};

use super::logit::Logit;
use super::memory::ClaimedRows;
use crate::Element;
use crate::rules::{Parts, PartsMut};

/// Elements that are worth a task of their own.
const GRAIN: usize = 1 << 15;

/// Tasks per thread, so that a thread that is held up does not hold up the others.
const TASKS_PER_THREAD: usize = 8;

/// How many threads there are to share work.
pub(super) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return pool::threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}

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
    on_threads(workers, &|| {
        let mut memory = worker();
        while let Some((claim, parts)) = next(&queue) {
            run(&mut memory, claim, parts);
        }
    });
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

/// Runs `work` so many times at once, or once where there are no threads.
fn on_threads(workers: usize, work: &(dyn Fn() + Sync)) {
    #[cfg(feature = "rayon")]
    pool::run(workers, work);
    #[cfg(not(feature = "rayon"))]
    (0..workers.min(1)).for_each(|_| work());
}

/// The threads of a call: those of the pool that it runs in, or of rayon's global one. The system
/// may refuse threads; a call then has fewer, down to the one that it came on.
#[cfg(feature = "rayon")]
mod pool {
    use std::error::Error;
    use std::sync::OnceLock;

    use rayon::{Scope, ThreadPool, ThreadPoolBuilder};

    /// More threads than any machine has cores are a mistake that would take minutes to start.
    const MOST: usize = 1024;

    enum Pool {
        /// The pool that the call runs in, or rayon's global one.
        Rayons,
        /// Fewer threads, because the global pool could not be started.
        Own(ThreadPool),
        /// None but the caller's.
        None,
    }

    pub fn threads() -> usize {
        match pool() {
            Pool::Rayons => rayon::current_num_threads(),
            Pool::Own(pool) => pool.current_num_threads(),
            Pool::None => 1,
        }
    }

    pub fn run(workers: usize, work: &(dyn Fn() + Sync)) {
        match pool() {
            Pool::Rayons => rayon::scope(|scope| spawn(scope, workers, work)),
            Pool::Own(pool) => pool.scope(|scope| spawn(scope, workers, work)),
            Pool::None => (0..workers.min(1)).for_each(|_| work()),
        }
    }

    fn spawn<'a>(scope: &Scope<'a>, workers: usize, work: &'a (dyn Fn() + Sync)) {
        (0..workers).for_each(|_| scope.spawn(|_| work()));
    }

    fn pool() -> &'static Pool {
        static GLOBAL: OnceLock<Pool> = OnceLock::new();
        if rayon::current_thread_index().is_some() {
            return &Pool::Rayons;
        }
        GLOBAL.get_or_init(|| {
            let asked = std::env::var("RAYON_NUM_THREADS").unwrap_or_default();
            let too_many = asked.parse().is_ok_and(|threads: usize| threads > MOST);
            // 0 for as many as rayon finds right.
            let threads = if too_many { MOST } else { 0 };
            match ThreadPoolBuilder::new().num_threads(threads).build_global() {
                Ok(()) => Pool::Rayons,
                // The program has made one; all other errors have a source.
                Err(error) if error.source().is_none() => Pool::Rayons,
                Err(_) => {
                    let all = std::thread::available_parallelism().map_or(1, usize::from);
                    let fewer = std::iter::successors(Some(all.min(MOST) / 2), |n| Some(n / 2));
                    fewer
                        .take_while(|threads| *threads > 1)
                        .find_map(|n| ThreadPoolBuilder::new().num_threads(n).build().ok())
                        .map_or(Pool::None, Pool::Own)
                }
            }
        })
    }
}
