//! The tables of a report.

use xent_metrics::{Estimate, NoOptimum, Scored};

use super::comparison::{Comparison, ModelScores};
use super::features::FeatureScores;
use super::soft::Soft;
use super::weighted::{Weighed, Weighted};
use crate::report::{Cell, Group, Table, short};

/// The most classes and mistakes that are shown.
const SHOWN: usize = 20;

/// How to read [`table`].
pub const READING: &str = "Chance level: the score of a perfectly calibrated model with the same confidences; for accuracy, NLL, Brier score and AURC, the score of a model that knows only the frequency of each class. Intervals are bootstrapped; those of calibration errors are corrected for the bias of scatter and may be below the number.";

/// Quantities as rows, models as columns.
pub fn table(comparison: &Comparison) -> Table {
    let row =
        |name: &str, cell: &dyn Fn(&ModelScores) -> Option<Cell>| -> Option<(String, Vec<Cell>)> {
            let cells: Vec<Option<Cell>> = comparison.models.iter().map(cell).collect();
            let any = cells.iter().any(Option::is_some);
            any.then(|| {
                (
                    name.to_string(),
                    cells.into_iter().map(|cell| cell.unwrap_or_else(|| Cell::text("–"))).collect(),
                )
            })
        };
    let plain = |value: f64, decimals: usize| Some(number(value, decimals));
    let group = |title: String, rows: Vec<Option<(String, Vec<Cell>)>>| Group {
        title,
        rows: rows.into_iter().flatten().collect(),
    };
    let measures = |of: &dyn Fn(&ModelScores) -> Option<&Scored>, all: bool| {
        let estimate = |name: &str,
                        factor: f64,
                        decimals: usize,
                        measure: &dyn Fn(&Scored) -> Option<Estimate>| {
            let value = |model: &ModelScores| {
                of(model)
                    .and_then(measure)
                    .map(|estimate| with_interval(&estimate, factor, decimals))
            };
            let chance = |model: &ModelScores| {
                of(model)
                    .and_then(measure)?
                    .chance
                    .map(|chance| number(factor * chance.mean, decimals))
            };
            [row(name, &value), row("  chance level", &chance)]
        };
        let mut rows = Vec::new();
        if all {
            rows.extend(estimate("accuracy, %", 100.0, 2, &|scored| Some(scored.accuracy)));
            rows.extend(estimate("top-5, %", 100.0, 2, &|scored| scored.top5));
        }
        rows.extend(estimate("NLL", 1.0, 4, &|scored| Some(scored.nll)));
        rows.push(row("perplexity", &|model| {
            let Estimate { value, interval, .. } = of(model)?.perplexity;
            let ends = |(low, high)| format!("[{}, {}]", short(low), short(high));
            Some(Cell { main: short(value), spread: interval.map(ends) })
        }));
        rows.extend(estimate("Brier score", 1.0, 4, &|scored| Some(scored.brier)));
        rows.extend(estimate("ECE", 1.0, 4, &|scored| Some(scored.ece)));
        rows.extend(estimate("ECE, equal mass", 1.0, 4, &|scored| Some(scored.ece_equal_mass)));
        rows.extend(estimate("ECE, classwise", 1.0, 4, &|scored| Some(scored.ece_classwise)));
        rows.extend(estimate("MCE", 1.0, 4, &|scored| Some(scored.mce)));
        rows.extend(estimate("AURC", 1.0, 4, &|scored| Some(scored.aurc)));
        rows
    };
    let temperature = |model: &ModelScores| {
        let temperature = model.scores.temperature?;
        Some(match temperature.no_optimum {
            None => Cell::text(short(temperature.value)),
            Some(NoOptimum::Separable) => Cell::text("none: separable"),
            Some(NoOptimum::WorseThanChance) => Cell::text("none: worse than chance"),
        })
    };
    let sampled = |model: &ModelScores| {
        let fitted = model.scores.temperature?.rows?;
        (fitted < model.scores.raw.rows).then(|| Cell::text(fitted.to_string()))
    };
    let normalised =
        |model: &ModelScores| Some(with_interval(&model.scores.aurc_normalised, 1.0, 4));
    let mut raw = measures(&|model| Some(&model.scores.raw), true);
    raw.push(row("AURC, normalised logits", &normalised));
    let mut after = vec![row("temperature", &temperature), row("from a sample of rows", &sampled)];
    after.extend(measures(&|model| model.scores.scaled.as_ref(), false));
    let losses = comparison.models[0].smoothed.iter().enumerate().flat_map(|(index, smoothed)| {
        let loss = |model: &ModelScores| Some(number(model.smoothed[index].loss.0, 4));
        let scaled = |model: &ModelScores| {
            model.smoothed[index].loss_after_temperature.map(|loss| number(loss.0, 4))
        };
        let floor = |model: &ModelScores| plain(model.smoothed[index].floor, 4);
        [
            row(&format!("ε = {}", smoothed.epsilon), &loss),
            row("  after temperature", &scaled),
            row("  lowest possible", &floor),
        ]
    });
    let mean = |Weighed { value, interval }: &Weighed, factor: f64, decimals: usize| {
        let estimate = Estimate { value: value.0, chance: None, interval: *interval };
        with_interval(&estimate, factor, decimals)
    };
    let against = |name: &str, of: fn(&Soft) -> &Weighed| {
        row(name, &|model| Some(mean(of(model.soft_targets.as_ref()?), 1.0, 4)))
    };
    let soft = vec![
        against("NLL", |soft| &soft.raw.nll),
        against("  after temperature", |soft| &soft.scaled.nll),
        row("  lowest possible", &|model| plain(model.soft_targets.as_ref()?.entropy.0, 4)),
        against("Brier score", |soft| &soft.raw.brier),
        against("  after temperature", |soft| &soft.scaled.brier),
    ];
    let weighed = |name: &str, decimals: usize, factor: f64, of: fn(&Weighted) -> &Weighed| {
        row(name, &|model| Some(mean(of(model.weighted.as_ref()?), factor, decimals)))
    };
    let weighted_number =
        |name: &str, of: fn(&Weighted) -> Cell| row(name, &|model| model.weighted.as_ref().map(of));
    let weighted = vec![
        weighed("accuracy, %", 2, 100.0, |weighted| &weighted.accuracy),
        weighed("NLL", 4, 1.0, |weighted| &weighted.raw.nll),
        weighed("  after temperature", 4, 1.0, |weighted| &weighted.scaled.nll),
        weighted_number("perplexity", |weighted| Cell::text(short(weighted.raw.perplexity.0))),
        weighed("Brier score", 4, 1.0, |weighted| &weighted.raw.brier),
        weighed("  after temperature", 4, 1.0, |weighted| &weighted.scaled.brier),
        weighted_number("ECE", |weighted| number(weighted.raw.ece, 4)),
        weighted_number("  after temperature", |weighted| number(weighted.scaled.ece, 4)),
    ];
    let feature = |name: &str, of: fn(&FeatureScores) -> Option<f64>| {
        row(name, &|model| of(model.features.as_ref()?).map(|value| Cell::text(short(value))))
    };
    let features = vec![
        feature("class separation", |features| features.class_separation),
        feature("variance within classes", |features| Some(features.within_variance)),
        feature("variance between classes", |features| Some(features.between_variance)),
        feature("within / between", |features| features.within_over_between),
    ];
    let gap =
        |index: usize| move |model: &ModelScores| plain(model.scores.raw.gap.quantiles[index].0, 2);
    let epsilon = |model: &ModelScores| {
        let estimate = model.epsilon_estimate?;
        Some(Cell {
            main: format!("{:.3}", estimate.value),
            spread: Some(format!("[{:.3}, {:.3}]", estimate.low, estimate.high)),
        })
    };
    Table {
        caption: "In brackets: 95 % intervals. NLL and losses in nats.".to_string(),
        corner: "model".to_string(),
        columns: comparison.models.iter().map(|model| model.name.clone()).collect(),
        groups: [
            group("Raw".to_string(), raw),
            group("After temperature scaling".to_string(), after),
            group("Against soft targets".to_string(), soft),
            group("With row weights".to_string(), weighted),
            group("Loss at a smoothed target".to_string(), losses.collect()),
            group(
                "Logit gap".to_string(),
                vec![
                    row("mean", &|model| plain(model.scores.raw.gap.mean, 2)),
                    row("median", &gap(2)),
                    row("5 %", &gap(0)),
                    row("95 %", &gap(4)),
                    row("mean, plain", &|model| plain(model.scores.raw.gap.plain_mean, 2)),
                    row("training ε, estimated", &epsilon),
                ],
            ),
            group("Features".to_string(), features),
        ]
        .into_iter()
        .filter(|group| !group.rows.is_empty())
        .collect(),
    }
}

