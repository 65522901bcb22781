//! Evaluations of parts of a data set as files that merge: what `xent eval --partial` writes, and
//! what Python's `xent.metrics` passes between processes.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::error::PartialError;
use crate::evaluation::Evaluation;

/// Changes whenever an older program could not read the file or would misread it.
const FORMAT: &str = "xent evaluation 3";

/// A model and its evaluation on some rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluated {
    /// The name of the model in reports.
    pub name: String,
    /// The name was given, and is not that of its files: only models of this name merge with it.
    pub named: bool,
    /// The evaluation.
    pub evaluation: Evaluation,
}

#[derive(Serialize, Deserialize)]
struct File<M> {
    format: String,
    models: M,
}

/// What every version of the format has.
#[derive(Deserialize)]
struct Header {
    format: String,
}

/// Writes models, as JSON.
///
/// # Errors
/// Those of the writer.
pub fn write_partial(writer: impl Write, models: &[Evaluated]) -> std::io::Result<()> {
    let file = File { format: FORMAT.to_string(), models };
    serde_json::to_writer(writer, &file).map_err(std::io::Error::from)
}

/// Reads what [`write_partial`] wrote: at least one model.
///
/// ```
/// use xent_metrics::{Evaluated, Evaluation, Settings, read_partial, write_partial};
/// let evaluation = Evaluation::new(Settings::new(3));
/// let mut bytes = Vec::new();
/// write_partial(&mut bytes, &[Evaluated { name: "a".into(), named: true, evaluation }])?;
/// assert_eq!(read_partial(&bytes)?[0].evaluation.settings().classes, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`PartialError`] if the bytes are something else, damaged, or of another version.
pub fn read_partial(bytes: &[u8]) -> Result<Vec<Evaluated>, PartialError> {
    // The format first: the models of another version may not even have the same fields.
    let parsed = serde_json::from_slice::<File<Vec<Evaluated>>>(bytes);
    let format = match &parsed {
        Ok(file) => Some(file.format.clone()),
        Err(_) => serde_json::from_slice::<Header>(bytes).ok().map(|header| header.format),
    };
    if let Some(format) = format.filter(|format| format != FORMAT) {
        let found = format.chars().take(40).filter(|c| !c.is_control()).collect();
        return Err(PartialError::Format { found, expected: FORMAT });
    }
    match parsed {
        Ok(file) if file.models.is_empty() => Err(PartialError::NoModels),
        Ok(file) => Ok(file.models),
        Err(error) => Err(PartialError::Contents(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{LabelledRows, Logits, Settings};

    #[test]
    fn what_cannot_be_read_says_why() {
        let refused = |text: &str| read_partial(text.as_bytes()).unwrap_err();
        let newer = r#"{"format": "xent evaluation 4", "models": {"other": ["fields"]}}"#;
        assert_eq!(
            refused(newer).to_string(),
            "its format is 'xent evaluation 4', expected 'xent evaluation 3'"
        );
        let none = r#"{"format": "xent evaluation 3", "models": []}"#;
        assert_eq!(refused(none), PartialError::NoModels);
        for text in ["", "{", "[]", "null", r#"{"format": "xent evaluation 3", "models": [{}]}"#] {
            assert!(matches!(refused(text), PartialError::Contents(_)), "{text}");
        }
    }

    /// The places of all numbers and texts.
    fn leaves(value: &Value, path: String, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| leaves(value, format!("{path}/{key}"), found))
            }
            Value::Array(entries) => {
                entries.iter().enumerate().for_each(|(i, value)| {
                    leaves(value, format!("{path}/{i}"), found);
                });
            }
            _ => found.push(path),
        }
    }

    #[test]
    fn extreme_numbers_are_refused_or_harmless() {
        let mut evaluation = Evaluation::new(Settings::new(3));
        let logits: Vec<f32> = (0u16..60).map(|i| f32::from(i * 7 % 11)).collect();
        let labels: Vec<i64> = (0..20).map(|i| i % 3).collect();
        let rows =
            LabelledRows { source: "a", first: 0, logits: Logits::F32(&logits), labels: &labels };
        evaluation.add(&rows).unwrap();
        let mut bytes = Vec::new();
        let model = Evaluated { name: "a".into(), named: true, evaluation: evaluation.clone() };
        write_partial(&mut bytes, &[model]).unwrap();
        let file: Value = serde_json::from_slice(&bytes).unwrap();
        let mut paths = Vec::new();
        leaves(&file, String::new(), &mut paths);
        let mut read = 0;
        for path in &paths {
            for extreme in [Value::from(u64::MAX), Value::from(1u64 << 63), Value::from(f64::MAX)] {
                let mut file = file.clone();
                *file.pointer_mut(path).unwrap() = extreme;
                let Ok(mut models) = read_partial(&serde_json::to_vec(&file).unwrap()) else {
                    continue;
                };
                read += 1;
                let found = &mut models[0].evaluation;
                let mut merged = evaluation.clone();
                if merged.merge(found).is_ok() {
                    merged.scores();
                }
                found.add(&rows).unwrap();
                found.scores();
            }
        }
        assert!(read > 5, "{read} of {} files", 3 * paths.len());
    }
}
