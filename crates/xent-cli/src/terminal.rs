//! Standard output, be it a terminal or not.

use std::io::{ErrorKind, Write};

use crate::error::{Error, Result};

/// Columns of the terminal; 80 where there is none.
pub fn width() -> usize {
    console::Term::stdout().size_checked().map_or(80, |(_, columns)| usize::from(columns))
}

/// Lines of readable length, those after the first indented.
pub fn wrapped(text: &str, indent: &str, width: usize) -> String {
    textwrap::fill(text, textwrap::Options::new(width.clamp(20, 100)).subsequent_indent(indent))
}

/// Prints a text and ends its line; a reader who has heard enough (`| head`) is no error.
pub fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::failed(format!("cannot print: {error}"))),
        _ => Ok(()),
    }
}
