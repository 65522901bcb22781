//! What a run comes to: a few short lines, and the differences that they are drawn from.

use super::measure::Measure;
use super::summary::{Arm, Summary};
use crate::report::{Contrast, Contrasts};
use crate::spread::ONE_SEED;

/// The most lines.
const LINES: usize = 4;

/// The most important first.
pub fn verdict(summary: &Summary, contrasts: &[Contrasts]) -> Vec<String> {
    let mut lines = Vec::new();
    let runs = || summary.arms.iter().flat_map(|arm| &arm.runs);
    let diverged = runs().filter(|run| run.diverged()).count();
    if diverged > 0 {
        lines.push(format!(
            "{diverged} of {} runs diverged; their numbers say nothing about smoothing.",
            runs().count()
        ));
    }
    match &summary.arms[..] {
        [only] => lines.extend(alone(only)),
        [first, .., last] if summary.experiment.seeds == 1 => {
            lines.push(ONE_SEED.to_string());
            lines.extend([first, last].into_iter().filter_map(alone));
        }
        _ => lines.extend(contrasts.iter().map(Contrasts::sentence)),
    }
    lines.truncate(LINES - 1);
    lines.extend(gap(summary));
    lines
}

/// The numbers of an arm.
fn alone(arm: &Arm) -> Option<String> {
    let mean = |measure| Some(arm.spread(measure)?.mean);
    Some(format!(
        "ε = {}: {:.2} % right; NLL {:.3}, after temperature scaling {:.3}; ECE {:.3}.",
        arm.epsilon,
        100.0 * mean(Measure::Accuracy)?,
        mean(Measure::Nll)?,
        mean(Measure::ScaledNll)?,
        mean(Measure::Ece)?
    ))
}

/// Where the logit gap of the training rows ended.
fn gap(summary: &Summary) -> Option<String> {
    let end = |arm: &Arm| Some(arm.spread(Measure::TrainGap)?.mean);
    let mut parts = Vec::new();
    if let Some(gap) = summary.plain().and_then(end) {
        parts.push(format!("{gap:.1} without smoothing, which has no bound"));
    }
    // The most smoothing bounds it most.
    let most = summary.smoothed().max_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
    if let Some(arm) = most
        && let (Some(gap), Some(optimum)) = (end(arm), arm.optimum.gap)
    {
        parts.push(format!("{gap:.1} at ε = {}, where {optimum:.1} is the best", arm.epsilon));
    }
    let text = format!("The logit gap of the training rows ended at {}.", parts.join("; at "));
    (!parts.is_empty()).then_some(text)
}

/// How the others differ from ε = 0 (or from the first ε), seed by seed.
pub fn contrasts(summary: &Summary) -> Vec<Contrasts> {
    let reference = summary.plain().unwrap_or(&summary.arms[0]);
    let others = || summary.arms.iter().filter(|arm| arm.epsilon != reference.epsilon);
    if others().next().is_none() {
        return Vec::new();
    }
    [
        ("Accuracy", Measure::Accuracy, " points"),
        ("NLL after temperature scaling", Measure::ScaledNll, ""),
        ("ECE, raw", Measure::Ece, ""),
        ("ECE after temperature scaling", Measure::ScaledEce, ""),
    ]
    .into_iter()
    .filter_map(|(name, measure, unit)| {
        let baseline = reference.spread(measure)?;
        let contrast = |arm: &Arm| {
            let difference = arm.spread(measure)?.less(&baseline);
            Some(Contrast {
                name: format!("ε = {}", arm.epsilon),
                difference: difference.mean,
                interval: difference.test(0.0).map(|test| test.interval()),
                beyond_noise: difference.stands_out(),
            })
        };
        Some(Contrasts {
            measure: name,
            baseline: format!("ε = {}", reference.epsilon),
            higher_is_better: measure == Measure::Accuracy,
            factor: measure.facts().factor,
            unit,
            decimals: measure.facts().decimals,
            rows: others().map(contrast).collect::<Option<_>>()?,
        })
    })
    .collect()
}
