//! The way into burn: what a backend can do in one pass, and the node of burn's graph at which
//! `backward` requests the gradient.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, DispatchDevice, ExtensionType, Scalar, TensorMetadata, backend_extension,
    get_device_settings,
};
use burn::tensor::{Shape, Tensor, read_sync};
use xent::{Output, Upstream};

use crate::job::Job;
use crate::{Error, Result};

/// A float tensor, or none.
#[derive(ExtensionType, Debug, Clone)]
pub(crate) enum Maybe<B: Backend> {
    None,
    Some(FloatTensor<B>),
}

/// How an upstream gradient comes in.
#[derive(Debug, Clone)]
pub(crate) enum Chain {
    /// Another pass over the logits, unless it is 1.
    Pass(Arc<Job>),
    /// Multiplied into the gradient, in the dtype that computes; in this shape it broadcasts
    /// against the logits.
    Multiply(Shape),
}

/// The result of a pass over the logits: loss and parts, and the gradient under the requested
/// upstream gradient.
#[derive(ExtensionType)]
pub(crate) struct Pass<B: Backend> {
    pub(crate) output: Result<Output<f64>>,
    #[extension_type]
    pub(crate) gradient: Maybe<B>,
}

/// A backend on which the loss can be differentiated. One that has a kernel of its own overrides
/// `pass`.
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"), Autodiff)]
pub(crate) trait CrossEntropyBackend: Backend {
    /// Loss and, if `upstream` is given, gradient in one pass over the logits. Only for logits that
    /// [`has_engine`] accepts.
    fn pass(
        logits: FloatTensor<Self>,
        #[extension_type] probabilities: Maybe<Self>,
        job: Arc<Job>,
        upstream: Option<Upstream<'static>>,
    ) -> Pass<Self> {
        let _ = (logits, probabilities, job, upstream);
        Pass {
            output: Err(Error::Call("this backend has no kernel for the loss".into())),
            gradient: Maybe::None,
        }
    }

    /// `loss` as a function of `logits`, whose gradient is `gradient` under an upstream gradient of
    /// 1, and follows by `chain` under any other.
    fn attach(
        logits: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        #[extension_type] gradient: Maybe<Self>,
        #[extension_type] probabilities: Maybe<Self>,
        chain: Chain,
    ) -> FloatTensor<Self> {
        let _ = (logits, gradient, probabilities, chain);
        loss
    }
}

/// With burn's fusion or without: only `attach` is called, which does nothing there.
#[cfg(feature = "cube")]
impl CrossEntropyBackend for burn::backend::Cube {}

/// One node for every backend within.
impl<B: CrossEntropyBackend, C: CheckpointStrategy> CrossEntropyBackend for Autodiff<B, C> {
    fn attach(
        logits: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        gradient: Maybe<Self>,
        probabilities: Maybe<Self>,
        chain: Chain,
    ) -> FloatTensor<Self> {
        let (logits, guard) = logits.into_parts();
        let loss = loss.into_primitive();
        match CrossEntropyBackward.prepare::<C>([guard]).compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish(
                Saved {
                    logits,
                    gradient: gradient.inner(),
                    probabilities: probabilities.inner(),
                    chain,
                },
                loss,
            ),
            OpsKind::UnTracked(node) => node.finish(loss),
        }
    }
}

impl<B: Backend, C: CheckpointStrategy> Maybe<Autodiff<B, C>> {
    pub(crate) fn inner(self) -> Maybe<B> {
        match self {
            Self::None => Maybe::None,
            Self::Some(tensor) => Maybe::Some(tensor.into_primitive()),
        }
    }
}

/// What the forward pass leaves for the backward pass.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    logits: FloatTensor<B>,
    gradient: Maybe<B>,
    probabilities: Maybe<B>,
    chain: Chain,
}

#[derive(Debug)]
struct CrossEntropyBackward;

impl<B: CrossEntropyBackend> Backward<B, 1> for CrossEntropyBackward {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<B>(&ops.node);
        if let [Some(logits)] = ops.parents {
            gradients.register::<B>(logits.id, ops.state.gradient(upstream));
        }
    }
}

impl<B: CrossEntropyBackend> Saved<B> {
    /// dL/dlogits, in the logits' shape and dtype.
    fn gradient(self, upstream: FloatTensor<B>) -> FloatTensor<B> {
        match (self.chain, self.gradient) {
            (Chain::Pass(job), unit) => {
                let numbers: Vec<f64> = match read_sync(B::float_into_data(upstream)) {
                    Ok(data) => data.iter().collect(),
                    Err(error) => panic!("burn could not read the upstream gradient: {error}"),
                };
                if let (Maybe::Some(unit), [1.0]) = (&unit, numbers.as_slice()) {
                    return unit.clone();
                }
                // Not multiplied in afterwards: a half-precision gradient would have underflowed
                // already, which loss scaling is there to prevent.
                let upstream = job.upstream(numbers);
                match B::pass(self.logits, self.probabilities, job, Some(upstream)) {
                    Pass { gradient: Maybe::Some(gradient), .. } => gradient,
                    Pass { output, .. } => {
                        panic!(
                            "internal error in xent: the batch was valid in the forward pass and is not \
                             in the backward pass: {:?}",
                            output.err()
                        )
                    }
                }
            }
            (Chain::Multiply(shape), Maybe::Some(gradient)) => {
                let upstream =
                    B::float_reshape(B::float_cast(upstream, gradient.dtype().into()), shape);
                // 0 stays 0, even under ∞: ignored rows have no gradient.
                let zero = B::float_equal_elem(
                    gradient.clone(),
                    Scalar::Float(0.0),
                    get_device_settings::<B>(&gradient.device()).bool_dtype,
                );
                let product =
                    B::float_mask_fill(B::float_mul(gradient, upstream), zero, Scalar::Float(0.0));
                B::float_cast(product, self.logits.dtype().into())
            }
            (Chain::Multiply(_), Maybe::None) => unreachable!("Composed::loss saves a gradient"),
        }
    }
}

/// Whether these logits are on the CPU backend that xent's engine reads.
pub(crate) fn has_engine<const D: usize>(logits: &Tensor<D>) -> bool {
    match logits.device().inner().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// Whether the loss can be differentiated on the logits' device.
pub(crate) fn is_listed<const D: usize>(logits: &Tensor<D>) -> bool {
    match logits.device().inner().as_dispatch() {
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        _ => has_engine(logits),
    }
}

/// The primitive of a tensor that is not differentiated.
pub(crate) fn maybe<const D: usize>(tensor: Option<Tensor<D>>) -> Maybe<burn::backend::Dispatch> {
    tensor.map_or(Maybe::None, |tensor| Maybe::Some(tensor.into_dispatch()))
}
