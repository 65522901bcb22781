//! Arrays as xent takes them: borrowed where they can be, copied where not.

use std::borrow::Cow;

use half::{bf16, f16};
use pyo3::PyResult;
use xent::{ClassIndices, Rows};

use crate::array::{Array, Number, c_strides};
use crate::error::{type_error, value_error, view_error};

/// Class indices, one a row.
pub(crate) enum Indices<'a> {
    U8(Cow<'a, [u8]>),
    U32(Cow<'a, [u32]>),
    I32(Cow<'a, [i32]>),
    I64(Cow<'a, [i64]>),
}

impl Indices<'_> {
    pub(crate) fn as_xent(&self) -> ClassIndices<'_> {
        match self {
            Self::U8(indices) => (&**indices).into(),
            Self::U32(indices) => (&**indices).into(),
            Self::I32(indices) => (&**indices).into(),
            Self::I64(indices) => (&**indices).into(),
        }
    }
}

impl Array {
    /// The elements in C order, if they have this type.
    fn elements<T: Number>(&self) -> Option<Cow<'_, [T]>> {
        // SAFETY: whoever calls from Python does not write to what is passed; see `buffer`.
        let buffer = unsafe { self.buffer::<T>() }?;
        Some(in_c_order(buffer, self.offset, &self.shape, &self.strides))
    }

    /// Numbers of any type, in C order.
    pub(crate) fn numbers(&self, name: &str) -> PyResult<Cow<'_, [f64]>> {
        macro_rules! widened {
            ($($number:ty),*) => {
                $(if let Some(elements) = self.elements::<$number>() {
                    return Ok(elements.iter().map(|&element| element as f64).collect());
                })*
            };
        }
        if let Some(elements) = self.elements::<f64>() {
            return Ok(elements);
        }
        if let Some(elements) = self.elements::<f16>() {
            return Ok(elements.iter().map(|element| element.to_f64()).collect());
        }
        if let Some(elements) = self.elements::<bf16>() {
            return Ok(elements.iter().map(|element| element.to_f64()).collect());
        }
        widened!(f32, i64, i32, i16, i8, u64, u32, u16, u8);
        Err(type_error(format!("{name} of dtype {}, expected numbers", self.dtype)))
    }

    /// Yes or no of type bool or uint8, in C order; in that of the axes with `last` as the last one, if there is one.
    pub(crate) fn booleans(&self, name: &str, last: Option<usize>) -> PyResult<Vec<bool>> {
        // SAFETY: as in `elements`.
        let Some(bytes) = (unsafe { self.bytes() }) else {
            return Err(type_error(format!("{name} of dtype {}, expected bool", self.dtype)));
        };
        let (mut shape, mut strides) = (self.shape.clone(), self.strides.clone());
        if let Some(axis) = last {
            shape[axis..].rotate_left(1);
            strides[axis..].rotate_left(1);
        }
        Ok(in_c_order(bytes, self.offset, &shape, &strides).iter().map(|&byte| byte != 0).collect())
    }

    /// Class indices of any integer type, in C order; what i64 does not hold is out of range either way.
    pub(crate) fn indices(&self, name: &str) -> PyResult<Indices<'_>> {
        macro_rules! as_they_are {
            ($($integer:ty => $variant:ident),*) => {
                $(if let Some(elements) = self.elements::<$integer>() {
                    return Ok(Indices::$variant(elements));
                })*
            };
        }
        macro_rules! widened {
            ($($integer:ty),*) => {
                $(if let Some(elements) = self.elements::<$integer>() {
                    return Ok(Indices::I64(elements.iter().map(|&index| i64::try_from(index).unwrap_or(i64::MAX)).collect()));
                })*
            };
        }
        as_they_are!(i64 => I64, i32 => I32, u8 => U8, u32 => U32);
        widened!(i16, i8, u16, u64);
        Err(type_error(format!("{name} of dtype {}, expected integers", self.dtype)))
    }

    /// Rows of classes on `axis`, where they lie; `None` if the elements are of another type.
    pub(crate) fn rows<T: Number>(&self, axis: usize) -> PyResult<Option<Rows<'_, T>>> {
        // SAFETY: as in `elements`.
        let Some(buffer) = (unsafe { self.buffer::<T>() }) else { return Ok(None) };
        Rows::strided(buffer, &self.shape, &self.strides, self.offset, axis).map(Some).map_err(view_error)
    }

    pub(crate) fn expect_shape(&self, name: &str, expected: &[usize], what: &str) -> PyResult<()> {
        if self.shape == expected {
            return Ok(());
        }
        Err(value_error(format!("{name} of shape {:?}, expected {expected:?}, {what}", self.shape)))
    }
}

fn in_c_order<'a, T: Copy>(buffer: &'a [T], offset: usize, shape: &[usize], strides: &[isize]) -> Cow<'a, [T]> {
    let len = shape.iter().product();
    let contiguous = c_strides(shape).iter().zip(strides).zip(shape).all(|((c, stride), &length)| length == 1 || c == stride);
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

/// Runs one expression for whichever float type a dtype is; leaves the function with a TypeError for any other.
macro_rules! with_float {
    ($name:expr, $dtype:expr, $float:ident => $body:expr) => {
        match $dtype {
            Dtype::F32 => {
                type $float = f32;
                $body
            }
            Dtype::F64 => {
                type $float = f64;
                $body
            }
            Dtype::F16 => {
                type $float = half::f16;
                $body
            }
            Dtype::Bf16 => {
                type $float = half::bf16;
                $body
            }
            other => return Err($crate::error::type_error(format!("{} of dtype {other}, expected float16, bfloat16, float32 or float64", $name))),
        }
    };
}
pub(crate) use with_float;
