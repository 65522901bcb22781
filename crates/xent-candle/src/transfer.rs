//! The only places where numbers of the host go to a device and numbers of a device come to the
//! host.
//!
//! candle has no hook that reports a copy. So whatever the calls on devices move goes through these
//! three functions, which count in tests; and a test reads the source of `tensors/` and finds no
//! other function of candle's that copies. Not counted, because it happens inside candle: its CUDA
//! kernels fetch the shape and strides of an operand that is not contiguous, a few dozen bytes.

use candle_core::shape::ShapeWithOneHole;
use candle_core::{DType, Device, Tensor, WithDType};

use crate::error::Result;

/// Numbers of the criterion, for a device.
pub(crate) fn upload<T: WithDType>(
    numbers: Vec<T>,
    shape: impl ShapeWithOneHole,
    device: &Device,
) -> Result<Tensor> {
    count(|counts| counts.uploads += 1);
    Ok(Tensor::from_vec(numbers, shape, device)?)
}

/// A tensor of the batch, on the device of the logits and not tracked. Its dtype changes where it
/// is: not every device has f64, and the host has every conversion.
pub(crate) fn bring(tensor: &Tensor, dtype: DType, device: &Device) -> Result<Tensor> {
    count(|counts| counts.brought += 1);
    Ok(tensor.detach().to_dtype(dtype)?.to_device(device)?)
}

/// The entries of a tensor, in C order. Waits for the device.
pub(crate) fn read_back<T: WithDType>(tensor: &Tensor) -> Result<Vec<T>> {
    count(|counts| counts.read_back += 1);
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(T::DTYPE)?.flatten_all()?.to_vec1()?)
}

/// How often each of the functions was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) uploads: usize,
    pub(crate) brought: usize,
    pub(crate) read_back: usize,
}

#[cfg(not(test))]
fn count(_: impl FnOnce(&mut Counts)) {}

#[cfg(test)]
fn count(add: impl FnOnce(&mut Counts)) {
    tests::COUNTS.with_borrow_mut(add);
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;

    use super::Counts;

    thread_local! {
        pub(super) static COUNTS: RefCell<Counts> = RefCell::default();
    }

    /// What the calls of this thread moved since the last time.
    pub(crate) fn take_counts() -> Counts {
        COUNTS.take()
    }
}
