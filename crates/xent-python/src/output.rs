//! What a call returned, for Python to take from it what it wants.

use pyo3::prelude::*;
use xent::{Element, Reduced};

use crate::array::Array;
use crate::dtype::with_float;
use crate::error::value_error;

/// The loss and what came with it. Per-row values are copied out by `copy_rows`.
#[pyclass(frozen, module = "xent._xent")]
pub(crate) struct Output(pub(crate) xent::Output<f64>);

#[pymethods]
impl Output {
    /// The loss, nll, smoothing, z-loss and floor of the batch; each None if there is one per row.
    #[getter]
    fn scalars(&self) -> [Option<f64>; 5] {
        let xent::Output { loss, nll, smoothing, z_loss, floor, .. } = &self.0;
        [loss, nll, smoothing, z_loss, floor].map(Reduced::scalar)
    }

    #[getter]
    fn loss(&self) -> Option<f64> {
        self.0.loss.scalar()
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

    /// Copies "loss", "nll", "smoothing", "z_loss", "floor" or "lse" into an array of as many floats, in C order.
    fn copy_rows(&self, name: &str, mut into: Array) -> PyResult<()> {
        let output = &self.0;
        let values = match name {
            "loss" => output.loss.as_slice(),
            "nll" => output.nll.as_slice(),
            "smoothing" => output.smoothing.as_slice(),
            "z_loss" => output.z_loss.as_slice(),
            "floor" => output.floor.as_slice(),
            "lse" => &output.lse,
            _ => return Err(value_error(format!("{name} is not a per-row value"))),
        };
        if into.len() != values.len() {
            return Err(value_error(format!("{} entries for {name}, expected {}", into.len(), values.len())));
        }
        let dtype = into.dtype;
        with_float!("an array to write to", dtype, F => {
            // SAFETY: Python's side made the array for this.
            let into: &mut [F] = unsafe { into.buffer_mut(name) }?.unwrap_or_default();
            if into.len() != values.len() {
                return Err(value_error("an array with gaps, expected a contiguous one"));
            }
            into.iter_mut().zip(values).for_each(|(into, &value)| *into = <F as Element>::from_f64(value));
        });
        Ok(())
    }
}
