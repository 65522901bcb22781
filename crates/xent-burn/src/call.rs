//! The calls of the loss, and which path computes.

use std::sync::Arc;

use burn::nn::Linear;
use burn::tensor::{Bool, Int, Tensor};
use xent::host::LogitsShape;
use xent::{Criterion, Reduction};

use crate::batch::{DeviceBatch, GivenAllowed, GivenTargets, Lambda, PerRow, Targets};
use crate::job::Job;
use crate::linear::{self, GivenLinear};
use crate::output::reshape;
use crate::tensors::Composed;
use crate::{
    CrossEntropy, CrossEntropyConfig, CrossEntropyOutput, Error, Result, autodiff, engine, host,
    shape,
};

/// The mean cross-entropy of `logits` `[…, K]` against `targets`, without smoothing:
/// [`CrossEntropy::forward`] with the default options.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// let device = Device::default();
/// let logits = Tensor::<2>::zeros([2, 4], &device);
/// let loss = xent_burn::cross_entropy(logits, Tensor::<1, Int>::from_ints([0, 3], &device));
/// assert_eq!(loss.into_scalar::<f32>(), 4f32.ln());
/// ```
///
/// # Panics
/// As [`CrossEntropy::forward`].
#[track_caller]
pub fn cross_entropy<const D: usize>(
    logits: Tensor<D>,
    targets: impl Into<Targets<D>>,
) -> Tensor<1> {
    CrossEntropyConfig::from(xent::Config::new()).init().forward(logits, targets)
}

