//! The report as one HTML file.

use maud::html;

use super::report::{ModelReport, Report};
use super::{charts, findings, table};
use crate::error::Result;
use crate::report::{Ink, Page, Section, Stroke, Versions, key, small_multiples};

/// The whole file.
pub fn page(report: &Report, seconds: f64) -> Result<String> {
    let kinds = [(Ink::Second, Stroke::Solid, "raw"), (Ink::First, Stroke::Solid, "after temperature scaling")];
    let skipped: Vec<String> = report.models.iter().filter_map(skipped).collect();
    let sections = vec![
        Section::new(
            "What these logits say",
            html! {
                div.beside {
                    dl.findings { @for finding in findings::findings(report) { dt { (finding.topic) } @for line in finding.shown().lines() { dd { (line) } } } }
                    (table::table(report).to_html())
                }
            },
        ),
        Section::new(
            "Are confidences right?",
            html! {
                p.note { "Rows in 15 bins by confidence: the share that is right against the mean confidence. The larger a dot, the more rows; whiskers are 95 % intervals. On the dashed line share and confidence agree; above it the model is right more often than it says." }
                (key(&[kinds[0], kinds[1], (Ink::Reference, Stroke::Dashed, "perfect calibration")]))
                (small_multiples(&charts::reliability(report))?)
            },
        ),
        Section::new(
            "Does it know what it does not know?",
            html! {
                p.note { "Risk by coverage: the share of wrong rows among the surest, from few of them to all. AURC is the mean height of the curve. The dashed line is what confidences that say nothing would give." }
                (key(&[kinds[0], kinds[1], (Ink::Reference, Stroke::Dashed, "confidences at random")]))
                (small_multiples(&charts::risk(report))?)
            },
        ),
        Section::new(
            "The logit gap",
            html! {
                p.note { "How far the predicted class's logit stands above the others (above the logarithm of the mean of their exponentials). Training with label smoothing drives rows to one gap; training without it has no bound." }
                (small_multiples(&charts::gaps(report))?)
            },
        ),
        Section::new("Classes", html! { div.multiples { @for model in &report.models { (table::classes(model).to_html()) } } }),
        Section::new("Surest mistakes", html! { @for model in &report.models { (table::mistakes(model).to_html()) } }),
        Section::new(
            "How it was made",
            html! {
                dl.facts {
                    @for model in &report.models { dt { (model.name) } dd { (model.rows_read) " rows read, " (model.scores.raw.rows) " evaluated, " (model.scores.classes) " classes." } }
                    @for text in &skipped { dt { "left out" } dd { (text) } }
                    dt { "time" } dd { (format!("{seconds:.1} s")) }
                    @for (name, version) in Versions::of_this_build().lines() { dt { (name) } dd { (version) } }
                }
            },
        ),
    ];
    Ok(Page { title: "What the logits say".to_string(), subtitle: report.headline(), sections }.to_html())
}

fn skipped(model: &ModelReport) -> Option<String> {
    let (file, row) = model.scores.first_not_finite.as_ref()?;
    Some(format!("{}: {} rows with NaN or infinite logits, the first {file}, row {row}.", model.name, model.scores.not_finite))
}
