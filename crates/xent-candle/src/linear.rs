//! A linear layer under the loss. On the CPU, `xent-linear` forms its logits a chunk at a time, and
//! the gradients of the layer with them. Elsewhere candle's product makes logits like any others.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Device, Layout, Shape, Storage, Tensor, WithDType,
};
use xent::host::LogitsShape;
use xent::{Criterion, Element, Output, Reduction, Upstream};
use xent_linear::{Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};

use crate::batch::{ReadBatch, expect_floats};
use crate::engine;
use crate::error::{Error, Result};
use crate::transfer::read_back;

/// Hidden states `[…, D]`, a weight `[K, D]` and perhaps a bias `[K]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenLinear<'a> {
    pub(crate) hidden: &'a Tensor,
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: Option<&'a Tensor>,
}

/// The memory of the last call, for the next.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    narrow: Mutex<Workspace<f32>>,
    wide: Mutex<Workspace<f64>>,
}

impl GivenLinear<'_> {
    fn tensors(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        let names = ["the hidden states", "the weight", "the bias"];
        names
            .into_iter()
            .zip([Some(self.hidden), Some(self.weight), self.bias].into_iter().flatten())
    }

    /// The shape of its logits, if its own shapes and dtypes go together.
    pub(crate) fn shape(&self) -> Result<LogitsShape> {
        let dtype = self.hidden.dtype();
        for (name, tensor) in self.tensors() {
            expect_floats(name, tensor)?;
            if tensor.dtype() != dtype {
                let expected = "the dtype of the hidden states";
                return Err(Error::Dtype { name, found: tensor.dtype(), expected });
            }
        }
        let shape = |name, found: &Tensor, expected: String| {
            Err(Error::Shape { name, found: found.dims().to_vec(), expected })
        };
        let Some((&features, rows)) = self.hidden.dims().split_last() else {
            return shape("the hidden states", self.hidden, "[…, features]".into());
        };
        let &[classes, found] = self.weight.dims() else {
            return shape("the weight", self.weight, format!("[classes, {features}]"));
        };
        if found != features || features == 0 {
            return shape(
                "the weight",
                self.weight,
                format!(
                    "[classes, {features}], for hidden states of shape {:?}",
                    self.hidden.dims()
                ),
            );
        }
        if let Some(bias) = self.bias.filter(|bias| bias.dims() != [classes]) {
            return shape("the bias", bias, format!("[{classes}], one entry per class"));
        }
        let dims: Vec<usize> = rows.iter().copied().chain([classes]).collect();
        Ok(LogitsShape::new(dims, -1)?)
    }

    pub(crate) fn is_on_cpu(&self) -> bool {
        self.tensors().all(|(_, tensor)| tensor.device().is_cpu())
    }

    /// All logits, by candle's operations.
    pub(crate) fn logits(&self) -> Result<Tensor> {
        let logits = self.hidden.broadcast_matmul(&self.weight.t()?)?;
        Ok(match self.bias {
            Some(bias) => logits.broadcast_add(bias)?,
            None => logits,
        })
    }

    fn needed(&self) -> [bool; 3] {
        [self.hidden.track_op(), self.weight.track_op(), self.bias.is_some_and(Tensor::track_op)]
    }
}

/// The loss, differentiated with respect to what is tracked, and its parts. All tensors are on the
/// CPU, and their shapes and dtypes go together.
pub(crate) fn forward(
    criterion: &Arc<Criterion>,
    batch: ReadBatch,
    shape: LogitsShape,
    linear: GivenLinear<'_>,
    spare: &Arc<Spare>,
) -> Result<(Tensor, Output<f64>)> {
    let needed = linear.needed();
    let tracked = needed.contains(&true);
    // As for logits: a loss per row waits for what its rows are multiplied by.
    let eager = tracked && criterion.config().reduction != Reduction::None;
    let pass = Pass { criterion: criterion.clone(), batch, shape, spare: spare.clone(), needed };
    let (loss, output, unit) = pass.run(linear, eager.then_some(Upstream::Scalar(1.0)))?;
    if !tracked {
        return Ok((loss, output));
    }
    let attached = Attached { pass, loss, unit: eager.then_some(unit) };
    let GivenLinear { hidden, weight, bias } = linear;
    let loss = match bias {
        Some(bias) => hidden.apply_op3(weight, bias, attached)?,
        None => hidden.apply_op2(weight, attached)?,
    };
    Ok((loss, output))
}

