//! The report of `xent train`: its table, its charts, its page and its JSON.

use maud::html;
use serde_json::{Value, json};
use xent_metrics::{BINS, Reliability};

use super::findings::seeds;
use super::measures::Measure;
use super::options::PriorName;
use super::run::Point;
use super::summary::{Arm, Summary};
use crate::error::Result;
use crate::report::{Axis, Cell, Chart, Finding, Group, Ink, Mark, Page, Section, Stroke, Table, Versions, key, reliability_chart, small_multiples};
use crate::spread::Spread;

/// Quantities as rows and ε as columns, so that it fits 80 columns of a terminal and a phone.
pub fn table(summary: &Summary) -> Table {
    let measured = |measure: Measure| -> Option<(String, Vec<Cell>)> {
        let (factor, decimals) = measure.shown();
        let cell = |arm: &Arm| arm.spread(measure).map(|spread| Cell::new(factor * spread.mean, spread.sd.map(|sd| factor * sd), decimals));
        Some((measure.name().to_string(), summary.arms.iter().map(cell).collect::<Option<_>>()?))
    };
    let derived = |name: &str, cell: fn(&Arm) -> Cell| Some((name.to_string(), summary.arms.iter().map(cell).collect()));
    let group = |title: &str, rows: Vec<Option<(String, Vec<Cell>)>>| Group { title: title.to_string(), rows: rows.into_iter().flatten().collect() };
    let capped = summary.arms.iter().any(|arm| arm.capped() > 0);
    Table {
        caption: match summary.settings.seeds {
            1 => "One seed. NLL, KL and loss in nats.".to_string(),
            n => format!("Mean ± standard deviation over {n} seeds. NLL, KL and loss in nats."),
        },
        corner: "label smoothing ε".to_string(),
        columns: summary.arms.iter().map(|arm| arm.epsilon.to_string()).collect(),
        groups: vec![
            group(
                "Test, raw",
                [Measure::Accuracy, Measure::BestAccuracy, Measure::Nll, Measure::BestNll, Measure::Ece, Measure::ChanceEce, Measure::Kl].map(measured).into(),
            ),
            group(
                "Test, after temperature",
                vec![
                    measured(Measure::Temperature),
                    if capped { derived("at end of range", |arm| Cell::text(format!("{} of {}", arm.capped(), arm.runs.len()))) } else { None },
                    measured(Measure::ScaledNll),
                    measured(Measure::ScaledEce),
                    measured(Measure::ScaledChanceEce),
                    measured(Measure::ScaledKl),
                ],
            ),
            group(
                "Logit gap",
                vec![measured(Measure::TestGap), measured(Measure::TrainGap), derived("training, theory", theory), measured(Measure::LateGrowth)],
            ),
            group(
                "Training part",
                vec![measured(Measure::TrainLoss), derived("floor of the loss", |arm| Cell::new(arm.optimum.floor, None, 3)), measured(Measure::TrainNll)],
            ),
        ],
    }
}

fn theory(arm: &Arm) -> Cell {
    match arm.optimum.gap {
        Some(gap) if gap.is_infinite() => Cell::text("∞"),
        Some(gap) => Cell::new(gap, None, 2),
        None => Cell::text("none"),
    }
}

/// A line for the mean and a band from the lowest to the highest seed.
fn curve(arm: &Arm, ink: Ink, value: fn(&Point) -> f64) -> [Mark; 2] {
    let points = arm.curve(value);
    [
        Mark::Band(ink, points.iter().map(|(epoch, spread)| (*epoch as f64, spread.low(), spread.high())).collect()),
        Mark::Line(ink, Stroke::Solid, points.iter().map(|(epoch, spread)| (*epoch as f64, spread.mean)).collect()),
    ]
}

/// The lowest and highest of some values in all runs.
fn extremes(summary: &Summary, values: fn(&Point) -> [f64; 2]) -> (f64, f64) {
    let all = summary.arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| &run.curve).flat_map(values);
    all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

fn title(arm: &Arm) -> String {
    format!("ε = {}", arm.epsilon)
}

fn nll_charts(summary: &Summary) -> Vec<Chart> {
    let (low, high) = extremes(summary, |point| [point.train_nll, point.test_nll]);
    // Eight powers of ten are more than anyone reads; a network that fits its rows perfectly would make more.
    let y = Axis::logarithmic("NLL", low.max(high * 1e-8)..high);
    let chart = |arm: &Arm| {
        let (first, last) = (&arm.curve(|point| point.train_nll), &arm.curve(|point| point.test_nll));
        let ends = |curve: &[(usize, Spread)]| format!("from {:.3} to {:.3}", curve[0].1.mean, curve[curve.len() - 1].1.mean);
        let lowest = last.iter().map(|(_, spread)| spread.mean).fold(f64::INFINITY, f64::min);
        Chart {
            title: title(arm),
            alt: format!("NLL over epochs at {}: training {}; test {}, lowest {lowest:.3}.", title(arm), ends(first), ends(last)),
            x: Axis::linear("epochs", 0.0..summary.settings.epochs as f64),
            y: y.clone(),
            marks: [curve(arm, Ink::First, |point| point.train_nll), curve(arm, Ink::Second, |point| point.test_nll)].concat(),
        }
    };
    summary.arms.iter().map(chart).collect()
}

