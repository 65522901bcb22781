//! The report of `xent eval`.

use maud::html;
use serde_json::json;

use super::comparison::{Comparison, ModelScores};
use super::findings::findings;
use super::paired::contrasts;
use super::verdict::verdict;
use super::{charts, table};
use crate::error::Result;
use crate::report::{
    Ink, RAW_AND_SCALED, Report, Section, Stroke, Versions, dot_plots, folded, how_it_was_made,
    key, small_multiples,
};

/// The whole report. In its JSON everything except `environment` is the same for the same rows,
/// however they were read.
pub fn report(comparison: &Comparison, seconds: f64) -> Result<Report> {
    let models = &comparison.models;
    let with_reference =
        |name| [RAW_AND_SCALED[0], RAW_AND_SCALED[1], (Ink::Reference, Stroke::Dashed, name)];
    let rows = |model: &ModelScores| {
        format!(
            "{} rows read, {} evaluated, {} classes.",
            model.rows_read, model.scores.raw.rows, model.scores.classes
        )
    };
    let mut facts: Vec<(&str, String)> =
        models.iter().map(|model| (model.name.as_str(), rows(model))).collect();
    facts.extend(models.iter().filter_map(skipped).map(|text| ("left out", text)));
    facts.push(("time", format!("{seconds:.1} s")));
    let contrasts = contrasts(comparison);
    let mut pictures = Vec::new();
    if !contrasts.is_empty() {
        pictures.push(Section::new(
            "What differs",
            html! {
                (dot_plots(&contrasts))
                (folded("Dots are mean differences over the same rows, lines their 95 % t intervals. Better or worse is what McNemar's exact test (accuracy) and the paired t-test over the rows (all others) find at 5 %, with Holm's correction over the other models; it says what other rows from the same source would confirm, not what another training would."))
            },
        ));
    }
    pictures.extend([
        Section::new(
            "Are confidences right?",
            html! {
                (key(&with_reference("perfect calibration")))
                (small_multiples(&charts::reliability(comparison))?)
                (folded("Rows in bins by confidence: the share of right rows against the mean confidence. The larger a dot, the more rows; whiskers are 95 % intervals. On the dashed line share and confidence agree; above it the model is right more often than its confidence says."))
            },
        ),
        Section::new(
            "Does it know what it does not know?",
            html! {
                (key(&with_reference("confidences at random")))
                (small_multiples(&charts::risk(comparison))?)
                (folded("Risk by coverage: the share of wrong rows among the most confident, from few rows to all. AURC is the mean height of the curve. The dashed line is the risk of uninformative confidences."))
            },
        ),
        Section::new(
            "The logit gap",
            html! {
                (small_multiples(&charts::gaps(comparison))?)
                (folded("How far the predicted class's logit is above the others (above the logarithm of the mean of their exponentials). Training with label smoothing drives all rows to one gap; without smoothing the gap has no bound."))
            },
        ),
    ]);
    let sections = vec![
        Section::new(
            "Classes",
            html! { div.multiples { @for model in models { (table::classes(model).to_html()) } } },
        ),
        Section::new(
            "Most confident mistakes",
            html! { @for model in models { (table::mistakes(model).to_html()) } },
        ),
        how_it_was_made(&facts, None),
    ];
    let verdict = verdict(comparison, &contrasts);
    Ok(Report {
        title: "What the logits say",
        headline: comparison.headline(),
        heading: "What these logits say",
        verdict: verdict.clone(),
        pictures,
        findings: findings(comparison),
        table: table::table(comparison),
        reading: Some(table::READING),
        sections,
        json: json!({
            "report": "xent eval",
            "smoothed_prior": comparison.prior,
            "verdict": verdict,
            "models": models,
            "paired": comparison.paired,
            "environment": { "seconds": seconds, "versions": Versions::of_this_build() },
        }),
    })
}

fn skipped(model: &ModelScores) -> Option<String> {
    let (file, row) = model.scores.first_not_finite.as_ref()?;
    Some(format!(
        "{}: {} rows with NaN or infinite logits, the first {file}, row {row}.",
        model.name, model.scores.not_finite
    ))
}
