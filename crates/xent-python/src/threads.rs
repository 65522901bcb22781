//! Thread pools that are there after a fork, too.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::{PyErr, PyResult};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::value_error;

/// How many pools are kept: callers that ask for different numbers in turn do not make threads each
/// time.
const KEPT: usize = 2;

struct Pools {
    process: u32,
    /// Each with the number of threads that was asked for, the last used last.
    pools: Vec<(usize, Arc<ThreadPool>)>,
}

/// Locked only by who holds the interpreter's lock, as a thread that forks does: no child finds it
/// locked.
static POOLS: Mutex<Pools> = Mutex::new(Pools { process: 0, pools: Vec::new() });

/// A pool of `threads` threads of this process; 0 for as many as `RAYON_NUM_THREADS` says, or the
/// processor has.
pub(crate) fn pool(threads: usize) -> PyResult<Arc<ThreadPool>> {
    let mut kept = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if kept.process != process {
        // The parent's threads did not come along. To end pools without threads, or with locks that
        // those held, is to wait for ever.
        std::mem::take(&mut kept.pools).into_iter().for_each(|(_, pool)| std::mem::forget(pool));
        kept.process = process;
    }
    let pool = match kept.pools.iter().position(|(number, _)| *number == threads) {
        Some(place) => kept.pools.remove(place).1,
        None => Arc::new(build(threads)?),
    };
    kept.pools.push((threads, pool.clone()));
    if kept.pools.len() > KEPT {
        kept.pools.remove(0);
    }
    Ok(pool)
}

fn build(threads: usize) -> Result<ThreadPool, PyErr> {
    let builder = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|thread| format!("xent-{thread}"));
    builder.build().map_err(|error| value_error(format!("cannot start {threads} threads: {error}")))
}
