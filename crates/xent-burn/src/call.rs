//! One call of the loss: what comes with the batch, and which path computes.

use burn::tensor::{Bool, Int, Tensor};
use xent::Reduction;

use crate::batch::{DeviceBatch, GivenAllowed, GivenMix, GivenTargets, Lambda, PerRow};
use crate::composed::Composed;
use crate::host::HostBatch;
use crate::output::reshape;
use crate::shape::LogitsShape;
use crate::{CrossEntropy, CrossEntropyOutput, Error, Result, backend, engine};

/// One call of a [`CrossEntropy`], with whatever comes with the batch. Made by [`CrossEntropy::on`].
///
/// What is *one entry a row* has the logits' shape without the class axis. None of it is differentiated.
///
/// ```
/// use burn::tensor::{Bool, Device, Int, Tensor};
/// use xent::Reduction;
/// use xent_burn::CrossEntropyConfig;
///
/// let device = Device::default();
/// let criterion = CrossEntropyConfig::new().with_reduction(Reduction::Sum).init();
/// let logits = Tensor::<2>::zeros([3, 4], &device);
/// let targets = Tensor::<1, Int>::from_ints([0, 3, 1], &device);
/// let weights = Tensor::<1>::from_floats([1.0, 0.5, 7.0], &device);
/// let padding = Tensor::<1, Bool>::from_bool([false, false, true], &device);
/// let output = criterion.on(logits, targets).row_weights(weights).ignored_rows(padding).forward_with_output()?;
/// assert_eq!(output.loss.into_scalar::<f32>(), 1.5 * 4f32.ln());
/// assert_eq!(output.ignored.into_scalar::<i64>(), 1);
/// # Ok::<(), xent_burn::Error>(())
/// ```
#[must_use = "a call does nothing before one of the forwards"]
#[derive(Debug, Clone)]
pub struct Call<'a, const D: usize> {
    pub(crate) criterion: &'a CrossEntropy,
    pub(crate) logits: Tensor<D>,
    pub(crate) batch: DeviceBatch<D>,
}

