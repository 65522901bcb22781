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

/// The progress bar of training: it moves with every epoch and counts runs.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    runs: usize,
    epochs: usize,
    done: AtomicUsize,
}

impl Progress {
    /// Of so many runs of so many epochs; nothing is drawn if it is quiet.
    pub fn new(runs: usize, epochs: usize, quiet: bool) -> Self {
        let style = "training {wide_bar} {percent:>3} %  {msg}";
        let bar = terminal::progress_bar(style, quiet);
        bar.set_length((runs * epochs) as u64);
        let progress = Self { bar, runs, epochs, done: AtomicUsize::new(0) };
        progress.say(0);
        progress
    }

    /// An epoch has ended.
    pub fn epoch(&self) {
        self.bar.inc(1);
    }

    /// All epochs of a run have ended.
    pub fn run(&self) {
        self.say(self.done.fetch_add(1, Ordering::Relaxed) + 1);
    }

    /// Another process has done a run.
    pub fn run_elsewhere(&self) {
        self.bar.inc(self.epochs as u64);
        self.run();
    }

    /// Shows something else beside the bar until the next run ends; false if no bar is drawn.
    pub fn show(&self, message: &str) -> bool {
        self.bar.set_message(message.to_string());
        !self.bar.is_hidden()
    }

    fn say(&self, done: usize) {
        self.bar.set_message(format!("{done} of {} runs", self.runs));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

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
    quiet: bool,
) -> Result<Vec<Run>> {
    let jobs: Vec<(f64, u64)> = (0..experiment.seeds as u64)
        .flat_map(|seed| experiment.epsilon.iter().map(move |&epsilon| (epsilon, seed)))
        .collect();
    let progress = Progress::new(jobs.len(), experiment.network.epochs, quiet);
    let runs = in_parallel(&jobs, threads, &|&(epsilon, seed)| {
        let save = weights.map(|folder| weights_path(folder, epsilon, seed));
        let epoch = || progress.epoch();
        let run = run(experiment, dataset, epsilon, seed, save.as_deref(), &epoch)?;
        progress.run();
        Ok(run)
    });
    drop(progress);
    let mut runs = runs?;
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
    job: &(dyn Fn(&J) -> Result<R> + Sync),
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(jobs.len()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(next_job) = jobs.get(index) else { return };
            let outcome = job(next_job);
            if outcome.is_err() {
                next.store(jobs.len(), Ordering::Relaxed);
            }
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((index, outcome));
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
