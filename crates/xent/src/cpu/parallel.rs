//! Rows over threads.

use crate::Real;
use crate::plan::{Parts, RowParts};

/// Elements that are worth a task of their own.
#[cfg(feature = "rayon")]
const GRAIN: usize = 1 << 15;

/// `map` of every row, into `parts`. `worker` makes a thread's scratch memory, once a task.
#[cfg(feature = "rayon")]
pub(super) fn map_rows<F: Real, W>(
    parts: &mut Parts<F>,
    classes: usize,
    worker: impl Fn() -> W + Sync + Send,
    map: impl Fn(&mut W, usize) -> Option<RowParts> + Sync + Send,
) {
    use rayon::prelude::*;
    let per_task = (GRAIN / classes).max(1);
    parts.chunks_mut(per_task).into_par_iter().for_each_init(worker, |worker, mut chunk| {
        for row in chunk.rows() {
            chunk.push(map(worker, row));
        }
    });
}

/// `map` of every row, into `parts`.
#[cfg(not(feature = "rayon"))]
pub(super) fn map_rows<F: Real, W>(parts: &mut Parts<F>, _classes: usize, worker: impl Fn() -> W, map: impl Fn(&mut W, usize) -> Option<RowParts>) {
    let (mut worker, mut all) = (worker(), parts.all());
    for row in all.rows() {
        all.push(map(&mut worker, row));
    }
}
