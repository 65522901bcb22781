//! The charts of a report, one per model.

use xent_metrics::Scored;

use super::comparison::{Comparison, ModelScores};
use crate::report::{Axis, Chart, Ink, Mark, Stroke, reliability_chart};

/// The share of right rows against confidence.
pub fn reliability(comparison: &Comparison) -> Vec<Chart> {
    let chart = |model: &ModelScores| {
        let raw = &model.scores.raw;
        let scaled = model.scores.scaled.as_ref();
        let mut kinds = vec![(Ink::Second, raw.reliability.clone())];
        kinds.extend(scaled.map(|scaled| (Ink::First, scaled.reliability.clone())));
        let after = scaled.map_or(String::new(), |scaled| {
            format!(", {:.3} after temperature scaling", scaled.ece.value)
        });
        let alt = format!("Reliability of {}: ECE {:.3} raw{after}.", model.name, raw.ece.value);
        reliability_chart(model.name.clone(), alt, &kinds)
    };
    comparison.models.iter().map(chart).collect()
}

/// The share of wrong rows among the most confident.
pub fn risk(comparison: &Comparison) -> Vec<Chart> {
    let highest = comparison
        .models
        .iter()
        .flat_map(|model| model.scores.raw.risk_coverage.risk.iter().copied())
        .fold(0.01, f64::max);
    let line = |ink, scored: &Scored| {
        let curve = &scored.risk_coverage;
        Mark::Line(
            ink,
            Stroke::Solid,
            curve.coverage.iter().copied().zip(curve.risk.iter().copied()).collect(),
        )
    };
    let chart = |model: &ModelScores| {
        let raw = &model.scores.raw;
        let mut marks = vec![Mark::Line(
            Ink::Reference,
            Stroke::Dashed,
            [0.0, 1.0].map(|x| (x, 1.0 - raw.accuracy.value)).to_vec(),
        )];
        marks.extend(model.scores.scaled.as_ref().map(|scaled| line(Ink::First, scaled)));
        marks.push(line(Ink::Second, raw));
        let risk = |percent: usize| 100.0 * raw.risk_coverage.risk[percent - 1];
        Chart {
            title: model.name.clone(),
            alt: format!(
                "Risk by coverage of {}: {:.1} % wrong among the most confident half, {:.1} % among all.",
                model.name,
                risk(50),
                risk(100)
            ),
            x: Axis::linear("coverage", 0.0..1.0),
            y: Axis::linear("share wrong", 0.0..1.05 * highest),
            marks,
        }
    };
    comparison.models.iter().map(chart).collect()
}

/// The distribution of the logit gap.
pub fn gaps(comparison: &Comparison) -> Vec<Chart> {
    let chart = |model: &ModelScores| {
        let (width, shares) = &model.scores.raw.gap_histogram;
        let (width, gap) = (width.max(1e-9), &model.scores.raw.gap);
        let highest = shares.iter().copied().fold(0.01, f64::max);
        let bars = shares
            .iter()
            .enumerate()
            .map(|(bar, share)| (bar as f64 * width, (bar as f64 + 0.9) * width, *share))
            .collect();
        let [low, .., high] = gap.quantiles;
        Chart {
            title: model.name.clone(),
            alt: format!(
                "Logit gaps of {}: median {:.2}, 90 % of the rows between {:.2} and {:.2}.",
                model.name, gap.quantiles[2].0, low.0, high.0
            ),
            x: Axis::linear("logit gap", 0.0..width * shares.len().max(1) as f64),
            y: Axis::linear("share of rows", 0.0..1.05 * highest),
            marks: vec![Mark::Bars(Ink::Second, bars)],
        }
    };
    comparison.models.iter().map(chart).collect()
}
