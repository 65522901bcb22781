//! `CrossEntropy`: the loss as an object, and as a function.

use std::sync::Arc;

use candle_core::Tensor;
use xent::{Config, Criterion};

use crate::call::{Call, Scores, Setup};
use crate::error::Result;
use crate::linear::GivenLinear;

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
        Call::new(&self.setup, Scores::Logits(logits), targets)
    }

    /// The loss of the logits `hidden·weightᵀ + bias` of a linear layer, such as the output layer of
    /// a language model, without their memory.
    ///
    /// - `hidden`: `[…, D]`, in f32, f64, f16 or bf16.
    /// - `weight`: `[K, D]`, as in [`candle_nn::Linear`], and `bias`: `[K]`, in the dtype of `hidden`.
    /// - `targets`: of the shape of `hidden` without its last axis; probabilities: with K instead of
    ///   D.
    ///
    /// On the CPU the logits exist some hundred rows at a time: beyond the gradients, a call takes
    /// 64 MiB (or 512 bytes per class if that is more), which the criterion keeps for the next.
    /// Ignored rows enter no product. Gradients of hidden states, weight and bias are formed with the
    /// loss, those that a variable stands above; they are summed in f32 (f64 for f64) and rounded
    /// once. On other devices, and where [`composed`](Self::composed), candle's own product makes all
    /// logits, `[…, K]`, and the loss is that of [`forward`](Self::forward).
    ///
    /// The classes are on the last axis, whatever [`class_axis`](Self::class_axis) is.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor, Var};
    /// use xent_candle::{CrossEntropy, xent::Config};
    /// let criterion = CrossEntropy::new(Config::new().label_smoothing(0.1))?;
    /// let weight = Var::zeros((50_257, 8), DType::F32, &Device::Cpu)?;
    /// let hidden = Tensor::ones((2, 3, 8), DType::F32, &Device::Cpu)?; // 2 texts of 3 tokens
    /// let targets = Tensor::new(&[[5u32, 1, 7], [0, 2, 50_256]], &Device::Cpu)?;
    /// let loss = criterion.forward_linear(&hidden, &weight, None, &targets)?;
    /// assert!((loss.to_scalar::<f32>()? - 50_257f32.ln()).abs() < 1e-5);
    /// assert_eq!(loss.backward()?.get(&weight).unwrap().dims(), [50_257, 8]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    ///
    /// [`candle_nn::Linear`]: https://docs.rs/candle-nn/latest/candle_nn/linear/struct.Linear.html
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and [`Error::Shape`](crate::Error::Shape) for a layer whose
    /// shapes do not go together.
    pub fn forward_linear(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        targets: &Tensor,
    ) -> Result<Tensor> {
        self.on_linear(hidden, weight, bias, targets).forward()
    }

    /// [`forward_linear`](Self::forward_linear) with more than targets: [`Call`] collects the rest.
    pub fn on_linear<'a>(
        &'a self,
        hidden: &'a Tensor,
        weight: &'a Tensor,
        bias: Option<&'a Tensor>,
        targets: &'a Tensor,
    ) -> Call<'a> {
        Call::new(&self.setup, Scores::Linear(GivenLinear { hidden, weight, bias }), targets)
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
            spare: Arc::default(),
        };
        Self { setup }
    }
}
