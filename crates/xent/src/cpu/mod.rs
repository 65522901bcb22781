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
//! | v | the prior before its share ε, per class: 1 everywhere, the same for all rows, or a row's own |
//! | t | a dense target: probabilities, a number per class |
//! | hot | the one or two classes that a class index or a mix of two labels names |
//! | α, τ, γ, β | what the rules put on p, t, v and the hot classes |
//! | masked, open | whose logit is −∞, and the others |
//! | e | e^(z − reference); the reference is m or, before m is known, the largest logit so far |
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

mod call;
mod instructions;
mod kernels;
mod logit;
mod memory;
mod parallel;
mod plain;
mod row;
mod rows;
mod shard;
mod statistics;
mod tile;

use std::marker::PhantomData;

pub use instructions::Instructions;
pub(crate) use memory::Memory;
pub(crate) use shard::{gradient_of_shard, merge_shards, statistics_of_shard};

use crate::element::sealed::ForEachType;
use crate::rules::{GradientFactors, Parts, Plan};
use crate::{Batch, Criterion, Element, InputError, Output, Upstream};
use call::Call;
use half::{bf16, f16};
use logit::Logit;

/// The loss of a batch and, where the memory has a place for it, its gradient.
///
/// # Errors
/// [`InputError`] naming the row, what came and what was expected; nothing has been written then.
pub(crate) fn run<T: Element>(
    criterion: &Criterion,
    memory: Memory<'_, T>,
    batch: &Batch<'_>,
    upstream: &Upstream<'_>,
) -> Result<Output<T::Real>, InputError> {
    let plan = Plan::new(criterion, batch, memory.rows(), memory.classes())?;
    let factors = plan.gradient_factors(upstream)?;
    Ok(plan.finish(T::call::<Engine<'_>>((&plan, memory, factors))))
}

/// The engine for each type of logits: compiled with this crate, and not again in every crate that
/// calls it.
struct Engine<'a>(PhantomData<&'a ()>);

impl<'a> ForEachType for Engine<'a> {
    type Input<T: Element> = (&'a Plan<'a>, Memory<'a, T>, GradientFactors<'a>);
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

fn rows<'a, T: Logit>(
    (plan, mut memory, factors): <Engine<'a> as ForEachType>::Input<T>,
) -> Parts<T::Real> {
    let call = Call::new(plan, &memory, factors);
    rows::run(&call, &mut memory)
}
