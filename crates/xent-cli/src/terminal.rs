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
    let mut out = BufWriter::new(std::io::stdout().lock());
    match contents(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::failed(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a warning to stderr; that it may be closed is no error.
pub fn warn(warning: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {warning}");
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
