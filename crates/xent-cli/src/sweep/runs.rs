//! The runs of a sweep, which several processes may share: each is claimed before it is trained.

use std::path::Path;
use std::time::Duration;

use super::measure::Measure;
use super::options::SweepOptions;
use super::store::{Finished, Key};
use crate::args::cores;
use crate::data::Dataset;
use crate::error::Result;
use crate::terminal::note;
use crate::train::{Experiment, Progress, in_parallel, run};

/// The time between two looks at the runs of other processes.
const WAIT: Duration = Duration::from_millis(500);

/// All runs, by prior and ε and then by seed.
pub struct Runs<'a> {
    options: &'a SweepOptions,
    dataset: &'a Dataset,
    checksum: u32,
    folder: &'a Path,
    grid: Vec<(&'a Experiment, f64, u64)>,
}

/// All runs, finished.
pub struct AllFinished {
    /// In the order of the grid.
    pub runs: Vec<Finished>,
    /// How many of them were there before.
    pub resumed: usize,
    /// How many of them other processes finished meanwhile.
    pub elsewhere: usize,
}

/// What became of a run that is not finished.
enum Taken {
    /// This process trained it.
    Trained(Finished),
    /// Another process had it, and has finished it.
    Finished(Finished),
    /// Another process has it.
    ByAnother,
}

impl<'a> Runs<'a> {
    /// Of these priors and ε, with each seed of the options.
    pub fn new(
        options: &'a SweepOptions,
        dataset: &'a Dataset,
        checksum: u32,
        folder: &'a Path,
        arms: &[(&'a Experiment, f64)],
    ) -> Self {
        let seeds = 0..options.seeds as u64;
        let of_arm = |&(experiment, epsilon): &(&'a Experiment, f64)| {
            seeds.clone().map(move |seed| (experiment, epsilon, seed))
        };
        Self { options, dataset, checksum, folder, grid: arms.iter().flat_map(of_arm).collect() }
    }

    /// Trains what is not finished, or waits for who does.
    ///
    /// A process that finds every run claimed stays, to take over those whose process dies.
    ///
    /// # Errors
    /// A run in the folder is of another sweep; a run fails.
    pub fn finish(&self) -> Result<AllFinished> {
        let finished = |index| self.key(index).finished(self.folder);
        let mut runs: Vec<_> = (0..self.grid.len()).map(finished).collect::<Result<_>>()?;
        let mut jobs = self.missing(&runs);
        let (resumed, mut trained) = (runs.len() - jobs.len(), 0);
        let progress = Progress::new(jobs.len(), self.options.network.epochs, self.options.quiet);
        let threads = self.options.threads.unwrap_or_else(cores);
        let mut is_said = self.options.quiet;
        while !jobs.is_empty() {
            let taken = in_parallel(&jobs, threads, &|index| self.take(*index, &progress))?;
            for (index, taken) in jobs.iter().zip(taken) {
                trained += usize::from(matches!(taken, Taken::Trained(_)));
                match taken {
                    Taken::Trained(run) | Taken::Finished(run) => runs[*index] = Some(run),
                    Taken::ByAnother => {}
                }
            }
            let left = self.missing(&runs);
            if left.len() == jobs.len() {
                let (left, all) = (left.len(), runs.len());
                let message = format!("waiting for other processes: {left} of {all} runs left");
                if !progress.show(&message) && !is_said {
                    note(&message);
                    is_said = true;
                }
                std::thread::sleep(WAIT);
            }
            jobs = left;
        }
        let elsewhere = runs.len() - resumed - trained;
        Ok(AllFinished { runs: runs.into_iter().flatten().collect(), resumed, elsewhere })
    }

    fn key(&self, index: usize) -> Key<'a> {
        let (experiment, epsilon, seed) = self.grid[index];
        Key::new(experiment, self.checksum, epsilon, seed)
    }

    /// Seed by seed, so that the runs that are finished after a while can be compared.
    fn missing(&self, runs: &[Option<Finished>]) -> Vec<usize> {
        let mut jobs: Vec<usize> = (0..runs.len()).filter(|index| runs[*index].is_none()).collect();
        jobs.sort_by_key(|index| (self.grid[*index].2, *index));
        jobs
    }

    fn take(&self, index: usize, progress: &Progress) -> Result<Taken> {
        let key = self.key(index);
        let Some(_claim) = key.claim(self.folder)? else { return Ok(Taken::ByAnother) };
        // Whoever had it may have finished it in between.
        if let Some(finished) = key.finished(self.folder)? {
            progress.run_elsewhere();
            return Ok(Taken::Finished(finished));
        }
        let (experiment, epsilon, seed) = self.grid[index];
        let run = run(experiment, self.dataset, epsilon, seed, None, &|| progress.epoch())?;
        let values = Measure::ALL.iter().filter_map(|measure| (measure.facts().of)(&run)).collect();
        let finished = key.finish(self.folder, run.rows, values)?;
        progress.run();
        Ok(Taken::Trained(finished))
    }
}