/// A number that may be infinite.
fn number(value: f64, decimals: usize) -> Cell {
    if value.is_infinite() {
        Cell::text(if value > 0.0 { "∞" } else { "−∞" })
    } else {
        Cell::new(value, None, decimals)
    }
}

fn with_interval(estimate: &Estimate, factor: f64, decimals: usize) -> Cell {
    let mut cell = number(factor * estimate.value, decimals);
    cell.spread = estimate
        .interval
        .map(|(low, high)| format!("[{:.decimals$}, {:.decimals$}]", factor * low, factor * high));
    cell
}

/// The classes with the lowest recall.
pub fn classes(model: &ModelScores) -> Table {
    let scored = &model.scores.raw;
    let mut order: Vec<usize> =
        (0..scored.classes.len()).filter(|class| scored.classes[*class].rows > 0).collect();
    order.sort_by(|a, b| {
        f64::total_cmp(
            &scored.classes[*a].recall.unwrap_or(1.0),
            &scored.classes[*b].recall.unwrap_or(1.0),
        )
    });
    let all = order.len();
    order.truncate(SHOWN);
    let share = |share: Option<f64>| {
        share.map_or_else(|| Cell::text("–"), |share| Cell::new(100.0 * share, None, 1))
    };
    let row = |class: &usize| {
        let scores = &scored.classes[*class];
        let nll = scores.nll.map_or_else(|| Cell::text("–"), |nll| number(nll.0, 3));
        let cells = vec![
            Cell::text(scores.rows.to_string()),
            share(scores.recall),
            share(scores.precision),
            nll,
            Cell::new(scores.ece, None, 4),
        ];
        (class.to_string(), cells)
    };
    let shown = if all > SHOWN {
        format!(
            "The {SHOWN} of {all} classes with the lowest recall; --per-class F.csv writes all."
        )
    } else {
        "From the lowest recall up.".to_string()
    };
    Table {
        caption: format!("{shown} ECE: one against the rest."),
        corner: "class".to_string(),
        columns: ["rows", "recall, %", "precision, %", "NLL", "ECE"].map(str::to_string).to_vec(),
        groups: vec![Group { title: model.name.clone(), rows: order.iter().map(row).collect() }],
    }
}

/// The most confident of the wrong rows.
pub fn mistakes(model: &ModelScores) -> Table {
    let row = |mistake: &xent_metrics::Mistake| {
        let cells = vec![
            Cell::text(mistake.label.to_string()),
            Cell::text(mistake.predicted.to_string()),
            Cell::text(format!("{:.5}", mistake.confidence)),
            Cell::text(format!("{:.2e}", mistake.probability)),
        ];
        (format!("{}, row {}", mistake.source, mistake.row), cells)
    };
    Table {
        caption: "Wrong predictions, the most confident first; rows counted from 0.".to_string(),
        corner: "row".to_string(),
        columns: ["label", "predicted", "confidence", "p of the label"]
            .map(str::to_string)
            .to_vec(),
        groups: vec![Group {
            title: model.name.clone(),
            rows: model.scores.raw.mistakes.iter().take(SHOWN).map(row).collect(),
        }],
    }
}
