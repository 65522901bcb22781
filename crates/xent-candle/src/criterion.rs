//! `CrossEntropy`, and the call that collects what comes with a batch.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use candle_core::shape::Dim;
use xent::{Config, Criterion, Output};

use crate::host::HostBatch;
use crate::shape::{ClassAxis, LogitsShape};
use crate::{Result, attach, composed, engine};

/// Label-smoothed cross-entropy of candle tensors: a loss that candle differentiates.
///
/// With p = softmax(z) and y the smoothed target a row's loss is `−Σ y_k ln p_k` and its gradient `p − y`. Immutable, cheap to clone, and usable from several threads.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use xent_candle::CrossEntropy;
///
/// let criterion = CrossEntropy::new(xent::Config::new().label_smoothing(0.1))?;
/// let logits = Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let targets = Tensor::new(&[0u32, 3], &Device::Cpu)?;
/// let loss = criterion.forward(&logits, &targets)?;
/// assert_eq!(loss.to_scalar::<f32>()?, 4f32.ln()); // four classes, all equally likely
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct CrossEntropy {
    criterion: Arc<Criterion>,
    axis: ClassAxis,
    composed: bool,
}

impl CrossEntropy {
    /// The loss that `config` describes, with the classes on the logits' last axis.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the option, what came and what was expected.
    pub fn new(config: Config) -> Result<Self> {
        Ok(config.build()?.into())
    }

    /// The axis of the logits that counts the classes: a number, or [`D::Minus1`](candle_core::D::Minus1) and its like. The last one unless said; 1 for images `[N, K, H, W]`.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// let criterion = xent_candle::CrossEntropy::new(xent::Config::new())?.class_axis(1);
    /// let logits = Tensor::zeros((2, 8, 5, 5), DType::F32, &Device::Cpu)?;
    /// let targets = Tensor::zeros((2, 5, 5), DType::U32, &Device::Cpu)?;
    /// assert_eq!(criterion.forward(&logits, &targets)?.to_scalar::<f32>()?, 8f32.ln());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn class_axis(mut self, axis: impl Dim + Send + Sync + 'static) -> Self {
        self.axis = ClassAxis::new(axis);
        self
    }

    /// Whether candle's own operations compute on the CPU too, as they do on every other device, instead of xent's engine. Slower and hungrier: for comparing the two.
    pub fn composed(mut self, composed: bool) -> Self {
        self.composed = composed;
        self
    }

    /// What is measured.
    pub fn criterion(&self) -> &Criterion {
        &self.criterion
    }

    /// The loss of `logits` against `targets`.
    ///
    /// - `logits`: f32, f64, f16 or bf16, of any shape and layout, read where they lie. `[N, K]`, `[B, T, K]`, and with [`class_axis`](Self::class_axis) `[N, K, H, W]`.
    /// - `targets`: of an integer dtype, class indices in the logits' shape without the class axis; of a float dtype, probabilities in the logits' shape. On any device.
    /// - The loss: a scalar for sum and mean, one entry a row (in the logits' shape without the class axis) for none; f64 for f64 logits, f32 for all others. Whatever is
    ///   one number a row is computed in f64. The gradient has the logits' dtype.
    ///
    /// Ignored rows are never read and get gradients of exactly 0. NaN and +∞ logits make their own row's loss NaN. Logits above which no variable stands cost no gradient.
    /// Only the logits are differentiated, once: not targets, nor the gradient again.
    ///
    /// # Errors
    /// [`Error`](crate::Error) naming the tensor or the row, what came and what was expected: shapes that do not go together, a dtype that cannot be used, a class index that is
    /// neither a class nor an ignore index, a probability that is negative or not finite.
    pub fn forward(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        self.on(logits, targets).forward()
    }

    /// A call with more than targets: [`Call`] collects the rest.
    pub fn on<'a>(&'a self, logits: &'a Tensor, targets: &'a Tensor) -> Call<'a> {
        Call { criterion: self, logits, labels: Labels::One(targets), epsilon: None, row_weights: None, ignored: None, allowed: None, denominator: None }
    }
}

impl From<Criterion> for CrossEntropy {
    fn from(criterion: Criterion) -> Self {
        Self { criterion: Arc::new(criterion), axis: ClassAxis::default(), composed: false }
    }
}

