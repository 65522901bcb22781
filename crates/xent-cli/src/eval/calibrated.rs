//! Probabilities after temperature scaling as a file, in a further pass over the logits.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;

use indicatif::ProgressBar;
use xent_arrays::Floats;
use xent_arrays::npy::{self, Dtype};
use xent_metrics::{Logits, Reader};

use super::feed::Input;
use super::pass::Pass;
use super::probabilities;
use crate::error::{Error, Result};
use crate::output::{Destination, Outputs};

/// A file of probabilities that will be written.
#[derive(Debug)]
pub struct Calibrated {
    destination: Destination,
    format: Format,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    /// float64, [rows, classes].
    Npy,
    /// With the header `class_0,class_1,…`.
    Csv,
}

impl Calibrated {
    /// Prepares the file, before the work.
    ///
    /// # Errors
    /// It cannot be written, or its name does not say in which format.
    pub fn open(path: &Path, outputs: &mut Outputs) -> Result<Self> {
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let format = match extension.to_lowercase().as_str() {
            "npy" => Format::Npy,
            "csv" => Format::Csv,
            _ => return Err(Error::in_file(path, "expected a name that ends in .npy or .csv")),
        };
        Ok(Self { destination: outputs.open(path)?, format })
    }

    /// Writes softmax(z/T) of every row that is read, in their order: ignored rows, too, and NaN for
    /// those that are not finite.
    pub fn write(
        self,
        input: &Input<'_>,
        rows: u64,
        temperature: f64,
        bar: &ProgressBar,
    ) -> Result<()> {
        let mut failure = None;
        let filled = self.destination.fill(|out| {
            self.format.write(input, rows, temperature, bar, out).unwrap_or_else(|error| {
                failure = Some(error);
                Err(io::ErrorKind::Other.into())
            })
        });
        bar.finish_and_clear();
        match failure {
            Some(error) => Err(error),
            None => filled?.place(),
        }
    }
}

impl Format {
    /// The outer error is one of reading, the inner one of writing.
    fn write(
        self,
        input: &Input<'_>,
        rows: u64,
        temperature: f64,
        bar: &ProgressBar,
        out: &mut dyn Write,
    ) -> Result<io::Result<()>> {
        let mut feed = Pass::new(input, None, bar).open()?;
        let classes = feed.classes();
        bar.reset();
        bar.set_length(feed.bytes());
        let begun = match self {
            Self::Npy => npy::write_header(Dtype::F64, &[rows as usize, classes], false, out),
            Self::Csv => {
                let names: Vec<String> = (0..classes).map(|k| format!("class_{k}")).collect();
                writeln!(out, "{}", names.join(","))
            }
        };
        if begun.is_err() {
            return Ok(begun);
        }
        let mut reader = Reader::default();
        while let Some(piece) = feed.next()? {
            let mut floats = piece.block.floats.decode();
            if input.probabilities
                && let Ok(logits) = probabilities::logits(&floats, classes)
            {
                floats = logits;
            }
            let row = |row: usize| {
                let part = row * classes..(row + 1) * classes;
                match &floats {
                    Floats::F64(values) => Logits::F64(&values[part]),
                    Floats::F32(values) => Logits::F32(&values[part]),
                    // `decode` leaves none.
                    Floats::Encoded(..) => Logits::F32(&[]),
                }
            };
            for index in 0..piece.block.rows {
                let probabilities = reader.probabilities(row(index), temperature);
                let written = match probabilities {
                    Ok(probabilities) => self.row(probabilities, out),
                    Err(_) => self.row(std::iter::repeat_n(f64::NAN, classes), out),
                };
                if written.is_err() {
                    return Ok(written);
                }
            }
            bar.inc(piece.bytes);
        }
        Ok(Ok(()))
    }

    fn row(self, mut row: impl Iterator<Item = f64>, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Npy => row.try_for_each(|p| out.write_all(&p.to_le_bytes())),
            Self::Csv => {
                row.enumerate().try_for_each(|(class, p)| {
                    let comma = if class == 0 { "" } else { "," };
                    // Small numbers without their zeros.
                    if p > 0.0 && p < 1e-5 {
                        write!(out, "{comma}{p:e}")
                    } else {
                        write!(out, "{comma}{p}")
                    }
                })?;
                writeln!(out)
            }
        }
    }
}
