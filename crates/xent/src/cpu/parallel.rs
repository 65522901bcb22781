//! Rows over threads.

/// Elements that are worth a task of their own.
#[cfg(feature = "rayon")]
const GRAIN: usize = 1 << 15;

/// `map` of every row, in order. `worker` makes a thread's scratch memory, once a task.
#[cfg(feature = "rayon")]
pub(super) fn map_rows<W, R: Send>(
    rows: usize,
    classes: usize,
    worker: impl Fn() -> W + Sync + Send,
    map: impl Fn(&mut W, usize) -> R + Sync + Send,
) -> Vec<R> {
    use rayon::prelude::*;
    let per_task = (GRAIN / classes).max(1);
    if rows <= per_task {
        let mut worker = worker();
        return (0..rows).map(|row| map(&mut worker, row)).collect();
    }
    (0..rows).into_par_iter().with_min_len(per_task).map_init(worker, |worker, row| map(worker, row)).collect()
}

/// `map` of every row, in order.
#[cfg(not(feature = "rayon"))]
pub(super) fn map_rows<W, R>(rows: usize, _classes: usize, worker: impl Fn() -> W, map: impl Fn(&mut W, usize) -> R) -> Vec<R> {
    let mut worker = worker();
    (0..rows).map(|row| map(&mut worker, row)).collect()
}
