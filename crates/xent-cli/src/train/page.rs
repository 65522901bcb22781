//! The report of `xent train`: its table, its charts, its page and its JSON.

use maud::html;
use serde_json::json;
use xent_metrics::{BINS, Reliability, UniformPrior};

use super::experiment::{Experiment, NetworkOptions};
use super::findings::{findings, seeds};
use super::measure::{Facts, Measure};
use super::run::Point;
use super::summary::{Arm, Summary};
use super::verdict::{contrasts, verdict};
use crate::error::Result;
use crate::report::{
    Axis, Cell, Chart, Group, Ink, Mark, RAW_AND_SCALED, Report, Section, Stroke, Table, Versions,
    dot_plots, folded, how_it_was_made, key, reliability_chart, small_multiples,
};
use crate::spread::Spread;

/// Quantities as rows and ε as columns, so that the table fits a terminal of 80 columns and a
/// phone.
fn table(summary: &Summary) -> Table {
    let measured = |measure: Measure| -> Option<(String, Vec<Cell>)> {
        let Facts { name, factor, decimals, .. } = *measure.facts();
        let cell = |arm: &Arm| {
            arm.spread(measure).map(|spread| {
                Cell::new(factor * spread.mean, spread.sd.map(|sd| factor * sd), decimals)
            })
        };
        Some((name.to_string(), summary.arms.iter().map(cell).collect::<Option<_>>()?))
    };
    let derived = |name: &str, cell: fn(&Arm) -> Cell| {
        Some((name.to_string(), summary.arms.iter().map(cell).collect()))
    };
    let group = |title: &str, rows: Vec<Option<(String, Vec<Cell>)>>| Group {
        title: title.to_string(),
        rows: rows.into_iter().flatten().collect(),
    };
    let some_without = summary.arms.iter().any(|arm| arm.without_temperature() > 0);
    Table {
        caption: match summary.experiment.seeds {
            1 => "One seed. NLL, KL and loss in nats.".to_string(),
            n => format!("Mean ± standard deviation over {n} seeds. NLL, KL and loss in nats."),
        },
        corner: "label smoothing ε".to_string(),
        columns: summary.arms.iter().map(|arm| arm.epsilon.to_string()).collect(),
        groups: vec![
            group(
                "Test, raw",
                [
                    Measure::Accuracy,
                    Measure::BestAccuracy,
                    Measure::Nll,
                    Measure::BestNll,
                    Measure::Ece,
                    Measure::ChanceEce,
                    Measure::Kl,
                ]
                .map(measured)
                .into(),
            ),
            group(
                "Test, after temperature",
                vec![
                    measured(Measure::Temperature),
                    if some_without {
                        derived("  no optimum, left at 1", |arm| {
                            Cell::text(format!(
                                "{} of {}",
                                arm.without_temperature(),
                                arm.runs.len()
                            ))
                        })
                    } else {
                        None
                    },
                    measured(Measure::ScaledNll),
                    measured(Measure::ScaledEce),
                    measured(Measure::ScaledChanceEce),
                    measured(Measure::ScaledKl),
                ],
            ),
            group(
                "Logit gap",
                vec![
                    measured(Measure::TestGap),
                    measured(Measure::TrainGap),
                    derived("training, theory", theory),
                    measured(Measure::LateGrowth),
                ],
            ),
            group(
                "Training part",
                vec![
                    measured(Measure::TrainLoss),
                    derived("floor of the loss", |arm| Cell::new(arm.optimum.floor, None, 3)),
                    measured(Measure::TrainNll),
                ],
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

/// A line through the means and a band from the lowest to the highest seed.
fn curve(arm: &Arm, ink: Ink, value: fn(&Point) -> f64) -> [Mark; 2] {
    let points = arm.curve(value);
    [
        Mark::Band(
            ink,
            points
                .iter()
                .map(|(epoch, spread)| (*epoch as f64, spread.low(), spread.high()))
                .collect(),
        ),
        Mark::Line(
            ink,
            Stroke::Solid,
            points.iter().map(|(epoch, spread)| (*epoch as f64, spread.mean)).collect(),
        ),
    ]
}

/// The lowest and the highest of some values in all runs.
fn extremes(summary: &Summary, values: fn(&Point) -> [f64; 2]) -> (f64, f64) {
    let all =
        summary.arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| &run.curve).flat_map(values);
    all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    })
}

fn title(arm: &Arm) -> String {
    format!("ε = {}", arm.epsilon)
}

fn nll_charts(summary: &Summary) -> Vec<Chart> {
    let (low, high) = extremes(summary, |point| [point.train_nll, point.test_nll]);
    // At most eight powers of ten; a network that fits its rows perfectly would span more.
    let y = Axis::logarithmic("NLL", low.max(high * 1e-8)..high);
    let chart = |arm: &Arm| {
        let (first, last) =
            (&arm.curve(|point| point.train_nll), &arm.curve(|point| point.test_nll));
        let ends = |curve: &[(usize, Spread)]| {
            format!("from {:.3} to {:.3}", curve[0].1.mean, curve[curve.len() - 1].1.mean)
        };
        let lowest = last.iter().map(|(_, spread)| spread.mean).fold(f64::INFINITY, f64::min);
        Chart {
            title: title(arm),
            alt: format!(
                "NLL over epochs at {}: training {}; test {}, lowest {lowest:.3}.",
                title(arm),
                ends(first),
                ends(last)
            ),
            x: Axis::linear("epochs", 0.0..summary.experiment.network.epochs as f64),
            y: y.clone(),
            marks: [
                curve(arm, Ink::First, |point| point.train_nll),
                curve(arm, Ink::Second, |point| point.test_nll),
            ]
            .concat(),
        }
    };
    summary.arms.iter().map(chart).collect()
}

fn gap_charts(summary: &Summary) -> Vec<Chart> {
    let (_, measured) = extremes(summary, |point| [point.train_gap, point.test_gap]);
    let optima =
        summary.arms.iter().filter_map(|arm| arm.optimum.gap).filter(|gap| gap.is_finite());
    let high = 1.05 * optima.fold(measured, f64::max);
    let chart = |arm: &Arm| {
        let mut marks = [
            curve(arm, Ink::Second, |point| point.test_gap),
            curve(arm, Ink::First, |point| point.train_gap),
        ]
        .concat();
        let epochs = summary.experiment.network.epochs as f64;
        let finite = arm.optimum.gap.filter(|gap| gap.is_finite());
        marks.extend(finite.map(|gap| {
            Mark::Line(Ink::Reference, Stroke::Dashed, vec![(0.0, gap), (epochs, gap)])
        }));
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
    [
        (Ink::Second, arm.reliability(|run| &run.raw.reliability)),
        (Ink::First, arm.reliability(|run| &run.scaled.reliability)),
    ]
}

fn reliability_charts(summary: &Summary) -> Vec<Chart> {
    let chart = |arm: &Arm| {
        let mean = |measure| arm.spread(measure).map_or(f64::NAN, |spread| spread.mean);
        let alt = format!(
            "Reliability at {}: mean ECE {:.3} raw, {:.3} after temperature scaling.",
            title(arm),
            mean(Measure::Ece),
            mean(Measure::ScaledEce)
        );
        reliability_chart(title(arm), alt, &both_reliabilities(arm))
    };
    summary.arms.iter().map(chart).collect()
}

fn confidence_charts(summary: &Summary) -> Vec<Chart> {
    let chart = |arm: &Arm| {
        let both = both_reliabilities(arm);
        let share = |reliability: &Reliability, bin: usize| {
            reliability.bins[bin].rows as f64 / reliability.rows() as f64
        };
        // Two bars side by side in each bin.
        let bars = |side: usize, reliability: &Reliability| {
            let edge = |bin: usize, part: f64| (bin as f64 + part) / BINS as f64;
            let from = 0.08 + 0.42 * side as f64;
            (0..BINS)
                .map(|bin| (edge(bin, from), edge(bin, from + 0.42), share(reliability, bin)))
                .collect()
        };
        let in_top_bin = |reliability: &Reliability| 100.0 * share(reliability, BINS - 1);
        let (lower, upper) = (100.0 * (BINS - 1) as f64 / BINS as f64, 100.0);
        Chart {
            title: title(arm),
            alt: format!(
                "Confidences at {}: {:.0} % of the test rows above {lower:.0} % (up to {upper:.0} %) raw, {:.0} % after temperature scaling.",
                title(arm),
                in_top_bin(&both[0].1),
                in_top_bin(&both[1].1)
            ),
            x: Axis::linear("confidence", 0.0..1.0),
            y: Axis::linear("share of test rows", 0.0..1.0),
            marks: both
                .iter()
                .enumerate()
                .map(|(side, (ink, reliability))| Mark::Bars(*ink, bars(side, reliability)))
                .collect(),
        }
    };
    summary.arms.iter().map(chart).collect()
}

/// What was trained on what, in a line.
fn headline(summary: &Summary) -> String {
    let rows = summary.rows;
    format!(
        "{}: {} classes; {} rows train, {} validate (the temperature), {} test. Network {}, {} epoch{}, {} at each of {} ε.",
        summary.experiment.data.data,
        summary.classes,
        rows.train,
        rows.validation,
        rows.test,
        summary.layers(),
        summary.experiment.network.epochs,
        if summary.experiment.network.epochs == 1 { "" } else { "s" },
        seeds(summary.experiment.seeds),
        summary.arms.len()
    )
}

/// The whole report. In its JSON everything except `environment` is the same in every run of the
/// same command with the same build.
pub fn report(summary: &Summary, seconds: f64, threads: usize) -> Result<Report> {
    let training =
        [(Ink::First, Stroke::Solid, "training part"), (Ink::Second, Stroke::Solid, "test part")];
    let contrasts = contrasts(summary);
    let verdict = verdict(summary, &contrasts);
    let mut pictures = Vec::new();
    if !contrasts.is_empty() {
        pictures.push(Section::new(
            "What smoothing changes",
            html! {
                (dot_plots(&contrasts))
                (folded("Dots are means over the seeds of the difference on the test part, lines their 95 % t intervals. A difference is better or worse if its interval excludes 0 (the thin line), otherwise unclear. Some of many intervals exclude 0 by chance; xent sweep corrects for that."))
            },
        ));
    }
    pictures.extend([
        Section::new(
            "Training against test",
            html! {
                (key(&training))
                (small_multiples(&nll_charts(summary))?)
                (folded("NLL after each epoch, on a logarithmic scale; the same measure for every ε. Lines are means over the seeds, bands reach from the lowest to the highest seed. If the training curve continues to fall and the test curve does not, the network overfits."))
            },
        ),
        Section::new(
            "Are confidences right?",
            html! {
                (key(&[RAW_AND_SCALED[0], RAW_AND_SCALED[1], (Ink::Reference, Stroke::Dashed, "perfect calibration")]))
                (small_multiples(&reliability_charts(summary))?)
                (folded(&format!("Test rows in {BINS} bins by confidence, all seeds together: the share of right rows against the mean confidence. The larger a dot, the more rows; whiskers are 95 % intervals, somewhat too narrow because a row may be in the test parts of several seeds. On the dashed line share and confidence agree; above it the network is right more often than its confidence says.")))
            },
        ),
        Section::new(
            "The logit gap",
            html! {
                (key(&[training[0], training[1], (Ink::Reference, Stroke::Dashed, "where the smoothed loss has its minimum")]))
                (small_multiples(&gap_charts(summary))?)
                (folded("How far the predicted class's logit is above the others (above the logarithm of the mean of their exponentials), over the epochs. Lines are means over the seeds, bands reach from the lowest to the highest seed."))
            },
        ),
        Section::new(
            "How confident is it?",
            html! {
                (key(&RAW_AND_SCALED))
                (small_multiples(&confidence_charts(summary))?)
                (folded("Share of the test rows in each bin of confidence, all seeds together."))
            },
        ),
    ]);
    let (experiment, findings) = (&summary.experiment, findings(summary));
    Ok(Report {
        title: "Label smoothing: what it does",
        headline: headline(summary),
        heading: "What this run shows",
        verdict: verdict.clone(),
        pictures,
        table: table(summary),
        reading: None,
        sections: vec![made(summary, seconds, threads)],
        json: json!({
            "report": "xent train",
            "command": command(experiment),
            "settings": experiment,
            "data": { "about": summary.about, "features": summary.width, "classes": summary.classes, "rows": summary.rows },
            "epsilons": summary.arms.iter().map(Arm::to_json).collect::<Vec<_>>(),
            "verdict": verdict,
            "findings": &findings,
            "versions": Versions::of_this_build(),
            "environment": { "seconds": seconds, "threads": threads },
        }),
        findings,
    })
}

fn command(experiment: &Experiment) -> String {
    experiment.command("train", &[experiment.prior])
}

fn made(summary: &Summary, seconds: f64, threads: usize) -> Section {
    let Summary { experiment, rows, .. } = summary;
    let NetworkOptions { epochs, batch_size, lr, .. } = &experiment.network;
    let drawn = if summary.given_test {
        "drawn anew for each seed, except the test part, which came with the data"
    } else {
        "drawn anew for each seed"
    };
    let label_noise = match experiment.data.label_noise {
        0.0 => String::new(),
        share => format!(
            "; a share of {share} of the training labels made wrong, uniformly over the other classes"
        ),
    };
    let prior = match experiment.prior {
        UniformPrior::Uniform => "uniform over all classes",
        UniformPrior::WrongClasses => "uniform over all classes except the true one",
    };
    let facts = [
        ("data", summary.about.clone()),
        ("parts", format!("{} rows fit the weights, {} the temperature, {} are reported; {drawn}{label_noise}.", rows.train, rows.validation, rows.test)),
        (
            "network",
            format!(
                "{}, ReLU, weights initialised as by He et al.; Adam, learning rate {lr}, batches of {batch_size}, {epochs} epochs, f32.",
                summary.layers()
            ),
        ),
        ("smoothing", format!("ε = {}; prior {prior}.", table(summary).columns.join(", "))),
        ("pairing", "Runs with the same seed share their parts, label noise, initial weights and batches, whatever their ε.".to_string()),
        ("time", format!("{seconds:.1} s on {threads} threads")),
    ];
    how_it_was_made(&facts, Some(&command(experiment)))
}
