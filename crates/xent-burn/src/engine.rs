//! On the CPU: xent's own engine, reading the logits where they lie.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{Bytes, DType, Int, Tensor, TensorData};
use xent::{Criterion, Output, Reduced, Reduction, Rows};

use crate::backend::{Chain, CrossEntropyBackend, maybe};
use crate::host::HostBatch;
use crate::shape::LogitsShape;
use crate::{CrossEntropyOutput, Result};

/// A pass over logits, but for these.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) criterion: Arc<Criterion>,
    pub(crate) batch: HostBatch,
    pub(crate) shape: LogitsShape,
    pub(crate) memory: Arc<GradientMemory>,
}

/// The last gradient's memory, which serves the next one when nobody has it any more: pages fresh from the system cost more than the arithmetic.
#[derive(Debug, Default)]
pub(crate) struct GradientMemory(Mutex<Option<Arc<Bytes>>>);

impl GradientMemory {
    fn take(&self) -> Option<Bytes> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Arc::try_unwrap(kept).ok()
    }

    fn keep(&self, memory: Arc<Bytes>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(memory);
    }
}

/// dL/dloss: one number, or one a row.
#[derive(Debug, Clone)]
pub(crate) enum Upstream {
    Scalar(f64),
    Rows(Vec<f64>),
}

impl Job {
    pub(crate) fn upstream(&self, numbers: Vec<f64>) -> Upstream {
        match (self.criterion.reduction(), numbers.as_slice()) {
            (Reduction::None, _) => Upstream::Rows(numbers),
            (_, numbers) => Upstream::Scalar(numbers.iter().sum()),
        }
    }
}