fn gap_charts(summary: &Summary) -> Vec<Chart> {
    let (_, measured) = extremes(summary, |point| [point.train_gap, point.test_gap]);
    let optima = summary.arms.iter().filter_map(|arm| arm.optimum.gap).filter(|gap| gap.is_finite());
    let high = 1.05 * optima.fold(measured, f64::max);
    let chart = |arm: &Arm| {
        let mut marks = [curve(arm, Ink::Second, |point| point.test_gap), curve(arm, Ink::First, |point| point.train_gap)].concat();
        let epochs = summary.settings.epochs as f64;
        let finite = arm.optimum.gap.filter(|gap| gap.is_finite());
        marks.extend(finite.map(|gap| Mark::Line(Ink::Reference, Stroke::Dashed, vec![(0.0, gap), (epochs, gap)])));
        let at_end = |measure| arm.spread(measure).map_or(f64::NAN, |spread| spread.mean);
        let theory = finite.map_or("no bound".to_string(), |gap| format!("theory {gap:.2}"));
        Chart {
            title: title(arm),
            alt: format!(
                "Logit gap over epochs at {}: training rows end at {:.2} after {:+.2} in the last tenth, test rows at {:.2}; {theory}.",
                title(arm),
                at_end(Measure::TrainGap),
                at_end(Measure::LateGrowth),
                at_end(Measure::TestGap)
            ),
            x: Axis::linear("epochs", 0.0..epochs),
            y: Axis::linear("logit gap", 0.0..high),
            marks,
        }
    };
    summary.arms.iter().map(chart).collect()
}

fn both_reliabilities(arm: &Arm) -> [(Ink, Reliability); 2] {
    [(Ink::Second, arm.reliability(|run| &run.raw.reliability)), (Ink::First, arm.reliability(|run| &run.scaled.reliability))]
}

fn reliability_charts(summary: &Summary) -> Vec<Chart> {
    let chart = |arm: &Arm| {
        let mean = |measure| arm.spread(measure).map_or(f64::NAN, |spread| spread.mean);
        let alt = format!("Reliability at {}: mean ECE {:.3} raw, {:.3} after temperature scaling.", title(arm), mean(Measure::Ece), mean(Measure::ScaledEce));
        reliability_chart(title(arm), alt, &both_reliabilities(arm))
    };
    summary.arms.iter().map(chart).collect()
}

fn confidence_charts(summary: &Summary) -> Vec<Chart> {
    let chart = |arm: &Arm| {
        let both = both_reliabilities(arm);
        let share = |reliability: &Reliability, bin: usize| reliability.bins[bin].rows as f64 / reliability.rows() as f64;
        // Two bars in each bin, beside each other.
        let bars = |side: usize, reliability: &Reliability| {
            let edge = |bin: usize, part: f64| (bin as f64 + part) / BINS as f64;
            let from = 0.08 + 0.42 * side as f64;
            (0..BINS).map(|bin| (edge(bin, from), edge(bin, from + 0.42), share(reliability, bin))).collect()
        };
        let surest = |reliability: &Reliability| 100.0 * share(reliability, BINS - 1);
        let (lower, upper) = (100.0 * (BINS - 1) as f64 / BINS as f64, 100.0);
        Chart {
            title: title(arm),
            alt: format!(
                "Confidences at {}: {:.0} % of the test rows above {lower:.0} % (up to {upper:.0} %) raw, {:.0} % after temperature scaling.",
                title(arm),
                surest(&both[0].1),
                surest(&both[1].1)
            ),
            x: Axis::linear("confidence", 0.0..1.0),
            y: Axis::linear("share of test rows", 0.0..1.0),
            marks: both.iter().enumerate().map(|(side, (ink, reliability))| Mark::Bars(*ink, bars(side, reliability))).collect(),
        }
    };
    summary.arms.iter().map(chart).collect()
}

/// What was trained on what, in a line.
pub fn headline(summary: &Summary) -> String {
    let rows = summary.rows;
    format!(
        "{}: {} classes; {} rows train, {} validate (the temperature), {} test. Network {}, {} epoch{}, {} at each of {} ε.",
        summary.settings.data,
        summary.classes,
        rows.train,
        rows.validation,
        rows.test,
        summary.layers(),
        summary.settings.epochs,
        if summary.settings.epochs == 1 { "" } else { "s" },
        seeds(summary.settings.seeds),
        summary.arms.len()
    )
}

