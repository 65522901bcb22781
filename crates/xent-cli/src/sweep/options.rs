//! The options of `xent sweep`.

use std::path::PathBuf;

use clap::Args;
use xent_metrics::UniformPrior;

use crate::args::{count, once, share, threads, uniform_prior};
use crate::error::Result;
use crate::train::{DataOptions, Experiment, NetworkOptions};

/// Options of `xent sweep`.
#[derive(Debug, Clone, Args)]
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
    /// continues where it stopped, and one with more ε or seeds adds to them
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
