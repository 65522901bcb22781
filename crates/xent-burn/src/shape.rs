//! The logits' shape, and the shapes that go with it.

use burn::tensor::{DType, Tensor, kind::Basic};

use crate::{Error, Result};

/// The shape of logits of N rows and K ≥ 1 classes. Rows are numbered in C order of the axes without the class axis.
#[derive(Debug, Clone)]
pub(crate) struct LogitsShape {
    dims: Vec<usize>,
    axis: usize,
}

impl LogitsShape {
    pub(crate) fn new<const D: usize>(logits: &Tensor<D>, axis: isize) -> Result<Self> {
        let dims = logits.dims().to_vec();
        let from_start = if axis < 0 { axis + D as isize } else { axis };
        let Some(axis) = usize::try_from(from_start).ok().filter(|&axis| axis < D) else { return Err(Error::Axis { axis, logits: dims }) };
        if !matches!(logits.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Error::Dtype { name: "the tensor of logits", found: logits.dtype(), expected: "f32, f64, f16 or bf16" });
        }
        if dims[axis] == 0 {
            return Err(xent::ViewError::NoClasses.into());
        }
        Ok(Self { dims, axis })
    }

    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    pub(crate) fn axis(&self) -> usize {
        self.axis
    }

    /// K.
    pub(crate) fn classes(&self) -> usize {
        self.dims[self.axis]
    }

    /// N.
    pub(crate) fn rows(&self) -> usize {
        self.row_dims().iter().product()
    }

    /// The shape of what is one number a row.
    pub(crate) fn row_dims(&self) -> Vec<usize> {
        let mut dims = self.dims.clone();
        dims.remove(self.axis);
        dims
    }

    /// A tensor of the logits' shape as `[N, K]`.
    pub(crate) fn rows_of<const D: usize, K: Basic>(&self, tensor: Tensor<D, K>) -> Tensor<2, K> {
        tensor.movedim(self.axis, D - 1).flatten::<2>(0, D - 2)
    }

    /// Back from `[N, K]` to the logits' shape.
    pub(crate) fn like_logits<const D: usize>(&self, rows: Tensor<2>) -> Tensor<D> {
        let mut dims = [0; D];
        dims.iter_mut().zip(self.row_dims().into_iter().chain([self.classes()])).for_each(|(dim, length)| *dim = length);
        rows.reshape(dims).movedim(D - 1, self.axis)
    }

    /// That a tensor has one entry a row.
    pub(crate) fn expect_rows(&self, name: &'static str, found: &[usize]) -> Result<()> {
        let expected = self.row_dims();
        self.expect(found == expected, name, found, || format!("{expected:?}, one entry a row,"))
    }

    /// That a tensor has one entry a row and class.
    pub(crate) fn expect_logits(&self, name: &'static str, found: &[usize]) -> Result<()> {
        self.expect(found == self.dims, name, found, || format!("{:?}, one entry a row and class,", self.dims))
    }

    /// That a tensor has one entry a class.
    pub(crate) fn expect_classes(&self, name: &'static str, found: &[usize]) -> Result<()> {
        self.expect(found == [self.classes()], name, found, || format!("[{}], one entry a class,", self.classes()))
    }

    fn expect(&self, good: bool, name: &'static str, found: &[usize], expected: impl FnOnce() -> String) -> Result<()> {
        if good {
            return Ok(());
        }
        Err(Error::Shape { name, found: found.to_vec(), expected: expected(), logits: self.dims.clone(), axis: self.axis })
    }
}
