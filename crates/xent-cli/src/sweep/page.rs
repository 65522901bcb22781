//! The report of a sweep: sentences, table, charts, page and JSON.

use maud::html;
use serde_json::{Map, Value, json};
use xent_metrics::UniformPrior;

use super::contrasts::{contrasts, verdict};
use super::measure::Measure;
use super::summary::{Difference, SweepArm, SweepSummary};
use crate::data::Source;
use crate::error::Result;
use crate::report::{
    Axis, Cell, Chart, Finding, Group, Ink, Mark, Report, Section, Stroke, Table, Versions,
    dot_plots, folded, how_it_was_made, key, small_multiples,
};
use crate::spread::Spread;
use crate::train::{Experiment, Facts};

/// The measures that have charts.
const CHARTED: [Measure; 5] =
    [Measure::Accuracy, Measure::ScaledNll, Measure::Ece, Measure::ScaledEce, Measure::Aurc];

fn headline(summary: &SweepSummary, data: &Source) -> String {
    format!(
        "{data}: {} amounts of smoothing, {} seeds each, {} test rows.",
        summary.arms.len(),
        summary.seeds,
        summary.rows.test
    )
}

fn name(prior: UniformPrior, epsilon: f64, priors: bool) -> String {
    if priors && epsilon > 0.0 {
        format!("{epsilon}, {}", prior.kind())
    } else {
        epsilon.to_string()
    }
}

fn both_priors(summary: &SweepSummary) -> bool {
    summary.arms.iter().any(|arm| arm.prior != summary.arms[0].prior)
}

/// Measures as rows, arms as columns; an asterisk marks a difference that is more than noise.
fn table(summary: &SweepSummary) -> Table {
    let priors = both_priors(summary);
    let row = |measure: &Measure| {
        let Facts { name, factor, decimals, .. } = measure.facts();
        let differences = summary.differences(*measure);
        let starred = |arm: &SweepArm| {
            let found = differences.iter().find(|difference| {
                (difference.epsilon, difference.prior) == (arm.epsilon, arm.prior)
            });
            Measure::JUDGED.contains(measure)
                && found.is_some_and(|difference| difference.more_than_noise)
        };
        let cell = |arm: &SweepArm| {
            let spread = arm.spread(*measure);
            let mut cell =
                Cell::new(factor * spread.mean, spread.sd.map(|sd| factor * sd), decimals);
            if starred(arm) {
                cell.main.push('*');
            }
            cell
        };
        (name.to_string(), summary.arms.iter().map(cell).collect())
    };
    Table {
        caption: format!(
            "Mean ± standard deviation over {} seeds. * Differs from ε = {} by more than the seeds' noise.",
            summary.seeds,
            summary.arms[summary.reference()].epsilon
        ),
        corner: "label smoothing ε".to_string(),
        columns: summary.arms.iter().map(|arm| name(arm.prior, arm.epsilon, priors)).collect(),
        groups: vec![Group {
            title: "Test part".to_string(),
            rows: Measure::ALL.iter().map(row).collect(),
        }],
    }
}

/// Says which differences are more than noise, and by which test.
fn findings(summary: &SweepSummary) -> Vec<Finding> {
    let priors = both_priors(summary);
    let reference = summary.arms[summary.reference()].epsilon;
    let about = |measure: &Measure| {
        let Facts { name: measured, factor, decimals, .. } = measure.facts();
        let differences = summary.differences(*measure);
        let say = |difference: &Difference| {
            let p = difference.p.map_or(String::new(), |p| {
                if p < 0.0005 {
                    ", p\u{a0}<\u{a0}0.0005".to_string()
                } else {
                    format!(", p\u{a0}=\u{a0}{p:.3}")
                }
            });
            let change =
                format!("{:+.decimals$}", factor * difference.difference.mean).replace('-', "−");
            let unit = if *measure == Measure::Accuracy { " points" } else { "" };
            format!(
                "{change}{unit} at ε = {}{p}",
                name(difference.prior, difference.epsilon, priors)
            )
        };
        let (beyond, within): (Vec<&Difference>, Vec<&Difference>) =
            differences.iter().partition(|difference| difference.more_than_noise);
        let list = |differences: &[&Difference]| {
            differences.iter().map(|difference| say(difference)).collect::<Vec<_>>().join("; ")
        };
        let text = match (beyond.is_empty(), within.is_empty()) {
            (true, true) => return None,
            (true, false) => format!(
                "No difference from ε = {reference} exceeds the seeds' noise: {}.",
                list(&within)
            ),
            (false, true) => format!(
                "Every difference from ε = {reference} exceeds the seeds' noise: {}.",
                list(&beyond)
            ),
            (false, false) => format!(
                "Differences from ε = {reference} that exceed the seeds' noise: {}. Others: {}.",
                list(&beyond),
                list(&within)
            ),
        };
        Some(Finding { topic: measured.trim_end_matches(", %"), text, brief: false })
    };
    let mut findings: Vec<Finding> = Measure::JUDGED.iter().filter_map(about).collect();
    let noise = if summary.seeds == 1 {
        "One seed has no spread: no difference can be distinguished from noise; use --seeds 8."
            .to_string()
    } else {
        format!(
            "By {}, at 5 % for each measure. A difference within the noise may still exist: more seeds would show it.",
            summary.test()
        )
    };
    findings.push(Finding {
        topic: "The test",
        text: format!(
            "{noise} The temperature is fitted to the validation part. This is one small network on one data set: with other data each difference can have the other sign."
        ),
        brief: true,
    });
    findings
}