/// The gradients of hidden states, weight and bias: those that are needed.
type Three = [Option<Tensor>; 3];

/// A pass over the batch, without the layer.
struct Pass {
    criterion: Arc<Criterion>,
    batch: ReadBatch,
    shape: LogitsShape,
    spare: Arc<Spare>,
    needed: [bool; 3],
}

impl Pass {
    /// Loss and parts and, under an upstream gradient, the gradients that are needed.
    fn run(
        &self,
        linear: GivenLinear<'_>,
        upstream: Option<Upstream<'_>>,
    ) -> Result<(Tensor, Output<f64>, Three)> {
        let Spare { narrow, wide } = &*self.spare;
        match linear.hidden.dtype() {
            DType::F64 => self.run_as::<f64>(linear, upstream, wide),
            DType::F16 => self.run_as::<half::f16>(linear, upstream, narrow),
            DType::BF16 => self.run_as::<half::bf16>(linear, upstream, narrow),
            _ => self.run_as::<f32>(linear, upstream, narrow),
        }
    }

    fn run_as<T: Element<Real: WithDType> + WithDType>(
        &self,
        given: GivenLinear<'_>,
        upstream: Option<Upstream<'_>>,
        spare: &Mutex<Workspace<T::Real>>,
    ) -> Result<(Tensor, Output<f64>, Three)> {
        let features = given.weight.dim(1)?;
        let (rows, classes) = (self.shape.rows(), self.shape.classes());
        let hidden = given.hidden.detach().reshape((rows, features))?;
        let bias = given.bias.map(|bias| bias.detach().contiguous()).transpose()?;
        let (hidden_data, hidden_layout) = hidden.storage_and_layout();
        let (weight_data, weight_layout) = given.weight.storage_and_layout();
        let bias = bias.as_ref().map(Tensor::storage_and_layout);

        let mut linear = Linear::new(
            matrix::<T>(&hidden_data, hidden_layout)?,
            matrix::<T>(&weight_data, weight_layout)?,
        )?;
        if let Some((bias, layout)) = &bias {
            linear = linear.bias(&slice(bias)?[layout.start_offset()..][..classes])?;
        }
        let mut workspace = take(&mut *spare.lock().unwrap_or_else(PoisonError::into_inner));
        let needed = self.needed.map(|needed| needed && upstream.is_some());
        let sizes = [rows * features, classes * features, classes];
        let mut to_hidden = vec![T::zero(); if needed[0] { sizes[0] } else { 0 }];
        let [mut to_weight, mut to_bias] = [1, 2].map(|i| {
            vec![<T::Real as Element>::from_f64(0.0); if needed[i] { sizes[i] } else { 0 }]
        });
        let output = self.batch.with(|batch| {
            Ok(match upstream {
                None => self.criterion.linear_forward(&linear, batch, &mut workspace)?,
                Some(upstream) => {
                    let view = |needed, data| {
                        Ok::<_, Error>(if needed {
                            Some(MatrixMut::new(data, features)?)
                        } else {
                            None
                        })
                    };
                    let into = Gradients {
                        hidden: match needed[0] {
                            true => Some(MatrixMut::new(&mut to_hidden, features)?),
                            false => None,
                        },
                        weight: view(needed[1], &mut to_weight)?,
                        bias: needed[2].then_some(&mut to_bias[..]),
                    };
                    let workspace = &mut workspace;
                    self.criterion
                        .linear_forward_backward(&linear, batch, upstream, into, workspace)?
                }
            })
        })?;
        *spare.lock().unwrap_or_else(PoisonError::into_inner) = workspace;
        let loss = engine::loss(&output, &self.shape)?;
        let hidden = match needed[0] {
            true => Some(Tensor::from_vec(to_hidden, given.hidden.shape(), &Device::Cpu)?),
            false => None,
        };
        // In the type in which they were summed: what follows rounds them once.
        let summed = |needed: bool, values, shape: &Shape| match needed {
            true => Ok::<_, Error>(Some(Tensor::from_vec(values, shape, &Device::Cpu)?)),
            false => Ok(None),
        };
        let weight = summed(needed[1], to_weight, given.weight.shape())?;
        let bias = summed(needed[2], to_bias, &Shape::from(classes))?;
        Ok((loss, output.to_f64(), [hidden, weight, bias]))
    }
}

