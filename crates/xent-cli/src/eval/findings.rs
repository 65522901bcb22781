//! What the numbers show, in sentences.

use xent_metrics::{Estimate, NoOptimum};

use super::comparison::{Comparison, ModelScores};
use crate::report::{Finding, short};

/// All findings, with one line per model.
pub fn findings(comparison: &Comparison) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |brief, topic, text: String| findings.push(Finding { topic, text, brief });
    let each = |about: &dyn Fn(&ModelScores) -> Option<String>| {
        let several = comparison.models.len() > 1;
        let said = comparison.models.iter().filter_map(|model| {
            about(model).map(|text| if several { format!("{}: {text}", model.name) } else { text })
        });
        said.collect::<Vec<_>>().join("\n")
    };
    say(false, "Calibration", each(&calibration));
    say(true, "Temperature", each(&temperature));
    say(false, "Ranking", each(&ranking));
    say(false, "Training ε", each(&training_epsilon));
    say(false, "Features", each(&features));
    say(true, "What this is", limits(comparison));
    findings
}

fn calibration(model: &ModelScores) -> Option<String> {
    let raw = &model.scores.raw;
    let against = |estimate: Estimate| {
        let chance = estimate.chance?;
        let beyond =
            if estimate.value > chance.usual? { "more than chance" } else { "no more than chance" };
        Some(format!(
            "{:.4}, {beyond} (a perfectly calibrated model with these confidences scores {:.4} on average)",
            estimate.value, chance.mean
        ))
    };
    let after = model
        .scores
        .scaled
        .as_ref()
        .and_then(|scaled| against(scaled.ece))
        .map(|text| format!(" After temperature scaling it is {text}."));
    let over = raw.overconfidence();
    let direction = if over > 0.0 { "higher" } else { "lower" };
    Some(format!(
        "The ECE is {}. Confidences are on average {:.4} {direction} than the share of right rows.{}",
        against(raw.ece)?,
        over.abs(),
        after.unwrap_or_default()
    ))
}

fn temperature(model: &ModelScores) -> Option<String> {
    let temperature = model.scores.temperature?;
    let Some(rows) = temperature.rows else {
        return Some(format!("It was set to {}.", temperature.value));
    };
    if let Some(why) = temperature.no_optimum {
        let why = match why {
            NoOptimum::Separable => {
                "every label has the largest logit of its row, so the smaller it is, the better the NLL"
            }
            NoOptimum::WorseThanChance => {
                "the labels' logits are on average no higher than the rest of their rows, which is worse than chance, so the larger it is, the better the NLL. The labels may be in another order than the rows"
            }
        };
        return Some(format!(
            "No temperature is the best: {why}. The numbers after scaling are those at T = 1."
        ));
    }
    let means = if temperature.value > 1.0 {
        "above 1: the model is right less often than its confidence says"
    } else {
        "below 1: the model is right more often than its confidence says"
    };
    let sample = if rows < model.scores.raw.rows {
        format!(
            "{rows} rows, a sample, because files that are merged or cannot be read twice offer no more; --temperature {} computes the numbers after scaling from all rows. Accuracies are those of all rows",
            temperature.value
        )
    } else {
        "these rows themselves, so the numbers after scaling are slightly better than on other rows; --temperature takes one that was fitted elsewhere"
            .to_string()
    };
    let error = temperature
        .error
        .map(|error| format!(" (standard error {})", short(error)))
        .unwrap_or_default();
    Some(format!("{}{error}, {means}. It was fitted to {sample}.", short(temperature.value)))
}

fn ranking(model: &ModelScores) -> Option<String> {
    let (by_confidence, normalised) = (model.scores.raw.aurc, model.scores.aurc_normalised);
    let better = normalised.value < by_confidence.value;
    let advice = if better {
        "Rows that are to be rejected are better chosen by that than by confidence"
    } else {
        "Confidence ranks the rows as well as that"
    };
    Some(format!(
        "AURC, the mean share of wrong rows among the most confident, is {:.4} if rows are ranked by confidence, and {:.4} if they are ranked by their largest logit over the 4-norm of all (after their mean is subtracted). {advice}. Label smoothing often spoils the first ranking and leaves the second (Xia et al. 2025, arXiv 2403.14715).",
        by_confidence.value, normalised.value
    ))
}

fn training_epsilon(model: &ModelScores) -> Option<String> {
    let gap = &model.scores.raw.gap;
    let quartiles = format!(
        "of the logit gaps are between {:.2} and {:.2}",
        gap.quantiles[1].0, gap.quantiles[3].0
    );
    Some(match model.epsilon_estimate {
        Some(estimate) => format!(
            "Half {quartiles}, as close together as after training with ε = {:.3} ({:.3} to {:.3} at these quartiles). This is an estimate, from the gap ln(1 + (1−ε)K/ε): rows that were not \
             trained on, short training, wrong labels, weight decay or a temperature change the gap, too.",
            estimate.value, estimate.low, estimate.high
        ),
        None => format!("No estimate: half {quartiles}, unlike after training with a usual ε."),
    })
}

fn features(model: &ModelScores) -> Option<String> {
    let features = model.features.as_ref()?;
    let (separation, ratio) = (features.class_separation?, features.within_over_between?);
    Some(format!(
        "The class separation is {}: 1 if all rows of a class have one direction, 0 if classes have none of their own. The variance within classes is {} of that between them. Label smoothing raises the first and lowers the second, and such features transfer less well to other classes (Kornblith et al. 2021, arXiv 2010.16402).",
        short(separation),
        short(ratio)
    ))
}

fn limits(comparison: &Comparison) -> String {
    let mut text =
        "The numbers are those of these rows. Intervals say how much other rows from the same source would change them, not how much another training would."
            .to_string();
    if comparison.models.len() > 1 && comparison.paired.is_empty() {
        text.push_str(" Differences between the models are not tested: that takes their logits row by row, which --merge does not have.");
    }
    let rounding = comparison
        .models
        .iter()
        .map(|model| model.scores.raw.confidence_rounding)
        .fold(0.0, f64::max);
    if rounding > 0.0 {
        text.push_str(&format!(
            " There are too many different confidences to distinguish: bins of equal mass and AURC have them rounded to 1 part in {:.0}; everything else is exact.",
            1.0 / rounding
        ));
    }
    text
}
