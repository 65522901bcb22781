//! The options of `xent sweep`.

use std::path::PathBuf;

use clap::Args;
use xent_metrics::UniformPrior;

use crate::args::{count, once, share, threads, uniform_prior};
use crate::error::Result;
use crate::train::{DataOptions, Experiment, NetworkOptions};

const AFTER_HELP: &str = "\
On a cluster:
  Start the same command several times, with one --out that all machines see. A
  job array does; for example, with Slurm:

  sbatch --array=1-16 --wrap 'xent sweep --seeds 32 --out /shared/sweep'

  Each process takes runs that no other has, and no run is done twice. A process
  that finds none left waits for the others, and takes over the runs of one that
  was killed: when any of them ends well, the report is there and complete. All of
  them write it, with the bytes that a single process writes. More may join at any
  time. One with other options, data or version is refused while they are at work.

  Locks on files in runs/ say who has a run, and the system takes a lock away when
  its process dies. So the file system needs locks that all machines see: NFS 4 has
  them, NFS 3 with its lock daemon, Lustre mounted with flock. NFS mounted with
  local_lock and Lustre mounted with localflock do not: there, processes would
  remove each other's temporary files. Without any locks (a warning says so) each
  process does all runs, with the same report. If a machine is lost, its runs come
  free when the file server gives up its locks; NFS 4 does after 90 seconds, unless
  it was set up otherwise.";

/// Options of `xent sweep`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct SweepOptions {
    #[command(flatten)]
    pub data: DataOptions,
    /// Amounts of label smoothing, each from 0 to 1
    #[arg(long, value_name = "LIST", default_value = "0,0.02,0.05,0.1,0.2,0.3,0.4", value_delimiter = ',', value_parser = share, allow_negative_numbers = true, alias = "label-smoothing")]
    pub epsilon: Vec<f64>,
    /// Where smoothing puts its mass; with several priors, every ε is trained with each
    #[arg(long, value_name = "LIST", default_value = "uniform", value_delimiter = ',', value_parser = uniform_prior())]
    pub prior: Vec<UniformPrior>,
    #[command(flatten)]
    pub network: NetworkOptions,
    /// Repetitions of each, with seeds 0, 1, 2, …
    #[arg(long, value_name = "N", default_value = "8", value_parser = count, allow_negative_numbers = true)]
    pub seeds: usize,
    /// Runs at a time; the numbers do not depend on it [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Folder for report.html, report.json and, in runs/, the finished runs: the same command
    /// continues where it stopped, and one with more ε or seeds adds to them; several processes may
    /// share it
    #[arg(long, value_name = "DIR", default_value = "xent-sweep")]
    pub out: PathBuf,
    /// Print only errors
    #[arg(long)]
    pub quiet: bool,
}

impl SweepOptions {
    /// What is trained, one experiment per prior.
    ///
    /// # Errors
    /// A value is given twice.
    pub fn experiments(&self) -> Result<Vec<Experiment>> {
        once("epsilon", &self.epsilon, f64::to_string)?;
        once("prior", &self.prior, |prior| prior.kind().to_string())?;
        let experiment = |(index, prior): (usize, &UniformPrior)| Experiment {
            data: self.data.clone(),
            // Without smoothing priors do not differ: ε = 0 comes once.
            epsilon: self
                .epsilon
                .iter()
                .copied()
                .filter(|epsilon| *epsilon > 0.0 || index == 0)
                .collect(),
            prior: *prior,
            network: self.network.clone(),
            seeds: self.seeds,
        };
        Ok(self.prior.iter().enumerate().map(experiment).collect())
    }
}
