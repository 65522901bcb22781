//! Arrays in main memory that some framework owns, and the number types that they may have.

use half::{bf16, f16};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::dlpack::{DataType, Tensor};
use crate::error::{type_error, value_error};

/// Main memory, and main memory that a GPU reaches too: CUDA's, ROCm's.
const HOST: [i32; 3] = [1, 3, 11];

/// The number types that arrays may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    fn new(DataType { code, bits, lanes }: DataType) -> Option<Self> {
        Some(match (code, bits, lanes) {
            (0, 8, 1) => Self::I8,
            (0, 16, 1) => Self::I16,
            (0, 32, 1) => Self::I32,
            (0, 64, 1) => Self::I64,
            (1, 8, 1) => Self::U8,
            (1, 16, 1) => Self::U16,
            (1, 32, 1) => Self::U32,
            (1, 64, 1) => Self::U64,
            (2, 16, 1) => Self::F16,
            (2, 32, 1) => Self::F32,
            (2, 64, 1) => Self::F64,
            (4, 16, 1) => Self::Bf16,
            (6, 8, 1) => Self::Bool,
            _ => return None,
        })
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        })
    }
}

/// A type that an array's elements can be looked at as.
///
/// # Safety
/// Every bit pattern of `DTYPE` is a value of the type, which has the same size and alignment.
pub(crate) unsafe trait Number: Copy + Send + Sync + 'static {
    const DTYPE: Dtype;
}

macro_rules! numbers {
    ($($number:ty => $dtype:ident),*) => {$(
        // SAFETY: a plain number.
        unsafe impl Number for $number {
            const DTYPE: Dtype = Dtype::$dtype;
        }
    )*};
}
numbers!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, i8 => I8, i16 => I16, i32 => I32, i64 => I64, f16 => F16, bf16 => Bf16, f32 => F32, f64 => F64);

/// An array in main memory that some framework owns. Its capsule is not consumed, only held: whoever made it frees it.
pub(crate) struct Array {
    _capsule: Py<PyCapsule>,
    /// The lowest element that is reached, and how many elements there are to the highest; both hold for elements of `dtype`.
    lowest: *mut u8,
    reach: usize,
    /// Where element 0 is, from the lowest.
    pub(crate) offset: usize,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// In elements.
    pub(crate) strides: Vec<isize>,
    read_only: bool,
}

impl Array {
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// All elements from the lowest to the highest, also those between that the array does not have.
    ///
    /// # Safety
    /// Nobody writes to the array meanwhile: as everywhere with arrays that threads share, the callers in Python see to that.
    pub(crate) unsafe fn buffer<T: Number>(&self) -> Option<&[T]> {
        if T::DTYPE != self.dtype {
            return None;
        }
        // SAFETY: `new` checked the pointer; the capsule keeps the memory alive as long as self; nobody writes (contract).
        Some(unsafe { std::slice::from_raw_parts(self.lowest.cast(), self.reach) })
    }

    /// As [`buffer`](Self::buffer), for bools, as bytes.
    ///
    /// # Safety
    /// As [`buffer`](Self::buffer).
    pub(crate) unsafe fn bytes(&self) -> Option<&[u8]> {
        if !matches!(self.dtype, Dtype::Bool | Dtype::U8) {
            return None;
        }
        // SAFETY: as above; a byte is good for any bits.
        Some(unsafe { std::slice::from_raw_parts(self.lowest, self.reach) })
    }

    /// As [`buffer`](Self::buffer), to write to.
    ///
    /// # Errors
    /// `ValueError` if the array is read-only.
    ///
    /// # Safety
    /// Nobody else reads or writes the array's memory meanwhile.
    pub(crate) unsafe fn buffer_mut<T: Number>(&mut self, name: &str) -> PyResult<Option<&mut [T]>> {
        if self.read_only {
            return Err(value_error(format!("{name} is read-only, expected an array that can be written")));
        }
        if T::DTYPE != self.dtype {
            return Ok(None);
        }
        // SAFETY: as above, and nobody else has the memory (contract).
        Ok(Some(unsafe { std::slice::from_raw_parts_mut(self.lowest.cast(), self.reach) }))
    }

    /// Whether two arrays may have memory in common.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let range = |array: &Self| {
            let start = array.lowest.addr();
            start..start + array.reach * array.dtype.size()
        };
        let (a, b) = (range(self), range(other));
        a.start < b.end && b.start < a.end
    }

    /// # Safety
    /// `tensor` is what a producer of DLPack put into `capsule`.
    pub(crate) unsafe fn new(capsule: Py<PyCapsule>, tensor: &Tensor, read_only: bool, bfloat16: bool) -> PyResult<Self> {
        if !HOST.contains(&tensor.device.kind) {
            return Err(value_error(format!("an array on device type {} (DLPack's numbers), expected main memory", tensor.device.kind)));
        }
        let DataType { code, bits, lanes } = tensor.dtype;
        let dtype = match Dtype::new(tensor.dtype) {
            Some(Dtype::U16) if bfloat16 => Dtype::Bf16,
            Some(dtype) => dtype,
            None => {
                return Err(type_error(format!(
                    "an array of DLPack dtype (code {code}, {bits} bits, {lanes} lanes), expected bool, integers or float16, bfloat16, float32, float64"
                )));
            }
        };
        let axes = usize::try_from(tensor.ndim).unwrap_or(0);
        // SAFETY: a producer's shape has as many entries as there are axes.
        let lengths = if axes == 0 { &[] } else { unsafe { std::slice::from_raw_parts(tensor.shape, axes) } };
        let shape = lengths
            .iter()
            .map(|&length| usize::try_from(length))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| value_error(format!("an array of shape {lengths:?}")))?;
        if shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length)).is_none() {
            return Err(value_error(format!("an array of shape {shape:?}, which has more entries than can be counted")));
        }
        let strides: Vec<isize> = if tensor.strides.is_null() || axes == 0 {
            c_strides(&shape)
        } else {
            // SAFETY: as its shape.
            unsafe { std::slice::from_raw_parts(tensor.strides, axes) }.iter().map(|&stride| stride as isize).collect()
        };
        let (mut below, mut above) = (0i128, 0i128);
        for (&length, &stride) in shape.iter().zip(&strides) {
            let reach = (length as i128 - 1) * stride as i128;
            *(if reach < 0 { &mut below } else { &mut above }) += reach;
        }
        let empty = shape.contains(&0);
        let reach = if empty {
            0
        } else {
            usize::try_from(above - below + 1).map_err(|_| value_error(format!("an array of shape {shape:?} and strides {strides:?}")))?
        };
        let first = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize);
        let lowest = first.wrapping_offset(if empty { 0 } else { below as isize * dtype.size() as isize });
        if empty {
            let lowest = std::ptr::without_provenance_mut(dtype.size());
            return Ok(Self { _capsule: capsule, lowest, reach, offset: 0, dtype, shape, strides, read_only });
        }
        if tensor.data.is_null() || !lowest.addr().is_multiple_of(dtype.size()) {
            return Err(value_error(format!("an array of {dtype} at address {:#x}, expected a multiple of {}", lowest.addr(), dtype.size())));
        }
        Ok(Self { _capsule: capsule, lowest, reach, offset: (-below) as usize, dtype, shape, strides, read_only })
    }
}

/// In elements.
pub(crate) fn c_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1) as isize);
    }
    strides
}