fn charts(summary: &SweepSummary) -> Vec<Chart> {
    let chart = |measure: Measure| {
        let Facts { name, factor, decimals, .. } = measure.facts();
        let (low, high) = summary
            .arms
            .iter()
            .map(|arm| arm.spread(measure))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), spread| {
                (low.min(spread.low()), high.max(spread.high()))
            });
        let margin = 0.05 * (high - low).max(1e-6);
        let last = summary.arms.iter().map(|arm| arm.epsilon).fold(0.01, f64::max);
        let mut marks = Vec::new();
        for (prior, ink) in
            [(UniformPrior::WrongClasses, Ink::Second), (UniformPrior::Uniform, Ink::First)]
        {
            // Without smoothing priors do not differ, so ε = 0 belongs to both.
            let mut arms: Vec<&SweepArm> = summary
                .arms
                .iter()
                .filter(|arm| arm.prior == prior || arm.epsilon == 0.0)
                .collect();
            if arms.iter().all(|arm| arm.prior != prior) {
                continue;
            }
            arms.sort_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
            let of = |value: fn(&Spread) -> f64| {
                arms.iter().map(move |arm| (arm.epsilon, factor * value(arm.spread(measure))))
            };
            marks.push(Mark::Band(
                ink,
                of(|spread| spread.low())
                    .zip(of(|spread| spread.high()))
                    .map(|((x, low), (_, high))| (x, low, high))
                    .collect(),
            ));
            marks.push(Mark::Line(ink, Stroke::Solid, of(|spread| spread.mean).collect()));
            marks.push(Mark::Dots(
                ink,
                of(|spread| spread.mean).map(|(x, y)| (x, y, 2.5)).collect(),
            ));
        }
        let means = summary.arms.iter().map(|arm| {
            format!("{:.decimals$} at {}", factor * arm.spread(measure).mean, arm.epsilon)
        });
        Chart {
            title: name.to_string(),
            alt: format!("{name} against ε: {}.", means.collect::<Vec<_>>().join(", ")),
            x: Axis::linear("ε", 0.0..1.03 * last),
            y: Axis::linear(name, factor * (low - margin)..factor * (high + margin)),
            marks,
        }
    };
    CHARTED.into_iter().map(chart).collect()
}

/// The whole report; the same bytes however often the sweep was interrupted.
pub fn report(
    summary: &SweepSummary,
    about: &str,
    experiment: &Experiment,
    priors: &[UniformPrior],
) -> Result<Report> {
    let inks = [
        (UniformPrior::Uniform, Ink::First, "uniform over all classes"),
        (UniformPrior::WrongClasses, Ink::Second, "uniform over all classes except the true one"),
    ];
    let shown: Vec<(Ink, Stroke, &str)> = inks
        .into_iter()
        .filter(|(prior, ..)| summary.arms.iter().any(|arm| arm.prior == *prior))
        .map(|(_, ink, name)| (ink, Stroke::Solid, name))
        .collect();
    let rows = summary.rows;
    let drawn = if summary.given_test {
        "drawn anew for each seed, except the test part."
    } else {
        "drawn anew for each seed."
    };
    let facts = [
        ("data", about.to_string()),
        ("parts", format!("{} rows train, {} validate (the temperature), {} test; {drawn}", rows.train, rows.validation, rows.test)),
        ("pairing", "Runs with the same seed share their parts, label noise, initial weights and batches, whatever their ε and prior.".to_string()),
    ];
    let command = experiment.command("sweep", priors);
    let both = both_priors(summary);
    let contrasts =
        contrasts(summary, &|difference| name(difference.prior, difference.epsilon, both));
    let verdict = verdict(summary, &contrasts);
    let mut pictures = Vec::new();
    if !contrasts.is_empty() {
        pictures.push(Section::new(
            "What smoothing changes",
            html! {
                (dot_plots(&contrasts))
                (folded(&format!("Dots are means over the seeds of the difference on the test part, lines their 95 % intervals. Better or worse is what {} finds at 5 % for each measure, so an interval may exclude 0 (the thin line) and the difference still be unclear.", summary.test())))
            },
        ));
    }
    pictures.push(Section::new(
        "Against ε",
        html! {
            (key(&shown))
            (small_multiples(&charts(summary))?)
            (folded("Lines are means over the seeds, bands reach from the lowest to the highest seed. NLLs after temperature scaling are comparable between amounts of smoothing; losses are not."))
        },
    ));
    let arm = |arm: &SweepArm| {
        let measures: Map<String, Value> = Measure::ALL
            .iter()
            .map(|measure| (measure.facts().key.to_string(), json!(arm.spread(*measure))))
            .collect();
        json!({ "epsilon": arm.epsilon, "prior": arm.prior, "measures": measures })
    };
    let differences: Map<String, Value> = Measure::JUDGED
        .iter()
        .map(|measure| (measure.facts().key.to_string(), json!(summary.differences(*measure))))
        .collect();
    let findings = findings(summary);
    Ok(Report {
        title: "Label smoothing, swept",
        headline: headline(summary, &experiment.data.data),
        heading: "What this sweep shows",
        verdict: verdict.clone(),
        pictures,
        table: table(summary),
        reading: None,
        sections: vec![how_it_was_made(&facts, Some(&command))],
        json: json!({
            "report": "xent sweep",
            "command": command,
            "data": { "about": about, "rows": rows },
            "arms": summary.arms.iter().map(arm).collect::<Vec<_>>(),
            "against": { "epsilon": summary.arms[summary.reference()].epsilon, "test": summary.test(), "differences": differences },
            "verdict": verdict,
            "findings": &findings,
            "versions": Versions::of_this_build(),
        }),
        findings,
    })
}
