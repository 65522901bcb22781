//! The CPU engine: a row's statistics and gradient, block by block, rows shared out over threads.
//!
//! A block of a row is widened into scratch memory that stays in the first-level cache, and the kernels see only such blocks. That is where dtype, strides, class axis,
//! temperature, softcap and masks end. The tree of blocks depends on K alone, so that bits depend neither on threads nor on where a buffer lies.

mod buffer;
mod call;
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
use crate::rules::{GradientFactors, Parts, Plan};
use crate::{Batch, Criterion, Element, InputError, Output, Upstream};
use call::Call;
use half::{bf16, f16};
use number::Number;

/// The loss of a batch and, where the memory has a place for it, its gradient.
///
/// # Errors
/// [`InputError`] naming the row, what came and what was expected; nothing has been written then.
pub(crate) fn run<T: Element>(criterion: &Criterion, memory: Memory<'_, T>, batch: &Batch<'_>, upstream: &Upstream<'_>) -> Result<Output<T::Real>, InputError> {
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
