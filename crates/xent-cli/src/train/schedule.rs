//! All runs, on several threads.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

use super::experiment::Experiment;
use super::run::{Run, run};
use crate::data::Dataset;
use crate::error::Result;
use crate::terminal;
use crate::threads::on_lone_threads;

/// Runs each ε with each seed; the result has the runs of each ε together, in the order of their
/// seeds, for any number of threads.
///
/// # Errors
/// The first failure in the order of the runs; runs that have not started by then are skipped.
pub fn run_all(
    experiment: &Experiment,
    dataset: &Dataset,
    threads: usize,
    weights: Option<&Path>,
    bar: &ProgressBar,
) -> Result<Vec<Run>> {
    let jobs: Vec<(f64, u64)> = (0..experiment.seeds as u64)
        .flat_map(|seed| experiment.epsilon.iter().map(move |&epsilon| (epsilon, seed)))
        .collect();
    bar.set_length((jobs.len() * experiment.network.epochs) as u64);
    let mut runs = in_parallel(&jobs, threads, bar, &|&(epsilon, seed)| {
        let save = weights.map(|folder| weights_path(folder, epsilon, seed));
        run(experiment, dataset, epsilon, seed, save.as_deref(), &|| bar.inc(1))
    })?;
    let place = |run: &Run| experiment.epsilon.iter().position(|epsilon| *epsilon == run.epsilon);
    runs.sort_by_key(|run| (place(run), run.seed));
    Ok(runs)
}

/// Runs jobs on several threads, each job on one thread; the results are in the order of the jobs.
///
/// # Errors
/// The first failure in the order of the jobs; jobs that have not started by then are skipped.
pub fn in_parallel<J: Sync, R: Send>(
    jobs: &[J],
    threads: usize,
    bar: &ProgressBar,
    job: &(dyn Fn(&J) -> Result<R> + Sync),
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(jobs.len()));
    let say = |done: usize| bar.set_message(format!("{done} of {} runs", jobs.len()));
    say(0);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(next_job) = jobs.get(index) else { return };
            let outcome = job(next_job);
            if outcome.is_err() {
                next.store(jobs.len(), Ordering::Relaxed);
            }
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((index, outcome));
            say(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    on_lone_threads(threads.min(jobs.len()), &work)?;
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn weights_path(folder: &Path, epsilon: f64, seed: u64) -> PathBuf {
    folder.join(format!("epsilon-{epsilon}-seed-{seed}.safetensors"))
}

/// The progress bar of training.
pub fn progress_bar(quiet: bool) -> ProgressBar {
    terminal::progress_bar("training {wide_bar} {percent:>3} %  {msg}", quiet)
}
