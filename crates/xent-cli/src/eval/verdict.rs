//! What the numbers come to, in a few short lines.

use xent_metrics::{Estimate, NoOptimum, Scored};

use super::comparison::{Comparison, ModelScores};
use crate::report::{Contrasts, short};

/// The measures of several models that are told.
const TOLD: [&str; 3] = ["Accuracy", "NLL after temperature scaling", "Brier score"];

/// Of one model, or of several side by side.
pub fn verdict(comparison: &Comparison, contrasts: &[Contrasts]) -> Vec<String> {
    // First what may make all numbers wrong.
    let mut lines = remarks(&comparison.models);
    match &comparison.models[..] {
        [only] => {
            let of_one = [accuracy(only), calibration(only), temperature(only), epsilon(only)];
            lines.extend(of_one.into_iter().flatten());
        }
        models if contrasts.is_empty() => lines.extend([
            ranked(models, "Accuracy", true, &|raw| 100.0 * raw.accuracy.value),
            ranked(models, "NLL", false, &|raw| raw.nll.value),
            ranked(models, "ECE", false, &|raw| raw.ece.value),
        ]),
        models => {
            let told = contrasts.iter().filter(|contrasts| TOLD.contains(&contrasts.measure));
            let ece = ranked(models, "ECE", false, &|raw| raw.ece.value);
            lines.extend(told.map(Contrasts::sentence).chain([ece]));
        }
    }
    lines
}

fn remarks(models: &[ModelScores]) -> Vec<String> {
    let of_one = |model: &ModelScores| -> Vec<String> {
        let named = |remark: &String| match models.len() {
            1 => remark.clone(),
            _ => format!("{}: {remark}", model.name),
        };
        model.remarks.iter().map(named).collect()
    };
    models.iter().flat_map(of_one).collect()
}

fn accuracy(model: &ModelScores) -> Option<String> {
    let accuracy = model.scores.raw.accuracy;
    let interval = accuracy.interval.map_or(String::new(), |(low, high)| {
        format!(" (95 % interval {:.2} to {:.2})", 100.0 * low, 100.0 * high)
    });
    Some(format!(
        "{:.2} % of the rows are right{interval}; always the most frequent class: {:.2} %.",
        100.0 * accuracy.value,
        100.0 * accuracy.chance?.mean
    ))
}

fn calibration(model: &ModelScores) -> Option<String> {
    let raw = &model.scores.raw;
    let Estimate { value, chance, .. } = raw.ece;
    let chance = chance?;
    if value <= chance.usual? {
        return Some(format!(
            "Confidences are right, as far as these rows tell: ECE {value:.4}, no more than chance."
        ));
    }
    let over = raw.overconfidence();
    Some(format!(
        "Confidences are on average {:.4} too {}: ECE {value:.4}, by chance {:.4}.",
        over.abs(),
        if over > 0.0 { "high" } else { "low" },
        chance.mean
    ))
}

fn temperature(model: &ModelScores) -> Option<String> {
    let (temperature, scaled) = (model.scores.temperature?, model.scores.scaled.as_ref()?);
    let raw = &model.scores.raw;
    Some(match temperature.no_optimum {
        Some(NoOptimum::Separable) => {
            "No temperature is the best: every label has the largest logit.".to_string()
        }
        Some(NoOptimum::WorseThanChance) => {
            "No temperature is the best: the logits are worse than chance.".to_string()
        }
        None => format!(
            "Logits divided by T = {}: NLL {:.4} instead of {:.4}, ECE {:.4} instead of {:.4}.",
            short(temperature.value),
            scaled.nll.value,
            raw.nll.value,
            scaled.ece.value,
            raw.ece.value
        ),
    })
}

fn epsilon(model: &ModelScores) -> Option<String> {
    let estimate = model.epsilon_estimate?;
    Some(format!(
        "The logit gaps are like those after training with ε of about {:.2}.",
        estimate.value
    ))
}

/// The models from the best to the worst by a measure; the best and the worst of many.
fn ranked(
    models: &[ModelScores],
    name: &str,
    higher_is_better: bool,
    measure: &dyn Fn(&Scored) -> f64,
) -> String {
    let mut order: Vec<(f64, &str)> =
        models.iter().map(|model| (measure(&model.scores.raw), model.name.as_str())).collect();
    order.sort_by(|a, b| if higher_is_better { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) });
    let say = |(value, model): &(f64, &str)| format!("{model} {}", short(*value));
    let shown = match &order[..] {
        [first, .., last] if order.len() > 4 => {
            format!("{}, …, {}", say(first), say(last))
        }
        all => all.iter().map(say).collect::<Vec<_>>().join(", "),
    };
    format!("{name}, the best first: {shown}.")
}
