//! Finished runs on disk: each a file that is there whole or not at all.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::summary::Measure;
use crate::data::{Dataset, Features, PartRows};
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::train::{PriorName, Settings};

/// Everything that decides a run's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// The program's version.
    pub version: String,
    /// As given to `--data`.
    pub data: String,
    /// Of the rows themselves, so that changed data are noticed.
    pub checksum: u32,
    /// Share of wrong training labels.
    pub label_noise: f64,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Passes over the training part.
    pub epochs: usize,
    /// Rows a step.
    pub batch_size: usize,
    /// Learning rate.
    pub lr: f64,
    /// Where smoothing puts its mass.
    pub prior: PriorName,
    /// ε.
    pub epsilon: f64,
    /// The seed.
    pub seed: u64,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// What was run.
    pub key: Key,
    /// Rows in each part.
    pub rows: PartRows,
    /// What came out, in the order of [`Measure::ALL`].
    pub values: Vec<f64>,
}

impl Key {
    /// Of a run.
    pub fn new(settings: &Settings, checksum: u32, epsilon: f64, seed: u64) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_string(),
            data: settings.data.clone(),
            checksum,
            label_noise: settings.label_noise,
            hidden: settings.hidden.clone(),
            epochs: settings.epochs,
            batch_size: settings.batch_size,
            lr: settings.lr,
            prior: settings.prior,
            epsilon,
            seed,
        }
    }

    fn path(&self, folder: &Path) -> PathBuf {
        let prior = if self.prior == PriorName::Uniform { "uniform" } else { "others" };
        folder.join(format!("{prior}-epsilon-{}-seed-{}.json", self.epsilon, self.seed))
    }

    /// The run, if it has been finished.
    ///
    /// # Errors
    /// A file that is none of ours, or of a run with the same ε and seed but other settings.
    pub fn finished(&self, folder: &Path) -> Result<Option<Finished>> {
        let path = self.path(folder);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::reading(&path, error))?,
        };
        let finished: Finished = serde_json::from_slice(&text).map_err(|error| Error::reading(&path, format!("not written by xent sweep: {error}")))?;
        if finished.values.len() != Measure::ALL.len() || finished.rows.train == 0 {
            return Err(Error::reading(&path, "not written by xent sweep: it lacks numbers"));
        }
        if finished.key != *self {
            return Err(Error::input(format!("{}: a run with other settings, data or version; --out names another folder, or delete it", path.display())));
        }
        Ok(Some(finished))
    }
}

impl Finished {
    /// Keeps it.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(Error::failed)?;
        text.push(b'\n');
        write_whole(&self.key.path(folder), &text)
    }
}

/// CRC-32 of all features and labels.
pub fn checksum(dataset: &Dataset) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    match &dataset.features {
        Features::Bytes { values, .. } => hasher.update(values),
        Features::Reals { values, .. } => values.iter().for_each(|value| hasher.update(&value.to_le_bytes())),
    }
    dataset.labels.iter().for_each(|label| hasher.update(&label.to_le_bytes()));
    hasher.finalize()
}

/// Removes what a run that was killed has left half-written.
pub fn clean(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::reading(folder, error))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(".xent-") {
            std::fs::remove_file(entry.path()).map_err(|error| Error::writing(&entry.path(), error))?;
        }
    }
    Ok(())
}
