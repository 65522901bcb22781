//! The CPU engine: a row's statistics and gradient, block by block, rows shared out over threads.
//!
//! A block of a row is widened into scratch memory that stays in the first-level cache, and the kernels see only such blocks. That is where dtype, strides, class axis,
//! temperature, softcap and masks end. The tree of blocks depends on K alone, so that bits depend neither on threads nor on where a buffer lies.

mod buffer;
mod call;
mod instructions;
mod kernels;
mod memory;
mod parallel;
mod row;
mod rows;
mod statistics;
mod tile;

pub use call::{Call, ReadTarget};
pub use instructions::Instructions;
pub use kernels::Lane;
pub(crate) use kernels::halves;
pub(crate) use rows::run;

use crate::rules::Plan;
use crate::{Batch, Criterion, Element, InputError, Output, Rows, RowsMut, Upstream};
use memory::{Sink, Source};

impl Criterion {
    /// The loss of a batch, without its gradient.
    ///
    /// `logits` is N rows of K classes in any layout; `batch` is the targets ([`Targets`](crate::Targets): indices `[N]`, probabilities `[N, K]`, or two labels), or a [`Batch`] with whatever else is
    /// given a row. Logits in f64 are computed and reported in f64, all others in f32; what is one number a row is computed in f64. Ignored rows are never read. NaN and +∞ logits make their
    /// own row's loss NaN and are counted in [`Output::non_finite`].
    ///
    /// ```
    /// use xent::{Config, Rows};
    /// let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).build()?;
    /// let logits = [2.0_f64, -1.0, 0.5, 0.0, 0.0, 1.0, -2.0, 3.0, 5.0, 5.0, 5.0, 5.0];
    /// let output = criterion.forward(&Rows::new(&logits, 3, 4)?, &[0i64, 3, -100])?;
    /// // (0.5048495824 + 0.4255153626) / 2 rows kept
    /// assert!((output.loss.scalar().unwrap() - 0.4651824725).abs() < 1e-9);
    /// assert_eq!((output.correct, output.ignored, output.denominator), (2, 1, 2.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError`] naming the row, what came and what was expected.
    pub fn forward<'b, T: Element>(&self, logits: &Rows<'_, T>, batch: impl Into<Batch<'b>>) -> Result<Output<T::Real>, InputError> {
        let batch = batch.into();
        let plan = Plan::new(self, &batch, logits.rows(), logits.classes())?;
        let call = Call::new(&plan, Source::new(logits), None, plan.gradient_factors(Upstream::Scalar(1.0))?);
        Ok(plan.finish(T::run(self.instructions(), &call)))
    }

    /// The loss of a batch and its gradient with respect to the logits, written over the whole of `grad` (of the logits' shape, in any layout).
    ///
    /// With p = softmax(z) and y the smoothed target a row's gradient is `p − y`, times its weights and `upstream`, over the denominator for a mean. Ignored rows get exactly 0, rows with NaN or +∞
    /// logits NaN. Otherwise as [`forward`](Self::forward).
    ///
    /// ```
    /// use xent::{Config, Rows, RowsMut};
    /// let criterion = Config::new().label_smoothing(0.1).build()?;
    /// let logits = [0.0f32; 4];
    /// let mut grad = [f32::NAN; 4];
    /// criterion.forward_backward(&Rows::new(&logits, 1, 4)?, &[2u32], 1.0, &mut RowsMut::new(&mut grad, 1, 4)?)?;
    /// assert_eq!(grad, [0.225, 0.225, -0.675, 0.225]); // 1/4 − 0.1/4, and 1/4 − 0.9 − 0.1/4
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError`] naming the row, what came and what was expected; nothing has been written then.
    pub fn forward_backward<'b, T: Element>(
        &self,
        logits: &Rows<'_, T>,
        batch: impl Into<Batch<'b>>,
        upstream: impl Into<Upstream<'b>>,
        grad: &mut RowsMut<'_, T>,
    ) -> Result<Output<T::Real>, InputError> {
        if (grad.rows(), grad.classes()) != (logits.rows(), logits.classes()) {
            return Err(InputError::Shape {
                name: "the gradient",
                rows: grad.rows(),
                classes: grad.classes(),
                expected_rows: logits.rows(),
                expected_classes: logits.classes(),
            });
        }
        self.run(Source::new(logits), Sink::new(grad), batch.into(), upstream.into())
    }

    /// [`forward_backward`](Self::forward_backward) with the gradient written over the logits themselves, for models whose logits are the largest thing in memory.
    ///
    /// # Errors
    /// [`InputError`] naming the row, what came and what was expected; the logits are as they were then.
    pub fn forward_backward_in_place<'b, T: Element>(
        &self,
        logits: &mut RowsMut<'_, T>,
        batch: impl Into<Batch<'b>>,
        upstream: impl Into<Upstream<'b>>,
    ) -> Result<Output<T::Real>, InputError> {
        let sink = Sink::new(logits);
        self.run(sink.as_source(), sink, batch.into(), upstream.into())
    }

    fn run<T: Element>(&self, source: Source<'_, T>, sink: Sink<'_, T>, batch: Batch<'_>, upstream: Upstream<'_>) -> Result<Output<T::Real>, InputError> {
        let plan = Plan::new(self, &batch, source.layout().rows, source.layout().classes)?;
        let factors = plan.gradient_factors(upstream)?;
        let call = Call::new(&plan, source, Some(sink), factors);
        Ok(plan.finish(T::run(self.instructions(), &call)))
    }

    fn instructions(&self) -> Instructions {
        self.config.instructions.unwrap_or_else(Instructions::best)
    }
}
