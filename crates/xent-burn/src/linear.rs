//! A linear layer under the loss. On the CPU, `xent-linear` forms its logits a chunk at a time, and
//! the gradients of the layer with them. Elsewhere burn's product makes logits like any others.

use std::sync::{Arc, Mutex};

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as Graph;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, Dispatch, ExtensionType, Scalar, TensorMetadata, backend_extension,
};
use burn::tensor::{DType, Tensor, module, read_sync};
use xent::host::LogitsShape;
use xent::{Output, Reduction, Upstream};
use xent_linear::Workspace;

use crate::autodiff::{Maybe, maybe};
use crate::job::Job;
use crate::{CrossEntropyOutput, Error, Result, engine};

/// Hidden states `[…, D]`, a weight `[D, K]` and perhaps a bias `[K]`.
#[derive(Debug, Clone)]
pub(crate) struct GivenLinear<const D: usize> {
    pub(crate) hidden: Tensor<D>,
    pub(crate) weight: Tensor<2>,
    pub(crate) bias: Option<Tensor<1>>,
}

/// The memory of the last call, for the next.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    narrow: Mutex<Workspace<f32>>,
    wide: Mutex<Workspace<f64>>,
}

impl<const D: usize> GivenLinear<D> {
    /// The shape of its logits, if its own shapes and dtypes go together.
    pub(crate) fn shape(&self) -> Result<LogitsShape> {
        let Self { hidden, weight, bias } = self;
        let dtype = hidden.dtype();
        if !matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            let expected = "f32, f64, f16 or bf16";
            return Err(Error::Dtype { name: "the hidden states", found: dtype, expected });
        }
        let others =
            [("the weight", Some(weight.dtype())), ("the bias", bias.as_ref().map(Tensor::dtype))];
        for (name, found) in others {
            if let Some(found) = found.filter(|found| *found != dtype) {
                let expected = "the dtype of the hidden states";
                return Err(Error::Dtype { name, found, expected });
            }
        }
        let (mut dims, [features, classes]) = (hidden.dims(), weight.dims());
        if dims[D - 1] != features || features == 0 {
            return Err(Error::Call(format!(
                "the weight has shape {:?}, expected [{}, classes] for hidden states of shape {dims:?}",
                weight.dims(),
                dims[D - 1]
            )));
        }
        if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [classes]) {
            return Err(Error::Call(format!(
                "the bias has shape {:?}, expected [{classes}], one entry per class",
                bias.dims()
            )));
        }
        dims[D - 1] = classes;
        Ok(LogitsShape::new(dims, -1)?)
    }

    /// All logits, by burn's operations.
    pub(crate) fn logits(&self, shape: &LogitsShape) -> Tensor<D> {
        let Self { hidden, weight, bias } = self.clone();
        if shape.rows() > 0 {
            return module::linear(hidden, weight, bias);
        }
        // No logits, but in burn's graph all the same.
        let mut dims = hidden.dims();
        dims[D - 1] = shape.classes();
        let sum = hidden.clone().sum() + weight.sum();
        let sum = bias.map_or(sum.clone(), |bias| sum + bias.sum());
        Tensor::zeros(dims, (&hidden.device(), hidden.dtype())) + sum.reshape([1; D])
    }

    fn needed(&self) -> [bool; 3] {
        let Self { hidden, weight, bias } = self;
        let bias = bias.as_ref().is_some_and(Tensor::is_tracked);
        [hidden.is_tracked(), weight.is_tracked(), bias]
    }
}

/// A pass over the batch, without the layer.
#[derive(Debug)]
pub(crate) struct LinearJob {
    job: Job,
    needed: [bool; 3],
    spare: Arc<Spare>,
}

