//! What is known of some rows, as a file that merges with others.

use std::path::Path;

use serde::{Deserialize, Serialize};
use xent_metrics::Evaluation;

use crate::error::{Error, Result};
use crate::files::write_whole_with;

/// Changes when an older program could not read it, or would read it wrongly.
const FORMAT: &str = "xent evaluation 1";

/// A model on some rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluated {
    /// As the report calls it.
    pub name: String,
    /// All that is known.
    pub evaluation: Evaluation,
}

#[derive(Serialize, Deserialize)]
struct File<M> {
    format: String,
    models: M,
}

/// Writes models.
pub fn write(path: &Path, models: &[Evaluated]) -> Result<()> {
    let file = File { format: FORMAT.to_string(), models };
    write_whole_with(path, |writer| serde_json::to_writer(writer, &file).map_err(std::io::Error::from))
}

/// Reads files and merges them, one after the other, so that memory is taken for two at most.
///
/// # Errors
/// A file that is none of these, of other models or settings, or of rows that another has, too.
pub fn merge(paths: &[impl AsRef<Path>]) -> Result<Vec<Evaluated>> {
    let mut merged: Option<Vec<Evaluated>> = None;
    for path in paths {
        let path = path.as_ref();
        let models = read(path)?;
        let Some(merged) = &mut merged else {
            merged = Some(models);
            continue;
        };
        let names = |models: &[Evaluated]| models.iter().map(|model| model.name.clone()).collect::<Vec<_>>();
        if names(merged) != names(&models) {
            return Err(Error::input(format!("{}: it is of {}, expected {} as before", path.display(), names(&models).join(", "), names(merged).join(", "))));
        }
        for (model, other) in merged.iter_mut().zip(models) {
            if let Some(source) = other.evaluation.sources().keys().find(|source| model.evaluation.sources().contains_key(*source)) {
                return Err(Error::input(format!("{}: it has the rows of {source}, which were in a file before; expected each once", path.display())));
            }
            model.evaluation.merge(&other.evaluation).map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
        }
    }
    merged.ok_or_else(|| Error::input("--merge names no file"))
}

fn read(path: &Path) -> Result<Vec<Evaluated>> {
    let text = std::fs::read(path).map_err(|error| Error::reading(path, error))?;
    let file: File<Vec<Evaluated>> = serde_json::from_slice(&text).map_err(|error| Error::reading(path, format!("not written by --partial: {error}")))?;
    if file.format != FORMAT || file.models.is_empty() {
        let found: String = file.format.chars().take(40).filter(|c| !c.is_control()).collect();
        return Err(Error::reading(path, format!("its format is '{found}', expected '{FORMAT}'")));
    }
    Ok(file.models)
}
