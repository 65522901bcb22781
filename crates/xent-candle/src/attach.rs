//! A loss attached to the logits it was computed from: the node of candle's graph at which
//! `backward` asks for the gradient.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, MetalStorage, Shape, Tensor};

use crate::error::Result;

/// What a path knows after its forward pass.
pub(crate) trait Backward: Send + Sync + 'static {
    /// dL/dlogits, in the logits' shape and dtype, from dL/dloss. May be asked more than once.
    fn backward(&self, logits: &Tensor, upstream: &Tensor) -> Result<Tensor>;
}

/// `loss` as a function of `logits`, with `backward` as its derivative; as it is where there is
/// none.
pub(crate) fn attach(
    logits: &Tensor,
    loss: Tensor,
    backward: Option<impl Backward>,
) -> Result<Tensor> {
    match backward {
        Some(backward) => Ok(logits.apply_op2(&loss, Attached(backward))?),
        None => Ok(loss),
    }
}

struct Attached<B>(B);

impl<B: Backward> CustomOp2 for Attached<B> {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        loss: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((loss.try_clone(layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        loss: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        Ok((loss.try_clone(layout)?, layout.shape().clone()))
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        loss: &MetalStorage,
        layout: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        Ok((loss.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        _: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(self.0.backward(logits, upstream)?), None))
    }
}
