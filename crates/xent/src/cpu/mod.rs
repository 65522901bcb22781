//! The CPU engine: statistics and gradients of rows of logits, shared out over threads.
//!
//! # What it computes
//!
//! For each row `z[0..K)` of transformed logits (temperature, softcap, masks), the statistics
//!
//! ```text
//! m = max z, argmax      rest = Σ_{k≠argmax} e^(z_k − m)      z at the hot classes
//! S = Σ v_k (m − z_k)    and the same against t
//! ```
//!
//! From these the rules make a few coefficients per row, and with them the engine writes the
//! gradient
//!
//! ```text
//! ∂L/∂z_k = α·p_k − τ·t_k − γ·v_k − Σ_j β_j·[k = hot_j]
//! ```
//!
//! | symbol | meaning |
//! |---|---|
//! | N, K | rows and classes |
//! | z | the logits of a row, transformed |
//! | m, R | the largest of them; ln(1 + rest), so that m + R is the log-sum-exp |
//! | p | the softmax, e^(z − m) / (1 + rest) |
//! | v | the prior before its share ε, a number per class: 1 everywhere, shared by all rows, or a row's own |
//! | t | a dense target: probabilities, a number per class |
//! | hot | the one or two classes that a class index or a mix of two labels names |
//! | α, τ, γ, β | what the rules put on p, t, v and the hot classes |
//! | masked, open | whose logit is −∞, and the others |
//! | e | e^(z − reference), the reference being m or, while m is not yet known, the largest logit so far |
//!
//! # Two families of kernels
//!
//! ```text
//! row/     classes along the lanes:  a row at a time, block by block
//!          for long rows
//! tile.rs  rows along the lanes:     some hundred rows at a time, class by class
//!          for few classes, and where neighbouring rows are neighbours in memory: [N, K, H, W]
//! ```
//!
//! Either widens logits into scratch memory that stays in the first-level cache, and the kernels
//! see nothing else. That is where dtype, strides, class axis, temperature, softcap and masks end.
//! How a row is cut depends on K alone, so that bits depend neither on threads nor on where a
//! buffer lies.
//!
//! # For whoever changes it
//!
//! Every function on the way from `vectorize` to an instruction is `#[inline(always)]` or calls
//! `vectorize` itself. One that is not is compiled for the least that processors have and costs a
//! factor of twenty, which no test notices: `bench/instructions.py` does.

mod buffer;
mod call;
mod gradient;
mod instructions;
mod kernels;
mod memory;
mod number;
mod parallel;
mod row;
mod rows;
mod statistics;
mod tile;

use std::marker::PhantomData;

pub use instructions::Instructions;
pub(crate) use memory::Memory;

use crate::element::sealed::ForEachType;
use crate::plan::{GradientFactors, Parts, Plan};
use crate::{Batch, Criterion, Element, InputError, Output, Rows, RowsMut, Upstream};
use call::Call;
use half::{bf16, f16};
use number::Number;

/// The loss of a batch and, where the memory has a place for it, its gradient.
///
/// # Errors
/// [`InputError`] naming the row, what came and what was expected; nothing has been written then.
pub(crate) fn run<T: Element>(criterion: &Criterion, memory: Memory<'_, T>, batch: &Batch<'_>, upstream: Upstream<'_>) -> Result<Output<T::Real>, InputError> {
    let plan = Plan::new(criterion, batch, memory.rows(), memory.classes())?;
    let factors = plan.gradient_factors(upstream)?;
    let instructions = criterion.config.instructions.unwrap_or_else(Instructions::best);
    Ok(plan.finish(T::call::<Engine<'_>>((instructions, &plan, memory, factors))))
}

/// The engine for each type of logits: compiled with this crate, and not again in every crate that calls it.
struct Engine<'a>(PhantomData<&'a ()>);

impl<'a> ForEachType for Engine<'a> {
    type Input<T: Element> = (Instructions, &'a Plan<'a>, Memory<'a, T>, GradientFactors<'a>);
    type Output<T: Element> = Parts<T::Real>;

    fn f64(input: Self::Input<f64>) -> Parts<f64> {
        rows(input)
    }

    fn f32(input: Self::Input<f32>) -> Parts<f32> {
        rows(input)
    }

    fn f16(input: Self::Input<f16>) -> Parts<f32> {
        rows(input)
    }

    fn bf16(input: Self::Input<bf16>) -> Parts<f32> {
        rows(input)
    }
}

fn rows<'a, T: Number>((instructions, plan, mut memory, factors): <Engine<'a> as ForEachType>::Input<T>) -> Parts<T::Real> {
    let call = Call::new(plan, &memory, factors);
    rows::run(instructions, &call, &mut memory)
}

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
        run(self, Memory::logits(logits), &batch.into(), Upstream::Scalar(1.0))
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
        run(self, Memory::with_gradient(logits, grad)?, &batch.into(), upstream.into())
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
        run(self, Memory::in_place(logits), &batch.into(), upstream.into())
    }
}
