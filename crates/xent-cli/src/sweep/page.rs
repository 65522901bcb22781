//! The report of a sweep: sentences, table, charts, page and JSON.

use maud::html;
use serde_json::{Map, Value, json};

use super::summary::{Arm, Difference, Measure, Summary};
use crate::error::Result;
use crate::report::{Axis, Cell, Chart, Finding, Group, Ink, Mark, Page, Section, Stroke, Table, Versions, key, small_multiples};
use crate::train::PriorName;

/// What is charted.
const CHARTED: [Measure; 5] = [Measure::Accuracy, Measure::ScaledNll, Measure::Ece, Measure::ScaledEce, Measure::Aurc];

/// Of what, in a line.
pub fn headline(summary: &Summary, about: &str) -> String {
    format!("{}: {} amounts of smoothing, {} seeds each, {} test rows.", about.trim_end_matches('.'), summary.arms.len(), summary.seeds, summary.rows.test)
}

fn name(prior: PriorName, epsilon: f64, priors: bool) -> String {
    match (prior, priors && epsilon > 0.0) {
        (PriorName::Others, true) => format!("{epsilon}, others"),
        (PriorName::Uniform, true) => format!("{epsilon}, uniform"),
        (_, false) => epsilon.to_string(),
    }
}

fn both_priors(summary: &Summary) -> bool {
    summary.arms.iter().any(|arm| arm.prior != summary.arms[0].prior)
}

/// Measures as rows, arms as columns; an asterisk where a difference is more than noise.
pub fn table(summary: &Summary) -> Table {
    let priors = both_priors(summary);
    let row = |measure: &Measure| {
        let (factor, decimals) = measure.shown();
        let differences = summary.differences(*measure);
        let starred = |arm: &Arm| {
            let found = differences.iter().find(|difference| (difference.epsilon, difference.prior) == (arm.epsilon, arm.prior));
            Measure::JUDGED.contains(measure) && found.is_some_and(|difference| difference.more_than_noise)
        };
        let cell = |arm: &Arm| {
            let spread = arm.spread(*measure);
            let mut cell = Cell::new(factor * spread.mean, spread.sd.map(|sd| factor * sd), decimals);
            if starred(arm) {
                cell.main.push('*');
            }
            cell
        };
        (measure.names().0.to_string(), summary.arms.iter().map(cell).collect())
    };
    Table {
        caption: format!(
            "Mean ± standard deviation over {} seeds. * Differs from ε = {} by more than the seeds' noise.",
            summary.seeds,
            summary.arms[summary.reference()].epsilon
        ),
        corner: "label smoothing ε".to_string(),
        columns: summary.arms.iter().map(|arm| name(arm.prior, arm.epsilon, priors)).collect(),
        groups: vec![Group { title: "Test part".to_string(), rows: Measure::ALL.iter().map(row).collect() }],
    }
}

/// Which differences are more than noise, and by which test.
pub fn findings(summary: &Summary) -> Vec<Finding> {
    let priors = both_priors(summary);
    let reference = summary.arms[summary.reference()].epsilon;
    let about = |measure: &Measure| {
        let (factor, decimals) = measure.shown();
        let differences = summary.differences(*measure);
        let say = |difference: &Difference| {
            let p = difference.p.map_or(String::new(), |p| if p < 0.0005 { ", p\u{a0}<\u{a0}0.0005".to_string() } else { format!(", p\u{a0}=\u{a0}{p:.3}") });
            let change = format!("{:+.decimals$}", factor * difference.difference.mean).replace('-', "−");
            let unit = if *measure == Measure::Accuracy { " points" } else { "" };
            format!("{change}{unit} at ε = {}{p}", name(difference.prior, difference.epsilon, priors))
        };
        let (beyond, within): (Vec<&Difference>, Vec<&Difference>) = differences.iter().partition(|difference| difference.more_than_noise);
        let list = |differences: &[&Difference]| differences.iter().map(|difference| say(difference)).collect::<Vec<_>>().join("; ");
        let text = match (beyond.is_empty(), within.is_empty()) {
            (true, true) => return None,
            (true, false) => format!("No difference from ε = {reference} is more than the seeds' noise: {}.", list(&within)),
            (false, true) => format!("Every difference from ε = {reference} is more than the seeds' noise: {}.", list(&beyond)),
            (false, false) => format!("More than the seeds' noise, against ε = {reference}: {}. Not more: {}.", list(&beyond), list(&within)),
        };
        Some(Finding {
            topic: measure.names().0.trim_end_matches(", %"),
            text,
            brief: matches!(measure, Measure::Accuracy | Measure::ScaledNll | Measure::ScaledEce | Measure::Aurc),
        })
    };
    let mut findings: Vec<Finding> = Measure::JUDGED.iter().filter_map(about).collect();
    let noise = if summary.seeds == 1 {
        "One seed has no spread: nothing can be told from noise; --seeds 8 could.".to_string()
    } else {
        format!("By {}, at 5 % for each measure. What is not more than noise may still be there: more seeds would tell.", summary.test())
    };
    findings.push(Finding {
        topic: "The test",
        text: format!(
            "{noise} The temperature is fitted on the validation part. One small network on one data set: other data can turn each difference around."
        ),
        brief: true,
    });
    findings
}

