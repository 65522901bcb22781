//! `xent eval`: what a model's logits say about it.

mod charts;
mod feed;
mod findings;
mod options;
mod page;
mod partial;
mod pass;
mod report;
mod table;

use std::time::Instant;

pub use options::EvalOptions;

use crate::error::{Error, Result};
use crate::files::{make_folder, write_whole};
use crate::terminal::{print, width, wrapped};
use partial::Evaluated;
use report::Report;

/// Evaluates, or merges, then prints and writes the report.
///
/// # Errors
/// Options or files that cannot be used: nothing has been written then.
pub fn eval(options: &EvalOptions) -> Result<()> {
    let started = Instant::now();
    if options.partial.is_none() {
        // Before the work rather than after it: the folder may not be writable.
        make_folder(&options.out)?;
    }
    let models = if options.merge.is_empty() { read(options)? } else { partial::merge(&options.merge)? };
    if let Some(path) = &options.partial {
        return partial::write(path, &models);
    }
    let report = Report::new(&models, options.smoothing())?;
    drop(models);
    let seconds = started.elapsed().as_secs_f64();
    let json = report.to_json(seconds)?;
    let files = (options.out.join("report.html"), options.out.join("report.json"));
    write_whole(&files.0, page::page(&report, seconds)?.as_bytes())?;
    write_whole(&files.1, json.as_bytes())?;
    if options.quiet {
        return Ok(());
    }
    if options.json {
        return print(json.trim_end());
    }
    let width = width();
    let table = table::table(&report);
    let mut lines = vec![wrapped(&report.headline(), "", width), wrapped(&table.caption, "", width), String::new(), table.to_text(width), String::new()];
    lines.extend(findings::findings(&report).iter().map(|finding| wrapped(&format!("{}. {}", finding.topic, finding.shown()), "  ", width)));
    lines.push(format!("\nReport: {} and {} ({seconds:.1} s)", files.0.display(), files.1.display()));
    print(&lines.join("\n"))
}

fn read(options: &EvalOptions) -> Result<Vec<Evaluated>> {
    let bar = pass::progress_bar(options.quiet);
    let evaluated = options.models()?.into_iter().map(|model| {
        bar.reset();
        bar.set_message(model.name.clone());
        let evaluation = pass::evaluate(&model.logits, options.labels(&model.logits)?, &|classes| options.settings(classes), options.threads, &bar)?;
        if evaluation.raw().is_empty() {
            return Err(Error::input(format!("{}: no rows to evaluate", model.name)));
        }
        Ok(Evaluated { name: model.name, evaluation })
    });
    let evaluated = evaluated.collect();
    bar.finish_and_clear();
    evaluated
}
