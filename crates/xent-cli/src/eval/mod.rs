//! `xent eval`: metrics of a model, from its logits.

mod beside;
mod binary;
mod calibrated;
mod charts;
mod comparison;
mod features;
mod feed;
mod findings;
mod labels;
mod options;
mod page;
mod paired;
mod partial;
mod pass;
mod per_class;
mod probabilities;
mod remarks;
mod soft;
mod table;
mod verdict;
mod weighted;

use std::path::PathBuf;
use std::time::Instant;

use indicatif::ProgressBar;
use xent_metrics::Evaluated;

pub use options::EvalOptions;

use crate::error::{Error, Result};
use crate::output::Outputs;
use crate::report::ReportFiles;
use crate::terminal::{harmless, print, progress_bar, warn};
use calibrated::Calibrated;
use comparison::Comparison;
use feed::{Input, Reading};
use options::Model;

/// Evaluates, or merges, then prints and writes the report.
///
/// # Errors
/// Options or files that cannot be used: nothing has been written then.
pub fn eval(options: &EvalOptions) -> Result<()> {
    let started = Instant::now();
    let models = options.models()?;
    let reading = options.reading()?;
    let passes = Passes { options, models: &models, reading: &reading };
    let mut outputs = Outputs::beside(inputs(options, &models)?);
    if let Some(path) = &options.partial {
        let partial = outputs.open(path)?;
        return partial::write(partial, &with_rows(read(&passes)?)?);
    }
    let files = ReportFiles::open(&options.out, &mut outputs)?;
    let per_class = options.per_class.as_deref().map(|path| outputs.open(path)).transpose()?;
    let calibrated = match &options.write_probabilities {
        Some(path) => Some(Calibrated::open(path, &mut outputs)?),
        None => None,
    };
    let evaluated =
        if options.merge.is_empty() { read(&passes)? } else { partial::merge(&options.merge)? };
    let mut comparison = Comparison::new(&with_rows(evaluated)?, options.smoothing())?;
    for model in &comparison.models {
        model.remarks.iter().for_each(|remark| warn(&format!("{}: {remark}", model.name)));
    }
    if options.merge.is_empty() {
        paired::pair(&passes, &mut comparison)?;
    }
    if options.is_soft() {
        soft::soften(&passes, &mut comparison)?;
    }
    if !options.weights.is_empty() {
        weighted::weigh(&passes, &mut comparison)?;
    }
    if !options.features.is_empty() {
        features::measure(&passes, &mut comparison)?;
    }
    if let Some(calibrated) = calibrated {
        let model = &comparison.models[0];
        let input = passes.input(&models[0]);
        calibrated.write(&input, model.rows_read, model.temperature(), &passes.bar())?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let report = page::report(&comparison, seconds)?;
    if let Some(destination) = per_class {
        per_class::write(destination, &comparison)?;
    }
    let files = files.write(&report)?;
    match (options.quiet, options.json) {
        (true, _) => Ok(()),
        (false, true) => print(report.to_json()?.trim_end()),
        (false, false) => print(&format!("{}\n\n{files} ({seconds:.1} s)", report.to_text())),
    }
}

/// What all passes over the files have.
pub struct Passes<'a> {
    /// The options.
    pub options: &'a EvalOptions,
    /// The models, the one of --logits first.
    pub models: &'a [Model],
    /// Where the classes are.
    pub reading: &'a Reading,
}

impl<'a> Passes<'a> {
    /// What is evaluated of a model.
    pub fn input(&self, model: &'a Model) -> Input<'a> {
        Input {
            logits: &model.logits,
            labels: &model.labels,
            reading: self.reading,
            probabilities: self.options.probabilities,
            soft: self.options.is_soft(),
        }
    }

    /// The bar of a pass, or of several.
    pub fn bar(&self) -> ProgressBar {
        progress_bar(
            "reading {msg} {wide_bar} {percent:>3} %  {decimal_bytes_per_sec}",
            self.options.quiet,
        )
    }
}

/// Starts the bar of a pass over `what`.
pub fn begin(bar: &ProgressBar, what: &str) {
    bar.reset();
    bar.set_message(harmless(what).into_owned());
}

/// Every file that is read.
fn inputs(options: &EvalOptions, models: &[Model]) -> Result<Vec<PathBuf>> {
    let mut inputs = options.merge.clone();
    inputs.extend(options.class_names_file());
    let beside = options.weights()?.into_iter().chain(options.features()?);
    inputs.extend(beside.map(|place| place.file));
    for model in models {
        inputs.extend(model.labels.iter().chain(&model.logits).map(|place| place.file.clone()));
    }
    Ok(inputs)
}

fn with_rows(models: Vec<Evaluated>) -> Result<Vec<Evaluated>> {
    match models.iter().find(|model| model.evaluation.raw().is_empty()) {
        Some(model) => Err(Error::input(format!("{}: no rows to evaluate", model.name))),
        None => Ok(models),
    }
}

fn read(passes: &Passes<'_>) -> Result<Vec<Evaluated>> {
    let Passes { options, models, .. } = passes;
    let bar = passes.bar();
    let evaluated = models.iter().map(|model| {
        begin(&bar, &model.name);
        let evaluation = pass::evaluate(
            &passes.input(model),
            &|classes| options.settings(classes),
            options.threads,
            &bar,
            // Evaluations that merge later have one temperature together.
            options.partial.is_none(),
        )?;
        Ok(Evaluated { name: model.name.clone(), named: model.named, evaluation })
    });
    let evaluated = evaluated.collect();
    bar.finish_and_clear();
    evaluated
}
