//! The options of `xent eval`.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use xent_arrays::{Columns, Place};
use xent_metrics::{BINS, Binning, Settings, UniformPrior};

use super::binary::Score;
use super::feed::Reading;
use crate::args::{positive, repeated, share, threads, uniform_prior};
use crate::error::{Error, Result};

/// Options of `xent eval`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct EvalOptions {
    /// Logits [rows, classes], or of more axes: .npy, .npz, .safetensors, .csv, .tsv or .parquet (a
    /// column of lists, or one column per class); FILE:NAME is one of several arrays; several files
    /// or a quoted pattern (in the order of its numbers) are one data set
    #[arg(long, value_name = "Z", num_args = 1.., required_unless_present = "merge")]
    pub logits: Vec<OsString>,
    /// Labels: integers, or in a table names of classes, one per row, from as many files as the
    /// logits or from others with the same total number of rows [default: the files of the logits,
    /// if they have one column of labels]
    #[arg(long, value_name = "Y", num_args = 1..)]
    pub targets: Vec<OsString>,
    /// Targets that are probabilities [rows, classes], in place of --targets: NLL and Brier score
    /// against them are reported; everything else takes the likeliest class, the first on ties, for
    /// the label
    #[arg(long, value_name = "T", num_args = 1.., conflicts_with_all = ["targets", "partial", "merge"])]
    pub soft_targets: Vec<OsString>,
    /// Logits of other models for the same rows, one model each; a quoted pattern is one model.
    /// Differences from the model of --logits are tested row by row
    #[arg(long, value_name = "Z2", num_args = 1..)]
    pub compare: Vec<OsString>,
    /// Names of the models, in their order [default: the names of their files]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub names: Vec<String>,

    /// The columns of a table that are classes, in the classes' order: names, patterns like
    /// 'class_*', ranges like a..f [default: those whose names differ in a number, in the order of
    /// their numbers, or all but the labels']
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Columns of a table that are no classes: names, patterns or ranges
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub drop: Vec<String>,

    /// The axis of arrays that has the classes, counted from the end if negative [default: the one
    /// that the labels lack, or the last]
    #[arg(long, value_name = "AXIS", allow_negative_numbers = true)]
    pub axis: Option<isize>,
    /// Names of the classes, in their order, or a file with one name per line, for labels that are
    /// names [default: the names of the columns]
    #[arg(long, value_name = "A,B|FILE", value_delimiter = ',')]
    pub class_names: Vec<String>,

    /// The files of the logits have probabilities, rows that sum to 1, instead
    #[arg(long)]
    pub probabilities: bool,

    /// The model has two classes and one score per row, the logit of class 1 (its probability, with
    /// --probabilities): floats [rows] or [rows, 1], or a column, FILE:NAME, of a CSV file
    #[arg(long, conflicts_with_all = ["columns", "drop", "axis", "class_names", "merge"])]
    pub binary: bool,

    /// Row weights, one float per row: .npy, .npz, .safetensors, .csv or .tsv; accuracy, NLL, Brier
    /// score and ECE are reported with them, too, while everything else counts each row once
    #[arg(long, value_name = "W", num_args = 1.., conflicts_with_all = ["partial", "merge"])]
    pub weights: Vec<OsString>,

    /// Features [rows, features] of the same rows, such as the last hidden layer's, from files of
    /// any format of the logits: class separation, and the variance within and between classes
    #[arg(long, value_name = "F", num_args = 1.., conflicts_with_all = ["partial", "merge", "compare"])]
    pub features: Vec<OsString>,

    /// Labels whose rows are left out without being read
    #[arg(long, value_name = "I,J", value_delimiter = ',', allow_hyphen_values = true)]
    pub ignore_index: Vec<i64>,
    /// Leave out rows with NaN or +∞ and report their number, instead of failing
    #[arg(long)]
    pub skip_non_finite: bool,
    /// Temperature for the numbers after temperature scaling, if it was fitted elsewhere [default:
    /// fitted to these rows]
    #[arg(long, value_name = "T", value_parser = positive, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Amounts of smoothing for which the loss is reported, for comparison with a training loss
    #[arg(long, value_name = "LIST", default_value = "0.05,0.1,0.2", value_delimiter = ',', value_parser = share, allow_negative_numbers = true, alias = "label-smoothing")]
    pub epsilon: Vec<f64>,
    /// Where that smoothing puts its mass
    #[arg(long, value_name = "PRIOR", default_value = "uniform", value_parser = uniform_prior())]
    pub prior: UniformPrior,
    /// Put a confidence on the edge of a bin into the same bin as this package
    #[arg(long, value_name = "PACKAGE")]
    pub compat: Option<Compat>,

    /// Number of confidence bins of the calibration errors
    #[arg(long, value_name = "N", default_value_t = BINS, value_parser = bins, allow_negative_numbers = true)]
    pub bins: usize,

    /// Write the evaluation of these rows to a file for --merge, and no report
    #[arg(long, value_name = "PART.json", conflicts_with_all = ["merge", "out", "json", "epsilon", "prior"])]
    pub partial: Option<PathBuf>,
    /// Report on the rows of these files, which --partial wrote: bit for bit the same report as
    /// from one run over all rows, but without the tests of --compare
    #[arg(long, value_name = "PART.json", num_args = 1.., conflicts_with_all = ["logits", "targets", "compare", "names", "columns", "drop", "axis", "class_names", "probabilities", "ignore_index", "skip_non_finite", "temperature", "compat", "bins"])]
    pub merge: Vec<PathBuf>,

    /// Write the probabilities after temperature scaling of every row that is read to a file, in
    /// their order; --probabilities reads it
    #[arg(long, value_name = "F.npy|F.csv", conflicts_with_all = ["partial", "merge", "compare"])]
    pub write_probabilities: Option<PathBuf>,
    /// Write the metrics of every class to a file; report.json has 1000 classes at most
    #[arg(long, value_name = "F.csv", conflicts_with = "partial")]
    pub per_class: Option<PathBuf>,
    /// Folder for report.html and report.json
    #[arg(long, value_name = "DIR", default_value = "xent-eval")]
    pub out: PathBuf,
    /// Print the report as JSON
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Threads to compute on; the numbers do not depend on it [default: one per core, at most 8]
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Print only errors
    #[arg(long)]
    pub quiet: bool,
}

