//! `xent sweep`: the training of `xent train` over a grid, resumable.

mod options;
mod page;
mod store;
mod summary;

use std::time::Instant;

pub use options::SweepOptions;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::{make_folder, write_whole};
use crate::terminal::{print, width, wrapped};
use crate::train::{in_parallel, progress_bar, run};
use store::{Finished, Key};
use summary::{Measure, Summary};

/// Trains what is not finished, prints and writes the report.
///
/// # Errors
/// Options or data that cannot be used; runs in the folder that are of another sweep; a run that fails. Finished runs stay.
pub fn sweep(options: &SweepOptions) -> Result<()> {
    let started = Instant::now();
    let arms = options.arms()?;
    let dataset = Dataset::load(&options.data.data, options.data.label.as_deref())?;
    let folder = options.out.join("runs");
    make_folder(&folder)?;
    store::clean(&folder)?;
    let checksum = store::checksum(&dataset);

    let grid = || arms.iter().flat_map(|&(prior, epsilon)| (0..options.seeds as u64).map(move |seed| (prior, epsilon, seed)));
    let key = |&(prior, epsilon, seed): &(_, f64, u64)| Key::new(&options.settings(prior), checksum, epsilon, seed);
    let mut runs: Vec<Option<Finished>> = grid().map(|job| key(&job).finished(&folder)).collect::<Result<_>>()?;
    // Seed by seed, so that what is there after a while can be compared.
    let mut jobs: Vec<(usize, _)> = grid().enumerate().filter(|(index, _)| runs[*index].is_none()).collect();
    jobs.sort_by_key(|(index, (_, _, seed))| (*seed, *index));
    let resumed = runs.len() - jobs.len();

    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let bar = progress_bar(options.quiet);
    bar.set_length((jobs.len() * options.network.epochs) as u64);
    let done = in_parallel(&jobs, threads, &bar, &|(index, job)| {
        let (prior, epsilon, seed) = *job;
        let run = run(&options.settings(prior), &dataset, epsilon, seed, None, &|| bar.inc(1))?;
        let finished = Finished { key: key(job), rows: run.rows, values: Measure::ALL.iter().map(|measure| measure.of(&run)).collect() };
        finished.write(&folder)?;
        Ok((*index, finished))
    });
    bar.finish_and_clear();
    for (index, finished) in done? {
        runs[index] = Some(finished);
    }
    let runs: Vec<Finished> = runs.into_iter().flatten().collect();

    let summary = Summary::new(&arms, options.seeds, dataset.given_test.is_some(), &runs);
    let (about, command) = (&dataset.about, options.command());
    let (html, json) = (options.out.join("report.html"), options.out.join("report.json"));
    write_whole(&html, page::page(&summary, about, &command)?.as_bytes())?;
    let mut text = serde_json::to_string_pretty(&page::to_json(&summary, about, &command)).map_err(Error::failed)?;
    text.push('\n');
    write_whole(&json, text.as_bytes())?;
    if options.quiet {
        return Ok(());
    }
    let width = width();
    let table = page::table(&summary);
    let mut lines = vec![
        wrapped(&page::headline(&summary, &options.data.data.to_string()), "", width),
        wrapped(&table.caption, "", width),
        String::new(),
        table.to_text(width),
        String::new(),
    ];
    lines.extend(
        page::findings(&summary).iter().filter(|finding| finding.brief).map(|finding| wrapped(&format!("{}. {}", finding.topic, finding.shown()), "  ", width)),
    );
    lines.push(format!("\nReport: {} and {}", html.display(), json.display()));
    let resumed = if resumed > 0 { format!("; {resumed} of {} runs were there already", runs.len()) } else { String::new() };
    lines.push(format!("{:.1} s{resumed}", started.elapsed().as_secs_f64()));
    print(&lines.join("\n"))
}
