//! The threads that share work: those of the pool that a call runs in, or of rayon's global one.
//!
//! The system may refuse threads. A call then has fewer, down to the one that it came on.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
    static STOP: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// How many threads there are to share work.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    if !ALONE.get() {
        return pool::threads();
    }
    1
}

/// How many threads of rayon's (of the pool that a call runs in, or of the global one) a call may
/// share other work over that rayon runs; 1 without the feature `rayon`, in [`on_this_thread`], and if
/// the system refuses to start them.
pub fn rayon_threads() -> usize {
    #[cfg(feature = "rayon")]
    if !ALONE.get() {
        return pool::rayon_threads();
    }
    1
}

/// Runs `work` so many times at once, or once where there are no threads.
pub(crate) fn on_threads(workers: usize, work: &(dyn Fn() + Sync)) {
    #[cfg(feature = "rayon")]
    if workers > 1 {
        return pool::run(workers, work);
    }
    (0..workers.min(1)).for_each(|_| work());
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

/// Runs a call, or several, that end early once `stop` is set: within some ten milliseconds, and with
/// `None`. Gradients that were being written are then written in part.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::AtomicBool;
/// use xent::{Config, Rows};
///
/// let criterion = Config::new().label_smoothing(0.1).build()?;
/// let logits = [2.0, 0.0, 1.0, 0.0, 3.0, 0.0];
/// let rows = Rows::new(&logits, 3)?;
/// // Another thread may set it at any time.
/// let stop = Arc::new(AtomicBool::new(false));
/// let output = xent::host::stopped_by(&stop, || criterion.forward(&rows, &[0, 1]));
/// assert!(output.is_some_and(|output| output.is_ok()));
/// # Ok::<(), xent::Error>(())
/// ```
pub fn stopped_by<R>(stop: &Arc<AtomicBool>, work: impl FnOnce() -> R) -> Option<R> {
    struct Before(Option<Arc<AtomicBool>>);
    impl Drop for Before {
        fn drop(&mut self) {
            STOP.set(self.0.take());
        }
    }
    let _before = Before(STOP.replace(Some(stop.clone())));
    let output = work();
    (!stop.load(Ordering::Relaxed)).then_some(output)
}

/// Tells tasks, on whatever thread, that the call which made it is to stop.
pub(crate) struct Stop(Option<Arc<AtomicBool>>);

impl Stop {
    /// Of the call that runs on this thread.
    pub(crate) fn of_this_call() -> Self {
        Self(STOP.with_borrow(Clone::clone))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

#[cfg(feature = "rayon")]
mod pool {
    use std::error::Error;
    use std::iter::successors;
    use std::sync::OnceLock;
    use std::thread::available_parallelism;

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

    pub fn rayon_threads() -> usize {
        match pool() {
            Pool::Rayons => rayon::current_num_threads(),
            Pool::Own(_) | Pool::None => 1,
        }
    }

    pub fn run(workers: usize, work: &(dyn Fn() + Sync)) {
        match pool() {
            Pool::Rayons => rayon::scope(|scope| spawn(scope, workers, work)),
            Pool::Own(pool) => pool.scope(|scope| spawn(scope, workers, work)),
            Pool::None => work(),
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
                Err(_) => successors(Some(available_parallelism().map_or(1, usize::from)), |n| {
                    Some(n / 2)
                })
                .take_while(|threads| *threads > 1)
                .find_map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().ok())
                .map_or(Pool::None, Pool::Own),
            }
        })
    }
}

#[cfg(all(test, feature = "rayon"))]
mod tests {
    use std::panic::catch_unwind;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::{on_this_thread, stopped_by, threads};
    use crate::{Batch, Config, Rows, RowsMut, Upstream};

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

    #[test]
    fn a_call_that_is_to_stop_leaves_off_and_the_next_one_does_not() {
        let criterion = Config::new().label_smoothing(0.1).build().unwrap();
        let classes = 1000;
        let (logits, targets) = (vec![0f32; 300 * classes], vec![3i64; 300]);
        let rows = Rows::new(&logits, classes).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let mut gradient = vec![7f32; logits.len()];
        let mut untouched = |stop: &Arc<AtomicBool>| {
            let mut into = RowsMut::new(&mut gradient, classes).unwrap();
            let batch = Batch::new(&targets);
            let call = || {
                criterion.forward_backward(&rows, batch, Upstream::Scalar(1.0), &mut into).unwrap()
            };
            let output = pool.install(|| stopped_by(stop, call));
            (output.is_none(), gradient.iter().all(|value| *value == 7.0))
        };
        assert_eq!(untouched(&Arc::new(AtomicBool::new(true))), (true, true));
        assert_eq!(untouched(&Arc::new(AtomicBool::new(false))), (false, false));
    }
}
