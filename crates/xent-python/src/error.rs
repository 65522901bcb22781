//! Errors as Python has them: those of `xent/errors.py`, by the names that arguments have there.

use std::any::Any;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use xent::{ConfigError, Error, InputError, RowOption};

static INVALID_VALUE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static INVALID_TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static INVALID_INDEX: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn raised(class: &'static PyOnceLock<Py<PyType>>, name: &str, message: String) -> PyErr {
    Python::attach(|py| match class.import(py, "xent.errors", name) {
        Ok(class) => PyErr::from_type(class.clone(), (message,)),
        Err(error) => error,
    })
}

pub(crate) fn value_error(message: impl Into<String>) -> PyErr {
    raised(&INVALID_VALUE, "InvalidValue", message.into())
}

pub(crate) fn type_error(message: impl Into<String>) -> PyErr {
    raised(&INVALID_TYPE, "InvalidType", message.into())
}

pub(crate) fn invalid_index(message: impl Into<String>) -> PyErr {
    raised(&INVALID_INDEX, "InvalidIndex", message.into())
}

/// A label out of range is an IndexError, as it is under PyTorch.
pub(crate) fn error(error: Error) -> PyErr {
    match error {
        Error::Input(InputError::Class { .. } | InputError::NoSuchClass { .. }) => {
            invalid_index(error.to_string())
        }
        Error::Input(InputError::RowValue { option, row, value, expected }) => {
            let name = match option {
                RowOption::LabelSmoothing => "label_smoothing",
                RowOption::Lambda => "lam",
                _ => "the weight",
            };
            value_error(format!("{name} of row {row} is {value}, expected {expected}"))
        }
        Error::Config(ConfigError::Entry { name: "class weights", index, value, expected }) => {
            value_error(format!("the weight of class {index} is {value}, expected {expected}"))
        }
        error => value_error(error.to_string()),
    }
}

/// A panic is an internal error, but no reason to end somebody's training with an exception that
/// `except Exception` does not catch.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> PyErr {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    value_error(format!("internal error in xent, please report it: {message}"))
}
