//! What a batch carries in addition to its logits: as tensors, and read into what xent takes.

use candle_core::{DType, Device, Layout, Tensor};
use xent::host::{HostAllowed, HostBatch, HostTargets, LogitsShape};
use xent::rules::Plan;
use xent::{Batch, Config, Criterion, Rows, Targets};

use crate::error::{Error, Result};
use crate::transfer::read_back;

/// λ of a two-label mix, the share of the first label, in [0, 1].
#[derive(Debug, Clone, Copy)]
pub enum Lambda<'a> {
    /// One for all rows.
    Scalar(f64),
    /// One per row.
    Rows(&'a Tensor),
}

impl From<f64> for Lambda<'_> {
    fn from(lambda: f64) -> Self {
        Self::Scalar(lambda)
    }
}

impl<'a> From<&'a Tensor> for Lambda<'a> {
    fn from(lambda: &'a Tensor) -> Self {
        Self::Rows(lambda)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Labels<'a> {
    /// Class indices, or probabilities.
    One(&'a Tensor),
    Two {
        a: &'a Tensor,
        b: &'a Tensor,
        lambda: Lambda<'a>,
    },
}

/// The tensors of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenBatch<'a> {
    pub(crate) labels: Labels<'a>,
    pub(crate) label_smoothing: Option<&'a Tensor>,
    pub(crate) row_weights: Option<&'a Tensor>,
    pub(crate) ignored_rows: Option<&'a Tensor>,
    pub(crate) allowed_classes: Option<&'a Tensor>,
    pub(crate) denominator: Option<f64>,
}

impl<'a> GivenBatch<'a> {
    pub(crate) fn new(targets: &'a Tensor) -> Self {
        Self {
            labels: Labels::One(targets),
            label_smoothing: None,
            row_weights: None,
            ignored_rows: None,
            allowed_classes: None,
            denominator: None,
        }
    }

    pub(crate) fn probabilities(&self) -> Option<&'a Tensor> {
        match self.labels {
            Labels::One(targets) if targets.dtype().is_float() => Some(targets),
            _ => None,
        }
    }

    /// That shapes and dtypes go with the logits. Values are looked at later, or never.
    pub(crate) fn expect(&self, shape: &LogitsShape) -> Result<()> {
        let rows = |name, tensor: &Tensor| Ok::<_, Error>(shape.expect_rows(name, tensor.dims())?);
        let labels = |name, tensor: &Tensor| {
            expect_integers(name, tensor, "an integer dtype")?;
            rows(name, tensor)
        };
        match &self.labels {
            Labels::One(targets) if targets.dtype().is_float() => {
                shape.expect_logits(
                    "the tensor of target probabilities (a floating-point dtype)",
                    targets.dims(),
                )?;
                expect_floats("the tensor of target probabilities", targets)?;
            }
            Labels::One(targets) => labels("the tensor of target class indices", targets)?,
            Labels::Two { a, b, lambda } => {
                labels("the tensor of first labels", a)?;
                labels("the tensor of second labels", b)?;
                if let Lambda::Rows(lambda) = lambda {
                    rows("the tensor of λ", lambda)?;
                }
            }
        }
        for (name, tensor) in [
            ("the tensor of ε", self.label_smoothing),
            ("the tensor of row weights", self.row_weights),
        ] {
            tensor.map_or(Ok(()), |tensor| rows(name, tensor))?;
        }
        const MASK: &str = "an integer dtype (1 for true, 0 for false)";
        if let Some(mask) = self.ignored_rows {
            rows("the mask of ignored rows", mask)?;
            expect_integers("the mask of ignored rows", mask, MASK)?;
        }
        if let Some(mask) = self.allowed_classes {
            shape.expect_classes_or_logits("the mask of allowed classes", mask.dims())?;
            expect_integers("the mask of allowed classes", mask, MASK)?;
        }
        Ok(())
    }

    /// What can be said of the batch without a look at its tensors, whose shapes and dtypes are
    /// good.
    pub(crate) fn check_unread(&self, criterion: &Criterion) -> Result<()> {
        let targets = match &self.labels {
            Labels::Two { lambda: Lambda::Scalar(lambda), .. } => HostTargets::Mix {
                a: Vec::<i64>::new().into(),
                b: Vec::<i64>::new().into(),
                lambda: (*lambda).into(),
            },
            _ if self.probabilities().is_some() => HostTargets::Probabilities,
            _ => HostTargets::Classes(Vec::<i64>::new().into()),
        };
        let batch = HostBatch { denominator: self.denominator, ..HostBatch::new(targets) };
        let no_rows = Rows::new(&[0.0f32; 0], 1)?;
        let plain = Config::new()
            .ignore_indices(criterion.config().ignore_indices.iter().copied())
            .reduction(xent::Reduction::Sum)
            .build()?;
        Plan::new(&plain, &batch.lend(Some((&no_rows).into())), 0, 1).map_err(xent::Error::from)?;
        Ok(())
    }

    /// The batch in host memory.
    pub(crate) fn read(&self, shape: &LogitsShape) -> Result<ReadBatch> {
        let numbers = |tensor: Option<&Tensor>| {
            tensor.map(|tensor| Ok::<_, Error>(read_back::<f64>(tensor)?.into())).transpose()
        };
        let allowed = |mask: &Tensor| {
            let shared =
                shape.expect_classes_or_logits("the mask of allowed classes", mask.dims())?;
            Ok::<_, Error>(HostAllowed {
                entries: if shared { booleans(mask)? } else { booleans(&rows_of(shape, mask)?)? },
                shared,
            })
        };
        let (targets, probabilities) = match self.labels {
            Labels::One(targets) if targets.dtype().is_float() => {
                (HostTargets::Probabilities, Some(targets.detach().to_device(&Device::Cpu)?))
            }
            Labels::One(targets) => (HostTargets::Classes(read_back::<i64>(targets)?.into()), None),
            Labels::Two { a, b, lambda } => {
                let lambda = match lambda {
                    Lambda::Scalar(lambda) => lambda.into(),
                    Lambda::Rows(lambda) => read_back::<f64>(lambda)?.into(),
                };
                (
                    HostTargets::Mix {
                        a: read_back::<i64>(a)?.into(),
                        b: read_back::<i64>(b)?.into(),
                        lambda,
                    },
                    None,
                )
            }
        };
        let host = HostBatch {
            label_smoothing: numbers(self.label_smoothing)?,
            row_weights: numbers(self.row_weights)?,
            ignored_rows: self.ignored_rows.map(booleans).transpose()?,
            allowed_classes: self.allowed_classes.map(allowed).transpose()?,
            denominator: self.denominator,
            ..HostBatch::new(targets)
        };
        Ok(ReadBatch { host, probabilities, axis: shape.axis() as isize })
    }
}

