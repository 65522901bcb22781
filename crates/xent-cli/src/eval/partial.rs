//! The evaluation of some rows as a file that merges with others.

use std::path::Path;

use serde::{Deserialize, Serialize};
use xent_metrics::Evaluation;

use crate::error::{Error, Result};
use crate::output::Destination;

/// Changes whenever an older program could not read the file or would misread it.
const FORMAT: &str = "xent evaluation 3";

/// A model and its evaluation on some rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluated {
    /// The name of the model in the report.
    pub name: String,
    /// The evaluation.
    pub evaluation: Evaluation,
}

#[derive(Serialize, Deserialize)]
struct File<M> {
    format: String,
    models: M,
}

/// Writes a file.
pub fn write(destination: Destination, models: &[Evaluated]) -> Result<()> {
    let file = File { format: FORMAT.to_string(), models };
    destination.write(|writer| serde_json::to_writer(writer, &file).map_err(std::io::Error::from))
}

/// Reads files and merges them, one after the other, so that at most two are in memory.
///
/// # Errors
/// A file was not written by --partial, or is of other models or settings, or of rows that another
/// file has, too.
pub fn merge(paths: &[impl AsRef<Path>]) -> Result<Vec<Evaluated>> {
    let mut merged: Option<Vec<Evaluated>> = None;
    for path in paths {
        let path = path.as_ref();
        let models = read(path)?;
        let Some(merged) = &mut merged else {
            merged = Some(models);
            continue;
        };
        let names = |models: &[Evaluated]| {
            models.iter().map(|model| model.name.clone()).collect::<Vec<_>>()
        };
        if names(merged) != names(&models) {
            return Err(Error::in_file(
                path,
                format!(
                    "it is of {}, expected {} as before",
                    names(&models).join(", "),
                    names(merged).join(", ")
                ),
            ));
        }
        for (model, other) in merged.iter_mut().zip(models) {
            if let Some(source) = other
                .evaluation
                .sources()
                .keys()
                .find(|source| model.evaluation.sources().contains_key(*source))
            {
                return Err(Error::in_file(
                    path,
                    format!(
                        "it has the rows of {source}, which were in a file before; expected each once"
                    ),
                ));
            }
            model
                .evaluation
                .merge(&other.evaluation)
                .map_err(|error| Error::in_file(path, error))?;
        }
    }
    merged.ok_or_else(|| Error::input("--merge names no file"))
}

fn read(path: &Path) -> Result<Vec<Evaluated>> {
    let text = std::fs::read(path).map_err(|error| Error::reading(path, error))?;
    let file: File<Vec<Evaluated>> = serde_json::from_slice(&text)
        .map_err(|error| Error::reading(path, format!("not written by --partial: {error}")))?;
    if file.format != FORMAT || file.models.is_empty() {
        let found: String = file.format.chars().take(40).filter(|c| !c.is_control()).collect();
        return Err(Error::reading(path, format!("its format is '{found}', expected '{FORMAT}'")));
    }
    Ok(file.models)
}
