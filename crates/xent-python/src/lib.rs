//! `xent._xent`: what the Python package `xent` calls. Arrays come and go through DLPack, so that
//! no framework is known here; the formulas are xent's.
//!
//! Python allocates whatever is written to: gradients, and per-row values.

mod array;
mod batch;
mod criterion;
mod dlpack;
mod dtype;
mod error;
mod metrics;
mod output;
mod pages;
mod read;
mod threads;

/// The engine behind `xent.torch`, `xent.numpy` and `xent.metrics`.
#[pyo3::pymodule]
mod _xent {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::criterion::Criterion;
    #[pymodule_export]
    use crate::metrics::Evaluation;
    #[pymodule_export]
    use crate::output::Output;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("WORDS", crate::criterion::words(module.py())?)
    }
}
