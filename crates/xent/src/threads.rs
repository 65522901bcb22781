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
