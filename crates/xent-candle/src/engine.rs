//! On the CPU: xent's own engine, which reads the logits in place.

use std::sync::Arc;

use candle_core::{Device, Tensor, WithDType};
use xent::host::LogitsShape;
use xent::{Criterion, Element, Output, Real, Reduced, Reduction, Rows, RowsMut, Upstream};

use crate::attach::{Backward, attach};
use crate::batch::{ReadBatch, strided, with_floats};
use crate::error::Result;
use crate::transfer::read_back;

/// What forms the gradient once the upstream gradient is known.
#[derive(Debug)]
struct Gradient {
    criterion: Arc<Criterion>,
    batch: ReadBatch,
    shape: LogitsShape,
    /// The gradient under an upstream gradient of 1, from the pass that gave the loss.
    unit: Option<Tensor>,
}

/// The loss, differentiated if the logits are tracked, and its parts. Logits without rows may be on
/// any device.
pub(crate) fn forward(
    criterion: &Arc<Criterion>,
    batch: ReadBatch,
    shape: LogitsShape,
    logits: &Tensor,
) -> Result<(Tensor, Output<f64>)> {
    let (loss, output, gradient) = evaluate(criterion, batch, shape, logits)?;
    Ok((attach(logits, loss.to_device(logits.device())?, gradient)?, output))
}

/// A reduced loss almost always meets an upstream gradient of 1, so its gradient comes from the
/// same pass. A loss per row enters further arithmetic, and its gradient waits for what comes back.
/// Logits that are not tracked cost no gradient.
fn evaluate(
    criterion: &Arc<Criterion>,
    batch: ReadBatch,
    shape: LogitsShape,
    logits: &Tensor,
) -> Result<(Tensor, Output<f64>, Option<Gradient>)> {
    let eager = logits.track_op() && criterion.config().reduction != Reduction::None;
    let host = logits.detach().to_device(&Device::Cpu)?;
    let (storage, layout) = host.storage_and_layout();
    let (loss, output, unit) = with_floats!(&*storage, "the tensor of logits", data => {
        let rows = strided(data, layout, shape.axis() as isize)?;
        if eager {
            let (output, unit) = forward_backward(criterion, &batch, &shape, &rows, 1.0.into())?;
            (loss(&output, &shape)?, output.to_f64(), Some(unit))
        } else {
            let output = batch.with(|batch| Ok(criterion.forward(&rows, batch)?))?;
            (loss(&output, &shape)?, output.to_f64(), None)
        }
    });
    let gradient =
        logits.track_op().then(|| Gradient { criterion: criterion.clone(), batch, shape, unit });
    Ok((loss, output, gradient))
}

impl Backward for Gradient {
    /// The gradient of `logits`, which are those of the forward pass, under `upstream`, which has
    /// the shape of the loss.
    ///
    /// An upstream gradient other than 1 is not multiplied in afterwards: in half precision, what
    /// it was to save from underflow would be lost already.
    fn backward(&self, logits: &Tensor, upstream: &Tensor) -> Result<Tensor> {
        if self.shape.rows() == 0 {
            return Ok(logits.zeros_like()?);
        }
        let upstream = read_back::<f64>(upstream)?;
        if let (Some(unit), [1.0]) = (&self.unit, upstream.as_slice()) {
            return Ok(unit.clone());
        }
        let upstream = match self.criterion.config().reduction {
            Reduction::None => upstream.into(),
            _ => Upstream::Scalar(upstream.iter().sum()),
        };
        let (storage, layout) = logits.storage_and_layout();
        with_floats!(&*storage, "the tensor of logits", data => {
            let rows = strided(data, layout, self.shape.axis() as isize)?;
            let (_, gradient) = forward_backward(&self.criterion, &self.batch, &self.shape, &rows, upstream)?;
            Ok(gradient)
        })
    }
}

fn forward_backward<T: Element + WithDType>(
    criterion: &Criterion,
    batch: &ReadBatch,
    shape: &LogitsShape,
    logits: &Rows<'_, T>,
    upstream: Upstream<'_>,
) -> Result<(Output<T::Real>, Tensor)> {
    let mut gradient = vec![T::zero(); shape.rows() * shape.classes()];
    let mut view = RowsMut::with_axis(&mut gradient, shape.dims(), shape.axis() as isize)?;
    let output =
        batch.with(|batch| Ok(criterion.forward_backward(logits, batch, upstream, &mut view)?))?;
    Ok((output, Tensor::from_vec(gradient, shape.dims(), &Device::Cpu)?))
}

/// The loss as a tensor: f64 for f64 logits, f32 for all others; a scalar, or of the shape of the
/// rows.
pub(crate) fn loss<F: Real + WithDType>(output: &Output<F>, shape: &LogitsShape) -> Result<Tensor> {
    let dims = match output.loss {
        Reduced::Scalar(_) => Vec::new(),
        Reduced::Rows(_) => shape.row_dims(),
    };
    Ok(Tensor::from_slice(output.loss.as_slice(), dims, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use xent::Config;

    use super::*;
    use crate::batch::GivenBatch;

    #[test]
    fn a_gradient_is_formed_at_once_only_where_one_is_sure_to_be_asked_for() {
        let variable = Var::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let tracked = (variable.as_tensor() * 2.0).unwrap();
        let targets = Tensor::new(&[0u32, 2], &Device::Cpu).unwrap();
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let criterion = Arc::new(Config::new().reduction(reduction).build().unwrap());
            let gradient = |logits: &Tensor| {
                let shape = LogitsShape::new(logits.dims(), -1).unwrap();
                let batch = GivenBatch::new(&targets).read(&shape).unwrap();
                evaluate(&criterion, batch, shape, logits).unwrap().2
            };
            assert!(gradient(&tracked.detach()).is_none());
            assert_eq!(gradient(&tracked).unwrap().unit.is_some(), reduction != Reduction::None);
        }
    }
}
