//! Finished runs on disk: one file each, which is there whole or not at all; and what processes
//! that share the folder say to each other there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xent_metrics::UniformPrior;

use super::measure::Measure;
use crate::data::{Dataset, Features, Split};
use crate::error::{Error, Result};
use crate::output::{Claim, Joined, Outputs};
use crate::train::{DataOptions, Experiment, NetworkOptions};

use super::options::SweepOptions;

/// What decides the numbers of all runs.
#[derive(Debug, Serialize)]
struct Common<'a> {
    version: &'static str,
    #[serde(flatten)]
    data: &'a DataOptions,
    /// Of the rows themselves, so that changed data are noticed.
    checksum: u32,
    #[serde(flatten)]
    network: &'a NetworkOptions,
}

impl<'a> Common<'a> {
    fn new(data: &'a DataOptions, checksum: u32, network: &'a NetworkOptions) -> Self {
        Self { version: env!("CARGO_PKG_VERSION"), data, checksum, network }
    }
}

/// Everything that decides a sweep's report.
#[derive(Debug, Serialize)]
pub struct Sweep<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    prior: &'a [UniformPrior],
    epsilon: &'a [f64],
    seeds: usize,
}

impl<'a> Sweep<'a> {
    /// Of these options and data.
    pub fn new(options: &'a SweepOptions, checksum: u32) -> Self {
        let SweepOptions { data, network, prior, epsilon, seeds, .. } = options;
        Self { common: Common::new(data, checksum, network), prior, epsilon, seeds: *seeds }
    }

    /// Joins the processes that are at work in a folder.
    ///
    /// # Errors
    /// They have other options, data or another version.
    pub fn join(&self, folder: &Path) -> Result<Joined> {
        let ours = serde_json::to_string(self).map_err(Error::failed)?;
        let joined = Joined::new(&folder.join(".xent-sweep"), &ours)?;
        if joined.theirs == ours {
            return Ok(joined);
        }
        let theirs = serde_json::from_str(&joined.theirs).unwrap_or_default();
        Err(Error::in_file(
            folder,
            format!(
                "another xent sweep is at work there with other options, data or version{}; give it the same, wait for it, or choose another folder with --out",
                differences(&theirs, &json!(self))
            ),
        ))
    }
}

/// Names what is not the same, after a colon; nothing if there is nothing to name.
fn differences(there: &Value, here: &Value) -> String {
    let (Some(there), Some(here)) = (there.as_object(), here.as_object()) else {
        return String::new();
    };
    let differ =
        here.iter().filter(|(name, value)| there.get(*name).is_some_and(|of| of != *value));
    let named: Vec<String> = differ
        .map(|(name, value)| format!("{name} is {} there, {value} here", there[name]))
        .collect();
    if named.is_empty() { String::new() } else { format!(": {}", named.join("; ")) }
}

/// Everything that decides a run's numbers.
#[derive(Debug, Serialize)]
pub struct Key<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    prior: UniformPrior,
    epsilon: f64,
    seed: u64,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The run's [`Key`].
    key: Value,
    /// The number of rows in each part.
    pub rows: Split<usize>,
    /// The results, in the order of [`Measure::ALL`].
    pub values: Vec<f64>,
}

impl<'a> Key<'a> {
    /// Of a run.
    pub fn new(experiment: &'a Experiment, checksum: u32, epsilon: f64, seed: u64) -> Self {
        let Experiment { data, network, prior, .. } = experiment;
        Self { common: Common::new(data, checksum, network), prior: *prior, epsilon, seed }
    }

    fn name(&self) -> String {
        format!("{}-epsilon-{}-seed-{}", self.prior.kind(), self.epsilon, self.seed)
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(self.name() + ".json")
    }

    /// Claims the run, unless another process has.
    pub fn claim(&self, folder: &Path) -> Result<Option<Claim>> {
        Claim::new(&folder.join(format!(".xent-run-{}", self.name())))
    }

    /// Reads the run, if it has been finished.
    ///
    /// # Errors
    /// The file was not written by a sweep, or is of a run with the same prior, ε and seed but
    /// other settings.
    pub fn finished(&self, folder: &Path) -> Result<Option<Finished>> {
        let path = self.path(folder);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::reading(&path, error))?,
        };
        // What a machine that lost its power has left.
        if text.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let finished: Finished = serde_json::from_slice(&text).map_err(|error| {
            Error::reading(&path, format!("not written by xent sweep: {error}"))
        })?;
        if finished.values.len() != Measure::ALL.len() || finished.rows.train == 0 {
            return Err(Error::reading(&path, "not written by xent sweep: it lacks numbers"));
        }
        if finished.key != json!(self) {
            return Err(Error::in_file(
                &path,
                format!(
                    "it is from a run with other settings, data or version{}; choose another folder with --out or delete it",
                    differences(&finished.key, &json!(self))
                ),
            ));
        }
        Ok(Some(finished))
    }

    /// Writes the run's results and returns them.
    pub fn finish(&self, folder: &Path, rows: Split<usize>, values: Vec<f64>) -> Result<Finished> {
        let finished = Finished { key: json!(self), rows, values };
        let text = serde_json::to_string_pretty(&finished).map_err(Error::failed)? + "\n";
        let destination = Outputs::default().open(&self.path(folder))?;
        destination.write(|out| out.write_all(text.as_bytes()))?;
        Ok(finished)
    }
}

/// CRC-32 of all features and labels.
pub fn checksum(dataset: &Dataset) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    match &dataset.features {
        Features::Bytes { values, .. } => hasher.update(values),
        Features::Reals { values, .. } => {
            values.iter().for_each(|value| hasher.update(&value.to_le_bytes()))
        }
    }
    dataset.labels.iter().for_each(|label| hasher.update(&label.to_le_bytes()));
    hasher.finalize()
}