impl<const D: usize> Call<'_, D> {
    /// A second label for each row, as mixup and cutmix make them: λ on the targets of [`CrossEntropy::on`], 1−λ on `second`. Both are class indices; λ is a number or one
    /// entry a row. In place of probabilities there is no second label.
    pub fn mixed_with<const R: usize>(mut self, second: Tensor<R, Int>, lambda: impl Into<Lambda>) -> Self {
        let mix = |a| GivenTargets::Mix(Box::new(GivenMix { a, b: PerRow::new(second), lambda: lambda.into().0 }));
        self.batch.targets = match self.batch.targets {
            GivenTargets::Classes(a) => mix(a),
            GivenTargets::Mix(before) => mix(before.a),
            probabilities @ GivenTargets::Probabilities(_) => probabilities,
        };
        self
    }

    /// ε, one entry a row, in [0, 1], instead of the criterion's.
    pub fn label_smoothing_rows<const R: usize>(mut self, epsilon: Tensor<R>) -> Self {
        self.batch.epsilon = Some(PerRow::new(epsilon));
        self
    }

    /// Weights, one entry a row, finite and ≥ 0: each multiplies the whole of its row's loss and does not enter the denominator.
    pub fn row_weights<const R: usize>(mut self, weights: Tensor<R>) -> Self {
        self.batch.row_weights = Some(PerRow::new(weights));
        self
    }

    /// Rows to ignore, beside those that an ignore index marks: one entry a row, true where ignored. They are never read.
    pub fn ignored_rows<const R: usize>(mut self, mask: Tensor<R, Bool>) -> Self {
        self.batch.ignored = Some(PerRow::new(mask));
        self
    }

    /// Classes that may be predicted, `[K]`, for all rows. The others are masked, as if their logits were −∞.
    pub fn allowed_classes(mut self, mask: Tensor<1, Bool>) -> Self {
        self.batch.allowed = Some(GivenAllowed::Shared(mask.inner()));
        self
    }

    /// Classes that may be predicted, in the logits' shape, for each row its own.
    pub fn allowed_classes_rows(mut self, mask: Tensor<D, Bool>) -> Self {
        self.batch.allowed = Some(GivenAllowed::PerRow(mask.inner()));
        self
    }

    /// What a mean divides by, finite and > 0: the number of tokens over all devices, say.
    pub fn denominator(mut self, denominator: f64) -> Self {
        self.batch.denominator = Some(denominator);
        self
    }

    /// The loss; see [`CrossEntropy::forward`].
    ///
    /// # Errors
    /// [`Error`] naming the tensor or the row, what came and what was expected: shapes that do not go together, a dtype that cannot be used, a class index that is neither a
    /// class nor an ignore index, a probability that is negative or not finite. On other devices than the CPU values are looked at only where [`CrossEntropy::checked`] says so.
    pub fn forward(self) -> Result<Tensor<1>> {
        Ok(self.reduced()?.loss())
    }

    /// The loss, and what came of the same pass: nll, the smoothing's part, the entropy floor, log-sum-exp, how many rows are correct, ignored, not finite.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_with_output(self) -> Result<CrossEntropyOutput<1>> {
        Ok(self.reduced()?.output())
    }

    /// The loss of each row; see [`CrossEntropy::forward_no_reduction`].
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and where `R` is not `D − 1`.
    pub fn forward_no_reduction<const R: usize>(self) -> Result<Tensor<R>> {
        let (rows, dims) = self.rows()?;
        Ok(reshape(rows.loss(), dims))
    }

    /// The loss of each row and its parts.
    ///
    /// # Errors
    /// As [`forward_no_reduction`](Self::forward_no_reduction).
    pub fn forward_no_reduction_with_output<const R: usize>(self) -> Result<CrossEntropyOutput<R>> {
        let (rows, dims) = self.rows()?;
        Ok(rows.output().reshape(dims))
    }

    fn reduced(&self) -> Result<Evaluated<'_>> {
        match self.criterion.config().reduction {
            Reduction::None => Err(Error::Call("the reduction is none, expected mean or sum, or forward_no_reduction instead of forward".into())),
            reduction => self.evaluate(reduction),
        }
    }

    fn rows<const R: usize>(&self) -> Result<(Evaluated<'_>, [usize; R])> {
        let dims = LogitsShape::new(&self.logits, self.criterion.config().class_axis)?.row_dims();
        let Ok(row_dims) = <[usize; R]>::try_from(dims.as_slice()) else {
            return Err(Error::Call(format!("{R} dimensions were asked of the rows' losses, expected {}, the logits' without the class axis", dims.len())));
        };
        Ok((self.evaluate(Reduction::None)?, row_dims))
    }

    fn evaluate(&self, reduction: Reduction) -> Result<Evaluated<'_>> {
        let Self { criterion, logits, batch } = self;
        let shape = LogitsShape::new(logits, criterion.config().class_axis)?;
        if logits.is_tracked() && !backend::is_listed(logits) {
            return Err(Error::Call(format!(
                "logits on {:?} cannot be differentiated: switch on the feature of xent-burn with the backend's name",
                logits.device()
            )));
        }
        let on_host = engine::runs_on(logits) && !criterion.is_composed() || shape.rows() == 0;
        if on_host {
            let host = HostBatch::new(batch, &shape)?;
            return Ok(Evaluated::Engine(Box::new(engine::forward(criterion.job(host, shape, reduction), logits.clone(), batch.probabilities())?)));
        }
        if criterion.is_checked() {
            HostBatch::new(batch, &shape)?.check(criterion.xent(reduction), &shape, batch.probabilities())?;
        } else {
            HostBatch::check_without_rows(criterion.xent(Reduction::None), &shape, batch)?;
        }
        let composed = Composed::new(criterion.config(), batch, &shape, logits, reduction)?;
        Ok(Evaluated::Composed(Box::new((composed.loss(logits.clone(), &shape), composed))))
    }
}

/// What a path found: loss and parts of length 1, or N under reduction none.
enum Evaluated<'a> {
    Engine(Box<CrossEntropyOutput<1>>),
    /// The parts are operations of their own.
    Composed(Box<(Tensor<1>, Composed<'a>)>),
}

impl Evaluated<'_> {
    fn loss(self) -> Tensor<1> {
        match self {
            Self::Engine(output) => output.loss,
            Self::Composed(found) => found.0,
        }
    }

    fn output(self) -> CrossEntropyOutput<1> {
        match self {
            Self::Engine(output) => *output,
            Self::Composed(found) => {
                let (loss, composed) = *found;
                composed.output(loss)
            }
        }
    }
}