/// A batch in host memory: O(N), except for probabilities and a mask per row and class.
#[derive(Debug)]
pub(crate) struct ReadBatch {
    host: HostBatch<'static>,
    /// Of the logits' shape, in any layout.
    probabilities: Option<Tensor>,
    axis: isize,
}

impl ReadBatch {
    /// Calls with the batch as xent takes it.
    pub(crate) fn with<R>(&self, call: impl FnOnce(Batch<'_>) -> Result<R>) -> Result<R> {
        let Some(probabilities) = &self.probabilities else { return call(self.host.lend(None)) };
        let (storage, layout) = probabilities.storage_and_layout();
        let targets: Targets<'_> = with_floats!(&*storage, "the tensor of target probabilities", data => strided(data, layout, self.axis)?.into());
        call(self.host.lend(Some(targets)))
    }

    /// That xent takes the batch.
    pub(crate) fn check(&self, criterion: &Criterion, shape: &LogitsShape) -> Result<()> {
        self.with(|batch| {
            Ok(Plan::new(criterion, &batch, shape.rows(), shape.classes())
                .map(drop)
                .map_err(xent::Error::from)?)
        })
    }
}

/// A tensor of the logits' shape as `[N, K]`, contiguous; a copy only where it must be one.
pub(crate) fn rows_of(shape: &LogitsShape, tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor
        .permute(shape.class_axis_last())?
        .contiguous()?
        .reshape((shape.rows(), shape.classes()))?)
}

/// Back from `[N, K]` to the logits' shape.
pub(crate) fn like_logits(shape: &LogitsShape, rows: &Tensor) -> Result<Tensor> {
    let order = shape.class_axis_last();
    let permuted: Vec<usize> = order.iter().map(|&axis| shape.dims()[axis]).collect();
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
    Ok(rows.reshape(permuted)?.permute(back)?.contiguous()?)
}

fn booleans(mask: &Tensor) -> Result<Vec<bool>> {
    Ok(read_back::<i64>(mask)?.into_iter().map(|entry| entry != 0).collect())
}

fn expect_integers(name: &'static str, tensor: &Tensor, expected: &'static str) -> Result<()> {
    if tensor.dtype().is_int() {
        Ok(())
    } else {
        Err(Error::Dtype { name, found: tensor.dtype(), expected })
    }
}

/// That a tensor has one of the dtypes that xent reads.
pub(crate) fn expect_floats(name: &'static str, tensor: &Tensor) -> Result<()> {
    match tensor.dtype() {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Ok(()),
        found => Err(Error::Dtype { name, found, expected: "f32, f64, f16 or bf16" }),
    }
}

/// A tensor's elements as rows, read in place.
pub(crate) fn strided<'a, T>(data: &'a [T], layout: &Layout, axis: isize) -> Result<Rows<'a, T>> {
    let strides: Vec<isize> = layout.stride().iter().map(|&stride| stride as isize).collect();
    Ok(Rows::strided(data, layout.dims(), &strides, layout.start_offset(), axis)?)
}

/// Runs one expression for whichever float type a storage in host memory holds; leaves the function
/// with [`Error::Dtype`] for any other.
macro_rules! with_floats {
    ($storage:expr, $name:expr, $data:ident => $body:expr) => {
        match $storage {
            candle_core::Storage::Cpu(candle_core::CpuStorage::F32($data)) => $body,
            candle_core::Storage::Cpu(candle_core::CpuStorage::F64($data)) => $body,
            candle_core::Storage::Cpu(candle_core::CpuStorage::F16($data)) => $body,
            candle_core::Storage::Cpu(candle_core::CpuStorage::BF16($data)) => $body,
            other => {
                return Err($crate::error::Error::Dtype {
                    name: $name,
                    found: other.dtype(),
                    expected: "f32, f64, f16 or bf16 in host memory",
                });
            }
        }
    };
}
pub(crate) use with_floats;
