//! Arrays in host memory that some framework owns.

use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

use crate::dlpack::{DataType, Lent, lend};
use crate::dtype::{Dtype, Number};
use crate::error::{type_error, value_error};

/// Host memory, and host memory that a GPU reaches too: CUDA's, ROCm's.
const HOST: [i32; 3] = [1, 3, 11];

/// An array in host memory that some framework owns.
pub(crate) struct Array {
    _capsule: Py<PyCapsule>,
    /// The lowest element that is reached, and how many elements there are to the highest; both
    /// hold for elements of `dtype`.
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

    /// All elements from the lowest to the highest, also those between that the array does not
    /// have.
    ///
    /// # Safety
    /// Nobody writes to the array meanwhile: as everywhere with arrays that threads share, the
    /// callers in Python see to that.
    pub(crate) unsafe fn buffer<T: Number>(&self) -> Option<&[T]> {
        if T::DTYPE != self.dtype {
            return None;
        }
        // SAFETY: `new` checked the pointer; the capsule keeps the memory alive as long as self;
        // nobody writes (contract).
        Some(unsafe { std::slice::from_raw_parts(self.lowest.cast(), self.reach) })
    }

    /// As [`buffer`](Self::buffer), for bools, as bytes.
    ///
    /// # Safety
    /// As [`buffer`](Self::buffer).
    pub(crate) unsafe fn bytes(&self) -> Option<&[u8]> {
        if self.dtype != Dtype::Bool {
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
    pub(crate) unsafe fn buffer_mut<T: Number>(
        &mut self,
        name: &str,
    ) -> PyResult<Option<&mut [T]>> {
        if self.read_only {
            return Err(value_error(format!(
                "{name} is read-only, expected an array that can be written"
            )));
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

    fn new(Lent { capsule, tensor, read_only }: Lent, bfloat16: bool) -> PyResult<Self> {
        // SAFETY: a producer of DLPack made it, and the capsule keeps it.
        let tensor = unsafe { &*tensor };
        if !HOST.contains(&tensor.device.kind) {
            return Err(value_error(format!(
                "an array on device type {} (DLPack's numbers), expected host memory (CPU)",
                tensor.device.kind
            )));
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
        let lengths = match axes {
            0 => &[],
            // SAFETY: a producer's shape has as many entries as there are axes.
            _ => unsafe { std::slice::from_raw_parts(tensor.shape, axes) },
        };
        let shape = lengths
            .iter()
            .map(|&length| usize::try_from(length))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| value_error(format!("an array of shape {lengths:?}")))?;
        if shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length)).is_none() {
            return Err(value_error(format!(
                "an array of shape {shape:?}: the number of entries overflows"
            )));
        }
        let strides: Vec<isize> = if tensor.strides.is_null() || axes == 0 {
            c_strides(&shape)
        } else {
            // SAFETY: as its shape.
            unsafe { std::slice::from_raw_parts(tensor.strides, axes) }
                .iter()
                .map(|&stride| stride as isize)
                .collect()
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
            usize::try_from(above - below + 1).map_err(|_| {
                value_error(format!("an array of shape {shape:?} and strides {strides:?}"))
            })?
        };
        let first = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize);
        let lowest =
            first.wrapping_offset(if empty { 0 } else { below as isize * dtype.size() as isize });
        if empty {
            let lowest = std::ptr::without_provenance_mut(dtype.size());
            return Ok(Self {
                _capsule: capsule,
                lowest,
                reach,
                offset: 0,
                dtype,
                shape,
                strides,
                read_only,
            });
        }
        if tensor.data.is_null() || !lowest.addr().is_multiple_of(dtype.size()) {
            return Err(value_error(format!(
                "an array of {dtype} at address {:#x}, expected a multiple of {}",
                lowest.addr(),
                dtype.size()
            )));
        }
        Ok(Self {
            _capsule: capsule,
            lowest,
            reach,
            offset: (-below) as usize,
            dtype,
            shape,
            strides,
            read_only,
        })
    }
}

/// Whatever has `__dlpack__`, or what that returns; or a tuple of such an array of uint16 and the word "bfloat16", for
/// frameworks that have no bfloat16 in DLPack.
impl FromPyObject<'_, '_> for Array {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let Ok(pair) = object.cast::<PyTuple>() else { return Self::new(lend(object)?, false) };
        let (array, dtype) = pair.extract::<(Bound<'_, PyAny>, String)>()?;
        if dtype != "bfloat16" {
            return Err(type_error(format!("an array called {dtype}, expected bfloat16")));
        }
        Self::new(lend(array.as_borrowed())?, true)
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
