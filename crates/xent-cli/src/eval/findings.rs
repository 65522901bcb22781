//! What the numbers say, in sentences.

use xent_metrics::Estimate;

use super::report::{ModelReport, Report};
use crate::report::Finding;

/// All there is to say; a line a model.
pub fn findings(report: &Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |topic, text: String| findings.push(Finding { topic, text, brief: true });
    let each = |about: &dyn Fn(&ModelReport) -> Option<String>| {
        let several = report.models.len() > 1;
        let said = report.models.iter().filter_map(|model| about(model).map(|text| if several { format!("{}: {text}", model.name) } else { text }));
        said.collect::<Vec<_>>().join("\n")
    };
    say("Calibration", each(&calibration));
    say("Temperature", each(&temperature));
    say("Training ε", each(&training_epsilon));
    say("What this is", limits(report));
    findings
}

fn calibration(model: &ModelReport) -> Option<String> {
    let raw = &model.scores.raw;
    let against = |estimate: Estimate| {
        let chance = estimate.chance?;
        let beyond = if estimate.value > chance.usual? { "more than chance" } else { "no more than chance" };
        Some(format!("{:.4}, {beyond} (a perfectly calibrated model with these confidences scores {:.4} on average)", estimate.value, chance.mean))
    };
    let after = model.scores.scaled.as_ref().and_then(|scaled| against(scaled.ece)).map(|text| format!(" After temperature scaling it is {text}."));
    // Every bin's mean less its share of right rows, weighted.
    let over: f64 = raw.reliability.bins.iter().map(|bin| bin.confidence.value() - bin.correct as f64).sum();
    let direction = if over > 0.0 { "higher" } else { "lower" };
    let distance = (over / raw.rows as f64).abs();
    Some(format!(
        "The ECE is {}. Confidences are on average {distance:.4} {direction} than the share of right rows.{}",
        against(raw.ece)?,
        after.unwrap_or_default()
    ))
}

fn temperature(model: &ModelReport) -> Option<String> {
    let temperature = model.scores.temperature?;
    let Some(rows) = temperature.rows else { return Some(format!("{} was given.", temperature.value)) };
    if temperature.capped {
        return Some(format!(
            "The search ended at {:.2}, an end of its range, as it does where all labels have the largest logit; such a temperature says little.",
            temperature.value
        ));
    }
    let means = if temperature.value > 1.0 { "above 1: the model is surer than it is right" } else { "below 1: it is right more often than it says" };
    let sample = if rows < model.scores.raw.rows {
        format!("{rows} rows, a sample: more did not fit into memory; --temperature {:.4} computes what follows from all rows", temperature.value)
    } else {
        "these very rows, so that what follows is a little better than it would be on others; --temperature takes one that was fitted elsewhere".to_string()
    };
    Some(format!("{:.3}, {means}. It was fitted to {sample}.", temperature.value))
}

fn training_epsilon(model: &ModelReport) -> Option<String> {
    let gap = &model.scores.raw.gap;
    let quartiles = format!("half of the logit gaps lie between {:.2} and {:.2}", gap.quantiles[1].0, gap.quantiles[3].0);
    Some(match model.epsilon_estimate {
        Some(estimate) => format!(
            "{quartiles}, close together, as smoothing with ε = {:.3} would leave them ({:.3} to {:.3} at these quartiles). An estimate, by ln(1 + (1−ε)K/ε): rows that were not \
             trained on, short training, wrong labels, weight decay or a temperature move the gap, too.",
            estimate.value, estimate.low, estimate.high
        ),
        None => format!("no estimate: {quartiles}, not as smoothing with a usual ε would leave them."),
    })
}

fn limits(report: &Report) -> String {
    let mut text = "Numbers of these rows. Intervals say how far other rows from the same source would move them, not what another training would.".to_string();
    let rounding = report.models.iter().map(|model| model.scores.raw.confidence_rounding).fold(0.0, f64::max);
    if rounding > 0.0 {
        text.push_str(&format!(
            " There are too many different confidences to keep: bins of equal mass and AURC know them to a part in {:.0}; all else is exact.",
            1.0 / rounding
        ));
    }
    text
}
