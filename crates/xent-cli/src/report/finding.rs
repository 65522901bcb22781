//! Sentences.

use serde::Serialize;

/// A sentence or two about one thing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The thing.
    pub topic: &'static str,
    /// What there is to say.
    pub text: String,
    /// Whether it is said on the terminal, too, and not only in the report.
    #[serde(skip)]
    pub brief: bool,
}

impl Finding {
    /// With numbers kept together with what belongs to them where lines break.
    pub fn shown(&self) -> String {
        self.text.replace("ε = ", "ε\u{a0}=\u{a0}").replace(" ±", "\u{a0}±").replace(" %", "\u{a0}%")
    }
}
