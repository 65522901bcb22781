//! Arrays as xent takes them: borrowed where they can be, copied where not.

use std::borrow::Cow;
use std::fmt::Display;

use half::{bf16, f16};
use pyo3::PyResult;
use xent::host::HostIndices;
use xent::{Numbers, Rows};

use crate::array::{Array, c_strides};
use crate::dtype::Number;
use crate::error::{error, invalid_index, type_error};

/// Evaluates `$then` with the elements of the integer type that an array has, and returns that from
/// the function; an error for another type.
macro_rules! of_integers {
    ($array:ident, $name:ident, $elements:ident => $then:expr) => {
        of_integers!($array, $name, $elements => $then; i64, i32, i16, i8, u64, u32, u16, u8)
    };
    ($array:ident, $name:ident, $elements:ident => $then:expr; $($integer:ty),*) => {{
        $(if let Some($elements) = $array.elements::<$integer>() {
            return $then;
        })*
        Err(type_error(format!("{} has dtype {}, expected an integer dtype", $name, $array.dtype)))
    }};
}

impl Array {
    /// The elements in C order, if they have this type.
    fn elements<T: Number>(&self) -> Option<Cow<'_, [T]>> {
        // SAFETY: whoever calls from Python does not write to what is passed; see `buffer`.
        let buffer = unsafe { self.buffer::<T>() }?;
        Some(in_c_order(buffer, self.offset, &self.shape, &self.strides))
    }

    /// The elements in C order with the classes last, if they have this type.
    pub(crate) fn classes_last<T: Number>(&self, axis: usize) -> Option<Cow<'_, [T]>> {
        // SAFETY: as in `elements`.
        let buffer = unsafe { self.buffer::<T>() }?;
        let (shape, strides) = self.with_last(axis);
        Some(in_c_order(buffer, self.offset, &shape, &strides))
    }

    /// Shape and strides with an axis as the last one.
    fn with_last(&self, axis: usize) -> (Vec<usize>, Vec<isize>) {
        let (mut shape, mut strides) = (self.shape.clone(), self.strides.clone());
        shape[axis..].rotate_left(1);
        strides[axis..].rotate_left(1);
        (shape, strides)
    }

    /// Labels of any integer type, in C order.
    pub(crate) fn labels(&self, name: &str) -> PyResult<Vec<i64>> {
        of_integers!(self, name, elements => labels_of(&elements, name))
    }

    /// Numbers of any type, in C order.
    pub(crate) fn numbers(&self, name: &str) -> PyResult<Numbers<'_>> {
        macro_rules! widened {
            ($($number:ty: $widen:expr),*) => {
                $(if let Some(elements) = self.elements::<$number>() {
                    return Ok(elements.iter().map($widen).collect::<Vec<f64>>().into());
                })*
            };
        }
        if let Some(elements) = self.elements::<f64>() {
            return Ok(elements.into());
        }
        widened!(f32: |&n| n.into(), f16: |&n| n.into(), bf16: |&n| n.into(), i64: |&n| n as f64, i32: |&n| n.into(), i16: |&n| n.into());
        widened!(i8: |&n| n.into(), u64: |&n| n as f64, u32: |&n| n.into(), u16: |&n| n.into(), u8: |&n| n.into());
        Err(type_error(format!("{name} has dtype {}, expected numbers", self.dtype)))
    }

    /// Yes or no of type bool, in C order; in that of the axes with `last` as the last
    /// one, if there is one.
    pub(crate) fn booleans(&self, name: &str, last: Option<usize>) -> PyResult<Vec<bool>> {
        // SAFETY: as in `elements`.
        let Some(bytes) = (unsafe { self.bytes() }) else {
            return Err(type_error(format!("{name} has dtype {}, expected bool", self.dtype)));
        };
        let (shape, strides) = match last {
            Some(axis) => self.with_last(axis),
            None => (self.shape.clone(), self.strides.clone()),
        };
        Ok(in_c_order(bytes, self.offset, &shape, &strides).iter().map(|&byte| byte != 0).collect())
    }

    /// Class indices of any integer type, in C order.
    pub(crate) fn indices(&self, name: &str) -> PyResult<HostIndices<'_>> {
        of_integers!(self, name, elements => Ok(elements.into()))
    }

    /// Rows of classes on `axis`, where they lie; `None` if the elements are of another type.
    pub(crate) fn rows<T: Number>(&self, axis: isize) -> PyResult<Option<Rows<'_, T>>> {
        // SAFETY: as in `elements`.
        let Some(buffer) = (unsafe { self.buffer::<T>() }) else { return Ok(None) };
        Rows::strided(buffer, &self.shape, &self.strides, self.offset, axis)
            .map(Some)
            .map_err(error)
    }
}

fn labels_of<I: Copy + Display + TryInto<i64>>(labels: &[I], name: &str) -> PyResult<Vec<i64>> {
    let label = |&label: &I| {
        label.try_into().map_err(|_| invalid_index(format!("{name} has {label}, expected classes")))
    };
    labels.iter().map(label).collect()
}

fn in_c_order<'a, T: Copy>(
    buffer: &'a [T],
    offset: usize,
    shape: &[usize],
    strides: &[isize],
) -> Cow<'a, [T]> {
    let len = shape.iter().product();
    let contiguous = c_strides(shape)
        .iter()
        .zip(strides)
        .zip(shape)
        .all(|((c, stride), &length)| length == 1 || c == stride);
    if contiguous || len == 0 {
        return Cow::Borrowed(&buffer[..len]);
    }
    let mut elements = Vec::with_capacity(len);
    let mut position = vec![0usize; shape.len()];
    let mut at = offset as isize;
    while elements.len() < len {
        elements.push(buffer[at as usize]);
        for axis in (0..position.len()).rev() {
            position[axis] += 1;
            at += strides[axis];
            if position[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis] as isize;
            position[axis] = 0;
        }
    }
    Cow::Owned(elements)
}
