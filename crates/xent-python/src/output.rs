//! What a call returned, for Python to take from it what it wants.

use pyo3::prelude::*;
use xent::{Element, Reduced};

use crate::array::Array;
use crate::dtype::{Number, with_float};
use crate::error::value_error;

/// The loss and what came with it. Per-row values are copied out by `copy_rows`.
#[pyclass(frozen, module = "xent._xent")]
pub(crate) struct Output(pub(crate) xent::Output<f64>);

#[pymethods]
impl Output {
    /// The batch's "loss", "nll", "smoothing", "z_loss" or "floor"; None for what is per row, as
    /// "lse" always is.
    fn scalar(&self, name: &str) -> PyResult<Option<f64>> {
        Ok(match name {
            "lse" => None,
            _ => self.part(name)?.scalar(),
        })
    }

    #[getter]
    fn correct(&self) -> usize {
        self.0.correct
    }

    #[getter]
    fn denominator(&self) -> f64 {
        self.0.denominator
    }

    #[getter]
    fn ignored(&self) -> usize {
        self.0.ignored
    }

    #[getter]
    fn non_finite(&self) -> usize {
        self.0.non_finite
    }

    #[getter]
    fn first_non_finite(&self) -> Option<usize> {
        self.0.first_non_finite
    }

    /// Copies "loss", "nll", "smoothing", "z_loss", "floor" or "lse" into an array of as many
    /// floats, in C order.
    fn copy_rows(&self, name: &str, mut into: Array) -> PyResult<()> {
        let values = match name {
            "lse" => &self.0.lse,
            _ => self.part(name)?.as_slice(),
        };
        let dtype = into.dtype;
        with_float!("an array to write to", dtype, F => {
            fill(&mut into, name, values.iter().map(|&value| <F as Element>::from_f64(value)))
        })
    }

    /// Copies what each row predicts into an array of int64, and whether that is correct, 1 or 0,
    /// into one of uint8, both in C order. For calls with `predictions` only.
    fn copy_predictions(&self, mut predicted: Array, mut correct: Array) -> PyResult<()> {
        fill(&mut predicted, "predicted", self.0.predicted.iter().copied())?;
        fill(&mut correct, "correct_rows", self.0.correct_rows.iter().map(|&row| u8::from(row)))
    }
}

fn fill<T: Number>(
    into: &mut Array,
    name: &str,
    values: impl ExactSizeIterator<Item = T>,
) -> PyResult<()> {
    if into.len() != values.len() {
        let (found, expected) = (into.len(), values.len());
        return Err(value_error(format!("{found} entries for {name}, expected {expected}")));
    }
    // SAFETY: Python's side made the array for this.
    let into: &mut [T] = unsafe { into.buffer_mut(name) }?.unwrap_or_default();
    if into.len() != values.len() {
        return Err(value_error(format!("{name} has gaps or another dtype, expected neither")));
    }
    into.iter_mut().zip(values).for_each(|(into, value)| *into = value);
    Ok(())
}

impl Output {
    fn part(&self, name: &str) -> PyResult<&Reduced<f64>> {
        let xent::Output { loss, nll, smoothing, z_loss, floor, .. } = &self.0;
        let parts = [
            ("loss", loss),
            ("nll", nll),
            ("smoothing", smoothing),
            ("z_loss", z_loss),
            ("floor", floor),
        ];
        let part = parts.into_iter().find(|(part, _)| *part == name);
        part.map(|(_, part)| part)
            .ok_or_else(|| value_error(format!("{name} is not a part of the loss")))
    }
}
