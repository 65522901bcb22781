//! DLPack's structures (<https://dmlc.github.io/dlpack/latest/c_api.html>), and how Python passes
//! them.

use std::ffi::{CStr, c_void};

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyCapsule, PyDict};

use crate::error::type_error;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) kind: i32,
    pub(crate) id: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DataType {
    pub(crate) code: u8,
    pub(crate) bits: u8,
    pub(crate) lanes: u16,
}

#[repr(C)]
pub(crate) struct Tensor {
    pub(crate) data: *mut c_void,
    pub(crate) device: Device,
    pub(crate) ndim: i32,
    pub(crate) dtype: DataType,
    pub(crate) shape: *const i64,
    pub(crate) strides: *const i64,
    pub(crate) byte_offset: u64,
}

#[repr(C)]
struct Managed {
    tensor: Tensor,
    context: *mut c_void,
    deleter: *const c_void,
}

#[repr(C)]
struct ManagedVersioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: *const c_void,
    flags: u64,
    tensor: Tensor,
}

const NAME: &CStr = c"dltensor";
const NAME_VERSIONED: &CStr = c"dltensor_versioned";
const READ_ONLY: u64 = 1;

/// A tensor that a producer lends. Its capsule is not consumed, only held: whoever made it frees
/// it.
pub(crate) struct Lent {
    pub(crate) capsule: Py<PyCapsule>,
    /// In memory that the capsule keeps.
    pub(crate) tensor: *const Tensor,
    pub(crate) read_only: bool,
}

/// The tensor of a capsule, or of whatever has `__dlpack__`.
pub(crate) fn lend(object: Borrowed<'_, '_, PyAny>) -> PyResult<Lent> {
    match object.cast::<PyCapsule>() {
        Ok(capsule) => opened(&capsule),
        Err(_) => opened(&exported(object)?),
    }
}

fn exported<'py>(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyCapsule>> {
    let py = object.py();
    let Ok(method) = object.getattr(pyo3::intern!(py, "__dlpack__")) else {
        return Err(type_error(format!(
            "{}, expected an array with __dlpack__",
            object.get_type().name()?
        )));
    };
    // Only the newer protocol lends arrays that cannot be written.
    let options: Bound<'_, PyDict> =
        [(pyo3::intern!(py, "max_version"), (1u32, 0u32))].into_py_dict(py)?;
    let capsule = match method.call((), Some(&options)) {
        Err(error) if error.is_instance_of::<PyTypeError>(py) => method.call0(),
        capsule => capsule,
    };
    let capsule = capsule.map_err(|error| match error.is_instance_of::<PyBufferError>(py) {
        true => type_error(format!("the array does not export DLPack: {}", error.value(py))),
        false => error,
    })?;
    Ok(capsule.cast_into::<PyCapsule>()?)
}

fn opened(capsule: &Bound<'_, PyCapsule>) -> PyResult<Lent> {
    if capsule.is_valid_checked(Some(NAME_VERSIONED)) {
        let pointer = capsule.pointer_checked(Some(NAME_VERSIONED))?.cast::<ManagedVersioned>();
        // SAFETY: the capsule's name says what it holds. Version and flags stand at the same places
        // in all versions.
        let managed = unsafe { pointer.as_ref() };
        if managed.major != 1 {
            return Err(type_error(format!(
                "an array by DLPack {}.{}, expected version 1",
                managed.major, managed.minor
            )));
        }
        return Ok(Lent {
            capsule: capsule.clone().unbind(),
            tensor: &managed.tensor,
            read_only: managed.flags & READ_ONLY != 0,
        });
    }
    let pointer = capsule.pointer_checked(Some(NAME))?.cast::<Managed>();
    // SAFETY: the capsule's name says what it holds.
    let tensor = unsafe { &pointer.as_ref().tensor };
    Ok(Lent { capsule: capsule.clone().unbind(), tensor, read_only: false })
}
