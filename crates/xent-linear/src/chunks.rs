//! How a batch is cut: from its shape and its type alone, never from the number of threads.

/// Classes whose weights, or gradients of weights, enter a product at a time. It copies what it reads
/// across memory, so that the copies stay in cache.
pub(crate) const CLASSES: usize = 512;
/// The most rows of a chunk. A product of more is not faster.
const MOST_ROWS: usize = 512;
/// Rows that a chunk has if there are as many, however many classes: products of fewer are slow.
const LEAST_ROWS: usize = 128;
/// Elements in the memory of a call: 64 MiB of f32.
const ELEMENTS: usize = 1 << 24;
/// Elements of a weight that are widened at a time, if a hundred classes have no more.
const WIDENED: usize = 1 << 20;
/// Classes that are widened at a time at least.
const LEAST_WIDENED: usize = 64;

/// What a call has memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    /// Rows whose logits exist at a time.
    pub(crate) rows: usize,
    /// Classes whose weights are multiplied, and widened, at a time.
    pub(crate) classes: usize,
}

impl Chunks {
    /// For `rows` kept rows of `features` and `classes`. `copies`: hidden states are copied.
    /// `widens`: the weight is of a type that is not computed in.
    pub(crate) fn new(
        rows: usize,
        features: usize,
        classes: usize,
        copies: bool,
        widens: bool,
    ) -> Self {
        let most =
            if widens { (WIDENED / features).clamp(LEAST_WIDENED, CLASSES) } else { CLASSES };
        let part = most.min(classes);
        let all = ELEMENTS.max(LEAST_ROWS.saturating_mul(classes));
        let tile = MOST_ROWS * CLASSES + if widens { part.saturating_mul(features) } else { 0 };
        let a_row = classes + if copies { features } else { 0 };
        let most = (all.saturating_sub(tile) / a_row).clamp(1, MOST_ROWS);
        // As many chunks as that takes, of the same length.
        let rows = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
        Self { rows, classes: part }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_long_enough_for_a_product_and_short_enough_for_the_memory() {
        let rows =
            |rows, features, classes| Chunks::new(rows, features, classes, false, false).rows;
        assert_eq!(rows(1024, 1024, 32_000), 512);
        assert_eq!(rows(1025, 1024, 32_000), 342);
        assert_eq!(rows(8192, 4096, 128_256), 128);
        assert_eq!(rows(8192, 4096, 262_144), 127);
        assert_eq!([rows(0, 1, 1), rows(1, 1, 1), rows(513, 1, 1)], [1, 1, 257]);
        assert_eq!(rows(usize::MAX, usize::MAX / 8, usize::MAX / 8), 7);
    }

    #[test]
    fn what_is_copied_and_widened_counts() {
        for (features, classes) in [(1024, 32_000), (4096, 128_256), (1024, 262_144), (8192, 10)] {
            let chunks = Chunks::new(8192, features, classes, true, true);
            let Chunks { rows, classes: widened } = chunks;
            let elements = rows * (classes + features) + widened * features + rows * CLASSES;
            assert!(elements <= ELEMENTS.max(128 * classes), "{features} {classes}: {elements}");
            assert!(rows > 100, "{features} {classes}: {rows} rows");
        }
    }
}
