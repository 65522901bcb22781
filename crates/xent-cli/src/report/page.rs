//! A report and its three forms: one HTML file without anything from outside, the same as JSON, and
//! the short one on the terminal.

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::finding::{Finding, unbroken};
use super::table::Table;
use super::versions::Versions;
use crate::error::{Error, Result};
use crate::output::{Destination, Outputs, make_folder};
use crate::terminal::{width, wrapped};

const STYLE: &str = include_str!("style.css");

/// A report.
pub struct Report {
    /// The title of the page.
    pub title: &'static str,
    /// What the report is about, in a line.
    pub headline: String,
    /// The heading of the first section.
    pub heading: &'static str,
    /// What it comes to, in three or four short lines.
    pub verdict: Vec<String>,
    /// The pictures.
    pub pictures: Vec<Section>,
    /// The numbers.
    pub table: Table,
    /// How to read them, if their caption does not say it all.
    pub reading: Option<&'static str>,
    /// What there is to say of them, at length.
    pub findings: Vec<Finding>,
    /// The sections of the page after that.
    pub sections: Vec<Section>,
    /// Everything, as JSON.
    pub json: Value,
}

/// A part of a page under a heading.
pub struct Section {
    heading: &'static str,
    body: Markup,
}

impl Section {
    /// A heading and what is under it.
    pub fn new(heading: &'static str, body: Markup) -> Self {
        Self { heading, body }
    }

    fn to_html(&self) -> Markup {
        html! { section { h2 { (self.heading) } (self.body) } }
    }
}

/// A text that explains a picture, folded away.
pub fn folded(text: &str) -> Markup {
    html! { details.note { summary { "How to read this" } p { (text) } } }
}

/// The last section: facts, the versions of this build, and the command that computes the same
/// numbers again.
pub fn how_it_was_made(facts: &[(&str, String)], command: Option<&str>) -> Section {
    let body = html! {
        dl.facts {
            @for (name, text) in facts { dt { (name) } dd { (text) } }
            @for (name, version) in Versions::of_this_build().lines() { dt { (name) } dd { (version) } }
        }
        @if let Some(command) = command {
            h3 { "Again" }
            pre { code { (command) } }
        }
    };
    Section::new("How it was made", body)
}

/// Where a report will be: `report.html` and `report.json` in a folder.
#[derive(Debug)]
pub struct ReportFiles {
    html: Destination,
    json: Destination,
}

impl ReportFiles {
    /// Prepares them, before the work.
    pub fn open(folder: &Path, outputs: &mut Outputs) -> Result<Self> {
        make_folder(folder)?;
        let html = outputs.open(&folder.join("report.html"))?;
        Ok(Self { html, json: outputs.open(&folder.join("report.json"))? })
    }

    /// Writes both, or leaves both as they were; returns their names for a message.
    pub fn write(self, report: &Report) -> Result<String> {
        let names =
            format!("Report: {} and {}", self.html.path().display(), self.json.path().display());
        let json = report.to_json()?;
        let html = self.html.fill(|out| out.write_all(report.to_html().as_bytes()))?;
        let json = self.json.fill(|out| out.write_all(json.as_bytes()))?;
        html.place()?;
        json.place().map_err(|error| {
            Error::failed(format!("{error}; report.html is new, report.json is of another run"))
        })?;
        Ok(names)
    }
}

impl Report {
    /// The JSON file.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(&self.json).map_err(Error::failed)?;
        Ok(text + "\n")
    }

    /// For the terminal: headline, verdict, table, and the findings that are meant for it.
    pub fn to_text(&self) -> String {
        let width = width();
        let verdict = self.verdict.iter();
        let verdict = verdict.map(|line| wrapped(&unbroken(&format!("• {line}")), "  ", width));
        let head = [
            wrapped(&self.headline, "", width),
            String::new(),
            verdict.collect::<Vec<_>>().join("\n"),
            String::new(),
            wrapped(
                [&self.table.caption, self.reading.unwrap_or("")].join(" ").trim_end(),
                "",
                width,
            ),
            String::new(),
            self.table.to_text(width),
            String::new(),
        ];
        let findings = self.findings.iter().filter(|finding| finding.brief);
        let findings = findings.map(|finding| {
            wrapped(&format!("{}. {}", finding.topic, finding.shown()), "  ", width)
        });
        head.into_iter().chain(findings).collect::<Vec<_>>().join("\n")
    }

    /// The HTML file. Its policy lets a browser load nothing at all.
    pub fn to_html(&self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                    title { (self.title) " – " (self.headline) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { (self.title) }
                        p { (self.headline) }
                    }
                    main {
                        section {
                            h2 { (self.heading) }
                            ul.verdict { @for line in &self.verdict { li { (unbroken(line)) } } }
                        }
                        div.pictures { @for section in &self.pictures { (section.to_html()) } }
                        section {
                            h2 { "The numbers" }
                            (self.table.to_html())
                            @if let Some(reading) = self.reading { (folded(reading)) }
                            details {
                                summary { "The numbers in sentences" }
                                dl.findings { @for finding in &self.findings { dt { (finding.topic) } @for line in finding.shown().lines() { dd { (line) } } } }
                            }
                        }
                        @for section in &self.sections { (section.to_html()) }
                    }
                }
            }
        }
        .into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_escapes_and_loads_nothing() {
        let html = Report {
            title: "T",
            headline: "S <i>".into(),
            heading: "H",
            verdict: vec!["1 < 2".into()],
            pictures: vec![],
            findings: vec![],
            table: Table {
                caption: String::new(),
                corner: String::new(),
                columns: vec![],
                groups: vec![],
            },
            reading: None,
            sections: vec![Section::new("<script>", html! { p { "a & b" } })],
            json: Value::Null,
        }
        .to_html();
        assert!(
            html.contains("<h2>&lt;script&gt;</h2>")
                && html.contains("a &amp; b")
                && html.contains("S &lt;i&gt;")
                && html.contains("1 &lt; 2")
        );
        for outside in ["http://", "https://", "<script", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_verdict_comes_first_and_the_sentences_last() {
        let report = Report {
            title: "T",
            headline: "S".into(),
            heading: "H",
            verdict: vec!["short".into()],
            pictures: vec![Section::new("picture", folded("legend"))],
            findings: vec![
                Finding { topic: "topic", text: "long".into(), brief: false },
                Finding { topic: "other", text: "brief".into(), brief: true },
            ],
            table: Table {
                caption: "numbers".into(),
                corner: String::new(),
                columns: vec![],
                groups: vec![],
            },
            reading: Some("reading"),
            sections: vec![Section::new("made", html! {})],
            json: Value::Null,
        };
        let html = report.to_html();
        let order = ["short", "picture", "legend", "numbers", "reading", "long", "made"];
        let places = order.map(|part| html.find(&format!(">{part}<")).unwrap());
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(html.matches("<details").count(), 3);
        let text = report.to_text();
        assert!(text.contains("\n• short\n") && text.contains("other. brief"), "{text}");
        assert!(text.contains("\nnumbers reading\n"), "{text}");
        assert!(!text.contains("long"), "{text}");
    }
}
