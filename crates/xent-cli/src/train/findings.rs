//! What a run shows and what it does not, in sentences built from its numbers.

use xent_metrics::NoOptimum;

use super::measure::Measure;
use super::run::{Probabilities, Run};
use super::summary::{Arm, Summary};
use crate::report::Finding;
use crate::spread::Spread;

/// All findings, the most certain first.
pub fn findings(summary: &Summary) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |brief, topic, text: Option<String>| {
        findings.extend(text.map(|text| Finding { topic, text, brief }))
    };
    say(true, "Diverged", diverged(summary));
    say(true, "Logit gap", logit_gap(summary));
    say(true, "Training loss", training_loss(summary));
    say(false, "Overfitting", overfitting(summary));
    say(false, "Accuracy", accuracy(summary));
    say(
        false,
        "Raw probabilities",
        compare_probabilities(summary, Measure::Nll, Measure::Ece, Measure::Kl),
    );
    say(
        false,
        "After temperature scaling",
        compare_probabilities(summary, Measure::ScaledNll, Measure::ScaledEce, Measure::ScaledKl),
    );
    say(false, "Temperature", temperature(summary));
    say(false, "Calibration against chance", against_chance(summary));
    say(true, "Best possible", best_possible(summary));
    say(true, "Not shown", Some(limits(summary)));
    findings
}

/// Runs whose loss ended higher than it began: their other numbers say nothing about smoothing.
fn diverged(summary: &Summary) -> Option<String> {
    let of_arm = |arm: &Arm| {
        let up = arm.runs.iter().filter(|run| run.diverged()).count();
        (up > 0).then(|| format!("at ε = {} on {up} of {}", arm.epsilon, seeds(arm.runs.len())))
    };
    let arms: Vec<String> = summary.arms.iter().filter_map(of_arm).collect();
    let text = format!(
        "Training ended with a higher loss than it began with {}; a lower --lr may help. The numbers of these runs say nothing about smoothing.",
        list(&arms)
    );
    (!arms.is_empty()).then_some(text)
}

