//! Standard output and the terminal, if it is one.

use std::io::{BufWriter, ErrorKind, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result};

/// The number of columns of the terminal; 80 if standard output is not a terminal.
pub fn width() -> usize {
    console::Term::stdout().size_checked().map_or(80, |(_, columns)| usize::from(columns))
}

/// Splits a text into lines of readable length, those after the first indented.
pub fn wrapped(text: &str, indent: &str, width: usize) -> String {
    textwrap::fill(text, textwrap::Options::new(width.clamp(20, 100)).subsequent_indent(indent))
}

/// Prints a text and ends its line.
pub fn print(text: &str) -> Result<()> {
    print_with(|out| writeln!(out, "{text}"))
}

/// Prints what a function writes. A reader that closes the pipe (`| head`) is no error.
pub fn print_with(contents: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match contents(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::failed(format!("cannot print: {error}"))),
        _ => Ok(()),
    }
}

/// Prints a warning to stderr; that it may be closed is no error.
pub fn warn(warning: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {warning}");
}

/// A progress bar in this style, followed by the time taken and left; nothing is drawn if it is hidden or stderr is not a terminal.
pub fn progress_bar(style: &str, hidden: bool) -> ProgressBar {
    let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(0) };
    match ProgressStyle::with_template(&format!("{style}  {{elapsed}} (about {{eta}} left)")) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