impl fmt::Debug for CrossEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrossEntropy").field("criterion", &self.criterion).field("composed", &self.composed).finish_non_exhaustive()
    }
}

/// λ of a two-label mix, the share of the first label, in [0, 1].
#[derive(Debug, Clone, Copy)]
pub enum Lambda<'a> {
    /// One for all rows.
    Scalar(f64),
    /// One a row.
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
    One(&'a Tensor),
    Two { a: &'a Tensor, b: &'a Tensor, lambda: Lambda<'a> },
}

/// One call of a [`CrossEntropy`], with whatever comes with the batch. Made by [`CrossEntropy::on`].
///
/// What is *one entry a row* has the logits' shape without the class axis, any numeric dtype unless said, and any device. None of it is differentiated.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use xent_candle::CrossEntropy;
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
    criterion: &'a CrossEntropy,
    logits: &'a Tensor,
    pub(crate) labels: Labels<'a>,
    pub(crate) epsilon: Option<&'a Tensor>,
    pub(crate) row_weights: Option<&'a Tensor>,
    pub(crate) ignored: Option<&'a Tensor>,
    pub(crate) allowed: Option<&'a Tensor>,
    pub(crate) denominator: Option<f64>,
}

impl<'a> Call<'a> {
    /// A second label for each row, as mixup and cutmix make them: λ on the targets of [`CrossEntropy::on`], 1−λ on `second`. Both are class indices, one entry a row; λ is
    /// a number or one entry a row.
    pub fn mixed_with(mut self, second: &'a Tensor, lambda: impl Into<Lambda<'a>>) -> Self {
        let (Labels::One(a) | Labels::Two { a, .. }) = self.labels;
        self.labels = Labels::Two { a, b: second, lambda: lambda.into() };
        self
    }

    /// ε, one entry a row, in [0, 1], instead of the criterion's.
    pub fn label_smoothing_rows(mut self, epsilon: &'a Tensor) -> Self {
        self.epsilon = Some(epsilon);
        self
    }

    /// Weights, one entry a row, finite and ≥ 0: each multiplies the whole of its row's loss and does not enter the denominator.
    pub fn row_weights(mut self, weights: &'a Tensor) -> Self {
        self.row_weights = Some(weights);
        self
    }

    /// Rows to ignore, beside those that an ignore index marks: one entry a row of an integer dtype, not 0 where ignored. They are never read.
    pub fn ignored_rows(mut self, mask: &'a Tensor) -> Self {
        self.ignored = Some(mask);
        self
    }

    /// Classes that may be predicted: `[K]` for all rows, or the logits' shape, of an integer dtype, not 0 where allowed. The others are masked, as if their logits were −∞.
    pub fn allowed_classes(mut self, mask: &'a Tensor) -> Self {
        self.allowed = Some(mask);
        self
    }

    /// What a mean divides by, finite and > 0: the number of tokens over all devices, say.
    pub fn denominator(mut self, denominator: f64) -> Self {
        self.denominator = Some(denominator);
        self
    }

    /// The loss; see [`CrossEntropy::forward`].
    ///
    /// # Errors
    /// As [`CrossEntropy::forward`].
    pub fn forward(self) -> Result<Tensor> {
        Ok(self.forward_with_output()?.0)
    }

    /// The loss, and as numbers what came of the same pass: nll, the smoothing's part, the entropy floor, log-sum-exp, how many rows are correct, ignored, not finite.
    ///
    /// # Errors
    /// As [`CrossEntropy::forward`].
    pub fn forward_with_output(self) -> Result<(Tensor, Output<f64>)> {
        let CrossEntropy { criterion, axis, composed } = self.criterion;
        let logits = self.logits;
        let shape = LogitsShape::new(logits, axis)?;
        let batch = HostBatch::new(&self, &shape)?;
        if logits.device().is_cpu() && !composed {
            let (loss, output, gradient) = engine::forward(criterion, batch, shape, logits)?;
            return Ok((attach::attach(logits, loss, gradient)?, output));
        }
        let (loss, output, gradient) = composed::forward(criterion, &batch, &shape, logits)?;
        Ok((attach::attach(logits, loss, gradient)?, output))
    }
}
