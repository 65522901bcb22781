//! The options of `xent train`.

use std::path::PathBuf;

use clap::Args;

use super::experiment::Experiment;
use crate::args::threads;

/// Options of `xent train`.
#[derive(Debug, Clone, Args)]
pub struct TrainOptions {
    #[command(flatten)]
    pub experiment: Experiment,
    /// Threads to train on; the numbers do not depend on it [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Folder for report.html and report.json
    #[arg(long, value_name = "DIR", default_value = "xent-out")]
    pub out: PathBuf,
    /// Save the trained weights, too, as safetensors
    #[arg(long)]
    pub save: bool,
    /// Print only errors
    #[arg(long)]
    pub quiet: bool,
}
