//! The threads that share work: those of the pool that a call runs in, or of rayon's global one.
//!
//! The system may refuse threads. A call then has fewer, down to the one that it came on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
    static WATCH: RefCell<Option<Rc<Watch>>> = const { RefCell::new(None) };
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

/// Runs a call, or several, that end early once `to_stop` is true: within some ten milliseconds, and
/// with `None`. Gradients that were being written are then written in part.
///
/// The calling thread asks between two pieces of work; how often it looks is for `to_stop` to decide.
///
/// ```
/// use std::time::{Duration, Instant};
/// use xent::{Config, Rows};
///
/// let criterion = Config::new().label_smoothing(0.1).build()?;
/// let logits = [2.0, 0.0, 1.0, 0.0, 3.0, 0.0];
/// let rows = Rows::new(&logits, 3)?;
/// let began = Instant::now();
/// let too_long = move || began.elapsed() > Duration::from_secs(60);
/// let output = xent::host::stopped_by(too_long, || criterion.forward(&rows, &[0, 1]));
/// assert!(output.is_some_and(|output| output.is_ok()));
/// # Ok::<(), xent::Error>(())
/// ```
pub fn stopped_by<R>(to_stop: impl Fn() -> bool + 'static, work: impl FnOnce() -> R) -> Option<R> {
    struct Before(Option<Rc<Watch>>);
    impl Drop for Before {
        fn drop(&mut self) {
            WATCH.set(self.0.take());
        }
    }
    let watch = Rc::new(Watch { to_stop: Box::new(to_stop), has_stopped: Cell::new(false) });
    let _before = Before(WATCH.replace(Some(watch.clone())));
    let output = work();
    (!watch.has_stopped.get()).then_some(output)
}

/// What the thread that has made a call asks.
struct Watch {
    to_stop: Box<dyn Fn() -> bool>,
    has_stopped: Cell<bool>,
}

/// Tells the tasks of a call, on whatever thread, that it is to stop.
pub(crate) struct Stop(AtomicBool);

impl Stop {
    /// Of the call that runs on this thread, which asks at once.
    pub(crate) fn of_this_call() -> Self {
        let stop = Self(AtomicBool::new(false));
        stop.is_set();
        stop
    }

    /// On the thread that has made the call, this asks.
    pub(crate) fn is_set(&self) -> bool {
        // Not borrowed meanwhile: whoever is asked may make calls of his own.
        if let Some(watch) = WATCH.with_borrow(Clone::clone) {
            if !watch.has_stopped.get() {
                watch.has_stopped.set((watch.to_stop)());
            }
            if watch.has_stopped.get() {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "rayon")]
pub use pool::helped_by;

#[cfg(feature = "rayon")]
mod pool {
    use std::cell::RefCell;
    use std::error::Error;
    use std::iter::successors;
    use std::sync::{Arc, OnceLock};
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

    thread_local! {
        static HELPERS: RefCell<Option<Arc<ThreadPool>>> = const { RefCell::new(None) };
    }

    /// Runs `work` on this thread, and calls within it on those of a pool, too.
    pub fn helped_by<R>(helpers: &Arc<ThreadPool>, work: impl FnOnce() -> R) -> R {
        struct Before(Option<Arc<ThreadPool>>);
        impl Drop for Before {
            fn drop(&mut self) {
                HELPERS.set(self.0.take());
            }
        }
        let _before = Before(HELPERS.replace(Some(helpers.clone())));
        work()
    }

    pub fn threads() -> usize {
        if let Some(helpers) =
            HELPERS.with_borrow(|pool| pool.as_ref().map(|p| p.current_num_threads()))
        {
            return helpers + 1;
        }
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
        if let Some(helpers) = HELPERS.with_borrow(Clone::clone) {
            return helpers.in_place_scope(|scope| share(scope, workers, work));
        }
        match pool() {
            Pool::Rayons => rayon::in_place_scope(|scope| share(scope, workers, work)),
            Pool::Own(pool) => pool.in_place_scope(|scope| share(scope, workers, work)),
            Pool::None => work(),
        }
    }

    /// This thread is one of the workers: it has begun before another has woken.
    fn share<'a>(scope: &Scope<'a>, workers: usize, work: &'a (dyn Fn() + Sync)) {
        (1..workers).for_each(|_| scope.spawn(|_| work()));
        work();
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

    use super::{helped_by, on_this_thread, stopped_by, threads};
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
    fn helpers_are_threads_beside_this_one() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        helped_by(&Arc::new(pool), || {
            assert_eq!(threads(), 4);
            assert_eq!(on_this_thread(threads), 1);
        });
        assert_eq!(threads(), rayon::current_num_threads());
    }

    #[test]
    fn results_are_those_of_many_threads() {
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap());
        let logits: Vec<f32> = (0..300_000).map(|i| (i % 1009) as f32 * 0.01).collect();
        let criterion = Config::new().label_smoothing(0.1).build().unwrap();
        for classes in [10, 1000, 300_000] {
            let rows = Rows::new(&logits, classes).unwrap();
            let targets = vec![3i64; logits.len() / classes];
            let forward = || criterion.forward(&rows, Batch::new(&targets)).unwrap().loss;
            let expected = on_this_thread(forward);
            assert_eq!(pool.install(forward), expected);
            assert_eq!(helped_by(&pool, forward), expected);
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
        let mut untouched = |first: bool| {
            let mut into = RowsMut::new(&mut gradient, classes).unwrap();
            let batch = Batch::new(&targets);
            let call = || {
                criterion.forward_backward(&rows, batch, Upstream::Scalar(1.0), &mut into).unwrap()
            };
            let output = pool.install(|| stopped_by(move || first, call));
            (output.is_none(), gradient.iter().all(|value| *value == 7.0))
        };
        assert_eq!(untouched(true), (true, true));
        assert_eq!(untouched(false), (false, false));
    }
}
