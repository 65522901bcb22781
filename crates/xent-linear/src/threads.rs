//! Work over rayon's threads: of the pool that a call runs in, or of the global one.

use gemm_common::Parallelism;

/// Operations that are worth waking a thread for.
#[cfg(feature = "rayon")]
const GRAIN: usize = 1 << 15;

/// Over how many threads a product is shared.
pub(crate) fn parallelism() -> Parallelism {
    #[cfg(feature = "rayon")]
    if let threads @ 2.. = xent::host::rayon_threads() {
        return Parallelism::Rayon(threads);
    }
    Parallelism::None
}

/// Calls with each chunk of `len` elements, of which the last may have fewer, and its number. An
/// element takes about `work` operations.
pub(crate) fn for_each_chunk<V: Send>(
    values: &mut [V],
    len: usize,
    work: usize,
    call: impl Fn(usize, &mut [V]) + Sync,
) {
    #[cfg(feature = "rayon")]
    if values.len().saturating_mul(work) >= 2 * GRAIN && xent::host::rayon_threads() > 1 {
        use rayon::prelude::*;
        let together = (GRAIN / len.saturating_mul(work)).max(1);
        let chunks = values.par_chunks_mut(len).enumerate().with_min_len(together);
        return chunks.for_each(|(number, chunk)| call(number, chunk));
    }
    let _ = work;
    values.chunks_mut(len).enumerate().for_each(|(number, chunk)| call(number, chunk));
}