fn logit_gap(summary: &Summary) -> Option<String> {
    // With fewer than 10 epochs the last tenth is the last epoch.
    let late = if summary.experiment.network.epochs < 10 {
        "in the last epoch"
    } else {
        "in the last tenth of the epochs"
    };
    let mut sentences = Vec::new();
    if let Some(plain) = summary.plain() {
        let (gap, growth) = (plain.spread(Measure::TrainGap)?, plain.spread(Measure::LateGrowth)?);
        let still = match growth.signs() {
            (up, _) if up == growth.values.len() => {
                format!("was still growing, by {} {late}", show(&growth, 1.0, 2))
            }
            (0, _) => format!("no longer grew {late}"),
            (up, _) => format!("grew {late} on {up} of {}", seeds(growth.values.len())),
        };
        sentences.push(format!("Without smoothing, nothing bounds the logit gap of the training rows: it reached {} and {still}.", show(&gap, 1.0, 2)));
    }
    let ends: Vec<String> = summary
        .smoothed()
        .filter_map(|arm| {
            let (gap, optimum) = (arm.spread(Measure::TrainGap)?, arm.optimum.gap?);
            let off = if optimum > 0.0 {
                format!(" ({:+.1} %)", 100.0 * (gap.mean / optimum - 1.0)).replace('-', "−")
            } else {
                String::new()
            };
            Some(format!("{} against {optimum:.2}{off} at ε = {}", show(&gap, 1.0, 2), arm.epsilon))
        })
        .collect();
    if !ends.is_empty() {
        sentences.push(format!("With smoothing the gap has an optimum, which it approaches as the network fits the rows; it ended at {}.", list(&ends)));
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn training_loss(summary: &Summary) -> Option<String> {
    let ends: Vec<String> = summary
        .smoothed()
        .filter_map(|arm| {
            let loss = arm.spread(Measure::TrainLoss)?;
            (arm.optimum.floor > 0.0).then(|| {
                format!(
                    "{:.1} % above its floor of {:.3} at ε = {}",
                    100.0 * (loss.mean / arm.optimum.floor - 1.0),
                    arm.optimum.floor,
                    arm.epsilon
                )
            })
        })
        .collect();
    if ends.is_empty() {
        return None;
    }
    Some(format!(
        "A smoothed loss cannot reach 0: it ended {}. Losses with different ε are therefore not comparable; NLLs are.",
        list(&ends)
    ))
}

fn accuracy(summary: &Summary) -> Option<String> {
    let differences = differences(summary, Measure::Accuracy, 100.0, 2, Better::Higher, " points")?;
    Some(format!("Seed by seed against ε = 0, accuracy changed by {differences}."))
}

fn overfitting(summary: &Summary) -> Option<String> {
    let ends = summary.arms.iter().map(|arm| {
        let (train, test, rise) =
            (arm.spread(Measure::TrainNll)?, arm.spread(Measure::Nll)?, arm.spread(Measure::Rise)?);
        Some(format!(
            "{:.3} and {:.3} at ε = {} (test {:.3} above its lowest)",
            train.mean, test.mean, arm.epsilon, rise.mean
        ))
    });
    Some(format!(
        "At the end, NLL on the training part and on the test part is {}.",
        list(&ends.collect::<Option<Vec<_>>>()?)
    ))
}

fn compare_probabilities(
    summary: &Summary,
    nll: Measure,
    ece: Measure,
    kl: Measure,
) -> Option<String> {
    let change = |measure| differences(summary, measure, 1.0, 3, Better::Lower, "");
    let mut text = format!(
        "Seed by seed against ε = 0, NLL changed by {}. ECE changed by {}.",
        change(nll)?,
        change(ece)?
    );
    if let Some(change) = change(kl) {
        text.push_str(&format!(" The KL divergence from the truth changed by {change}."));
    }
    Some(text)
}

fn temperature(summary: &Summary) -> Option<String> {
    let mut parts = Vec::new();
    let (mut under, mut over, mut neither) = (Vec::new(), Vec::new(), Vec::new());
    for arm in &summary.arms {
        let temperature = arm.spread(Measure::Temperature)?;
        let apart = Spread::new(temperature.values.iter().map(|value| value - 1.0).collect());
        let text = format!("{} at ε = {}", show(&temperature, 1.0, 2), arm.epsilon);
        match (apart.stands_out(), apart.mean < 0.0) {
            (true, true) => under.push(text),
            (true, false) => over.push(text),
            (false, _) => neither.push(text),
        }
    }
    let mut part = |temperatures: &[String], means: &str| {
        if !temperatures.is_empty() {
            parts.push(format!("{} ({means})", list(temperatures)));
        }
    };
    part(&under, "below 1: the network is right more often than its confidence says");
    part(&over, "above 1: it is right less often than its confidence says");
    part(
        &neither,
        if summary.experiment.seeds == 1 {
            "one seed"
        } else {
            "not distinguishable from 1 with these seeds"
        },
    );
    let mut text = format!(
        "Fitted on the {} validation rows, the temperature is {}.",
        summary.rows.validation,
        parts.join("; ")
    );
    let runs = || summary.arms.iter().flat_map(|arm| &arm.runs);
    let all = runs().count();
    for (why, means) in [
        (NoOptimum::Separable, "all validation rows are right, so the smaller, the better"),
        (NoOptimum::WorseThanChance, "the network is worse than chance, so the larger, the better"),
    ] {
        let without = runs().filter(|run| run.temperature.no_optimum == Some(why)).count();
        if without > 0 {
            text.push_str(&format!(
                " In {without} of {all} runs no temperature is the best ({means}); there it is 1."
            ));
        }
    }
    Some(text)
}

fn against_chance(summary: &Summary) -> Option<String> {
    let describe = |probabilities: fn(&Run) -> &Probabilities| -> String {
        let of_arm = |arm: &Arm| {
            let each: Vec<&Probabilities> = arm.runs.iter().map(probabilities).collect();
            let mean = |value: fn(&Probabilities) -> f64| {
                each.iter().map(|it| value(it)).sum::<f64>() / each.len() as f64
            };
            let beyond = each
                .iter()
                .filter(|it| it.chance_ece.usual.is_some_and(|usual| it.ece > usual))
                .count();
            let number = format!(
                "{:.3} against {:.3} at ε = {}",
                mean(|it| it.ece),
                mean(|it| it.chance_ece.mean),
                arm.epsilon
            );
            (number, format!("beyond chance on {beyond} of {}", seeds(each.len())))
        };
        judged(summary.arms.iter().map(of_arm).collect())
    };
    Some(format!(
        "Even a perfectly calibrated model with the same confidences would not have an ECE of 0 on {} rows. The raw ECE is {}. After temperature scaling it is {}. \
         An ECE is beyond chance if such a model would reach it in fewer than 1 of 20 draws of the labels.",
        summary.rows.test,
        describe(|run| &run.raw),
        describe(|run| &run.scaled)
    ))
}

fn best_possible(summary: &Summary) -> Option<String> {
    let arm = summary.arms.first()?;
    let (accuracy, nll) = (arm.spread(Measure::BestAccuracy)?, arm.spread(Measure::BestNll)?);
    Some(format!(
        "A classifier that knows the true probabilities would be right on {} % of the test rows and have an NLL of {}.",
        show(&accuracy, 100.0, 2),
        show(&nll, 1.0, 3)
    ))
}

fn limits(summary: &Summary) -> String {
    let n = summary.experiment.seeds;
    let spread = if n == 1 {
        "One seed has no spread: nothing above can be distinguished from chance; use --seeds 8."
            .to_string()
    } else {
        format!(
            "A change is called noise if 0 is in the 95 % t interval of the differences of the {n} seeds. The seeds draw their parts from the same rows, so these intervals are \
             rather too narrow than too wide, and some of many comparisons are significant by chance."
        )
    };
    let noise = if summary.experiment.data.label_noise > 0.0 {
        format!(
            " A share of {} of the training labels was made wrong deliberately; gap and loss on the training part are those with the wrong labels.",
            summary.experiment.data.label_noise
        )
    } else {
        String::new()
    };
    format!(
        "{spread}{noise} The temperature is fitted to the validation part, and all scores are of the test part, to which nothing was fitted. \
         This is one small network on one small data set: with other data each difference can have the other sign, except the gap and the floor, which follow from the loss."
    )
}

/// Whether more is better.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    Higher,
    Lower,
}

/// For each ε > 0, how a measure changed against ε = 0, with a verdict. None without ε = 0, without
/// another ε, or if the runs do not have the measure.
fn differences(
    summary: &Summary,
    measure: Measure,
    factor: f64,
    decimals: usize,
    better: Better,
    unit: &str,
) -> Option<String> {
    let plain = summary.plain()?.spread(measure)?;
    let of_arm = |arm: &Arm| -> Option<(String, String)> {
        let difference = arm.spread(measure)?.less(&plain);
        Some((
            format!("{}{unit} at ε = {}", signed(&difference, factor, decimals), arm.epsilon),
            verdict(&difference, better),
        ))
    };
    let changes: Vec<(String, String)> = summary.smoothed().map(of_arm).collect::<Option<_>>()?;
    (!changes.is_empty()).then(|| judged(changes))
}

/// Numbers with their verdicts; a verdict that all share is said once.
fn judged(numbers: Vec<(String, String)>) -> String {
    match &numbers[..] {
        [(_, first), _, ..] if numbers.iter().all(|(_, judgement)| judgement == first) => {
            let judgement = format!(" (each {first})");
            list(&numbers.into_iter().map(|(number, _)| number).collect::<Vec<_>>()) + &judgement
        }
        _ => list(
            &numbers
                .iter()
                .map(|(number, judgement)| format!("{number} ({judgement})"))
                .collect::<Vec<_>>(),
        ),
    }
}

fn verdict(difference: &Spread, better: Better) -> String {
    let n = difference.values.len();
    let (up, down) = difference.signs();
    let (good, bad) = if better == Better::Higher { (up, down) } else { (down, up) };
    let word =
        if (difference.mean > 0.0) == (better == Better::Higher) { "better" } else { "worse" };
    match n {
        1 if up + down == 0 => "no difference, one seed".to_string(),
        1 => format!("{word}, one seed"),
        _ if !difference.stands_out() => "within the seeds' noise".to_string(),
        2 if good.max(bad) == 2 => format!("{word} on both seeds"),
        _ if good.max(bad) == n => format!("{word} on all {n} seeds"),
        _ => format!("{word} on {} of {n} seeds", good.max(bad)),
    }
}

fn show(spread: &Spread, factor: f64, decimals: usize) -> String {
    with_deviation(format!("{:.decimals$}", factor * spread.mean), spread, factor, decimals)
}

fn signed(spread: &Spread, factor: f64, decimals: usize) -> String {
    let text = format!("{:+.decimals$}", factor * spread.mean);
    let nothing = text[1..].bytes().all(|byte| matches!(byte, b'0' | b'.'));
    with_deviation(
        if nothing { text[1..].to_string() } else { text.replace('-', "−") },
        spread,
        factor,
        decimals,
    )
}

fn with_deviation(mean: String, spread: &Spread, factor: f64, decimals: usize) -> String {
    match spread.sd {
        Some(sd) => format!("{mean} ±{:.decimals$}", factor * sd),
        None => mean,
    }
}

/// `1 seed`, `5 seeds`.
pub fn seeds(n: usize) -> String {
    if n == 1 { "1 seed".to_string() } else { format!("{n} seeds") }
}

/// `a`, `a and b`, `a, b and c`.
fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_spread() {
        let of = |values: &[f64], better| verdict(&Spread::new(values.to_vec()), better);
        assert_eq!(of(&[0.1, 0.11, 0.12], Better::Lower), "worse on all 3 seeds");
        assert_eq!(of(&[0.1, 0.11, 0.12], Better::Higher), "better on all 3 seeds");
        assert_eq!(of(&[-0.1, -0.11, -0.12], Better::Lower), "better on all 3 seeds");
        assert_eq!(of(&[0.1, -0.11, 0.12], Better::Lower), "within the seeds' noise");
        assert_eq!(of(&[0.0, 0.0], Better::Lower), "within the seeds' noise");
        assert_eq!(
            of(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -0.01], Better::Higher),
            "better on 9 of 10 seeds"
        );
        assert_eq!(of(&[-2.0, -2.1], Better::Higher), "worse on both seeds");
        assert_eq!(of(&[-2.0], Better::Higher), "worse, one seed");
    }

    #[test]
    fn numbers_and_lists_read_well() {
        assert_eq!(signed(&Spread::new(vec![-0.5, -0.25]), 1.0, 2), "−0.38 ±0.18");
        assert_eq!(signed(&Spread::new(vec![-0.0004]), 1.0, 3), "0.000");
        assert_eq!(show(&Spread::new(vec![0.5]), 100.0, 1), "50.0");
        let judge = |judgements: [&str; 2]| {
            judged(vec![("1".into(), judgements[0].into()), ("2".into(), judgements[1].into())])
        };
        assert_eq!(
            (judge(["good", "good"]), judge(["good", "bad"])),
            ("1 and 2 (each good)".into(), "1 (good) and 2 (bad)".into())
        );
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