fn slice<T: WithDType>(storage: &Storage) -> Result<&[T]> {
    match storage {
        Storage::Cpu(storage) => Ok(T::cpu_storage_as_slice(storage)?),
        _ => Err(Error::Dtype {
            name: "a tensor of the linear layer",
            found: storage.dtype(),
            expected: "host memory",
        }),
    }
}

/// A tensor of two axes, read in place.
fn matrix<'a, T: WithDType>(storage: &'a Storage, layout: &Layout) -> Result<Matrix<'a, T>> {
    let (rows, columns) = layout.shape().dims2()?;
    let strides = [0, 1].map(|axis| layout.stride()[axis] as isize);
    Ok(Matrix::strided(slice(storage)?, [rows, columns], strides, layout.start_offset())?)
}

/// The node of candle's graph.
struct Attached {
    pass: Pass,
    loss: Tensor,
    /// The gradients under an upstream gradient of 1.
    unit: Option<Three>,
}

impl Attached {
    fn loss(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        let (storage, layout) = self.loss.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => candle_core::bail!("the loss is not in host memory"),
        }
    }

    /// The products of a pass cost too much to be formed again where the upstream gradient can be
    /// multiplied in: everywhere except in halves, where hidden states' gradients would have
    /// underflowed.
    fn backward(&self, linear: GivenLinear<'_>, upstream: &Tensor) -> Result<Three> {
        let upstream = read_back::<f64>(upstream)?;
        let dtype = linear.hidden.dtype();
        let is_half = matches!(dtype, DType::F16 | DType::BF16);
        let gradients = match (&self.unit, upstream.as_slice()) {
            (Some(unit), [1.0]) => unit.clone(),
            (Some(unit), [factor]) if !is_half || !self.pass.needed[0] => {
                let mut scaled = unit.clone();
                for gradient in scaled.iter_mut().flatten() {
                    *gradient = gradient.affine(*factor, 0.0)?;
                }
                scaled
            }
            _ => {
                let upstream = match self.pass.criterion.config().reduction {
                    Reduction::None => upstream.into(),
                    _ => Upstream::Scalar(upstream.iter().sum()),
                };
                self.pass.run(linear, Some(upstream))?.2
            }
        };
        let [hidden, weight, bias] =
            gradients.map(|gradient| gradient.map(|gradient| gradient.to_dtype(dtype)).transpose());
        Ok([hidden?, weight?, bias?])
    }
}

impl CustomOp2 for Attached {
    fn name(&self) -> &'static str {
        "linear cross-entropy"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.loss()
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let linear = GivenLinear { hidden, weight, bias: None };
        let [hidden, weight, _] = self.backward(linear, upstream)?;
        Ok((hidden, weight))
    }
}

impl CustomOp3 for Attached {
    fn name(&self) -> &'static str {
        "linear cross-entropy"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.loss()
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let linear = GivenLinear { hidden, weight, bias: Some(bias) };
        let [hidden, weight, bias] = self.backward(linear, upstream)?;
        Ok((hidden, weight, bias))
    }
}
