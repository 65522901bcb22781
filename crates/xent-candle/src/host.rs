//! A batch's tensors, read into what [`xent::Batch`] borrows.

use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};
use xent::{AllowedClasses, Batch, Rows, Targets};

use crate::criterion::{Call, Labels, Lambda};
use crate::shape::LogitsShape;
use crate::{Error, Result};

/// Everything that comes with a batch beside its logits, in host memory: O(N), but for probabilities and a mask a row.
#[derive(Debug)]
pub(crate) struct HostBatch {
    targets: HostTargets,
    epsilon: Option<Vec<f64>>,
    row_weights: Option<Vec<f64>>,
    ignored: Option<Vec<bool>>,
    allowed: Option<HostAllowed>,
    denominator: Option<f64>,
}

#[derive(Debug)]
enum HostTargets {
    Classes(Vec<i64>),
    Mix {
        a: Vec<i64>,
        b: Vec<i64>,
        lambda: HostLambda,
    },
    /// Of the logits' shape, in whatever layout; as they came, and in host memory (the same tensor where they came from there).
    Probabilities {
        given: Tensor,
        host: Tensor,
        axis: usize,
    },
}

#[derive(Debug)]
enum HostLambda {
    Scalar(f64),
    Rows(Vec<f64>),
}

#[derive(Debug)]
struct HostAllowed {
    shared: bool,
    entries: Vec<bool>,
}

impl HostBatch {
    /// Checks shapes and dtypes; values are xent's to check.
    pub(crate) fn new(call: &Call<'_>, shape: &LogitsShape) -> Result<Self> {
        let numbers = |name, tensor: Option<&Tensor>| tensor.map(|tensor| row_numbers(name, tensor, shape)).transpose();
        Ok(Self {
            targets: HostTargets::new(&call.labels, shape)?,
            epsilon: numbers("the tensor of ε", call.epsilon)?,
            row_weights: numbers("the tensor of row weights", call.row_weights)?,
            ignored: call
                .ignored
                .map(|mask| {
                    shape.expect_rows("the mask of ignored rows", mask)?;
                    booleans("the mask of ignored rows", mask)
                })
                .transpose()?,
            allowed: call.allowed.map(|mask| HostAllowed::new(mask, shape)).transpose()?,
            denominator: call.denominator,
        })
    }

    /// The target probabilities as they came, of the logits' shape.
    pub(crate) fn probabilities(&self) -> Option<&Tensor> {
        match &self.targets {
            HostTargets::Probabilities { given, .. } => Some(given),
            HostTargets::Classes(_) | HostTargets::Mix { .. } => None,
        }
    }

    /// The mask of allowed classes: K entries, or N·K.
    pub(crate) fn allowed(&self) -> Option<&[bool]> {
        self.allowed.as_ref().map(|allowed| allowed.entries.as_slice())
    }

