//! Tensors and the shape of the logits ([`LogitsShape`]).

use burn::tensor::{DType, Tensor, kind::Basic};
use xent::host::LogitsShape;

use crate::{Error, Result};

/// The shape of logits of a dtype that can be used.
pub(crate) fn of_logits<const D: usize>(
    logits: &Tensor<D>,
    class_axis: isize,
) -> Result<LogitsShape> {
    let shape = LogitsShape::new(logits.dims(), class_axis)?;
    match logits.dtype() {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Ok(shape),
        found => Err(Error::Dtype {
            name: "the tensor of logits",
            found,
            expected: "f32, f64, f16 or bf16",
        }),
    }
}

/// A tensor of the logits' shape as `[N, K]`.
pub(crate) fn rows_of<const D: usize, K: Basic>(
    tensor: Tensor<D, K>,
    shape: &LogitsShape,
) -> Tensor<2, K> {
    tensor.movedim(shape.axis(), D - 1).flatten(0, D - 2)
}

/// Back from `[N, K]` to the logits' shape.
pub(crate) fn like_logits<const D: usize>(rows: Tensor<2>, shape: &LogitsShape) -> Tensor<D> {
    let dims = shape.class_axis_last().into_iter().map(|axis| shape.dims()[axis]);
    let mut classes_last = [0; D];
    classes_last.iter_mut().zip(dims).for_each(|(length, dim)| *length = dim);
    rows.reshape(classes_last).movedim(D - 1, shape.axis())
}