impl CrossEntropy {
    /// The loss of `logits` against `targets`, one number: the mean or the sum over the rows.
    ///
    /// - `logits`: f32, f64, f16 or bf16, of at least 2 dimensions: `[N, K]`, `[B, T, K]`, or with
    ///   `class_axis` 1 `[N, K, H, W]`. On the CPU they are read in place.
    /// - `targets`: class indices, an integer tensor in the logits' shape without the class axis;
    ///   or probabilities, a float tensor in the logits' shape.
    /// - The loss, `[1]`: f64 for f64 logits, f32 for all others. The gradient has the logits'
    ///   dtype.
    ///
    /// Ignored rows are never read, and their gradients are exactly 0. A NaN or +∞ logit makes the
    /// loss of its own row NaN. Only logits are differentiated, and only once.
    ///
    /// # Panics
    /// As burn's own operations, with the message of the error that [`Call::forward`] returns.
    /// [`on`](Self::on) starts a call that returns it.
    #[track_caller]
    pub fn forward<const D: usize>(
        &self,
        logits: Tensor<D>,
        targets: impl Into<Targets<D>>,
    ) -> Tensor<1> {
        self.on(logits, targets).forward().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The loss of each row, in the logits' shape without the class axis: `R` is `D − 1`. 0 for
    /// ignored rows.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    #[track_caller]
    pub fn forward_no_reduction<const D: usize, const R: usize>(
        &self,
        logits: Tensor<D>,
        targets: impl Into<Targets<D>>,
    ) -> Tensor<R> {
        self.on(logits, targets).forward_no_reduction().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a call with more than targets, or one that returns errors: [`Call`] collects the
    /// rest.
    pub fn on<const D: usize>(
        &self,
        logits: Tensor<D>,
        targets: impl Into<Targets<D>>,
    ) -> Call<'_, D> {
        let batch = DeviceBatch::new(targets.into().0);
        Call { criterion: self, scores: Scores::Logits(logits), batch }
    }

    /// The loss of the logits of a linear layer, such as the output layer of a language model, without
    /// their memory: of `linear.forward(hidden)`.
    ///
    /// - `hidden`: `[…, D]`, in f32, f64, f16 or bf16, of at least 2 dimensions.
    /// - `linear`: its weight is `[D, K]`, in the dtype of `hidden`.
    /// - `targets`: of the shape of `hidden` without its last axis; probabilities: with K instead of
    ///   D.
    ///
    /// On the CPU the logits exist some hundred rows at a time: beyond the gradients, a call takes
    /// 64 MiB (or 512 bytes per class if that is more), which the criterion keeps for the next.
    /// Ignored rows enter no product. Gradients of hidden states, weight and bias are formed with the
    /// loss, those that are tracked; they are summed in f32 (f64 for f64) and rounded once. On other
    /// devices, and where [`composed`](Self::composed), burn's own product makes all logits,
    /// `[…, K]`, and the loss is that of [`forward`](Self::forward).
    ///
    /// The classes are on the last axis, whatever the `class_axis` of the configuration is.
    ///
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::{Device, Int, Tensor};
    /// use xent_burn::CrossEntropyConfig;
    /// use xent_burn::xent::Config;
    /// let device = Device::default().autodiff();
    /// let criterion = CrossEntropyConfig::new(Config::new().label_smoothing(0.1)).init();
    /// let head = LinearConfig::new(8, 50_257).with_bias(false).init(&device);
    /// let hidden = Tensor::<3>::zeros([2, 3, 8], &device); // 2 texts of 3 tokens
    /// let targets = Tensor::<2, Int>::from_ints([[5, 1, 7], [0, 2, 50_256]], &device);
    /// let loss = criterion.forward_linear(hidden, &head, targets);
    /// assert!((loss.clone().into_scalar::<f32>() - 50_257f32.ln()).abs() < 1e-5);
    /// let gradients = loss.backward();
    /// assert_eq!(head.weight.grad(&gradients).unwrap().dims(), [8, 50_257]);
    /// ```
    ///
    /// # Panics
    /// As [`forward`](Self::forward). [`on_linear`](Self::on_linear) starts a call that returns
    /// errors.
    #[track_caller]
    pub fn forward_linear<const D: usize>(
        &self,
        hidden: Tensor<D>,
        linear: &Linear,
        targets: impl Into<Targets<D>>,
    ) -> Tensor<1> {
        self.on_linear(hidden, linear, targets).forward().unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`forward_linear`](Self::forward_linear) with more than targets, or that returns errors:
    /// [`Call`] collects the rest.
    pub fn on_linear<const D: usize>(
        &self,
        hidden: Tensor<D>,
        linear: &Linear,
        targets: impl Into<Targets<D>>,
    ) -> Call<'_, D> {
        let batch = DeviceBatch::new(targets.into().0);
        let (weight, bias) = (linear.weight.val(), linear.bias.as_ref().map(|bias| bias.val()));
        let scores = Scores::Linear(GivenLinear { hidden, weight, bias });
        Call { criterion: self, scores, batch }
    }
}

/// One call of a [`CrossEntropy`], with all that the batch carries. Made by [`CrossEntropy::on`] and
/// [`CrossEntropy::on_linear`].
///
/// A tensor with *one entry per row* has the logits' shape without the class axis. None is
/// differentiated.
///
/// ```
/// use burn::tensor::{Bool, Device, Int, Tensor};
/// use xent_burn::CrossEntropyConfig;
/// use xent_burn::xent::{Config, Reduction};
///
/// let device = Device::default();
/// let criterion = CrossEntropyConfig::new(Config::new().reduction(Reduction::Sum)).init();
/// let logits = Tensor::<2>::zeros([3, 4], &device);
/// let targets = Tensor::<1, Int>::from_ints([0, 3, 1], &device);
/// let weights = Tensor::<1>::from_floats([1.0, 0.5, 7.0], &device);
/// let padding = Tensor::<1, Bool>::from_bool([false, false, true], &device);
/// let call = criterion.on(logits, targets).row_weights(weights).ignored_rows(padding);
/// let output = call.forward_with_output()?;
/// assert_eq!(output.loss.into_scalar::<f32>(), 1.5 * 4f32.ln());
/// assert_eq!(output.ignored.into_scalar::<i64>(), 1);
/// # Ok::<(), xent_burn::Error>(())
/// ```
#[must_use = "a call does nothing before one of the forwards"]
#[derive(Debug, Clone)]
pub struct Call<'a, const D: usize> {
    criterion: &'a CrossEntropy,
    scores: Scores<D>,
    batch: DeviceBatch<D>,
}

