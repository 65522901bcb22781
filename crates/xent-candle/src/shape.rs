//! The logits' shape, and the shapes that go with it.

use std::sync::Arc;

use candle_core::shape::Dim;
use candle_core::{D, DType, Tensor};

use crate::{Error, Result};

/// The class axis as the caller said it: it becomes a number when the logits' rank is known.
#[derive(Clone)]
pub(crate) struct ClassAxis(Arc<dyn Dim + Send + Sync>);

impl ClassAxis {
    pub(crate) fn new(axis: impl Dim + Send + Sync + 'static) -> Self {
        Self(Arc::new(axis))
    }
}

impl Default for ClassAxis {
    fn default() -> Self {
        Self::new(D::Minus1)
    }
}

/// The shape of logits of N rows and K ≥ 1 classes. Rows are numbered in C order of the axes without the class axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogitsShape {
    dims: Vec<usize>,
    axis: usize,
}

impl LogitsShape {
    pub(crate) fn new(logits: &Tensor, axis: &ClassAxis) -> Result<Self> {
        let axis = axis.0.to_index(logits.shape(), "class axis")?;
        let dims = logits.dims().to_vec();
        if !matches!(logits.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Error::Dtype { name: "the tensor of logits", found: logits.dtype(), expected: "f32, f64, f16 or bf16" });
        }
        if dims[axis] == 0 {
            return Err(xent::ViewError::NoClasses.into());
        }
        // A broadcast view may have any number of positions.
        if dims.iter().try_fold(1usize, |product, &length| product.checked_mul(length)).is_none() {
            return Err(candle_core::Error::msg(format!("logits of shape {dims:?} have more entries than can be counted")).into());
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

    /// A tensor of the logits' shape as `[N, K]`, contiguous; a copy only where it has to be one.
    pub(crate) fn rows_of(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.permute(self.class_axis_last())?.contiguous()?.reshape((self.rows(), self.classes()))?)
    }

    /// Back from `[N, K]` to the logits' shape.
    pub(crate) fn like_logits(&self, rows: &Tensor) -> Result<Tensor> {
        let order = self.class_axis_last();
        let permuted: Vec<usize> = order.iter().map(|&axis| self.dims[axis]).collect();
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
        Ok(rows.reshape(permuted)?.permute(back)?.contiguous()?)
    }

    fn class_axis_last(&self) -> Vec<usize> {
        (0..self.dims.len()).filter(|&axis| axis != self.axis).chain([self.axis]).collect()
    }

    /// That `tensor` has one entry a row.
    pub(crate) fn expect_rows(&self, name: &'static str, tensor: &Tensor) -> Result<()> {
        let expected = self.row_dims();
        self.expect(tensor.dims() == expected, name, tensor, || format!("{expected:?}, one entry a row,"))
    }

    /// That `tensor` has one entry a row and class.
    pub(crate) fn expect_logits(&self, name: &'static str, tensor: &Tensor) -> Result<()> {
        self.expect(tensor.dims() == self.dims, name, tensor, || format!("{:?}, one entry a row and class,", self.dims))
    }

    /// That `tensor` has one entry a class (`true`), or one a row and class.
    pub(crate) fn expect_classes_or_logits(&self, name: &'static str, tensor: &Tensor) -> Result<bool> {
        let shared = tensor.dims() == [self.classes()];
        self.expect(shared || tensor.dims() == self.dims, name, tensor, || {
            format!("[{}], one entry a class, or {:?}, one a row and class,", self.classes(), self.dims)
        })?;
        Ok(shared)
    }

    fn expect(&self, good: bool, name: &'static str, tensor: &Tensor, expected: impl FnOnce() -> String) -> Result<()> {
        if good {
            return Ok(());
        }
        Err(Error::Shape { name, found: tensor.dims().to_vec(), expected: expected(), logits: self.dims.clone(), axis: self.axis })
    }
}
