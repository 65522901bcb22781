//! What a report says in sentences.

use serde::Serialize;

/// A sentence or two about one topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The topic.
    pub topic: &'static str,
    /// The sentences.
    pub text: String,
    /// Whether the terminal shows it, too.
    #[serde(skip)]
    pub brief: bool,
}

impl Finding {
    /// Without line breaks in numbers.
    pub fn shown(&self) -> String {
        unbroken(&self.text)
    }
}

/// A text with no line break between a number and what belongs to it.
pub fn unbroken(text: &str) -> String {
    text.replace("ε = ", "ε\u{a0}=\u{a0}").replace(" ±", "\u{a0}±").replace(" %", "\u{a0}%")
}