    /// Calls with the batch as xent takes it.
    pub(crate) fn with<R>(&self, call: impl FnOnce(Batch<'_>) -> Result<R>) -> Result<R> {
        match &self.targets {
            HostTargets::Classes(indices) => call(self.dress(Batch::new(indices))),
            HostTargets::Mix { a, b, lambda } => {
                let lambda = match lambda {
                    HostLambda::Scalar(lambda) => xent::Lambda::Scalar(*lambda),
                    HostLambda::Rows(lambda) => xent::Lambda::Rows(lambda),
                };
                call(self.dress(Batch::new(Targets::mix(a, b, lambda))))
            }
            HostTargets::Probabilities { host, axis, .. } => {
                let (storage, layout) = host.storage_and_layout();
                let targets: Targets<'_> = with_floats!(&*storage, "the target probabilities", data => strided(data, layout, *axis)?.into());
                call(self.dress(Batch::new(targets)))
            }
        }
    }

    fn dress<'a>(&'a self, mut batch: Batch<'a>) -> Batch<'a> {
        if let Some(epsilon) = &self.epsilon {
            batch = batch.label_smoothing_rows(epsilon);
        }
        if let Some(weights) = &self.row_weights {
            batch = batch.row_weights(weights);
        }
        if let Some(ignored) = &self.ignored {
            batch = batch.ignored_rows(ignored);
        }
        if let Some(HostAllowed { shared, entries }) = &self.allowed {
            batch = batch.allowed_classes(if *shared { AllowedClasses::Shared(entries) } else { AllowedClasses::PerRow(entries) });
        }
        match self.denominator {
            Some(denominator) => batch.denominator(denominator),
            None => batch,
        }
    }
}

impl HostTargets {
    fn new(labels: &Labels<'_>, shape: &LogitsShape) -> Result<Self> {
        match *labels {
            Labels::One(targets) if targets.dtype().is_float() => {
                shape.expect_logits("the tensor of target probabilities (its dtype is a float's)", targets)?;
                let given = targets.detach();
                Ok(Self::Probabilities { host: given.to_device(&Device::Cpu)?, given, axis: shape.axis() })
            }
            Labels::One(targets) => Ok(Self::Classes(class_indices("the tensor of target class indices", targets, shape)?)),
            Labels::Two { a, b, ref lambda } => Ok(Self::Mix {
                a: class_indices("the tensor of first labels", a, shape)?,
                b: class_indices("the tensor of second labels", b, shape)?,
                lambda: match lambda {
                    Lambda::Scalar(lambda) => HostLambda::Scalar(*lambda),
                    Lambda::Rows(lambda) => HostLambda::Rows(row_numbers("the tensor of λ", lambda, shape)?),
                },
            }),
        }
    }
}

impl HostAllowed {
    fn new(mask: &Tensor, shape: &LogitsShape) -> Result<Self> {
        let name = "the mask of allowed classes";
        let shared = shape.expect_classes_or_logits(name, mask)?;
        Ok(Self { shared, entries: if shared { booleans(name, mask)? } else { booleans(name, &shape.rows_of(mask)?)? } })
    }
}

fn class_indices(name: &'static str, tensor: &Tensor, shape: &LogitsShape) -> Result<Vec<i64>> {
    expect_integers(name, tensor, "an integer dtype")?;
    shape.expect_rows(name, tensor)?;
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1()?)
}

fn row_numbers(name: &'static str, tensor: &Tensor, shape: &LogitsShape) -> Result<Vec<f64>> {
    shape.expect_rows(name, tensor)?;
    numbers(tensor)
}

/// A tensor's entries in C order.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn booleans(name: &'static str, mask: &Tensor) -> Result<Vec<bool>> {
    expect_integers(name, mask, "an integer dtype (1 for true, 0 for false)")?;
    let nonzero = mask.to_device(&Device::Cpu)?.flatten_all()?;
    let nonzero = if nonzero.dtype() == DType::U8 { nonzero } else { nonzero.ne(0i64)? };
    Ok(nonzero.to_vec1::<u8>()?.into_iter().map(|entry| entry != 0).collect())
}

fn expect_integers(name: &'static str, tensor: &Tensor, expected: &'static str) -> Result<()> {
    if tensor.dtype().is_int() { Ok(()) } else { Err(Error::Dtype { name, found: tensor.dtype(), expected }) }
}

/// A tensor's elements as rows, wherever they lie: nothing is copied.
pub(crate) fn strided<'a, T>(data: &'a [T], layout: &Layout, axis: usize) -> Result<Rows<'a, T>> {
    let strides: Vec<isize> = layout.stride().iter().map(|&stride| stride as isize).collect();
    Ok(Rows::strided(data, layout.dims(), &strides, layout.start_offset(), axis)?)
}

/// Runs one expression for whichever float type a storage in host memory holds; leaves the function with [`Error::Dtype`] for any other.
macro_rules! with_floats {
    ($storage:expr, $name:expr, $data:ident => $body:expr) => {
        match $storage {
            Storage::Cpu(CpuStorage::F32($data)) => $body,
            Storage::Cpu(CpuStorage::F64($data)) => $body,
            Storage::Cpu(CpuStorage::F16($data)) => $body,
            Storage::Cpu(CpuStorage::BF16($data)) => $body,
            other => return Err(Error::Dtype { name: $name, found: other.dtype(), expected: "f32, f64, f16 or bf16 in host memory" }),
        }
    };
}
pub(crate) use with_floats;
