//! What a thread works in, and what it keeps of a row between its two sweeps.

use std::ops::Range;

use fearless_simd::Simd;

use crate::cpu::buffer::Buffer;
use crate::cpu::call::{Call, PriorVector};
use crate::cpu::kernels::block::{BLOCK, padded};
use crate::cpu::kernels::lanes::Lane;
use crate::cpu::number::Number;
use crate::element::sealed::Sealed;

/// Classes of a piece.
pub(in crate::cpu) const PIECE: usize = 32 * BLOCK;

/// A thread's memory for the block it works on.
pub(in crate::cpu) struct Blocks<'a, S: Simd, T: Number> {
    pub(super) simd: S,
    pub(super) call: &'a Call<'a, T>,
    pub(super) z: Buffer<T::Real>,
    pub(super) g: Buffer<T::Real>,
    /// Exponentials of a row too long to keep them.
    pub(super) e: Buffer<T::Real>,
    /// The prior's v where rows do not share it, and without class weights.
    pub(super) v: Buffer<T::Real>,
    pub(super) plain_v: Buffer<T::Real>,
    /// A dense target.
    pub(super) t: Buffer<T::Real>,
    pub(super) wide: Buffer<f64>,
    pub(super) rounded: Buffer<T>,
}

/// Exponentials are kept of rows up to this length, for which they stay in second-level cache; those of longer rows are taken again.
const LONGEST_KEPT: usize = 1 << 19;

/// What is kept of a row between its two sweeps: e^(z − reference), each block's reference, and z where the gradient asks for it.
pub(in crate::cpu) struct Kept<R> {
    pub(super) e: Buffer<R>,
    pub(super) z: Buffer<R>,
    pub(super) references: Vec<R>,
}

/// What is kept of a piece.
pub(in crate::cpu) struct KeptPiece<'k, R> {
    pub(super) e: &'k mut [R],
    pub(super) z: &'k mut [R],
    pub(super) references: &'k mut [R],
}

impl<R: Lane> Kept<R> {
    pub(in crate::cpu) fn new<T: Number<Real = R>>(call: &Call<'_, T>) -> Self {
        let classes = call.classes();
        let kept = |needed: bool| Buffer::new(if needed && classes <= LONGEST_KEPT { padded(classes) } else { 0 }, R::ZERO);
        Self { e: kept(true), z: kept(call.gradient_asks_for_logits()), references: vec![R::ZERO; classes.div_ceil(BLOCK)] }
    }

    pub(in crate::cpu) fn pieces(&mut self) -> impl Iterator<Item = KeptPiece<'_, R>> {
        let (mut e, mut z) = (self.e.chunks_mut(PIECE), self.z.chunks_mut(PIECE));
        let references = self.references.chunks_mut(PIECE / BLOCK);
        references.map(move |references| KeptPiece { e: e.next().unwrap_or_default(), z: z.next().unwrap_or_default(), references })
    }
}

impl<'a, S: Simd, T: Number> Blocks<'a, S, T> {
    pub(in crate::cpu) fn new(simd: S, call: &'a Call<'a, T>) -> Self {
        let len = padded(call.classes().min(BLOCK));
        let some = |needed: bool| Buffer::new(if needed { len } else { 0 }, T::Real::ZERO);
        let own_prior = matches!(call.prior, PriorVector::PerRow);
        Self {
            simd,
            call,
            z: some(true),
            g: some(true),
            e: Buffer::default(),
            v: some(own_prior),
            plain_v: some(own_prior && call.plan.table().renormalises() && call.plan.table().class_weights().is_some()),
            t: some(call.plan.dense_targets()),
            wide: Buffer::new(len, 0.0),
            rounded: Buffer::new(len, T::ZERO),
        }
    }
}

/// The blocks of a row that some of its classes are cut into: each one's first class and length.
#[inline(always)]
pub(super) fn blocks(classes: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    let end = classes.end;
    classes.step_by(BLOCK).map(move |start| (start, BLOCK.min(end - start)))
}
