//! What is printed.

use std::fmt;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use xent::host::LogitsShape;
use xent::{Output, Reduced};
use xent_metrics::Extended;

use super::arrays::position;
use crate::error::Result;
use crate::terminal::{print_with, warn};

/// A number with as many digits as it takes to read it back in the precision in which it was
/// computed. In JSON, which has neither NaN nor infinity, those are strings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    exact: f64,
    /// The `float64` with the number's shortest decimal digits.
    shortest: f64,
}

impl From<f32> for Figure {
    fn from(number: f32) -> Self {
        let shortest = number.to_string().parse().unwrap_or(f64::NAN);
        Self { exact: number.into(), shortest }
    }
}

impl From<f64> for Figure {
    fn from(number: f64) -> Self {
        Self { exact: number, shortest: number }
    }
}

impl Figure {
    fn non_finite_name(self) -> Option<&'static str> {
        Extended(self.exact).name()
    }

    /// With 7 significant digits, in at most 13 characters.
    fn short(self) -> String {
        let number = self.exact;
        let magnitude = number.abs().log10().floor();
        match self.non_finite_name() {
            Some(name) => name.to_owned(),
            None if number == 0.0 => "0".to_owned(),
            None if (-4.0..7.0).contains(&magnitude) => {
                format!("{number:.*}", (6.0 - magnitude) as usize)
            }
            None => format!("{number:.6e}"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, magnitude) = (self.shortest, self.shortest.abs());
        match self.non_finite_name() {
            Some(name) => f.write_str(name),
            None if magnitude == 0.0 || (1e-5..1e16).contains(&magnitude) => write!(f, "{number}"),
            None => write!(f, "{number:e}"),
        }
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.non_finite_name() {
            Some(name) => serializer.serialize_str(name),
            None => serializer.serialize_f64(self.shortest),
        }
    }
}

/// A part of the loss: one number for the batch, or one per row.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Part {
    Batch(Figure),
    Rows(Vec<Figure>),
}

impl<F: Into<Figure>> From<Reduced<F>> for Part {
    fn from(reduced: Reduced<F>) -> Self {
        match reduced {
            Reduced::Scalar(value) => Self::Batch(value.into()),
            Reduced::Rows(values) => Self::Rows(values.into_iter().map(Into::into).collect()),
        }
    }
}

/// Everything that is printed about a batch, under its names in JSON.
#[derive(Debug, Serialize)]
pub struct LossReport {
    loss: Part,
    nll: Part,
    smoothing: Part,
    floor: Part,
    z_loss: Part,
    denominator: Figure,
    correct: usize,
    ignored: usize,
    non_finite: usize,
    rows: usize,
    classes: usize,
    #[serde(skip)]
    warning: Option<String>,
}

impl LossReport {
    /// From the output of the criterion.
    pub fn new<F: Into<Figure> + Copy>(output: Output<F>, shape: &LogitsShape) -> Self {
        let rows = output.rows;
        let over_nothing = || {
            let empty = output.denominator == 0.0
                && output.loss.scalar().is_some_and(|loss| loss.into().exact.is_nan());
            empty.then(|| {
                format!("the denominator of the mean is 0: {} of {rows} rows are ignored and the weights of the others are 0; see --empty-mean", output.ignored)
            })
        };
        let warning = output.first_non_finite.map(|row| {
            let place = position(shape, row)
                .map(|position| format!(", at {position:?}"))
                .unwrap_or_default();
            format!(
                "the loss of {} of {} kept rows is NaN or infinite; the first is row {row}{place}",
                output.non_finite,
                rows - output.ignored
            )
        });
        let warning = warning.or_else(over_nothing);
        Self {
            loss: output.loss.into(),
            nll: output.nll.into(),
            smoothing: output.smoothing.into(),
            floor: output.floor.into(),
            z_loss: output.z_loss.into(),
            denominator: output.denominator.into(),
            correct: output.correct,
            ignored: output.ignored,
            non_finite: output.non_finite,
            rows,
            classes: shape.classes(),
            warning,
        }
    }

    /// Prints it, and a warning about rows that are not finite on stderr.
    pub fn print(&self, json: bool) -> Result<()> {
        if let Some(warning) = &self.warning {
            warn(warning);
        }
        print_with(|out| if json { self.write_json(out) } else { self.write_text(out) })
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let parts = [
            ("loss", &self.loss),
            ("nll", &self.nll),
            ("smoothing", &self.smoothing),
            ("floor", &self.floor),
            ("z_loss", &self.z_loss),
        ];
        if matches!(self.loss, Part::Rows(_)) {
            write!(out, "{:>9}", "row")?;
            parts.iter().try_for_each(|(name, _)| write!(out, " {name:>13}"))?;
            writeln!(out)?;
            for row in 0..self.rows {
                write!(out, "{row:>9}")?;
                for (_, part) in parts {
                    let value = match part {
                        Part::Rows(values) => values[row],
                        Part::Batch(value) => *value,
                    };
                    write!(out, " {:>13}", value.short())?;
                }
                writeln!(out)?;
            }
            writeln!(out)?;
        } else {
            for (name, part) in parts {
                if let Part::Batch(value) = part {
                    writeln!(out, "{name:<13}{value}")?;
                }
            }
        }
        writeln!(out, "{:<13}{}", "denominator", self.denominator)?;
        writeln!(
            out,
            "{:<13}{} of {} kept rows",
            "correct",
            self.correct,
            self.rows - self.ignored
        )?;
        writeln!(out, "{:<13}{} of {} rows", "ignored", self.ignored, self.rows)?;
        writeln!(
            out,
            "{:<13}{} of {} kept rows",
            "non_finite",
            self.non_finite,
            self.rows - self.ignored
        )?;
        writeln!(out, "{:<13}{}", "classes", self.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_back() {
        for number in [0.1f64, 1.0 / 3.0, 1e-300, 123456789.0, 1.7976931348623157e308, 5e-324, 0.0]
        {
            assert_eq!(Figure::from(number).to_string().parse(), Ok(number));
            assert_eq!(serde_json::to_string(&Figure::from(number)).unwrap().parse(), Ok(number));
        }
        assert_eq!(Figure::from(0.1f32).to_string(), "0.1");
        assert_eq!(serde_json::to_string(&Figure::from(0.1f32)).unwrap(), "0.1");
        let strings = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
            .map(|number| serde_json::to_string(&Figure::from(number)).unwrap());
        assert_eq!(strings, ["\"NaN\"", "\"Infinity\"", "\"-Infinity\""]);
    }

    #[test]
    fn short_figures_fit_their_column() {
        let short = |number: f64| Figure::from(number).short();
        assert_eq!(
            [0.852_296_106_7, 12_345_678.0, 1e-4, 9_999_999.9, 0.0, 1e-300, f64::NAN].map(short),
            ["0.8522961", "1.234568e7", "0.0001000000", "10000000", "0", "1.000000e-300", "NaN"]
        );
        for exponent in -320..=308 {
            for lead in ["1", "9.9999999", "-1", "-3.3333333"] {
                let number: f64 = format!("{lead}e{exponent}").parse().unwrap();
                assert!(short(number).len() <= 14, "{number:e} prints as {}", short(number));
            }
        }
    }
}
