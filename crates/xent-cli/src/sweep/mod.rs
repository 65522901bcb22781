//! `xent sweep`: the training of `xent train` over a grid, resumable.

mod contrasts;
mod measure;
mod options;
mod page;
mod store;
mod summary;

use std::time::{Duration, Instant};

pub use options::SweepOptions;

use crate::args::cores;
use crate::error::Result;
use crate::output::{Outputs, make_folder};
use crate::report::ReportFiles;
use crate::terminal::{note, print, warn};
use crate::train::{Progress, in_parallel, run};
use measure::Measure;
use store::{Finished, Key, Sweep};
use summary::SweepSummary;

/// The time between two looks at the runs of other processes.
const WAIT: Duration = Duration::from_millis(500);

/// What became of a run that is not finished.
enum Taken {
    /// This process trained it.
    Trained(Finished),
    /// Another process had it, and has finished it.
    Finished(Finished),
    /// Another process has it.
    ByAnother,
}

/// Trains what is not finished, prints and writes the report.
///
/// Several processes may share a folder: each run is claimed before it is trained. A process that
/// finds every run claimed waits, to take over those whose process dies, so that the report is
/// there when any process ends well. All write the same report.
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
    let missing = |runs: &[Option<Finished>]| {
        // Seed by seed, so that the runs that are finished after a while can be compared.
        let mut jobs: Vec<usize> = (0..runs.len()).filter(|index| runs[*index].is_none()).collect();
        jobs.sort_by_key(|index| (grid[*index].2, *index));
        jobs
    };
    let mut jobs = missing(&runs);
    let (resumed, mut trained) = (runs.len() - jobs.len(), 0);

    let progress = Progress::new(jobs.len(), options.network.epochs, options.quiet);
    let take = |index: &usize| {
        let (experiment, epsilon, seed) = grid[*index];
        let key = key(*index);
        let Some(_claim) = key.claim(&folder)? else { return Ok(Taken::ByAnother) };
        // Whoever had it may have finished it in between.
        if let Some(finished) = key.finished(&folder)? {
            progress.run_elsewhere();
            return Ok(Taken::Finished(finished));
        }
        let run = run(experiment, &dataset, epsilon, seed, None, &|| progress.epoch())?;
        let values = Measure::ALL.iter().filter_map(|measure| (measure.facts().of)(&run)).collect();
        let finished = key.finish(&folder, run.rows, values)?;
        progress.run();
        Ok(Taken::Trained(finished))
    };
    let mut is_said = options.quiet;
    while !jobs.is_empty() {
        let taken = in_parallel(&jobs, options.threads.unwrap_or_else(cores), &take)?;
        for (index, taken) in jobs.iter().zip(taken) {
            trained += usize::from(matches!(taken, Taken::Trained(_)));
            match taken {
                Taken::Trained(finished) | Taken::Finished(finished) => {
                    runs[*index] = Some(finished)
                }
                Taken::ByAnother => {}
            }
        }
        let left = missing(&runs);
        if left.len() == jobs.len() {
            let message =
                format!("waiting for other processes: {} of {} runs left", left.len(), runs.len());
            if !progress.show(&message) && !is_said {
                note(&message);
                is_said = true;
            }
            std::thread::sleep(WAIT);
        }
        jobs = left;
    }
    drop(progress);
    let runs: Vec<Finished> = runs.into_iter().flatten().collect();

    let arms: Vec<_> = arms().map(|(experiment, epsilon)| (experiment.prior, epsilon)).collect();
    let summary = SweepSummary::new(&arms, options.seeds, dataset.given_test.is_some(), &runs);
    let report = page::report(&summary, &dataset.about, &experiments[0], &options.prior)?;
    let files = files.write(&report)?;
    if options.quiet {
        return Ok(());
    }
    let all = runs.len();
    let mut of_others = String::new();
    if resumed > 0 {
        of_others += &format!("; {resumed} of {all} runs were there already");
    }
    if resumed + trained < all {
        let meanwhile = all - resumed - trained;
        of_others += &format!("; other processes did {meanwhile} of {all} runs meanwhile");
    }
    print(&format!(
        "{}\n\n{files}\n{:.1} s{of_others}",
        report.to_text(),
        started.elapsed().as_secs_f64()
    ))
}