fn charts(summary: &Summary) -> Vec<Chart> {
    let chart = |measure: Measure| {
        let (factor, decimals) = measure.shown();
        let (low, high) = summary
            .arms
            .iter()
            .map(|arm| arm.spread(measure))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), spread| (low.min(spread.low()), high.max(spread.high())));
        let margin = 0.05 * (high - low).max(1e-6);
        let last = summary.arms.iter().map(|arm| arm.epsilon).fold(0.01, f64::max);
        let mut marks = Vec::new();
        for (prior, ink) in [(PriorName::Others, Ink::Second), (PriorName::Uniform, Ink::First)] {
            // Without smoothing priors do not differ, so that ε = 0 belongs to both.
            let mut arms: Vec<&Arm> = summary.arms.iter().filter(|arm| arm.prior == prior || arm.epsilon == 0.0).collect();
            if arms.iter().all(|arm| arm.prior != prior) {
                continue;
            }
            arms.sort_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
            let of = |value: fn(&crate::spread::Spread) -> f64| arms.iter().map(move |arm| (arm.epsilon, factor * value(arm.spread(measure))));
            marks.push(Mark::Band(ink, of(|spread| spread.low()).zip(of(|spread| spread.high())).map(|((x, low), (_, high))| (x, low, high)).collect()));
            marks.push(Mark::Line(ink, Stroke::Solid, of(|spread| spread.mean).collect()));
            marks.push(Mark::Dots(ink, of(|spread| spread.mean).map(|(x, y)| (x, y, 2.5)).collect()));
        }
        let means = summary.arms.iter().map(|arm| format!("{:.decimals$} at {}", factor * arm.spread(measure).mean, arm.epsilon));
        Chart {
            title: measure.names().0.to_string(),
            alt: format!("{} against ε: {}.", measure.names().0, means.collect::<Vec<_>>().join(", ")),
            x: Axis::linear("ε", 0.0..1.03 * last),
            y: Axis::linear(measure.names().0, factor * (low - margin)..factor * (high + margin)),
            marks,
        }
    };
    CHARTED.into_iter().map(chart).collect()
}

/// The whole report as one HTML file.
pub fn page(summary: &Summary, about: &str, command: &str) -> Result<String> {
    let inks = [
        (PriorName::Uniform, (Ink::First, Stroke::Solid, "uniform over all classes")),
        (PriorName::Others, (Ink::Second, Stroke::Solid, "uniform over all but the true class")),
    ];
    let shown: Vec<(Ink, Stroke, &str)> =
        inks.into_iter().filter(|(prior, _)| summary.arms.iter().any(|arm| arm.prior == *prior)).map(|(_, entry)| entry).collect();
    let sections = vec![
        Section::new(
            "What this sweep shows",
            html! {
                div.beside {
                    dl.findings { @for finding in findings(summary) { dt { (finding.topic) } dd { (finding.shown()) } } }
                    (table(summary).to_html())
                }
            },
        ),
        Section::new(
            "Against ε",
            html! {
                p.note { "Lines are means over the seeds, bands reach from the lowest to the highest seed. NLL after temperature scaling compares between amounts of smoothing; losses do not." }
                (key(&shown))
                (small_multiples(&charts(summary))?)
            },
        ),
        Section::new(
            "How it was made",
            html! {
                dl.facts {
                    dt { "data" } dd { (about) }
                    dt { "parts" } dd { (summary.rows.train) " rows train, " (summary.rows.validation) " validate (the temperature), " (summary.rows.test) " test; drawn anew for each seed" @if summary.given_test { ", but for the test part" } "." }
                    dt { "pairing" } dd { "Runs with the same seed share their parts, label noise, initial weights and batches, whatever their ε and prior." }
                    @for (name, version) in Versions::of_this_build().lines() { dt { (name) } dd { (version) } }
                }
                h3 { "Again" }
                pre { code { (command) } }
            },
        ),
    ];
    Ok(Page { title: "Label smoothing, swept".to_string(), subtitle: headline(summary, about), sections }.to_html())
}

/// The same as JSON; the same bytes however often the sweep was interrupted.
pub fn to_json(summary: &Summary, about: &str, command: &str) -> Value {
    let arm = |arm: &Arm| {
        let measures: Map<String, Value> = Measure::ALL.iter().map(|measure| (measure.names().1.to_string(), json!(arm.spread(*measure)))).collect();
        json!({ "epsilon": arm.epsilon, "prior": arm.prior, "measures": measures })
    };
    let differences: Map<String, Value> = Measure::JUDGED.iter().map(|measure| (measure.names().1.to_string(), json!(summary.differences(*measure)))).collect();
    json!({
        "report": "xent sweep",
        "command": command,
        "data": { "about": about, "rows": summary.rows },
        "arms": summary.arms.iter().map(arm).collect::<Vec<_>>(),
        "against": { "epsilon": summary.arms[summary.reference()].epsilon, "test": summary.test(), "differences": differences },
        "findings": findings(summary),
        "versions": Versions::of_this_build(),
    })
}