/// The whole report as one HTML file.
pub fn page(summary: &Summary, findings: &[Finding], seconds: f64, threads: usize) -> Result<String> {
    let versions = Versions::of_this_build();
    let settings = &summary.settings;
    let label_noise =
        (settings.label_noise > 0.0).then(|| format!("{} of the training labels made wrong, uniformly over the other classes", settings.label_noise));
    let prior = match settings.prior {
        PriorName::Uniform => "uniform over all classes",
        PriorName::Others => "uniform over the other classes than the true one",
    };
    let scaling = [(Ink::Second, Stroke::Solid, "raw"), (Ink::First, Stroke::Solid, "after temperature scaling")];
    let sections = vec![
        Section::new(
            "What this run shows",
            html! {
                div.beside {
                    dl.findings { @for finding in findings { dt { (finding.topic) } dd { (finding.shown()) } } }
                    (table(summary).to_html())
                }
            },
        ),
        Section::new(
            "Training against test",
            html! {
                p.note { "NLL after each epoch, on a logarithmic scale; the same measure for every ε. Lines are means over the seeds, bands reach from the lowest to the highest seed. Training that goes on falling while test does not is overfitting." }
                (key(&[(Ink::First, Stroke::Solid, "training part"), (Ink::Second, Stroke::Solid, "test part")]))
                (small_multiples(&nll_charts(summary))?)
            },
        ),
        Section::new(
            "The logit gap",
            html! {
                p.note { "How far the predicted class's logit stands above the others (above the logarithm of the mean of their exponentials). Lines and bands as above." }
                (key(&[(Ink::First, Stroke::Solid, "training part"), (Ink::Second, Stroke::Solid, "test part"), (Ink::Reference, Stroke::Dashed, "where the smoothed loss has its minimum")]))
                (small_multiples(&gap_charts(summary))?)
            },
        ),
        Section::new(
            "Are confidences right?",
            html! {
                p.note { "Test rows in " (BINS) " bins by confidence, all seeds together: the share that is right against the mean confidence. The larger a dot, the more rows; whiskers are 95 % intervals, somewhat too narrow since a row may be in several seeds' test parts. On the dashed line share and confidence agree; above it the network is right more often than it says." }
                (key(&[scaling[0], scaling[1], (Ink::Reference, Stroke::Dashed, "perfect calibration")]))
                (small_multiples(&reliability_charts(summary))?)
            },
        ),
        Section::new(
            "How confident is it?",
            html! {
                p.note { "Share of the test rows in each bin, all seeds together." }
                (key(&scaling))
                (small_multiples(&confidence_charts(summary))?)
            },
        ),
        Section::new(
            "How it was made",
            html! {
                dl.facts {
                    dt { "data" } dd { (summary.about) }
                    dt { "parts" } dd { (summary.rows.train) " rows fit the weights, " (summary.rows.validation) " the temperature, " (summary.rows.test) " are reported; drawn anew for each seed" @if summary.given_test { ", but for the test part, which came with the data" } @if label_noise.is_none() { "." } @else { "; " (label_noise.unwrap_or_default()) "." } }
                    dt { "network" } dd { (summary.layers()) ", ReLU, weights as He et al. draw them; Adam, learning rate " (settings.lr) ", batches of " (settings.batch_size) ", " (settings.epochs) " epochs, f32." }
                    dt { "smoothing" } dd { "ε = " (table(summary).columns.join(", ")) "; prior " (prior) "." }
                    dt { "pairing" } dd { "Runs with the same seed share their parts, label noise, initial weights and batches, whatever their ε." }
                    dt { "time" } dd { (format!("{seconds:.1} s on {threads} threads")) }
                    @for (name, version) in versions.lines() { dt { (name) } dd { (version) } }
                }
                h3 { "Again" }
                pre { code { (settings.command()) } }
            },
        ),
    ];
    Ok(Page { title: "Label smoothing: what it does".to_string(), subtitle: headline(summary), sections }.to_html())
}

/// The same as JSON. Everything but `environment` is the same in every run of the same command with the same build.
pub fn to_json(summary: &Summary, findings: &[Finding], seconds: f64, threads: usize) -> Value {
    json!({
        "report": "xent train",
        "command": summary.settings.command(),
        "settings": summary.settings,
        "data": { "about": summary.about, "features": summary.width, "classes": summary.classes, "rows": summary.rows },
        "epsilons": summary.arms.iter().map(Arm::to_json).collect::<Vec<_>>(),
        "findings": findings,
        "versions": Versions::of_this_build(),
        "environment": { "seconds": seconds, "threads": threads },
    })
}
