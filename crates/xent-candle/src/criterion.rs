//! `CrossEntropy`: the loss as an object, and as a function.

use std::sync::Arc;

use candle_core::Tensor;
use xent::{Config, Criterion};

use crate::call::{Call, Setup};
use crate::error::Result;

/// The mean cross-entropy of `logits` against `targets` with the default options, for the classes
/// on the last axis: [`CrossEntropy`] of [`xent::Config::new`], see [`CrossEntropy::forward`].
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// let logits = Var::zeros((2, 4), DType::F32, &Device::Cpu)?;
/// let loss = xent_candle::cross_entropy(&logits, &Tensor::new(&[0u32, 3], &Device::Cpu)?)?;
/// assert_eq!(loss.to_scalar::<f32>()?, 4f32.ln()); // four classes, all equally likely
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// As [`CrossEntropy::forward`].
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    CrossEntropy::new(Config::new())?.forward(logits, targets)
}

/// Label-smoothed cross-entropy of candle tensors: a loss that candle differentiates.
///
/// With p = softmax(z) and y the smoothed target a row's loss is `−Σ y_k ln p_k` and its gradient
/// `p − y`. Immutable, cheap to clone, and usable from several threads.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use xent_candle::{CrossEntropy, xent};
///
/// let criterion = CrossEntropy::new(xent::Config::new().label_smoothing(0.1))?;
/// let logits = Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let targets = Tensor::new(&[0u32, 3], &Device::Cpu)?;
/// let loss = criterion.forward(&logits, &targets)?;
/// assert_eq!(loss.to_scalar::<f32>()?, 4f32.ln()); // four classes, all equally likely
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    setup: Setup,
}

impl CrossEntropy {
    /// The loss that `config` describes, with the classes on the last axis of the logits.
    ///
    /// # Errors
    /// [`Error::Xent`](crate::Error::Xent) naming the option, what came and what was expected.
    pub fn new(config: Config) -> Result<Self> {
        Ok(config.build()?.into())
    }

    /// The axis of the logits that counts the classes, from the end where it is negative. Default:
    /// −1, the last axis; 1 for images `[N, K, H, W]`.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// let criterion = xent_candle::CrossEntropy::new(xent::Config::new())?.class_axis(1);
    /// let logits = Tensor::zeros((2, 8, 5, 5), DType::F32, &Device::Cpu)?;
    /// let targets = Tensor::zeros((2, 5, 5), DType::U32, &Device::Cpu)?;
    /// assert_eq!(criterion.forward(&logits, &targets)?.to_scalar::<f32>()?, 8f32.ln());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn class_axis(mut self, axis: isize) -> Self {
        self.setup.class_axis = axis;
        self
    }

    /// Whether candle's own operations compute on the CPU too, as they do on every other device,
    /// instead of xent's engine. They are slower and take more memory: for comparing the two.
    /// Default: false.
    pub fn composed(mut self, composed: bool) -> Self {
        self.setup.composed = composed;
        self
    }

    /// Whether targets, weights and masks are read back where candle's operations compute, so that
    /// bad ones are errors there too. Default: false, since each call then waits for the device:
    /// without it, a row with a label outside the classes, or an ε, λ, weight or probability
    /// outside its range, has a loss and a gradient of NaN.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// let criterion = xent_candle::CrossEntropy::new(xent::Config::new())?.composed(true);
    /// let (logits, targets) = (Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?, Tensor::new(&[4u32], &Device::Cpu)?);
    /// assert!(criterion.forward(&logits, &targets)?.to_scalar::<f32>()?.is_nan());
    /// let error = criterion.checked(true).forward(&logits, &targets).unwrap_err();
    /// assert_eq!(error.to_string(), "target 4 in row 0 is outside 0..4 and not an ignore index");
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn checked(mut self, checked: bool) -> Self {
        self.setup.checked = checked;
        self
    }

    /// What is computed.
    pub fn criterion(&self) -> &Criterion {
        &self.setup.criterion
    }

    /// The loss of `logits` against `targets`.
    ///
    /// - `logits`: f32, f64, f16 or bf16, of any shape and layout: `[N, K]`, `[B, T, K]`, and with
    ///   [`class_axis`](Self::class_axis) `[N, K, H, W]`. On the CPU they are read in place.
    /// - `targets`: class indices, of an integer dtype in the logits' shape without the class axis;
    ///   or probabilities, of a floating-point dtype in the logits' shape. On any device.
    /// - The loss: a scalar for sum and mean, one entry per row (in the logits' shape without the
    ///   class axis) for none; f64 for f64 logits, f32 for all others. The gradient has the logits'
    ///   dtype.
    ///
    /// Per-row values are computed in f64, on Metal in f32. Ignored rows get gradients of exactly
    /// 0, whatever they hold. NaN and +∞ logits make the loss of their own row NaN. Logits that no
    /// variable stands above cost no gradient. Only the logits are differentiated, once: not
    /// targets, nor the gradient again.
    ///
    /// # Errors
    /// [`Error`](crate::Error) naming the tensor or the row, what came and what was expected:
    /// shapes that do not go together, a dtype that cannot be used, a class index that is neither a
    /// class nor an ignore index, a probability that is negative or not finite. Where candle's
    /// operations compute, values are read only if [`checked`](Self::checked) says so.
    pub fn forward(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        self.on(logits, targets).forward()
    }

    /// A call with more than targets: [`Call`] collects the rest.
    pub fn on<'a>(&'a self, logits: &'a Tensor, targets: &'a Tensor) -> Call<'a> {
        Call::new(&self.setup, logits, targets)
    }
}

impl From<Criterion> for CrossEntropy {
    fn from(criterion: Criterion) -> Self {
        let setup = Setup {
            criterion: Arc::new(criterion),
            class_axis: -1,
            composed: false,
            checked: false,
            tables: Arc::default(),
        };
        Self { setup }
    }
}
