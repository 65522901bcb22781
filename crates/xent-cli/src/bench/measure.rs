//! The rounds of a case, and their medians.

use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use xent::Criterion;

use super::cases::Case;
use super::workload::{Logit, Workload};
use crate::error::{Error, Result};

/// Fewer rounds say too little about the spread.
const LEAST_ROUNDS: usize = 7;
/// A shorter step is repeated within a round: otherwise the clock's resolution and the waking of
/// threads would be visible.
const SHORTEST: Duration = Duration::from_millis(1);

/// When a case has been timed enough.
#[derive(Debug, Clone, Copy)]
pub enum Effort {
    /// After this long, and at least [`LEAST_ROUNDS`].
    Seconds(f64),
    /// After so many.
    Rounds(usize),
}

impl Effort {
    /// The share that is done; 1 is enough.
    fn done(self, rounds: usize, since: Instant) -> f64 {
        match self {
            Self::Seconds(seconds) => {
                (since.elapsed().as_secs_f64() / seconds).min(rounds as f64 / LEAST_ROUNDS as f64)
            }
            Self::Rounds(wanted) => rounds as f64 / wanted as f64,
        }
    }
}

/// Nanoseconds per element over the rounds of a case.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The number of rounds.
    pub rounds: usize,
    /// Adding up the logits.
    pub read: Quartiles,
    /// Copying them.
    pub copy: Quartiles,
    /// The loss.
    pub forward: Quartiles,
    /// The loss and its gradient.
    pub forward_backward: Quartiles,
}

/// The median and the quartiles of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quartiles {
    /// A quarter is below.
    pub low: f64,
    /// A half is below.
    pub median: f64,
    /// Three quarters are below.
    pub high: f64,
}

impl Quartiles {
    /// Of at least one number; interpolates linearly between neighbours.
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + place.fract() * (above - below)
        };
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }

    /// Half the distance between the quartiles, relative to the median.
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.median
    }
}

/// The threads of a case.
///
/// # Errors
/// They cannot be started.
pub fn pool(threads: usize) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::failed(format!("cannot start {threads} threads: {error}")))
}

/// Times a case on its own threads. `progress` is called with the share that is done, from 0 to 1,
/// while nothing is timed.
///
/// # Errors
/// The threads cannot be started, there is not enough memory, or the results are wrong.
pub fn measure<T: Logit>(
    case: &Case,
    criterion: &Criterion,
    effort: Effort,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<Measured> {
    let pool = pool(case.threads)?;
    // The whole case runs inside of the pool, so that entering the pool is not timed.
    pool.install(|| {
        let mut workload = Workload::<T>::new(case, criterion)?;
        workload.check()?;
        let steps = [Workload::read, Workload::copy, Workload::forward, Workload::forward_backward];
        let nanoseconds = rounds(&mut workload, steps, effort, progress)?;
        let rounds = nanoseconds[0].len();
        let [read, copy, forward, forward_backward] = nanoseconds.map(|values| {
            Quartiles::new(values.into_iter().map(|value| value / case.elements() as f64).collect())
        });
        Ok(Measured { rounds, read, copy, forward, forward_backward })
    })
}

/// One of the steps that are timed on a workload.
pub type Step<W> = fn(&mut W) -> Result<()>;

/// For each of the four steps, the nanoseconds that it takes, one number per round.
pub fn rounds<W>(
    workload: &mut W,
    steps: [Step<W>; 4],
    effort: Effort,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<[Vec<f64>; 4]> {
    let mut calls = [1; 4];
    for (step, calls) in steps.iter().zip(&mut calls) {
        while time(workload, *step, *calls)? < SHORTEST {
            *calls *= 2;
        }
    }
    let mut nanoseconds: [Vec<f64>; 4] = Default::default();
    let started = Instant::now();
    loop {
        for ((step, calls), values) in steps.iter().zip(calls).zip(&mut nanoseconds) {
            values.push(time(workload, *step, calls)?.as_nanos() as f64 / f64::from(calls));
        }
        let done = effort.done(nanoseconds[0].len(), started);
        progress(done.min(1.0));
        if done >= 1.0 {
            return Ok(nanoseconds);
        }
    }
}

fn time<W>(workload: &mut W, step: Step<W>, calls: u32) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..calls {
        step(workload)?;
    }
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_by_hand() {
        assert_eq!(
            Quartiles::new(vec![5.0, 1.0, 2.0, 4.0, 3.0]),
            Quartiles { low: 2.0, median: 3.0, high: 4.0 }
        );
        assert_eq!(
            Quartiles::new(vec![1.0, 2.0, 3.0, 5.0]),
            Quartiles { low: 1.75, median: 2.5, high: 3.5 }
        );
        assert_eq!(Quartiles::new(vec![7.0]), Quartiles { low: 7.0, median: 7.0, high: 7.0 });
        assert_eq!(Quartiles { low: 9.0, median: 10.0, high: 12.0 }.spread(), 0.15);
    }

    #[test]
    fn seconds_are_not_enough_without_rounds() {
        let long_ago = Instant::now() - Duration::from_secs(1);
        assert!(Effort::Seconds(0.001).done(LEAST_ROUNDS - 1, long_ago) < 1.0);
        assert!(Effort::Seconds(0.001).done(LEAST_ROUNDS, long_ago) >= 1.0);
        assert!(Effort::Seconds(1e4).done(1000, long_ago) < 1.0);
        assert!(Effort::Rounds(2).done(2, Instant::now()) >= 1.0);
    }
}
