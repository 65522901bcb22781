//! `xent sweep`: the training of `xent train` over a grid, resumable.

mod contrasts;
mod measure;
mod options;
mod page;
mod runs;
mod store;
mod summary;

use std::time::Instant;

pub use options::SweepOptions;

use crate::error::Result;
use crate::output::{Outputs, make_folder};
use crate::report::ReportFiles;
use crate::terminal::{print, warn};
use runs::{AllFinished, Runs};
use store::Sweep;
use summary::SweepSummary;

/// Trains what is not finished, prints and writes the report.
///
/// Several processes may share a folder. Each ends when all runs are finished, and writes the report,
/// with the same bytes as the others.
///
/// # Errors
/// Options or data that cannot be used; runs in the folder that are of another sweep, or another
/// sweep that is at work there; a run that fails. Finished runs stay.
pub fn sweep(options: &SweepOptions) -> Result<()> {
    let started = Instant::now();
    let experiments = options.experiments()?;
    let folder = options.out.join("runs");
    let mut outputs = Outputs::beside(options.data.data.files());
    let files = ReportFiles::open(&options.out, &mut outputs)?;
    make_folder(&folder)?;
    let dataset = options.data.load()?;
    let checksum = store::checksum(&dataset);
    let joined = Sweep::new(options, checksum).join(&folder)?;
    if let Some(error) = joined.no_locks.as_ref().filter(|_| !options.quiet) {
        warn(&format!(
            "{}: files cannot be locked there ({error}): if other processes share this sweep, each does all runs",
            folder.display()
        ));
    }

    let arms: Vec<_> = experiments
        .iter()
        .flat_map(|experiment| experiment.epsilon.iter().map(move |epsilon| (experiment, *epsilon)))
        .collect();
    let AllFinished { runs, resumed, elsewhere } =
        Runs::new(options, &dataset, checksum, &folder, &arms).finish()?;

    let arms: Vec<_> =
        arms.iter().map(|(experiment, epsilon)| (experiment.prior, *epsilon)).collect();
    let summary = SweepSummary::new(&arms, options.seeds, dataset.given_test.is_some(), &runs);
    let report = page::report(&summary, &dataset.about, &experiments[0], &options.prior)?;
    let files = files.write(&report)?;
    if options.quiet {
        return Ok(());
    }
    let mut of_others = String::new();
    for (number, what) in
        [(resumed, "were there already"), (elsewhere, "were done meanwhile by other processes")]
    {
        if number > 0 {
            of_others += &format!("\n{number} of {} runs {what}", runs.len());
        }
    }
    print(&format!(
        "{}\n\n{files}\n{:.1} s{of_others}",
        report.to_text(),
        started.elapsed().as_secs_f64()
    ))
}
