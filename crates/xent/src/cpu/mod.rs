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
use crate::{Batch, Criterion, Element, Output, Result, Rows, RowsMut, Upstream};
use memory::{Sink, Source};

/// The logits of a call, and where their gradient goes.
pub(crate) enum Buffers<'a, 'v, T> {
    /// Nowhere: only the loss is computed.
    Logits(&'a Rows<'a, T>),
    /// Over the whole of the second view, which has the shape of the first.
    Both(&'a Rows<'a, T>, &'a mut RowsMut<'v, T>),
    /// Over the logits.
    InPlace(&'a mut RowsMut<'v, T>),
}

/// The engine: validates the batch, then computes. Nothing is written when it returns an error.
pub(crate) fn compute<T: Element>(criterion: &Criterion, buffers: Buffers<'_, '_, T>, batch: &Batch<'_>, upstream: &Upstream<'_>) -> Result<Output<T::Real>> {
    let (source, sink) = match buffers {
        Buffers::Logits(logits) => (Source::new(logits), None),
        Buffers::Both(logits, grad) => (Source::new(logits), Some(Sink::new(grad))),
        Buffers::InPlace(logits) => {
            let sink = Sink::new(logits);
            (sink.as_source(), Some(sink))
        }
    };
    let plan = Plan::new(criterion, batch, source.layout().rows, source.layout().classes)?;
    let call = Call::new(&plan, source, sink, plan.gradient_factors(upstream)?);
    let instructions = criterion.config.instructions.unwrap_or_else(Instructions::best);
    Ok(plan.finish(T::run(instructions, &call)))
}