/// Loss and parts, of a layer on the CPU with at least one row; for tracked tensors and a reduced
/// loss the gradients too.
pub(crate) fn forward<const D: usize>(
    job: Job,
    given: GivenLinear<D>,
    probabilities: Option<&Tensor<D>>,
    spare: &Arc<Spare>,
) -> Result<CrossEntropyOutput<1>> {
    let needed = given.needed();
    let tracked = needed.contains(&true);
    // As for logits: a loss per row waits for what its rows are multiplied by.
    let eager = tracked && job.criterion.config().reduction != Reduction::None;
    let (device, dtype) = (given.hidden.device().inner(), given.hidden.dtype());
    let job = Arc::new(LinearJob { job, needed, spare: spare.clone() });
    let probabilities = probabilities.map(|probabilities| probabilities.clone().to_device(&device));
    let GivenLinear { hidden, weight, bias } = given;
    let pass = Dispatch::linear_pass(
        hidden.clone().inner().into_dispatch(),
        weight.clone().inner().into_dispatch(),
        maybe(bias.clone().map(Tensor::inner)),
        maybe(probabilities.clone()),
        job.clone(),
        eager.then_some(Upstream::Scalar(1.0)),
    );
    let mut output = engine::as_tensors(&pass.output?, &device, dtype);
    if tracked {
        let attached = Dispatch::linear_attach(
            hidden.into_dispatch(),
            weight.into_dispatch(),
            maybe(bias),
            output.loss.into_dispatch(),
            pass.gradients,
            maybe(probabilities),
            job,
        );
        output.loss = Tensor::from_dispatch(attached);
    }
    Ok(output)
}

/// The gradients that are needed.
#[derive(ExtensionType, Debug, Clone)]
pub(crate) struct LinearGradients<B: Backend> {
    #[extension_type]
    hidden: Maybe<B>,
    /// In the type in which it was summed: what follows rounds it once.
    #[extension_type]
    weight: Maybe<B>,
    #[extension_type]
    bias: Maybe<B>,
}

/// The result of a pass: loss and parts, and gradients under the requested upstream gradient.
#[derive(ExtensionType)]
pub(crate) struct LinearPass<B: Backend> {
    output: Result<Output<f64>>,
    #[extension_type]
    gradients: LinearGradients<B>,
}

impl<B: Backend> LinearPass<B> {
    fn without_gradients(output: Result<Output<f64>>) -> Self {
        let [hidden, weight, bias] = [const { Maybe::None }; 3];
        Self { output, gradients: LinearGradients { hidden, weight, bias } }
    }
}

/// A backend under whose linear layers the loss can be differentiated without their logits.
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"), Autodiff)]
pub(crate) trait LinearBackend: Backend {
    /// Loss and, if `upstream` is given, the gradients that are needed. Only for tensors that
    /// [`has_engine`](crate::autodiff::has_engine) accepts.
    fn linear_pass(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        #[extension_type] probabilities: Maybe<Self>,
        job: Arc<LinearJob>,
        upstream: Option<Upstream<'static>>,
    ) -> LinearPass<Self> {
        let _ = (hidden, weight, bias, probabilities, job, upstream);
        LinearPass::without_gradients(Err(Error::Call(
            "this backend has no kernel for the loss of a linear layer".into(),
        )))
    }

    /// `loss` as a function of the layer, with its gradients under an upstream gradient of 1 if
    /// they are known.
    fn linear_attach(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        loss: FloatTensor<Self>,
        #[extension_type] gradients: LinearGradients<Self>,
        #[extension_type] probabilities: Maybe<Self>,
        job: Arc<LinearJob>,
    ) -> FloatTensor<Self> {
        let _ = (hidden, weight, bias, gradients, probabilities, job);
        loss
    }
}

#[cfg(feature = "cube")]
impl LinearBackend for burn::backend::Cube {}

impl<B: LinearBackend, C: CheckpointStrategy> LinearBackend for Autodiff<B, C> {
    fn linear_attach(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        loss: FloatTensor<Self>,
        gradients: LinearGradients<Self>,
        probabilities: Maybe<Self>,
        job: Arc<LinearJob>,
    ) -> FloatTensor<Self> {
        let ((hidden, of_hidden), (weight, of_weight)) = (hidden.into_parts(), weight.into_parts());
        let loss = loss.into_primitive();
        let saved = |bias| Saved {
            hidden,
            weight,
            bias,
            gradients: [gradients.hidden, gradients.weight, gradients.bias].map(Maybe::inner),
            probabilities: probabilities.inner(),
            job,
        };
        match bias {
            Maybe::None => {
                let nodes = [of_hidden, of_weight];
                match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(node) => node.finish(saved(Maybe::None), loss),
                    OpsKind::UnTracked(node) => node.finish(loss),
                }
            }
            Maybe::Some(bias) => {
                let (bias, of_bias) = bias.into_parts();
                let nodes = [of_hidden, of_weight, of_bias];
                match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(node) => node.finish(saved(Maybe::Some(bias)), loss),
                    OpsKind::UnTracked(node) => node.finish(loss),
                }
            }
        }
    }
}

