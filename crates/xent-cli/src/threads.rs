//! Threads: as many as are asked for, or as the system gives.

use std::iter::{once, successors};

use rayon::ThreadPoolBuilder;

use crate::args::{MOST_THREADS, cores};
use crate::error::{Error, Result};

/// Runs the program on a pool for what is computed in parallel. A system that refuses threads gets
/// a smaller pool, down to the thread that is there.
pub fn with_pool<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok());
    let first = asked.filter(|threads| *threads > 0).unwrap_or_else(cores).min(MOST_THREADS);
    let pool = successors(Some(first), |threads| Some(threads / 2))
        .take_while(|threads| *threads > 0)
        .find_map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().ok())
        .or_else(|| ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().ok());
    match pool {
        Some(pool) => pool.install(run),
        None => run(),
    }
}

/// Runs `work` on as many threads of these as the system gives, this one among them, and returns
/// what each of them returned.
pub fn on_threads<R: Send>(threads: usize, work: &(dyn Fn() -> R + Sync)) -> Result<Vec<R>> {
    std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..threads).map_while(start).collect();
        let own = work();
        let others = others.into_iter().map(|thread| thread.join());
        once(Ok(own)).chain(others).collect::<std::thread::Result<_>>()
    })
    .map_err(|_| Error::failed("a thread ended early"))
}

/// Runs `work` on as many new threads of these as the system gives, or on this one if it gives
/// none. What is parallel in it stays on its thread.
pub fn on_lone_threads(threads: usize, work: &(dyn Fn() + Sync)) -> Result<()> {
    let alone = || {
        let _pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        work();
    };
    std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, alone).ok();
        let started: Vec<_> = (0..threads).map_while(start).collect();
        if started.is_empty() {
            work();
        }
        started.into_iter().try_for_each(|thread| thread.join())
    })
    .map_err(|_| Error::failed("a thread ended early"))
}
