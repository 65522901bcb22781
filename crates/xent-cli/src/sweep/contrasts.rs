//! The differences that a sweep is about, and what they come to.

use super::measure::Measure;
use super::summary::{Difference, SweepSummary};
use crate::report::{Contrast, Contrasts};
use crate::spread::ONE_SEED;

/// What is shown, the most important first.
const SHOWN: [(&str, Measure, &str); 5] = [
    ("Accuracy", Measure::Accuracy, " points"),
    ("NLL after temperature scaling", Measure::ScaledNll, ""),
    ("ECE, raw", Measure::Ece, ""),
    ("AURC", Measure::Aurc, ""),
    ("ECE after temperature scaling", Measure::ScaledEce, ""),
];
/// The most lines.
const LINES: usize = 4;

/// How the others differ from the reference; nothing if there are no others.
pub fn contrasts(summary: &SweepSummary, name: &dyn Fn(&Difference) -> String) -> Vec<Contrasts> {
    let of_measure = |(measure, of, unit): (&'static str, Measure, &'static str)| {
        let contrast = |difference: Difference| Contrast {
            name: format!("ε = {}", name(&difference)),
            difference: difference.difference.mean,
            interval: difference.interval,
            beyond_noise: difference.more_than_noise,
        };
        Contrasts {
            measure,
            baseline: format!("ε = {}", summary.arms[summary.reference()].epsilon),
            higher_is_better: of == Measure::Accuracy,
            factor: of.facts().factor,
            unit,
            decimals: of.facts().decimals,
            rows: summary.differences(of).into_iter().map(contrast).collect(),
        }
    };
    let all = SHOWN.into_iter().map(of_measure);
    all.filter(|contrasts| !contrasts.rows.is_empty()).collect()
}

/// A few short lines.
pub fn verdict(summary: &SweepSummary, contrasts: &[Contrasts]) -> Vec<String> {
    if contrasts.is_empty() || summary.seeds == 1 {
        let reference = &summary.arms[summary.reference()];
        let mean = |measure| reference.spread(measure).mean;
        let alone = format!(
            "ε = {}: {:.2} % right; NLL after temperature scaling {:.4}; ECE, raw, {:.4}.",
            reference.epsilon,
            100.0 * mean(Measure::Accuracy),
            mean(Measure::ScaledNll),
            mean(Measure::Ece)
        );
        let one_seed = (summary.seeds == 1).then(|| ONE_SEED.to_string());
        return one_seed.into_iter().chain([alone]).collect();
    }
    contrasts.iter().take(LINES).map(Contrasts::sentence).collect()
}
