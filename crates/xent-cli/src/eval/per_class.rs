//! The metrics of every class as a CSV file, for which report.json may be too small.

use std::path::Path;

use xent_metrics::ClassScores;

use super::comparison::Comparison;
use crate::error::Result;
use crate::files::write_whole_with;

const HEADER: [&str; 9] = [
    "model",
    "class",
    "rows",
    "predicted",
    "recall",
    "precision",
    "nll",
    "ece",
    "ece_after_temperature",
];

/// Writes a row per model and class; what a class does not have is empty.
pub fn write(path: &Path, comparison: &Comparison) -> Result<()> {
    write_whole_with(path, |writer| {
        let mut table = csv::Writer::from_writer(writer);
        table.write_record(HEADER)?;
        for model in &comparison.models {
            let scaled = model.scores.scaled.as_ref();
            for (class, scores) in model.scores.raw.classes.iter().enumerate() {
                let after = scaled.map(|scaled| scaled.classes[class].ece);
                table.write_record(record(&model.name, class, scores, after))?;
            }
        }
        table.flush()
    })
}

fn record(model: &str, class: usize, scores: &ClassScores, after: Option<f64>) -> [String; 9] {
    let text = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
    [
        model.to_string(),
        class.to_string(),
        scores.rows.to_string(),
        scores.predicted.to_string(),
        text(scores.recall),
        text(scores.precision),
        text(scores.nll.map(|nll| nll.0)),
        text(Some(scores.ece)),
        text(after),
    ]
}
