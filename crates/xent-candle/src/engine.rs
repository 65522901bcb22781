//! On the CPU: xent's own engine, reading the logits where they lie.

use std::sync::Arc;

use candle_core::{CpuStorage, Device, Storage, Tensor, WithDType};
use xent::{Criterion, Element, Output, Real, Reduction, Rows, RowsMut, Upstream};

use crate::attach::Backward;
use crate::host::{HostBatch, numbers, strided, with_floats};
use crate::shape::LogitsShape;
use crate::{Error, Result};

/// What forms the gradient once the upstream gradient is known.
#[derive(Debug)]
pub(crate) struct Gradient {
    criterion: Arc<Criterion>,
    batch: HostBatch,
    shape: LogitsShape,
    /// The gradient under an upstream gradient of 1, from the pass that gave the loss.
    unit: Option<Tensor>,
}

/// Loss, parts and, of tracked logits, the gradient. Frozen logits cost no gradient.
///
/// A reduced loss almost always meets an upstream gradient of 1, so its gradient comes from the same pass. A loss a row goes on into arithmetic of the caller's, and
/// its gradient waits for what comes back.
pub(crate) fn forward(criterion: &Arc<Criterion>, batch: HostBatch, shape: LogitsShape, logits: &Tensor) -> Result<(Tensor, Output<f64>, Option<Gradient>)> {
    let eager = wants_gradient_at_once(criterion, logits);
    let (storage, layout) = logits.storage_and_layout();
    let (loss, output, unit) = with_floats!(&*storage, "the tensor of logits", data => {
        let rows = strided(data, layout, shape.axis())?;
        if eager {
            let (output, unit) = forward_backward(criterion, &batch, &shape, &rows, Upstream::Scalar(1.0))?;
            (loss(&output, &shape)?, output.to_f64(), Some(unit))
        } else {
            let output = batch.with(|batch| Ok(criterion.forward(&rows, batch)?))?;
            (loss(&output, &shape)?, output.to_f64(), None)
        }
    });
    let gradient = logits.track_op().then(|| Gradient { criterion: criterion.clone(), batch, shape, unit });
    Ok((loss, output, gradient))
}

fn wants_gradient_at_once(criterion: &Criterion, logits: &Tensor) -> bool {
    logits.track_op() && criterion.reduction() != Reduction::None
}

impl Backward for Gradient {
    /// The gradient of `logits`, which are those of the forward pass, under `upstream`, which has the loss's shape.
    ///
    /// An upstream gradient other than 1 is not multiplied in afterwards: in half precision, what it was to save from underflow would be lost already.
    fn backward(&self, logits: &Tensor, upstream: &Tensor) -> Result<Tensor> {
        let upstream = numbers(upstream)?;
        if let (Some(unit), [1.0]) = (&self.unit, upstream.as_slice()) {
            return Ok(unit.clone());
        }
        let upstream = match (self.criterion.reduction(), upstream.as_slice()) {
            (Reduction::None, rows) => Upstream::Rows(rows),
            (_, upstream) => Upstream::Scalar(upstream.iter().sum()),
        };
        let (storage, layout) = logits.storage_and_layout();
        with_floats!(&*storage, "the tensor of logits", data => {
            let rows = strided(data, layout, self.shape.axis())?;
            let (_, gradient) = forward_backward(&self.criterion, &self.batch, &self.shape, &rows, upstream)?;
            Ok(gradient)
        })
    }
}

fn forward_backward<T: Element + WithDType>(
    criterion: &Criterion,
    batch: &HostBatch,
    shape: &LogitsShape,
    logits: &Rows<'_, T>,
    upstream: Upstream<'_>,
) -> Result<(Output<T::Real>, Tensor)> {
    let mut gradient = vec![T::zero(); shape.rows() * shape.classes()];
    let output = {
        let mut view = RowsMut::with_axis(&mut gradient, shape.dims(), shape.axis())?;
        batch.with(|batch| Ok(criterion.forward_backward(logits, batch, upstream, &mut view)?))?
    };
    Ok((output, Tensor::from_vec(gradient, shape.dims(), &Device::Cpu)?))
}

/// The loss as a tensor: f64 for f64 logits, f32 for all others; a scalar, or of the rows' shape.
pub(crate) fn loss<F: Real + WithDType>(output: &Output<F>, shape: &LogitsShape) -> Result<Tensor> {
    let dims = match output.loss {
        xent::Reduced::Scalar(_) => Vec::new(),
        xent::Reduced::Rows(_) => shape.row_dims(),
    };
    Ok(Tensor::from_slice(output.loss.as_slice(), dims, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use xent::Config;

    use super::*;
    use crate::CrossEntropy;
    use crate::shape::ClassAxis;

    #[test]
    fn a_gradient_is_formed_at_once_only_where_one_is_sure_to_be_asked_for() {
        let variable = Var::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let tracked = (variable.as_tensor() * 2.0).unwrap();
        let targets = Tensor::new(&[0u32, 2], &Device::Cpu).unwrap();
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let criterion = Config::new().reduction(reduction).build().unwrap();
            let gradient = |logits: &Tensor| {
                let shape = LogitsShape::new(logits, &ClassAxis::default()).unwrap();
                let batch = HostBatch::new(&CrossEntropy::from(criterion.clone()).on(logits, &targets), &shape).unwrap();
                forward(&Arc::new(criterion.clone()), batch, shape, logits).unwrap().2
            };
            assert!(!wants_gradient_at_once(&criterion, &tracked.detach()));
            assert!(gradient(&tracked.detach()).is_none());
            assert_eq!(wants_gradient_at_once(&criterion, &tracked), reduction != Reduction::None);
            assert_eq!(gradient(&tracked).unwrap().unit.is_some(), reduction != Reduction::None);
        }
    }
}