/// Whether these logits are on the CPU backend.
pub(crate) fn runs_on<const D: usize>(logits: &Tensor<D>) -> bool {
    match logits.device().inner().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// Loss and parts; of tracked logits and a reduced loss the gradient, too.
///
/// A reduced loss almost always meets an upstream gradient of 1, so its gradient comes from the same pass. A loss a row goes on into arithmetic of the caller's, and its
/// gradient waits for what comes back.
pub(crate) fn forward<const D: usize>(job: Job, logits: Tensor<D>, probabilities: Option<&Tensor<D>>) -> Result<CrossEntropyOutput<1>> {
    if job.shape.rows() == 0 {
        return of_nothing(&job, logits, probabilities.is_some());
    }
    let tracked = logits.is_tracked();
    let eager = tracked && job.criterion.reduction() != Reduction::None;
    let job = Arc::new(job);
    let device = logits.device().inner();
    let probabilities = probabilities.map(|probabilities| probabilities.clone().to_device(&device));
    let plain = logits.clone().inner().into_dispatch();
    let pass = Dispatch::pass(plain, maybe(probabilities.clone()), job.clone(), eager.then_some(Upstream::Scalar(1.0)));
    let mut output = tensors(&pass.output?, &logits);
    if tracked {
        let attached = Dispatch::attach(logits.into_dispatch(), output.loss.into_dispatch(), pass.gradient, maybe(probabilities), Chain::Pass(job));
        output.loss = Tensor::from_dispatch(attached);
    }
    Ok(output)
}

/// Loss and parts of no rows: nothing is read, on whatever device.
fn of_nothing<const D: usize>(job: &Job, logits: Tensor<D>, dense: bool) -> Result<CrossEntropyOutput<1>> {
    let empty = Rows::new(&[0.0f64; 0], 0, job.shape.classes())?;
    let output = job.criterion.forward(&empty, job.batch.with(dense.then(|| empty.clone().into())))?;
    let mut output = tensors(&output, &logits);
    // Differentiable all the same: by 0 numbers.
    let dtype = output.loss.dtype();
    output.loss = output.loss + logits.cast(dtype).sum();
    Ok(output)
}

fn tensors<const D: usize>(output: &Output<f64>, logits: &Tensor<D>) -> CrossEntropyOutput<1> {
    let device = logits.device().inner();
    let dtype = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let line = |numbers: &[f64]| match dtype {
        DType::F64 => Tensor::<1>::from_data(TensorData::new(numbers.to_vec(), [numbers.len()]), (&device, dtype)),
        _ => Tensor::from_data(TensorData::new(numbers.iter().map(|&number| number as f32).collect(), [numbers.len()]), (&device, dtype)),
    };
    let part = |reduced: &Reduced<f64>| line(reduced.as_slice());
    let count = |count: usize| Tensor::<1, Int>::from_ints([count as i64], &device);
    CrossEntropyOutput {
        loss: part(&output.loss),
        nll: part(&output.nll),
        smoothing: part(&output.smoothing),
        z_loss: part(&output.z_loss),
        floor: part(&output.floor),
        lse: line(&output.lse),
        correct: count(output.correct),
        denominator: line(&[output.denominator]),
        ignored: count(output.ignored),
        non_finite: count(output.non_finite),
        first_non_finite: Tensor::from_ints([output.first_non_finite.map_or(-1, |row| row as i64)], &device),
    }
}

#[cfg(feature = "flex")]
mod flex {
    use std::sync::Arc;

    use burn::backend::flex::{FlexTensor, Layout};
    use burn::backend::{Element, Flex};
    use burn::tensor::{Bytes, DType, bf16, f16};
    use bytemuck::Pod;
    use xent::{Output, Rows, RowsMut, Targets};

    use super::{Job, Upstream};
    use crate::backend::{CrossEntropyBackend, Maybe, Pass};
    use crate::{Error, Result};

    impl CrossEntropyBackend for Flex {
        fn pass(logits: FlexTensor, probabilities: Maybe<Self>, job: Arc<Job>, upstream: Option<Upstream>) -> Pass<Self> {
            match pass(&logits, &probabilities, &job, upstream) {
                Ok((output, gradient)) => Pass { output: Ok(output), gradient: gradient.map_or(Maybe::None, Maybe::Some) },
                Err(error) => Pass { output: Err(error), gradient: Maybe::None },
            }
        }
    }

    type Evaluated = (Output<f64>, Option<FlexTensor>);

    fn pass(logits: &FlexTensor, probabilities: &Maybe<Flex>, job: &Job, upstream: Option<Upstream>) -> Result<Evaluated> {
        match logits.dtype() {
            DType::F32 => pass_as::<f32>(logits, probabilities, job, upstream),
            DType::F64 => pass_as::<f64>(logits, probabilities, job, upstream),
            DType::F16 => pass_as::<f16>(logits, probabilities, job, upstream),
            DType::BF16 => pass_as::<bf16>(logits, probabilities, job, upstream),
            found => Err(not_a_float("the tensor of logits", found)),
        }
    }

    fn pass_as<T: xent::Element + Element + Pod>(logits: &FlexTensor, probabilities: &Maybe<Flex>, job: &Job, upstream: Option<Upstream>) -> Result<Evaluated> {
        let Job { criterion, batch, shape, memory } = job;
        let rows = strided(logits.storage::<T>(), logits.layout(), shape.axis())?;
        let batch = batch.with(match probabilities {
            Maybe::None => None,
            Maybe::Some(tensor) => Some(targets(tensor, shape.axis())?),
        });
        let Some(upstream) = upstream else { return Ok((criterion.forward(&rows, batch)?.to_f64(), None)) };
        let upstream = match &upstream {
            Upstream::Scalar(upstream) => xent::Upstream::Scalar(*upstream),
            Upstream::Rows(upstream) => xent::Upstream::Rows(upstream),
        };
        let entries = shape.rows() * shape.classes();
        let mut gradient =
            memory.take().filter(|memory| memory.len() == entries * size_of::<T>()).unwrap_or_else(|| Bytes::from_elems(vec![T::zeroed(); entries]));
        let mut view = RowsMut::with_axis(bytemuck::cast_slice_mut(&mut gradient), shape.dims(), shape.axis())?;
        let output = criterion.forward_backward(&rows, batch, upstream, &mut view)?;
        let gradient = Arc::new(gradient);
        memory.keep(gradient.clone());
        Ok((output.to_f64(), Some(FlexTensor::from_arc(gradient, Layout::contiguous(shape.dims().to_vec().into()), logits.dtype()))))
    }

    fn targets(tensor: &FlexTensor, axis: usize) -> Result<Targets<'_>> {
        let layout = tensor.layout();
        Ok(match tensor.dtype() {
            DType::F32 => strided(tensor.storage::<f32>(), layout, axis)?.into(),
            DType::F64 => strided(tensor.storage::<f64>(), layout, axis)?.into(),
            DType::F16 => strided(tensor.storage::<f16>(), layout, axis)?.into(),
            DType::BF16 => strided(tensor.storage::<bf16>(), layout, axis)?.into(),
            found => return Err(not_a_float("the tensor of target probabilities", found)),
        })
    }

    /// A tensor's elements as rows, wherever they lie: nothing is copied.
    fn strided<'a, T>(data: &'a [T], layout: &Layout, axis: usize) -> Result<Rows<'a, T>> {
        Ok(Rows::strided(data, layout.shape().as_slice(), layout.strides(), layout.start_offset(), axis)?)
    }

    fn not_a_float(name: &'static str, found: DType) -> Error {
        Error::Dtype { name, found, expected: "f32, f64, f16 or bf16" }
    }
}