// clap wraps it to the terminal's width.
const AFTER_HELP: &str = "\
Files are read one block at a time, so they may be larger than memory. Bins of equal mass and AURC are exact up to 524288 different confidences. Beyond 33554432 logits the files are read a few times \
more to fit the temperature; with --merge, or if a file is a pipe, the temperature and the numbers after scaling come from a sample of the rows then, which the report mentions. --temperature T needs neither.

On a cluster: xent eval --logits a.npy --targets ya.npy --partial a.json for each shard, then xent eval --merge *.json. The files of the shards may have any names, the same one in several folders included; rows that come twice are an error.";

fn bins(text: &str) -> std::result::Result<usize, String> {
    let expected = || format!("'{text}': expected a number of bins from 1 to 1000");
    text.parse().ok().filter(|bins| (1..=1000).contains(bins)).ok_or_else(expected)
}

/// The package whose convention for edges is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compat {
    /// Bins [a, b) in float32, and one more for confidence 1
    Torchmetrics,
    /// Bins [a, b), the last closed
    Netcal,
}

/// Logits and labels of a model.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its name in the report.
    pub name: String,
    /// The name was given, and is not that of its files.
    pub named: bool,
    /// Its files, in order.
    pub logits: Vec<Place>,
    /// Those of its labels.
    pub labels: Vec<Place>,
}

