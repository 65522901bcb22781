//! One call of the loss: what comes with the batch, and which path computes.

use std::sync::Arc;

use candle_core::Tensor;
use xent::host::LogitsShape;
use xent::{Criterion, EmptyMean, Output, Reduction};

use crate::batch::{GivenBatch, Labels, Lambda, expect_floats};
use crate::engine;
use crate::error::Result;
use crate::linear::{self, GivenLinear, Spare};
use crate::tensors::{Evaluation, Tables};

/// All that calls of a criterion share.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) criterion: Arc<Criterion>,
    pub(crate) class_axis: isize,
    pub(crate) composed: bool,
    pub(crate) checked: bool,
    pub(crate) tables: Arc<Tables>,
    pub(crate) spare: Arc<Spare>,
}

/// What the loss is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scores<'a> {
    Logits(&'a Tensor),
    Linear(GivenLinear<'a>),
}

/// One call of a [`CrossEntropy`](crate::CrossEntropy), with all that comes with the batch. Made by
/// [`CrossEntropy::on`](crate::CrossEntropy::on) and
/// [`CrossEntropy::on_linear`](crate::CrossEntropy::on_linear).
///
/// A per-row tensor has the logits' shape without the class axis, on any device, with any numeric
/// dtype if none is named. No such tensor is differentiated.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use xent_candle::{CrossEntropy, xent};
///
/// let criterion = CrossEntropy::new(xent::Config::new().reduction(xent::Reduction::Sum))?;
/// let logits = Tensor::zeros((3, 4), DType::F64, &Device::Cpu)?;
/// let targets = Tensor::new(&[0u32, 3, 1], &Device::Cpu)?;
/// let weights = Tensor::new(&[1f64, 0.5, 7.0], &Device::Cpu)?;
/// let padding = Tensor::new(&[0u8, 0, 1], &Device::Cpu)?;
/// let (loss, output) = criterion.on(&logits, &targets).row_weights(&weights).ignored_rows(&padding).forward_with_output()?;
/// assert_eq!(loss.to_scalar::<f64>()?, 1.5 * 4f64.ln());
/// assert_eq!((output.ignored, output.denominator), (1, 2.0));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[must_use = "a call does nothing before forward or forward_with_output"]
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    setup: &'a Setup,
    scores: Scores<'a>,
    batch: GivenBatch<'a>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(setup: &'a Setup, scores: Scores<'a>, targets: &'a Tensor) -> Self {
        Self { setup, scores, batch: GivenBatch::new(targets) }
    }

    /// A second label for each row, as mixup and cutmix make them: λ on the targets of
    /// [`CrossEntropy::on`](crate::CrossEntropy::on), 1−λ on `second`. Both are class indices, one
    /// per row; λ is a number or one number per row.
    pub fn mixed_with(mut self, second: &'a Tensor, lambda: impl Into<Lambda<'a>>) -> Self {
        let (Labels::One(a) | Labels::Two { a, .. }) = self.batch.labels;
        self.batch.labels = Labels::Two { a, b: second, lambda: lambda.into() };
        self
    }

    /// ε per row, in [0, 1], instead of the criterion's.
    pub fn label_smoothing_rows(mut self, epsilon: &'a Tensor) -> Self {
        self.batch.label_smoothing = Some(epsilon);
        self
    }

    /// Weights per row, finite and ≥ 0: each multiplies everything that its row contributes and
    /// does not enter the denominator.
    pub fn row_weights(mut self, weights: &'a Tensor) -> Self {
        self.batch.row_weights = Some(weights);
        self
    }

    /// Rows to ignore, in addition to those that an ignore index marks: one entry per row of an
    /// integer dtype, not 0 where ignored. What such rows hold does not matter.
    pub fn ignored_rows(mut self, mask: &'a Tensor) -> Self {
        self.batch.ignored_rows = Some(mask);
        self
    }

    /// Classes that may be predicted: `[K]` for all rows, or the logits' shape, of an integer
    /// dtype, not 0 where allowed. The others are masked, as if their logits were −∞.
    pub fn allowed_classes(mut self, mask: &'a Tensor) -> Self {
        self.batch.allowed_classes = Some(mask);
        self
    }

    /// What a mean divides by, finite and > 0, for example the number of tokens over all devices.
    pub fn denominator(mut self, denominator: f64) -> Self {
        self.batch.denominator = Some(denominator);
        self
    }

    /// The loss; see [`CrossEntropy::forward`](crate::CrossEntropy::forward).
    ///
    /// # Errors
    /// As [`CrossEntropy::forward`](crate::CrossEntropy::forward).
    pub fn forward(self) -> Result<Tensor> {
        Ok(self.evaluate(false)?.0)
    }

    /// The loss, and as numbers what came of the same pass: nll, the smoothing's part, the entropy
    /// floor, log-sum-exp, how many rows are correct, ignored, not finite. It waits for the device.
    ///
    /// # Errors
    /// As [`CrossEntropy::forward`](crate::CrossEntropy::forward).
    pub fn forward_with_output(self) -> Result<(Tensor, Output<f64>)> {
        let (loss, output) = self.evaluate(true)?;
        Ok((loss, output.unwrap_or_else(|| unreachable!("the output was requested"))))
    }

    fn evaluate(&self, with_output: bool) -> Result<(Tensor, Option<Output<f64>>)> {
        let setup = self.setup;
        match self.scores {
            Scores::Logits(logits) => {
                let shape = LogitsShape::new(logits.dims(), setup.class_axis)?;
                expect_floats("the tensor of logits", logits)?;
                self.batch.expect(&shape)?;
                self.evaluate_logits(logits, shape, with_output)
            }
            Scores::Linear(given) => {
                let shape = given.shape()?;
                self.batch.expect(&shape)?;
                if !given.is_on_cpu() || setup.composed {
                    return self.evaluate_logits(&given.logits()?, shape, with_output);
                }
                let batch = self.batch.read(&shape)?;
                let (loss, output) =
                    linear::forward(&setup.criterion, batch, shape, given, &setup.spare)?;
                Ok((loss, Some(output)))
            }
        }
    }

    /// Of logits whose shape and dtype, and the batch's, are good.
    fn evaluate_logits(
        &self,
        logits: &Tensor,
        shape: LogitsShape,
        with_output: bool,
    ) -> Result<(Tensor, Option<Output<f64>>)> {
        let Self { setup: Setup { criterion, composed, checked, tables, .. }, batch, .. } = self;
        if shape.rows() == 0 || (logits.device().is_cpu() && !composed) {
            let (loss, output) = engine::forward(criterion, batch.read(&shape)?, shape, logits)?;
            return Ok((loss, Some(output)));
        }
        let config = criterion.config();
        // Whether a mean is of nothing cannot be said without a look.
        let must_look =
            config.reduction == Reduction::Mean && config.empty_mean == EmptyMean::Error;
        if *checked || must_look {
            batch.read(&shape)?.check(criterion, &shape)?;
        } else {
            batch.check_unread(criterion)?;
        }
        let evaluation = Evaluation::new(criterion, tables, batch, &shape, logits)?;
        let loss = evaluation.loss()?;
        let output = if with_output { Some(evaluation.output(&loss)?) } else { None };
        Ok((loss, output))
    }
}
