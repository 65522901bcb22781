//! `xent sweep`: the training of `xent train` over a grid, resumable.

mod contrasts;
mod measure;
mod options;
mod page;
mod store;
mod summary;

use std::time::Instant;

pub use options::SweepOptions;

use crate::args::cores;
use crate::error::{Error, Result};
use crate::output::{Claim, Outputs, make_folder};
use crate::report::ReportFiles;
use crate::terminal::print;
use crate::train::{in_parallel, progress_bar, run};
use measure::Measure;
use store::{Finished, Key};
use summary::SweepSummary;

/// Trains what is not finished, prints and writes the report.
///
/// # Errors
/// Options or data that cannot be used; runs in the folder that are of another sweep; a run that
/// fails. Finished runs stay.
pub fn sweep(options: &SweepOptions) -> Result<()> {
    let started = Instant::now();
    let experiments = options.experiments()?;
    let folder = options.out.join("runs");
    let mut outputs = Outputs::beside(options.data.data.files());
    let files = ReportFiles::open(&options.out, &mut outputs)?;
    make_folder(&folder)?;
    let Some(_claim) = Claim::new(&folder)? else {
        return Err(Error::in_file(
            &folder,
            "another xent sweep is at work there; wait for it, or choose another folder with --out",
        ));
    };
    let dataset = options.data.load()?;
    let checksum = store::checksum(&dataset);

    let arms = || {
        experiments.iter().flat_map(|experiment| {
            experiment.epsilon.iter().map(move |epsilon| (experiment, *epsilon))
        })
    };
    let grid: Vec<_> = arms()
        .flat_map(|(experiment, epsilon)| {
            (0..options.seeds as u64).map(move |seed| (experiment, epsilon, seed))
        })
        .collect();
    let key = |index: usize| Key::new(grid[index].0, checksum, grid[index].1, grid[index].2);
    let mut runs: Vec<Option<Finished>> =
        (0..grid.len()).map(|index| key(index).finished(&folder)).collect::<Result<_>>()?;
    // Seed by seed, so that the runs that are finished after a while can be compared.
    let mut jobs: Vec<usize> = (0..grid.len()).filter(|index| runs[*index].is_none()).collect();
    jobs.sort_by_key(|index| (grid[*index].2, *index));
    let resumed = runs.len() - jobs.len();

    let bar = progress_bar(options.quiet);
    bar.set_length((jobs.len() * options.network.epochs) as u64);
    let done = in_parallel(&jobs, options.threads.unwrap_or_else(cores), &bar, &|index| {
        let (experiment, epsilon, seed) = grid[*index];
        let run = run(experiment, &dataset, epsilon, seed, None, &|| bar.inc(1))?;
        key(*index).finish(
            &folder,
            run.rows,
            Measure::ALL.iter().filter_map(|measure| (measure.facts().of)(&run)).collect(),
        )
    });
    bar.finish_and_clear();
    for (index, finished) in jobs.iter().zip(done?) {
        runs[*index] = Some(finished);
    }
    let runs: Vec<Finished> = runs.into_iter().flatten().collect();

    let arms: Vec<_> = arms().map(|(experiment, epsilon)| (experiment.prior, epsilon)).collect();
    let summary = SweepSummary::new(&arms, options.seeds, dataset.given_test.is_some(), &runs);
    let report = page::report(&summary, &dataset.about, &experiments[0], &options.prior)?;
    let files = files.write(&report)?;
    if options.quiet {
        return Ok(());
    }
    let resumed = if resumed > 0 {
        format!("; {resumed} of {} runs were there already", runs.len())
    } else {
        String::new()
    };
    print(&format!(
        "{}\n\n{files}\n{:.1} s{resumed}",
        report.to_text(),
        started.elapsed().as_secs_f64()
    ))
}
