//! Thread pools that are there after a fork, too.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::PyResult;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::value_error;

/// How many pools are kept: callers that ask for different numbers in turn do not make threads each
/// time.
const KEPT: usize = 2;

/// More threads than any machine has cores are a mistake that would take minutes to start.
const MOST: usize = 1024;

struct Pools {
    process: u32,
    /// Each with the number of threads that was asked for, the last used last.
    pools: Vec<(usize, Arc<ThreadPool>)>,
}

/// Locked only by who holds the interpreter's lock, as a thread that forks does: no child finds it
/// locked.
static POOLS: Mutex<Pools> = Mutex::new(Pools { process: 0, pools: Vec::new() });

/// Threads of this process that make the caller one of `threads`; 0 for as many as
/// `RAYON_NUM_THREADS` says, or the processor has. Where the system refuses some of them, fewer; none
/// if it refuses all, or if the caller is to be alone.
pub(crate) fn helpers(threads: usize) -> PyResult<Option<Arc<ThreadPool>>> {
    if threads > MOST {
        return Err(value_error(format!("threads is {threads}, expected at most {MOST}")));
    }
    if threads == 1 {
        return Ok(None);
    }
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
        None => match build(threads) {
            Some(pool) => Arc::new(pool),
            None => return Ok(None),
        },
    };
    kept.pools.push((threads, pool.clone()));
    if kept.pools.len() > KEPT {
        kept.pools.remove(0);
    }
    Ok(Some(pool))
}

fn build(threads: usize) -> Option<ThreadPool> {
    let asked = match threads {
        0 => std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()),
        threads => Some(threads),
    };
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    let first = asked.filter(|threads| *threads > 0).unwrap_or_else(all).min(MOST);
    std::iter::successors(Some(first - 1), |threads| Some(threads / 2))
        .take_while(|threads| *threads > 0)
        .find_map(|threads| {
            let builder = ThreadPoolBuilder::new().num_threads(threads);
            builder.thread_name(|thread| format!("xent-{thread}")).build().ok()
        })
}
