//! The frame: one HTML file without anything from outside, for narrow and wide, light and dark.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");

/// A page.
pub struct Page {
    /// What it is.
    pub title: String,
    /// Of what, in a line.
    pub subtitle: String,
    /// From top to bottom.
    pub sections: Vec<Section>,
}

/// A part of a page under a heading.
pub struct Section {
    /// The heading.
    pub heading: String,
    /// The rest.
    pub body: Markup,
}

impl Section {
    /// A heading and what is under it.
    pub fn new(heading: impl Into<String>, body: Markup) -> Self {
        Self { heading: heading.into(), body }
    }
}

impl Page {
    /// The whole file. Its policy lets a browser load nothing at all.
    pub fn to_html(&self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                    title { (self.title) " – " (self.subtitle) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { (self.title) }
                        p { (self.subtitle) }
                    }
                    main {
                        @for section in &self.sections {
                            section {
                                h2 { (section.heading) }
                                (section.body)
                            }
                        }
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
        let section = Section::new("<script>", html! { p { "a & b" } });
        let html = Page { title: "T".into(), subtitle: "S <i>".into(), sections: vec![section] }.to_html();
        assert!(html.contains("<h2>&lt;script&gt;</h2>") && html.contains("a &amp; b") && html.contains("S &lt;i&gt;"));
        for outside in ["http://", "https://", "<script", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