/// What the loss is of.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one per call")]
enum Scores<const D: usize> {
    Logits(Tensor<D>),
    Linear(GivenLinear<D>),
}

impl<const D: usize> Call<'_, D> {
    /// A second label for each row, as mixup and cutmix make them: λ on the targets of
    /// [`CrossEntropy::on`], 1−λ on `second`. Both are class indices; λ is one number, or one entry
    /// per row.
    pub fn mixed_with<const R: usize>(
        mut self,
        second: Tensor<R, Int>,
        lambda: impl Into<Lambda>,
    ) -> Self {
        if let GivenTargets::Classes(first) = &mut self.batch.targets {
            first.name = "the tensor of first labels";
        }
        self.batch.mix =
            Some((PerRow::new("the tensor of second labels", second), lambda.into().0));
        self
    }

    /// ε, one entry per row, in [0, 1], instead of the criterion's.
    pub fn label_smoothing_rows<const R: usize>(mut self, epsilon: Tensor<R>) -> Self {
        self.batch.epsilon = Some(PerRow::new("the tensor of ε", epsilon));
        self
    }

    /// Weights, one entry per row, finite and ≥ 0: each multiplies everything that its row
    /// contributes, the z-loss included, and does not enter the denominator.
    pub fn row_weights<const R: usize>(mut self, weights: Tensor<R>) -> Self {
        self.batch.row_weights = Some(PerRow::new("the tensor of row weights", weights));
        self
    }

    /// Rows to ignore, in addition to those that an ignore index marks: one entry per row, true if
    /// it is ignored. They are never read.
    pub fn ignored_rows<const R: usize>(mut self, mask: Tensor<R, Bool>) -> Self {
        self.batch.ignored = Some(PerRow::new("the mask of ignored rows", mask));
        self
    }

    /// The classes that may be predicted, `[K]`, for all rows. The others are masked, as if their
    /// logits were −∞.
    pub fn allowed_classes(mut self, mask: Tensor<1, Bool>) -> Self {
        self.batch.allowed = Some(GivenAllowed::Shared(mask.inner()));
        self
    }

    /// The classes that may be predicted in each row, in the logits' shape.
    pub fn allowed_classes_rows(mut self, mask: Tensor<D, Bool>) -> Self {
        self.batch.allowed = Some(GivenAllowed::PerRow(mask.inner()));
        self
    }

    /// What a mean divides by, finite and > 0: for example the number of tokens over all devices.
    pub fn denominator(mut self, denominator: f64) -> Self {
        self.batch.denominator = Some(denominator);
        self
    }

    /// The loss; see [`CrossEntropy::forward`].
    ///
    /// # Errors
    /// [`Error`] naming the tensor or the row, what came and what was expected: shapes that do not
    /// fit each other, a dtype that is not supported, a class index that is neither a class nor an
    /// ignore index, a probability that is negative or not finite. On devices other than the CPU,
    /// values are checked only with [`CrossEntropy::checked`].
    pub fn forward(self) -> Result<Tensor<1>> {
        Ok(self.reduced()?.loss)
    }

    /// The loss, and what the same pass yields: nll, smoothing part, entropy floor, log-sum-exp,
    /// and how many rows are correct, ignored or not finite.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_with_output(self) -> Result<CrossEntropyOutput<1>> {
        let Evaluated { loss, output } = self.reduced()?;
        Ok(output(loss))
    }

    /// The loss of each row; see [`CrossEntropy::forward_no_reduction`].
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if `R` is not `D − 1`.
    pub fn forward_no_reduction<const R: usize>(self) -> Result<Tensor<R>> {
        let (rows, dims) = self.rows()?;
        Ok(reshape(rows.loss, dims))
    }

    /// The loss of each row and its parts.
    ///
    /// # Errors
    /// As [`forward_no_reduction`](Self::forward_no_reduction).
    pub fn forward_no_reduction_with_output<const R: usize>(self) -> Result<CrossEntropyOutput<R>> {
        let (Evaluated { loss, output }, dims) = self.rows()?;
        Ok(output(loss).reshape(dims))
    }

    fn reduced(&self) -> Result<Evaluated<'_>> {
        match self.criterion.reduced.config().reduction {
            Reduction::None => Err(Error::Call(
                "the reduction is none, expected mean or sum, or forward_no_reduction instead of \
                 forward"
                    .into(),
            )),
            _ => self.evaluate(&self.criterion.reduced),
        }
    }

    fn rows<const R: usize>(&self) -> Result<(Evaluated<'_>, [usize; R])> {
        let dims = self.shape()?.row_dims();
        let Ok(row_dims) = <[usize; R]>::try_from(dims.as_slice()) else {
            return Err(Error::Call(format!(
                "the per-row losses have {} dimensions, requested {R}",
                dims.len()
            )));
        };
        Ok((self.evaluate(&self.criterion.rows)?, row_dims))
    }

    /// The shape of the logits.
    fn shape(&self) -> Result<LogitsShape> {
        match &self.scores {
            Scores::Logits(logits) => shape::of_logits(logits, self.criterion.class_axis),
            Scores::Linear(linear) => linear.shape(),
        }
    }

    fn evaluate<'s>(&'s self, xent: &'s Arc<Criterion>) -> Result<Evaluated<'s>> {
        let Self { criterion, scores, batch } = self;
        let shape = self.shape()?;
        let given = match scores {
            Scores::Logits(logits) => return self.evaluate_logits(xent, logits, shape),
            Scores::Linear(given) => given,
        };
        if !autodiff::has_engine(&given.hidden) || criterion.composed || shape.rows() == 0 {
            return self.evaluate_logits(xent, &given.logits(&shape), shape);
        }
        let job = Job {
            criterion: xent.clone(),
            batch: host::batch(batch, &shape)?,
            shape,
            memory: criterion.memory.clone(),
        };
        let probabilities = batch.probabilities();
        let output = linear::forward(job, given.clone(), probabilities, &criterion.spare)?;
        Ok(Evaluated { loss: output.loss.clone(), output: Box::new(|_| output) })
    }

    fn evaluate_logits<'s>(
        &'s self,
        xent: &'s Arc<Criterion>,
        logits: &Tensor<D>,
        shape: LogitsShape,
    ) -> Result<Evaluated<'s>> {
        let Self { criterion, batch, .. } = self;
        if logits.is_tracked() && !autodiff::is_listed(logits) {
            return Err(Error::Call(format!(
                "logits on {:?} cannot be differentiated: enable the feature of xent-burn with the \
                 backend's name",
                logits.device()
            )));
        }
        if autodiff::has_engine(logits) && !criterion.composed || shape.rows() == 0 {
            let job = Job {
                criterion: xent.clone(),
                batch: host::batch(batch, &shape)?,
                shape,
                memory: criterion.memory.clone(),
            };
            let output = engine::forward(job, logits.clone(), batch.probabilities())?;
            return Ok(Evaluated { loss: output.loss.clone(), output: Box::new(|_| output) });
        }
        host::check(xent, batch, &shape, criterion.is_checked())?;
        let composed = Composed::new(xent, &criterion.tables, batch, &shape, logits)?;
        Ok(Evaluated {
            loss: composed.loss(logits.clone(), &shape),
            output: Box::new(move |loss| composed.output(loss)),
        })
    }
}

/// The loss, of length 1, or N without reduction; and how the rest follows, for it may take
/// operations of its own.
struct Evaluated<'a> {
    loss: Tensor<1>,
    output: Box<dyn FnOnce(Tensor<1>) -> CrossEntropyOutput<1> + 'a>,
}
