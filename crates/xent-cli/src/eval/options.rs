//! The options of `xent eval`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use xent_arrays::Place;
use xent_metrics::{Binning, Settings, UniformPrior};

use crate::args::{count, positive, repeated, share};
use crate::error::{Error, Result};
use crate::train::PriorName;

/// Options of `xent eval`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct EvalOptions {
    /// Logits [rows, classes]: .npy, .npz, .safetensors, .csv or .parquet, FILE:NAME for one of several arrays; several files or a quoted pattern are one data set
    #[arg(long, value_name = "Z", num_args = 1.., required_unless_present = "merge")]
    pub logits: Vec<String>,
    /// Labels: integers, one a row, from as many files as the logits or from others with as many rows in all [default: the logits' files, where they have one column of integers]
    #[arg(long, value_name = "Y", num_args = 1..)]
    pub targets: Vec<String>,
    /// Other models' logits of the same rows, one model each; a quoted pattern is one model
    #[arg(long, value_name = "Z2", num_args = 1..)]
    pub compare: Vec<String>,
    /// Names of the models, in their order [default: the files']
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub names: Vec<String>,

    /// Labels whose rows are left out, never read
    #[arg(long, value_name = "I,J", value_delimiter = ',', allow_hyphen_values = true)]
    pub ignore_index: Vec<i64>,
    /// Leave rows with NaN or +∞ out and say how many they are, instead of failing
    #[arg(long)]
    pub skip_non_finite: bool,
    /// Temperature for the numbers after temperature scaling, as fitted elsewhere [default: fitted to these rows]
    #[arg(long, value_name = "T", value_parser = positive, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Amounts of smoothing to report the loss with, so that it compares with a training loss
    #[arg(long, value_name = "LIST", default_value = "0.05,0.1,0.2", value_delimiter = ',', value_parser = share, allow_negative_numbers = true, alias = "label-smoothing")]
    pub epsilon: Vec<f64>,
    /// Where that smoothing puts its mass
    #[arg(long, value_name = "PRIOR", default_value = "uniform")]
    pub prior: PriorName,
    /// Put confidences on a bin's edge where this package puts them
    #[arg(long, value_name = "PACKAGE")]
    pub compat: Option<Compat>,

    /// Write what these rows say to a file that --merge reads, and no report
    #[arg(long, value_name = "PART.json", conflicts_with_all = ["merge", "out", "json", "epsilon", "prior"])]
    pub partial: Option<PathBuf>,
    /// Report on the rows of these files, written by --partial: the same, bit for bit, as one run over all of them
    #[arg(long, value_name = "PART.json", num_args = 1.., conflicts_with_all = ["logits", "targets", "compare", "names", "ignore_index", "skip_non_finite", "temperature", "compat"])]
    pub merge: Vec<PathBuf>,

    /// Folder for report.html and report.json
    #[arg(long, value_name = "DIR", default_value = "xent-eval")]
    pub out: PathBuf,
    /// Print the report as JSON
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Threads to compute on; the numbers do not depend on it [default: one a core, eight at most]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

// Wrapped by whoever prints it, to the terminal's width.
const AFTER_HELP: &str = "\
Data sets larger than memory are read once, a block at a time. Bins of equal mass and AURC are exact up to 524288 different confidences; the temperature and what follows it are exact up to 33554432 \
logits and are found from a sample of rows beyond, which the report says. --temperature T needs no sample.

On a cluster: xent eval --logits a.npy --targets ya.npy --partial a.json, and so on for each shard, then xent eval --merge *.json. Files have to be named as in a run over all of them.";

/// Whose conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compat {
    /// Bins [a, b) in float32, confidence 1 in one of its own
    Torchmetrics,
    /// Bins [a, b), the last closed
    Netcal,
}

/// Logits and labels of a model.
#[derive(Debug, Clone)]
pub struct Model {
    /// As the report calls it.
    pub name: String,
    /// Its files, in order.
    pub logits: Vec<Place>,
}

impl EvalOptions {
    /// The models, in order: that of --logits, then those of --compare.
    ///
    /// # Errors
    /// A pattern that no file fits; as many names as there are not models; names that come twice.
    pub fn models(&self) -> Result<Vec<Model>> {
        let mut files = vec![places(&self.logits)?];
        for pattern in &self.compare {
            files.push(places(std::slice::from_ref(pattern))?);
        }
        if !self.names.is_empty() && self.names.len() != files.len() {
            return Err(Error::input(format!("--names has {} names for {} models", self.names.len(), files.len())));
        }
        let given = |index: usize, pattern: &str| self.names.get(index).cloned().unwrap_or_else(|| pattern.to_string());
        let patterns = self.logits.iter().take(1).chain(&self.compare);
        let models: Vec<Model> =
            files.into_iter().zip(patterns).enumerate().map(|(index, (logits, pattern))| Model { name: given(index, pattern), logits }).collect();
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        match repeated(&names) {
            Some(name) => Err(Error::input(format!("two models are named {name}; --names tells them apart"))),
            None => Ok(models),
        }
    }

    /// Where a model's labels are.
    pub fn labels(&self, logits: &[Place]) -> Result<Vec<Place>> {
        if !self.targets.is_empty() {
            return places(&self.targets);
        }
        match logits.iter().find(|place| !place.is_table()) {
            Some(place) => Err(Error::input(format!("--targets is missing: {place} has no labels"))),
            None => Ok(logits.iter().map(|place| Place { file: place.file.clone(), name: None }).collect()),
        }
    }

    /// What is measured.
    pub fn settings(&self, classes: usize) -> Settings {
        let usual = Settings::new(classes);
        Settings {
            binning: self.compat.map_or(Binning::RightClosed, |compat| match compat {
                Compat::Torchmetrics => Binning::Torchmetrics,
                Compat::Netcal => Binning::Netcal,
            }),
            ignored: self.ignore_index.clone(),
            temperature: self.temperature,
            skip_not_finite: self.skip_non_finite,
            // With a temperature nothing is fitted to the sample.
            sample_logits: if self.temperature.is_some() { 1 } else { usual.sample_logits },
            ..usual
        }
    }

    /// The smoothed losses that are asked for.
    pub fn smoothing(&self) -> (UniformPrior, &[f64]) {
        (self.prior.into(), &self.epsilon)
    }
}

/// The files that patterns stand for: a name that exists is itself, whatever it is made of.
fn places(patterns: &[String]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for pattern in patterns {
        let Ok(place) = pattern.parse::<Place>();
        let text = place.file.to_string_lossy();
        if place.file.exists() || !text.contains(['*', '?', '[']) {
            places.push(place);
            continue;
        }
        let found = glob::glob(&text).map_err(|error| Error::input(format!("{text}: not a pattern: {error}")))?;
        let files: Vec<PathBuf> = found.collect::<std::result::Result<_, _>>().map_err(|error| Error::input(error.to_string()))?;
        if files.is_empty() {
            return Err(Error::input(format!("no file fits {text}")));
        }
        places.extend(files.into_iter().map(|file| Place { file, name: place.name.clone() }));
    }
    match repeated(&places) {
        Some(place) => Err(Error::input(format!("{place} is named twice"))),
        None => Ok(places),
    }
}
