//! How many threads share work: those of rayon's current pool, or one.

use std::cell::Cell;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// How many threads there are to share work.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    if !ALONE.get() {
        return rayon::current_num_threads();
    }
    1
}

/// Runs `work` without any other thread: to wake one takes longer than a small batch does. rayon's
/// pools are not touched, nor started.
pub fn on_this_thread<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    work()
}

#[cfg(all(test, feature = "rayon"))]
mod tests {
    use std::panic::catch_unwind;

    use super::{on_this_thread, threads};
    use crate::{Batch, Config, Rows};

    #[test]
    fn one_thread_inside_and_as_many_as_before_outside() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| {
            assert_eq!(threads(), 3);
            assert_eq!(on_this_thread(threads), 1);
            assert_eq!(threads(), 3);
            assert!(catch_unwind(|| on_this_thread(|| panic!("expected"))).is_err());
            assert_eq!(threads(), 3);
        });
    }

    #[test]
    fn results_are_those_of_many_threads() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let logits: Vec<f32> = (0..300_000).map(|i| (i % 1009) as f32 * 0.01).collect();
        let criterion = Config::new().label_smoothing(0.1).build().unwrap();
        for classes in [10, 1000, 300_000] {
            let rows = Rows::new(&logits, classes).unwrap();
            let targets = vec![3i64; logits.len() / classes];
            let forward = || criterion.forward(&rows, Batch::new(&targets)).unwrap().loss;
            assert_eq!(pool.install(forward), on_this_thread(forward));
        }
    }
}
