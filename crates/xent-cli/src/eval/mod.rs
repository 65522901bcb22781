//! `xent eval`: metrics of a model, from its logits.

mod charts;
mod comparison;
mod feed;
mod findings;
mod options;
mod page;
mod partial;
mod pass;
mod per_class;
mod table;

use std::time::Instant;

pub use options::EvalOptions;

use crate::error::{Error, Result};
use crate::files::make_folder;
use crate::terminal::{print, progress_bar};
use comparison::Comparison;
use partial::Evaluated;

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
    let models =
        if options.merge.is_empty() { read(options)? } else { partial::merge(&options.merge)? };
    if let Some(model) = models.iter().find(|model| model.evaluation.raw().is_empty()) {
        return Err(Error::input(format!("{}: no rows to evaluate", model.name)));
    }
    if let Some(path) = &options.partial {
        return partial::write(path, &models);
    }
    let comparison = Comparison::new(&models, options.smoothing())?;
    drop(models);
    let seconds = started.elapsed().as_secs_f64();
    let report = page::report(&comparison, seconds)?;
    let files = report.write(&options.out)?;
    if let Some(path) = &options.per_class {
        per_class::write(path, &comparison)?;
    }
    match (options.quiet, options.json) {
        (true, _) => Ok(()),
        (false, true) => print(report.to_json()?.trim_end()),
        (false, false) => print(&format!("{}\n\n{files} ({seconds:.1} s)", report.to_text())),
    }
}

fn read(options: &EvalOptions) -> Result<Vec<Evaluated>> {
    let bar = progress_bar(
        "reading {msg} {wide_bar} {percent:>3} %  {decimal_bytes_per_sec}",
        options.quiet,
    );
    let evaluated = options.models()?.into_iter().map(|model| {
        bar.reset();
        bar.set_message(model.name.clone());
        let evaluation = pass::evaluate(
            &model.logits,
            &options.labels(&model.logits)?,
            &|classes| options.settings(classes),
            options.threads,
            &bar,
            // Evaluations that merge later have one temperature together.
            options.partial.is_none(),
        )?;
        Ok(Evaluated { name: model.name, evaluation })
    });
    let evaluated = evaluated.collect();
    bar.finish_and_clear();
    evaluated
}