impl EvalOptions {
    /// The models, in order: the one of --logits, then those of --compare.
    ///
    /// # Errors
    /// No file matches a pattern, the number of names is not that of the models, a name is given
    /// twice, or there are no labels.
    pub fn models(&self) -> Result<Vec<Model>> {
        let mut files = vec![places(&self.logits)?];
        for pattern in &self.compare {
            files.push(places(std::slice::from_ref(pattern))?);
        }
        if !self.names.is_empty() && self.names.len() != files.len() {
            return Err(Error::input(format!(
                "--names has {} names for {} models",
                self.names.len(),
                files.len()
            )));
        }
        let given = |index: usize, pattern: &OsString| match self.names.get(index) {
            Some(name) => name.clone(),
            None => pattern.to_string_lossy().into_owned(),
        };
        let patterns = self.logits.iter().take(1).chain(&self.compare);
        let mut models: Vec<Model> = files
            .into_iter()
            .zip(patterns)
            .enumerate()
            .map(|(index, (logits, pattern))| Model {
                name: given(index, pattern),
                named: !self.names.is_empty(),
                logits,
                labels: Vec::new(),
            })
            .collect();
        let mut all = models.iter().flat_map(|model| &model.logits);
        if self.classes() != Columns::default() && !all.any(Place::is_table) {
            return Err(Error::input(
                "--columns and --drop are for tables: .csv, .tsv and .parquet files",
            ));
        }
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        if let Some(name) = repeated(&names) {
            return Err(Error::input(format!(
                "two models are named {name}; --names tells them apart"
            )));
        }
        for model in &mut models {
            model.labels = self.labels(&model.logits)?;
        }
        Ok(models)
    }

    /// Checks that files of labels continue in the order of those of the logits.
    fn check_order(logits: &[Place], labels: &[Place]) -> Result<()> {
        match listed_by_letters(logits) {
            Some((one, other)) if logits.len() != labels.len() => Err(Error::input(format!(
                "{one} comes before {other}, by letters rather than by numbers; expected files in the order of the labels: a quoted pattern is read in the order of its numbers"
            ))),
            _ => Ok(()),
        }
    }

    /// Which columns of tables are classes.
    fn classes(&self) -> Columns {
        Columns { chosen: self.columns.clone(), drop: self.drop.clone() }
    }

    /// Where the classes are in the files.
    pub fn reading(&self) -> Result<Reading> {
        let class_names = self.class_names()?;
        let score = if self.probabilities { Score::Probability } else { Score::Logit };
        Ok(Reading {
            columns: self.classes(),
            axis: self.axis,
            class_names,
            score: self.binary.then_some(score),
        })
    }

    /// The file with the names of the classes: one name alone cannot be those of two classes.
    pub fn class_names_file(&self) -> Option<PathBuf> {
        match &self.class_names[..] {
            [file] => Some(file.into()),
            _ => None,
        }
    }

    /// The names of the classes, if they are given.
    fn class_names(&self) -> Result<Vec<String>> {
        let names: Vec<String> = match self.class_names_file() {
            Some(file) => std::fs::read_to_string(&file)
                .map_err(|error| Error::reading(&file, error))?
                .lines()
                .map(|line| line.trim().to_string())
                .collect(),
            None => self.class_names.clone(),
        };
        let mut seen = HashSet::new();
        match names.iter().find(|name| !seen.insert(*name)) {
            Some(name) => Err(Error::input(format!("--class-names names {name} twice"))),
            None => Ok(names),
        }
    }

    /// The places of a model's labels.
    fn labels(&self, logits: &[Place]) -> Result<Vec<Place>> {
        let targets = if self.is_soft() { &self.soft_targets } else { &self.targets };
        if !targets.is_empty() {
            let labels = places(targets)?;
            Self::check_order(logits, &labels)?;
            return Ok(labels);
        }
        match logits.iter().find(|place| !place.may_have_labels()) {
            Some(place) => {
                Err(Error::input(format!("--targets is missing: {place} has no labels")))
            }
            None => Ok(logits
                .iter()
                .map(|place| Place { file: place.file.clone(), name: None })
                .collect()),
        }
    }

    /// The places of the features.
    pub fn features(&self) -> Result<Vec<Place>> {
        places(&self.features)
    }

    /// Whether the targets are probabilities.
    pub fn is_soft(&self) -> bool {
        !self.soft_targets.is_empty()
    }

    /// The places of the row weights.
    pub fn weights(&self) -> Result<Vec<Place>> {
        places(&self.weights)
    }

    /// What is measured.
    pub fn settings(&self, classes: usize) -> Settings {
        let usual = Settings::new(classes);
        Settings {
            binning: self.compat.map_or(Binning::RightClosed, |compat| match compat {
                Compat::Torchmetrics => Binning::Torchmetrics,
                Compat::Netcal => Binning::Netcal,
            }),
            bins: self.bins,
            ignored: self.ignore_index.clone(),
            temperature: self.temperature,
            skip_not_finite: self.skip_non_finite,
            // With a temperature nothing is fitted to the sample.
            sample_logits: if self.temperature.is_some() { 1 } else { usual.sample_logits },
            ..usual
        }
    }

