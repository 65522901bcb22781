//! The calls of the loss: what a `Criterion` does.

use crate::cpu::{self, Memory};
use crate::{Batch, Criterion, Element, Output, Result, Rows, RowsMut, Upstream, ViewError};

impl Criterion {
    /// The loss of a batch, without its gradient.
    ///
    /// `logits` is N rows of K classes in any layout; `batch` is the targets
    /// ([`Targets`](crate::Targets): indices `[N]`, probabilities `[N, K]`, or two labels), or a
    /// [`Batch`] of targets and per-row options. Logits in f64 are computed and reported in f64,
    /// all others in f32; per-row values are computed in f64. Ignored rows are never read. A NaN or
    /// +∞ logit makes the loss of its own row NaN; [`Output::non_finite`] counts such rows.
    ///
    /// ```
    /// use xent::{Config, Rows};
    /// let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).build()?;
    /// let logits = [2.0_f64, -1.0, 0.5, 0.0, 0.0, 1.0, -2.0, 3.0, 5.0, 5.0, 5.0, 5.0];
    /// let output = criterion.forward(&Rows::new(&logits, 4)?, &[0i64, 3, -100])?;
    /// assert_eq!(format!("{:.10}", output.loss), "0.4651824725"); // (0.5048495824 + 0.4255153626) / 2 rows kept
    /// assert_eq!((output.correct, output.ignored, output.denominator), (2, 1, 2.0));
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) naming the row, what came and what was expected.
    pub fn forward<'b, T: Element>(
        &self,
        logits: &Rows<'_, T>,
        batch: impl Into<Batch<'b>>,
    ) -> Result<Output<T::Real>> {
        Ok(cpu::run(self, Memory::logits(logits), &batch.into(), &Upstream::Scalar(1.0))?)
    }

    /// The loss of a batch and its gradient with respect to the logits, in a new vector: `[N, K]`
    /// in C order, whatever the layout of the logits. The upstream gradient is 1. Otherwise like
    /// [`forward_backward`](Self::forward_backward), which lets a training loop reuse its own
    /// buffer.
    ///
    /// ```
    /// use xent::{Config, Rows};
    /// let criterion = Config::new().label_smoothing(0.1).build()?;
    /// let logits = [0.0f32; 4];
    /// let (output, gradient) = criterion.loss_and_gradient(&Rows::new(&logits, 4)?, &[2u32])?;
    /// assert_eq!(gradient, [0.225, 0.225, -0.675, 0.225]); // 1/4 − 0.1/4, and 1/4 − 0.9 − 0.1/4
    /// assert_eq!(format!("{:.4}", output.loss), "1.3863"); // ln 4
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) naming the row, what came and what was expected;
    /// [`Error::View`](crate::Error::View) if the logits are a broadcast view with more positions
    /// than memory could hold.
    pub fn loss_and_gradient<'b, T: Element>(
        &self,
        logits: &Rows<'_, T>,
        batch: impl Into<Batch<'b>>,
    ) -> Result<(Output<T::Real>, Vec<T>)> {
        let (rows, classes) = (logits.rows(), logits.classes());
        let most = isize::MAX as usize / size_of::<T>();
        let len = rows.checked_mul(classes).filter(|&len| len <= most);
        let len = len.ok_or_else(|| ViewError::TooLarge { shape: vec![rows, classes] })?;
        let mut gradient = vec![T::from_f64(0.0); len];
        let output =
            self.forward_backward(logits, batch, 1.0, &mut RowsMut::new(&mut gradient, classes)?)?;
        Ok((output, gradient))
    }

    /// The loss of a batch and its gradient with respect to the logits, written to every element of
    /// `grad`, which has the same N and K as the logits, in any layout.
    ///
    /// With p = softmax(z) and smoothed target y, the gradient of a row is `p − y`, times its
    /// weights and `upstream`, divided by the denominator for a mean. It is exactly 0 in ignored
    /// rows. In a row with a NaN or +∞ logit, or with only masked classes, it is NaN, except on
    /// classes that the batch does not allow, where it is 0. `upstream` is dL/dloss: one number, or
    /// without reduction also one number per row. Otherwise like [`forward`](Self::forward).
    ///
    /// ```
    /// use xent::{Config, Rows, RowsMut};
    /// let criterion = Config::new().label_smoothing(0.1).build()?;
    /// let logits = [0.0f32; 4];
    /// let mut grad = [f32::NAN; 4];
    /// criterion.forward_backward(&Rows::new(&logits, 4)?, &[2u32], 2.0, &mut RowsMut::new(&mut grad, 4)?)?;
    /// assert_eq!(grad, [0.45, 0.45, -1.35, 0.45]); // twice 1/4 − 0.1/4, and 1/4 − 0.9 − 0.1/4
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) naming the row, what came and what was expected;
    /// nothing has been written then.
    pub fn forward_backward<'b, T: Element>(
        &self,
        logits: &Rows<'_, T>,
        batch: impl Into<Batch<'b>>,
        upstream: impl Into<Upstream<'b>>,
        grad: &mut RowsMut<'_, T>,
    ) -> Result<Output<T::Real>> {
        Ok(cpu::run(self, Memory::with_gradient(logits, grad)?, &batch.into(), &upstream.into())?)
    }

    /// [`forward_backward`](Self::forward_backward) with the gradient written over the logits, for
    /// models whose logits are the largest array in memory.
    ///
    /// ```
    /// use xent::{Config, RowsMut};
    /// let criterion = Config::new().label_smoothing(0.1).build()?;
    /// let mut logits = [0.0f32; 4];
    /// criterion.forward_backward_in_place(&mut RowsMut::new(&mut logits, 4)?, &[2u32], 1.0)?;
    /// assert_eq!(logits, [0.225, 0.225, -0.675, 0.225]); // the gradient now
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) naming the row, what came and what was expected; the
    /// logits are as they were then.
    pub fn forward_backward_in_place<'b, T: Element>(
        &self,
        logits: &mut RowsMut<'_, T>,
        batch: impl Into<Batch<'b>>,
        upstream: impl Into<Upstream<'b>>,
    ) -> Result<Output<T::Real>> {
        Ok(cpu::run(self, Memory::in_place(logits), &batch.into(), &upstream.into())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Reduction, bf16};

    /// What a user's own functions return.
    #[derive(Debug, thiserror::Error)]
    enum TrainingError {
        #[error(transparent)]
        Loss(#[from] crate::Error),
    }

    #[test]
    fn one_conversion_is_enough_for_an_error_type_of_ones_own() {
        fn step(
            epsilon: f64,
            classes: usize,
            reduction: &str,
            target: u16,
        ) -> Result<f64, TrainingError> {
            let criterion =
                Config::new().label_smoothing(epsilon).reduction(reduction.parse()?).build()?;
            let (output, _) =
                criterion.loss_and_gradient(&Rows::new(&[0.0; 6], classes)?, &[target, 1])?;
            Ok(output.loss.into_vec()[0])
        }
        assert!((step(0.1, 3, "mean", 2).unwrap() - 3f64.ln()).abs() < 1e-15);
        let kind = |result: Result<f64, TrainingError>| match result.unwrap_err() {
            TrainingError::Loss(error) => error,
        };
        assert!(matches!(kind(step(2.0, 3, "mean", 2)), crate::Error::Config(_)));
        assert!(matches!(kind(step(0.1, 3, "average", 2)), crate::Error::Config(_)));
        assert!(matches!(kind(step(0.1, 4, "mean", 2)), crate::Error::View(_)));
        assert!(matches!(kind(step(0.1, 3, "mean", 3)), crate::Error::Input(_)));
    }

    #[test]
    fn a_new_gradient_is_the_one_that_is_written_into_yours() {
        let logits: Vec<bf16> =
            (0..60).map(|i| bf16::from_f32((i * 7 % 11) as f32 - 5.0)).collect();
        let targets = [0u8, 3, 255, 1, 2, 3, 0, 0, 1, 2, 255, 3, 1, 1, 2];
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let criterion = Config::new()
                .label_smoothing(0.1)
                .ignore_index(255)
                .reduction(reduction)
                .build()
                .unwrap();
            // [3, 4, 5] with the classes in the middle: the new gradient has its rows one after
            // another all the same.
            let view = Rows::with_axis(&logits, &[3, 4, 5], 1).unwrap();
            let (output, gradient) = criterion.loss_and_gradient(&view, &targets).unwrap();
            let mut grad = vec![bf16::NAN; 60];
            let expected = criterion
                .forward_backward(&view, &targets, 1.0, &mut RowsMut::new(&mut grad, 4).unwrap())
                .unwrap();
            assert_eq!((&output, &gradient), (&expected, &grad));
            assert!(gradient[0] != bf16::ZERO && gradient[8..12] == [bf16::ZERO; 4]);
        }
    }

    #[test]
    fn a_gradient_that_no_memory_holds_is_an_error() {
        let criterion = Config::new().build().unwrap();
        let broadcast = Rows::strided(&[0f32], &[1, isize::MAX as usize], &[0, 0], 0, 1).unwrap();
        assert!(matches!(
            criterion.loss_and_gradient(&broadcast, &[0u8]),
            Err(crate::Error::View(ViewError::TooLarge { .. }))
        ));
    }

    #[test]
    fn probabilities_are_lent_as_logits_are() {
        let shares = [0.25f32, 0.75, 0.5, 0.5];
        let (logits, shares) =
            (Rows::new(&[1.0f32, 0.0, 2.0, -1.0], 2).unwrap(), Rows::new(&shares, 2).unwrap());
        let criterion = Config::new().label_smoothing(0.1).build().unwrap();
        let lent = criterion.forward(&logits, &shares).unwrap();
        assert_eq!(
            lent,
            criterion.forward(&logits, Batch::new(&shares).row_weights(&[1.0; 2])).unwrap()
        );
        assert_eq!(lent, criterion.forward(&logits, shares).unwrap());
    }

    #[test]
    fn numbers_are_taken_as_they_come() {
        let criterion = Config::new().reduction(Reduction::None).build().unwrap();
        let logits = [1.0f32, 0.0, 2.0, -1.0];
        let logits = Rows::new(&logits, 2).unwrap();
        let weighted = |batch: Batch<'_>| criterion.forward(&logits, batch).unwrap();
        let (narrow, wide) = (vec![0.5f32, 0.25], vec![0.5, 0.25]);
        let batch = || Batch::new(&[0u64, 1]);
        assert_eq!(weighted(batch().row_weights(&narrow)), weighted(batch().row_weights(&wide)));
        assert_eq!(
            weighted(batch().label_smoothing_rows(narrow.clone())),
            weighted(batch().label_smoothing_rows(&wide[..]))
        );
        let mix = |lambda: crate::Lambda<'static>| {
            weighted(crate::Targets::mix(&[0u16, 1], &[1i8, 0], lambda).into())
        };
        assert_eq!(mix(narrow.clone().into()), mix((&[0.5, 0.25]).into()));
        let gradient = |upstream: Upstream<'_>| {
            let mut grad = [0.0; 4];
            criterion
                .forward_backward(
                    &logits,
                    batch(),
                    upstream,
                    &mut RowsMut::new(&mut grad, 2).unwrap(),
                )
                .unwrap();
            grad
        };
        assert_eq!(gradient((&narrow).into()), gradient((&wide).into()));
    }
}
