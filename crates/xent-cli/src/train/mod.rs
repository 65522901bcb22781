//! `xent train`: small networks with and without label smoothing, compared.

mod experiment;
mod findings;
mod logits;
mod measure;
mod network;
mod options;
mod page;
mod run;
mod schedule;
mod summary;
mod verdict;

use std::time::Instant;

pub use experiment::{DataOptions, Experiment, NetworkOptions};
pub use measure::{Facts, facts};
pub use options::TrainOptions;
pub use run::run;
pub use schedule::{Progress, in_parallel};

use crate::args::cores;
use crate::error::Result;
use crate::output::{Outputs, make_folder};
use crate::report::ReportFiles;
use crate::terminal::print;
use summary::Summary;

/// Trains, prints and writes the report.
pub fn train(options: TrainOptions) -> Result<()> {
    let TrainOptions { experiment, out, .. } = options;
    experiment.check()?;
    let mut outputs = Outputs::beside(experiment.data.data.files());
    let files = ReportFiles::open(&out, &mut outputs)?;
    let weights = out.join("weights");
    if options.save {
        make_folder(&weights)?;
    }
    let dataset = experiment.data.load()?;

    let threads =
        options.threads.unwrap_or_else(cores).min(experiment.seeds * experiment.epsilon.len());
    let started = Instant::now();
    let weights_in = options.save.then_some(&*weights);
    let runs = schedule::run_all(&experiment, &dataset, threads, weights_in, options.quiet)?;
    let seconds = started.elapsed().as_secs_f64();

    let report = page::report(&Summary::new(experiment, &dataset, runs)?, seconds, threads)?;
    let files = files.write(&report)?;
    if options.quiet {
        return Ok(());
    }
    let weights =
        if options.save { format!("\nWeights: {}", weights.display()) } else { String::new() };
    print(&format!("{}\n\n{files} ({seconds:.1} s){weights}", report.to_text()))
}
