//! `xent train`: small networks with and without label smoothing, compared.

mod findings;
mod logits;
mod measures;
mod network;
mod options;
mod page;
mod run;
mod schedule;
mod summary;

use std::time::Instant;

pub use options::{DataOptions, NetworkOptions, PriorName, Settings, TrainOptions, count, positive, share};
pub use run::{Run, run};
pub use schedule::{in_parallel, progress_bar};

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::{make_folder, write_whole};
use crate::terminal::{print, width, wrapped};
use summary::Summary;

/// Trains, prints and writes the report.
pub fn train(options: TrainOptions) -> Result<()> {
    let settings = options.settings()?;
    let dataset = Dataset::load(&options.data.data, options.data.label.as_deref())?;
    // Before the work rather than after it: the folder may not be writable.
    let weights = options.out.join("weights");
    make_folder(if options.save { &weights } else { &options.out })?;

    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).min(settings.seeds * settings.epsilon.len());
    let started = Instant::now();
    let bar = progress_bar(options.quiet);
    let runs = schedule::run_all(&settings, &dataset, threads, options.save.then_some(&*weights), &bar);
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();

    let summary = Summary::new(settings, &dataset, runs?)?;
    let findings = findings::findings(&summary);
    let (html, json) = (options.out.join("report.html"), options.out.join("report.json"));
    write_whole(&html, page::page(&summary, &findings, seconds, threads)?.as_bytes())?;
    let mut text = serde_json::to_string_pretty(&page::to_json(&summary, &findings, seconds, threads)).map_err(Error::failed)?;
    text.push('\n');
    write_whole(&json, text.as_bytes())?;

    if options.quiet {
        return Ok(());
    }
    let width = width();
    let mut lines =
        vec![wrapped(&page::headline(&summary), "", width), page::table(&summary).caption, String::new(), page::table(&summary).to_text(width), String::new()];
    lines.extend(findings.iter().filter(|finding| finding.brief).map(|finding| wrapped(&format!("{}. {}", finding.topic, finding.shown()), "  ", width)));
    lines.push(format!("\nReport: {} and {} ({seconds:.1} s)", html.display(), json.display()));
    if options.save {
        lines.push(format!("Weights: {}", weights.display()));
    }
    print(&lines.join("\n"))
}
