//! Standard output and the terminal, if it is one.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{BufWriter, ErrorKind, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result};

/// The number of columns of the terminal; 80 if standard output is not a terminal.
pub fn width() -> usize {
    console::Term::stdout().size_checked().map_or(80, |(_, columns)| usize::from(columns))
}

/// Splits a text into lines of readable length, those after the first indented.
pub fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let options = textwrap::Options::new(width.clamp(20, 100)).subsequent_indent(indent);
    // One line at a time: textwrap would measure the first line of each without its indent.
    let line = |(number, line)| {
        textwrap::fill(
            line,
            if number == 0 { options.clone() } else { options.clone().initial_indent(indent) },
        )
    };
    text.split('\n').enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// Prints a text and ends its line.
pub fn print(text: &str) -> Result<()> {
    print_with(|out| writeln!(out, "{text}"))
}

/// Prints what a function writes. A reader that closes the pipe (`| head`) is no error.
pub fn print_with(contents: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut out = Printed(BufWriter::new(std::io::stdout().lock()));
    match contents(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::failed(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a warning to stderr; that it may be closed or full is no error.
pub fn warn(warning: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {}", harmless(warning));
}

/// Prints to stderr what is neither a result nor a warning.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", harmless(text));
}

/// Prints an error to stderr, as far as it takes one.
pub fn error(error: &impl Display) {
    let _ = writeln!(std::io::stderr(), "error: {}", harmless(&error.to_string()));
}

/// A text in which names of files and the like cannot move the cursor, change colours or reorder
/// letters: such characters are escaped as JSON escapes them, so that JSON stays JSON.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| {
        if obeyed(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Writes texts harmlessly; every text comes in one piece.
struct Printed<W>(W);

impl<W: Write> Write for Printed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(harmless(text).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A progress bar in this style, followed by the time taken and left; nothing is drawn if it is
/// hidden or stderr is not a terminal.
pub fn progress_bar(style: &str, hidden: bool) -> ProgressBar {
    let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(0) };
    match ProgressStyle::with_template(&format!("{style}  {{elapsed}} (about {{eta}} left)")) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let name = "a\u{1b}[31m\r\u{9b}2J\u{7f}\u{202e}b\n\tü–漢";
        let shown = "a\\u001b[31m\\u000d\\u009b2J\\u007f\\u202eb\n\tü–漢";
        assert_eq!(harmless(name), shown);
        assert!(matches!(harmless("plain – ε"), Cow::Borrowed(_)));
        let mut printed = Printed(Vec::new());
        write!(printed, "{name} {}", 1).unwrap();
        assert_eq!(String::from_utf8(printed.0).unwrap(), format!("{shown} 1"));
        let json = serde_json::to_string(name).unwrap();
        assert_eq!(serde_json::from_str::<String>(&harmless(&json)).unwrap(), name);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let text = format!("{}\n{}", "word ".repeat(30), "more ".repeat(30));
        for width in [20, 40, 79, 80, 81] {
            let wrapped = wrapped(&text, "  ", width);
            assert!(
                wrapped.lines().all(|line| line.chars().count() <= width),
                "{width}:\n{wrapped}"
            );
            assert!(wrapped.lines().skip(1).all(|line| line.starts_with("  ")), "{wrapped}");
        }
    }
}