    /// The prior and the amounts of the smoothed losses.
    pub fn smoothing(&self) -> (UniformPrior, &[f64]) {
        (self.prior, &self.epsilon)
    }
}

/// The files that match patterns, by the numbers in their names; the name of a file that exists is
/// not a pattern.
fn places(patterns: &[OsString]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for pattern in patterns {
        let place = Place::from(pattern.as_os_str());
        let text = place.file.to_string_lossy();
        if place.file.exists() || !text.contains(['*', '?', '[']) {
            places.push(place);
            continue;
        }
        if place.file.to_str().is_none() {
            return Err(Error::input(format!("no file {text}, and it is no pattern: not UTF-8")));
        }
        let found = glob::glob(&text)
            .map_err(|error| Error::input(format!("{text}: not a pattern: {error}")))?;
        let mut files: Vec<PathBuf> = found
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| Error::input(error.to_string()))?;
        if files.is_empty() {
            return Err(Error::input(format!("no file matches {text}")));
        }
        if let Some(skipped) = skipped(&text, &files) {
            return Err(Error::input(format!(
                "{} is not UTF-8, which {text} does not match; expected the names of the files",
                skipped.display()
            )));
        }
        files.sort_by(|a, b| by_number(&a.to_string_lossy(), &b.to_string_lossy()));
        places.extend(files.into_iter().map(|file| Place { file, name: place.name.clone() }));
    }
    let mut seen: HashMap<(PathBuf, Option<&str>), &Place> = HashMap::new();
    let twice = places.iter().find_map(|place| {
        let file = place.file.canonicalize().unwrap_or_else(|_| place.file.clone());
        seen.insert((file, place.name.as_deref()), place).map(|earlier| (earlier, place))
    });
    match twice {
        Some((one, other)) if one == other => Err(Error::input(format!("{one} is named twice"))),
        Some((one, other)) => Err(Error::input(format!("{one} and {other} are the same file"))),
        None => Ok(places),
    }
}

/// A file beside those that match a pattern which is skipped for its name alone.
fn skipped(pattern: &str, files: &[PathBuf]) -> Option<PathBuf> {
    let last = glob::Pattern::new(Path::new(pattern).file_name()?.to_str()?).ok()?;
    let folders: HashSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    // The folder of a name alone is the empty path, which cannot be read.
    let readable = |folder: &Path| Path::new(".").join(folder).read_dir().ok();
    let entries = folders.into_iter().filter_map(readable).flatten().flatten();
    entries.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_str().is_none() && last.matches(&name.to_string_lossy())
    })
}

/// Whether files were listed by the letters of their names, as a shell does, where the numbers in
/// the names say otherwise: labels from other files would then belong to other rows.
fn listed_by_letters(places: &[Place]) -> Option<(&Place, &Place)> {
    let name = |place: &Place| place.to_string();
    let pairs = || places.iter().zip(places.iter().skip(1));
    let by_letters = pairs().all(|(one, other)| name(one) <= name(other));
    pairs().find(|(one, other)| by_letters && by_number(&name(one), &name(other)).is_gt())
}

/// The order of names whose numbers count as numbers.
fn by_number(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| {
        let mut parts: Vec<(String, u128)> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let end = rest[digits..]
                .find(|c: char| !c.is_ascii_digit())
                .map_or(rest.len(), |length| digits + length);
            let number = rest[digits..end].parse().unwrap_or(u128::MAX);
            parts.push((rest[..digits].to_string(), number));
            rest = &rest[end..];
        }
        parts
    };
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names =
            ["s10.npy", "s2.npy", "s1.npy", "s02.npy", "s.npy", "r3/s1.npy", "r20/s0.npy"];
        names.sort_by(|a, b| by_number(a, b));
        assert_eq!(
            names,
            ["r3/s1.npy", "r20/s0.npy", "s1.npy", "s02.npy", "s2.npy", "s10.npy", "s.npy"]
        );
    }
}