/// What the forward pass leaves for the backward pass.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Maybe<B>,
    gradients: [Maybe<B>; 3],
    probabilities: Maybe<B>,
    job: Arc<LinearJob>,
}

#[derive(Debug)]
struct LinearBackward;

impl<B: LinearBackend, const N: usize> Backward<B, N> for LinearBackward {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, N>, graph: &mut Graph, _: &mut Checkpointer) {
        let upstream = graph.consume::<B>(&ops.node);
        let gradients = ops.state.gradients(upstream);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Maybe::Some(gradient)) = (parent, gradient) {
                let id: NodeId = parent.id;
                graph.register::<B>(id, gradient);
            }
        }
    }
}

impl<B: LinearBackend> Saved<B> {
    /// dL/dhidden, dL/dweight, dL/dbias, in the dtype of the layer.
    ///
    /// The products of a pass cost too much to be formed again where the upstream gradient can be
    /// multiplied in: everywhere except in halves, where hidden states' gradients would have
    /// underflowed.
    fn gradients(self, upstream: FloatTensor<B>) -> [Maybe<B>; 3] {
        let numbers: Vec<f64> = match read_sync(B::float_into_data(upstream)) {
            Ok(data) => data.iter().collect(),
            Err(error) => panic!("burn could not read the upstream gradient: {error}"),
        };
        let LinearJob { job, needed, .. } = &*self.job;
        let dtype = self.hidden.dtype();
        let is_half = matches!(dtype, DType::F16 | DType::BF16);
        let eager = job.criterion.config().reduction != Reduction::None;
        let gradients = match numbers.as_slice() {
            [1.0] if eager => self.gradients,
            [factor] if eager && !(is_half && needed[0]) => {
                self.gradients.map(|gradient| match gradient {
                    Maybe::Some(gradient) => {
                        Maybe::Some(B::float_mul_scalar(gradient, Scalar::Float(*factor)))
                    }
                    Maybe::None => Maybe::None,
                })
            }
            _ => {
                let upstream = job.upstream(numbers);
                let Self { hidden, weight, bias, probabilities, .. } = self;
                let pass = B::linear_pass(
                    hidden,
                    weight,
                    bias,
                    probabilities,
                    self.job.clone(),
                    Some(upstream),
                );
                if let Err(error) = pass.output {
                    panic!(
                        "internal error in xent: the batch was valid in the forward pass and is not \
                         in the backward pass: {error}"
                    );
                }
                [pass.gradients.hidden, pass.gradients.weight, pass.gradients.bias]
            }
        };
        gradients.map(|gradient| match gradient {
            Maybe::Some(gradient) if gradient.dtype() != dtype => {
                Maybe::Some(B::float_cast(gradient, dtype.into()))
            }
            gradient => gradient,
        })
    }
}

#[cfg(feature = "flex")]
mod flex {
    use std::mem::take;
    use std::sync::{Arc, Mutex, PoisonError};

    use burn::backend::flex::{FlexTensor, Layout};
    use burn::backend::{Element, Flex, TensorMetadata};
    use burn::tensor::{Bytes, DType, bf16, f16};
    use bytemuck::Pod;
    use xent::{Output, Upstream};
    use xent_linear::{Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};

    use super::{LinearBackend, LinearGradients, LinearJob, LinearPass, Spare};
    use crate::autodiff::Maybe;
    use crate::engine::flex::{not_a_float, targets};
    use crate::{Error, Result};

    impl LinearBackend for Flex {
        fn linear_pass(
            hidden: FlexTensor,
            weight: FlexTensor,
            bias: Maybe<Self>,
            probabilities: Maybe<Self>,
            job: Arc<LinearJob>,
            upstream: Option<Upstream<'static>>,
        ) -> LinearPass<Self> {
            let given = Given { hidden, weight, bias, probabilities };
            let Spare { narrow, wide } = &*job.spare;
            let evaluated = match given.hidden.dtype() {
                DType::F32 => pass::<f32>(given, &job, upstream, narrow),
                DType::F64 => pass::<f64>(given, &job, upstream, wide),
                DType::F16 => pass::<f16>(given, &job, upstream, narrow),
                DType::BF16 => pass::<bf16>(given, &job, upstream, narrow),
                found => Err(not_a_float("the hidden states", found)),
            };
            match evaluated {
                Ok((output, [hidden, weight, bias])) => {
                    let gradients = LinearGradients { hidden, weight, bias };
                    LinearPass { output: Ok(output), gradients }
                }
                Err(error) => LinearPass::without_gradients(Err(error)),
            }
        }
    }

