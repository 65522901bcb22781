//! On the CPU: xent's own engine, which reads the logits in place.

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use xent::{Output, Reduced, Reduction, Rows, Upstream};

use crate::autodiff::{Chain, CrossEntropyBackend, maybe};
use crate::job::Job;
use crate::{CrossEntropyOutput, Result};

/// Loss and parts; for tracked logits and a reduced loss the gradient too.
///
/// A reduced loss almost always meets an upstream gradient of 1, so its gradient comes from the
/// same pass. A per-row loss continues into the caller's arithmetic, so its gradient waits for the
/// upstream gradient.
pub(crate) fn forward<const D: usize>(
    job: Job,
    logits: Tensor<D>,
    probabilities: Option<&Tensor<D>>,
) -> Result<CrossEntropyOutput<1>> {
    if job.shape.rows() == 0 {
        return without_rows(&job, logits, probabilities.is_some());
    }
    let tracked = logits.is_tracked();
    let eager = tracked && job.criterion.config().reduction != Reduction::None;
    let job = Arc::new(job);
    let device = logits.device().inner();
    let probabilities = probabilities.map(|probabilities| probabilities.clone().to_device(&device));
    let plain = logits.clone().inner().into_dispatch();
    let pass = Dispatch::pass(
        plain,
        maybe(probabilities.clone()),
        job.clone(),
        eager.then_some(Upstream::Scalar(1.0)),
    );
    let mut output = as_tensors(&pass.output?, &device, logits.dtype());
    if tracked {
        let attached = Dispatch::attach(
            logits.into_dispatch(),
            output.loss.into_dispatch(),
            pass.gradient,
            maybe(probabilities),
            Chain::Pass(job),
        );
        output.loss = Tensor::from_dispatch(attached);
    }
    Ok(output)
}

/// Loss and parts of no rows, on any device: nothing is read.
fn without_rows<const D: usize>(
    job: &Job,
    logits: Tensor<D>,
    dense: bool,
) -> Result<CrossEntropyOutput<1>> {
    let empty = Rows::new(&[0.0f64; 0], job.shape.classes())?;
    let output =
        job.criterion.forward(&empty, job.batch.lend(dense.then(|| empty.clone().into())))?;
    let mut output = as_tensors(&output, &logits.device().inner(), logits.dtype());
    // In burn's graph all the same, although there is no number to differentiate by.
    let dtype = output.loss.dtype();
    output.loss = output.loss + logits.cast(dtype).sum();
    Ok(output)
}

/// Loss and parts on the device of logits of this dtype.
pub(crate) fn as_tensors(
    output: &Output<f64>,
    device: &Device,
    logits: DType,
) -> CrossEntropyOutput<1> {
    let dtype = if logits == DType::F64 { DType::F64 } else { DType::F32 };
    let line = |numbers: &[f64]| {
        let data = TensorData::new(numbers.to_vec(), [numbers.len()]).convert_dtype(dtype);
        Tensor::<1>::from_data(data, (device, dtype))
    };
    let part = |reduced: &Reduced<f64>| line(reduced.as_slice());
    let count = |count: usize| Tensor::<1, Int>::from_ints([count as i64], device);
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
        first_non_finite: Tensor::from_ints(
            [output.first_non_finite.map_or(-1, |row| row as i64)],
            device,
        ),
    }
}

#[cfg(feature = "flex")]
pub(crate) mod flex {
    use std::sync::Arc;

    use burn::backend::flex::{FlexTensor, Layout};
    use burn::backend::{Element, Flex};
    use burn::tensor::{Bytes, DType, bf16, f16};
    use bytemuck::Pod;
    use xent::{Output, Rows, RowsMut, Targets, Upstream};

    use crate::autodiff::{CrossEntropyBackend, Maybe, Pass};
    use crate::job::Job;
    use crate::{Error, Result};

    impl CrossEntropyBackend for Flex {
        fn pass(
            logits: FlexTensor,
            probabilities: Maybe<Self>,
            job: Arc<Job>,
            upstream: Option<Upstream<'static>>,
        ) -> Pass<Self> {
            let evaluated = match logits.dtype() {
                DType::F32 => pass::<f32>(&logits, &probabilities, &job, upstream),
                DType::F64 => pass::<f64>(&logits, &probabilities, &job, upstream),
                DType::F16 => pass::<f16>(&logits, &probabilities, &job, upstream),
                DType::BF16 => pass::<bf16>(&logits, &probabilities, &job, upstream),
                found => Err(not_a_float("the tensor of logits", found)),
            };
            match evaluated {
                Ok((output, gradient)) => Pass { output: Ok(output), gradient },
                Err(error) => Pass { output: Err(error), gradient: Maybe::None },
            }
        }
    }

    fn pass<T: xent::Element + Element + Pod>(
        logits: &FlexTensor,
        probabilities: &Maybe<Flex>,
        job: &Job,
        upstream: Option<Upstream<'static>>,
    ) -> Result<(Output<f64>, Maybe<Flex>)> {
        let Job { criterion, batch, shape, memory } = job;
        let axis = shape.axis() as isize;
        let rows = strided(logits.storage::<T>(), logits.layout(), axis)?;
        let batch = batch.lend(match probabilities {
            Maybe::None => None,
            Maybe::Some(tensor) => Some(targets(tensor, axis)?),
        });
        let Some(upstream) = upstream else {
            return Ok((criterion.forward(&rows, batch)?.to_f64(), Maybe::None));
        };
        let entries = shape.rows() * shape.classes();
        let mut gradient = memory
            .take()
            .filter(|memory| memory.len() == entries * size_of::<T>())
            .unwrap_or_else(|| Bytes::from_elems(vec![T::zeroed(); entries]));
        let mut view =
            RowsMut::with_axis(bytemuck::cast_slice_mut(&mut gradient), shape.dims(), axis)?;
        let output = criterion.forward_backward(&rows, batch, upstream, &mut view)?;
        let gradient = Arc::new(gradient);
        memory.keep(gradient.clone());
        let gradient = FlexTensor::from_arc(
            gradient,
            Layout::contiguous(shape.dims().to_vec().into()),
            logits.dtype(),
        );
        Ok((output.to_f64(), Maybe::Some(gradient)))
    }

    pub(crate) fn targets(tensor: &FlexTensor, axis: isize) -> Result<Targets<'_>> {
        let layout = tensor.layout();
        Ok(match tensor.dtype() {
            DType::F32 => strided(tensor.storage::<f32>(), layout, axis)?.into(),
            DType::F64 => strided(tensor.storage::<f64>(), layout, axis)?.into(),
            DType::F16 => strided(tensor.storage::<f16>(), layout, axis)?.into(),
            DType::BF16 => strided(tensor.storage::<bf16>(), layout, axis)?.into(),
            found => return Err(not_a_float("the tensor of target probabilities", found)),
        })
    }

    /// The elements of a tensor as rows, in place.
    fn strided<'a, T>(data: &'a [T], layout: &Layout, axis: isize) -> Result<Rows<'a, T>> {
        Ok(Rows::strided(
            data,
            layout.shape().as_slice(),
            layout.strides(),
            layout.start_offset(),
            axis,
        )?)
    }

    pub(crate) fn not_a_float(name: &'static str, found: DType) -> Error {
        Error::Dtype { name, found, expected: "f32, f64, f16 or bf16" }
    }
}
