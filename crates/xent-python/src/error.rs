//! Errors as Python has them: ValueError, TypeError, IndexError.

use std::any::Any;

use pyo3::PyErr;
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use xent::{Error, InputError};

pub(crate) fn value_error(message: impl Into<String>) -> PyErr {
    PyValueError::new_err(message.into())
}

pub(crate) fn type_error(message: impl Into<String>) -> PyErr {
    PyTypeError::new_err(message.into())
}

/// A label out of range is an IndexError, as it is under PyTorch.
pub(crate) fn error(error: Error) -> PyErr {
    match error {
        Error::Input(InputError::Class { .. } | InputError::NoSuchClass { .. }) => {
            PyIndexError::new_err(error.to_string())
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