    struct Given {
        hidden: FlexTensor,
        weight: FlexTensor,
        bias: Maybe<Flex>,
        probabilities: Maybe<Flex>,
    }

    fn pass<T: xent::Element<Real: Element + Pod> + Element + Pod>(
        given: Given,
        job: &LinearJob,
        upstream: Option<Upstream<'static>>,
        spare: &Mutex<Workspace<T::Real>>,
    ) -> Result<(Output<f64>, [Maybe<Flex>; 3])> {
        let LinearJob { job, needed, .. } = job;
        let (rows, classes) = (job.shape.rows(), job.shape.classes());
        let dims = given.hidden.shape();
        let features = given.weight.shape()[0];
        let hidden = given.hidden.to_contiguous().reshape(vec![rows, features].into());
        let bias = match given.bias {
            Maybe::Some(bias) => Some(bias.to_contiguous()),
            Maybe::None => None,
        };
        // burn's weight is [D, K].
        let mut linear =
            Linear::new(matrix::<T>(&hidden)?, matrix::<T>(&given.weight)?.transposed())?;
        if let Some(bias) = &bias {
            linear =
                linear.bias(&bias.storage::<T>()[bias.layout().start_offset()..][..classes])?;
        }
        let batch = job.batch.lend(match &given.probabilities {
            Maybe::None => None,
            Maybe::Some(tensor) => Some(targets(tensor, job.shape.axis() as isize)?),
        });
        let mut workspace = take(&mut *spare.lock().unwrap_or_else(PoisonError::into_inner));
        let needed = needed.map(|needed| needed && upstream.is_some());
        let mut to_hidden = vec![T::zeroed(); if needed[0] { rows * features } else { 0 }];
        let zero = <T::Real as xent::Element>::from_f64(0.0);
        let mut to_weight = vec![zero; if needed[1] { features * classes } else { 0 }];
        let mut to_bias = vec![zero; if needed[2] { classes } else { 0 }];
        let output = match upstream {
            None => job.criterion.linear_forward(&linear, batch, &mut workspace)?,
            Some(upstream) => {
                let into = Gradients {
                    hidden: match needed[0] {
                        true => Some(MatrixMut::new(&mut to_hidden, features)?),
                        false => None,
                    },
                    weight: match needed[1] {
                        true => Some(MatrixMut::new(&mut to_weight, classes)?.transposed()),
                        false => None,
                    },
                    bias: needed[2].then_some(&mut to_bias[..]),
                };
                let workspace = &mut workspace;
                job.criterion.linear_forward_backward(&linear, batch, upstream, into, workspace)?
            }
        };
        *spare.lock().unwrap_or_else(PoisonError::into_inner) = workspace;
        let gradients = [
            tensor(needed[0], to_hidden, dims.as_slice()),
            tensor(needed[1], to_weight, &[features, classes]),
            tensor(needed[2], to_bias, &[classes]),
        ];
        Ok((output.to_f64(), gradients))
    }

    fn tensor<V: Element + Pod + Send + Sync>(
        needed: bool,
        values: Vec<V>,
        dims: &[usize],
    ) -> Maybe<Flex> {
        if !needed {
            return Maybe::None;
        }
        let layout = Layout::contiguous(dims.to_vec().into());
        Maybe::Some(FlexTensor::new(Bytes::from_elems(values), layout, V::dtype()))
    }

    /// A tensor of two axes, read in place.
    fn matrix<T: Element + Pod>(tensor: &FlexTensor) -> Result<Matrix<'_, T>> {
        let layout = tensor.layout();
        let [rows, columns] = [0, 1].map(|axis| layout.shape()[axis]);
        let strides = [0, 1].map(|axis| layout.strides()[axis]);
        let data = tensor.storage::<T>();
        Matrix::strided(data, [rows, columns], strides, layout.start_offset()).map_err(Error::from)
    }
}
