//! What a thread works in, and what the first sweep over a row saves for the second.

use std::ops::Range;

use fearless_simd::Simd;

use crate::buffer::Buffer;
use crate::cpu::call::{Call, PriorVector};
use crate::cpu::kernels::block::{BLOCK, padded};
use crate::cpu::kernels::lanes::Lane;
use crate::cpu::logit::Logit;
use crate::element::sealed::Sealed;

/// Classes of a piece.
pub(in crate::cpu) const PIECE: usize = 8 * BLOCK;

/// What a thread computes rows with: its scratch memory for the block that it works on. Buffers
/// that the call does not need are empty.
pub(in crate::cpu) struct RowWorker<'a, S: Simd, T: Logit> {
    pub(super) simd: S,
    pub(super) call: &'a Call<'a, T>,
    /// Transformed logits.
    pub(super) z: Buffer<T::Real>,
    /// The gradient before it is rounded.
    pub(super) g: Buffer<T::Real>,
    /// Exponentials of a row that is too long to save them.
    pub(super) e: Buffer<T::Real>,
    /// The prior's v where rows do not share it.
    pub(super) v: Buffer<T::Real>,
    /// The same before class weights.
    pub(super) plain_v: Buffer<T::Real>,
    /// A dense target.
    pub(super) t: Buffer<T::Real>,
    /// What the rules give in f64.
    pub(super) wide: Buffer<f64>,
    /// The gradient on its way past the cache.
    pub(super) rounded: Buffer<T>,
}

/// Exponentials are saved of rows up to this length, for which they stay in the second-level cache;
/// those of longer rows are taken again.
const LONGEST_SAVED: usize = 1 << 19;

/// What the first sweep over a row saves for the second.
pub(in crate::cpu) struct SavedRow<R> {
    /// e^(z − reference); empty for a row that is too long.
    pub(super) e: Buffer<R>,
    /// Transformed logits, where the gradient asks for them; empty for a row that is too long.
    pub(super) z: Buffer<R>,
    /// Each block's.
    pub(super) references: Vec<R>,
}

/// What is saved of a piece.
pub(in crate::cpu) struct SavedPiece<'k, R> {
    pub(super) e: &'k mut [R],
    pub(super) z: &'k mut [R],
    pub(super) references: &'k mut [R],
}

impl<R: Lane> SavedRow<R> {
    pub(in crate::cpu) fn new<T: Logit<Real = R>>(call: &Call<'_, T>) -> Self {
        let classes = call.classes();
        let saved = |needed: bool| {
            Buffer::new(
                if needed && classes <= LONGEST_SAVED { padded(classes) } else { 0 },
                R::ZERO,
            )
        };
        Self {
            e: saved(true),
            z: saved(call.gradient_asks_for_logits()),
            references: vec![R::ZERO; classes.div_ceil(BLOCK)],
        }
    }

    pub(in crate::cpu) fn pieces(&mut self) -> impl Iterator<Item = SavedPiece<'_, R>> {
        let (mut e, mut z) = (self.e.chunks_mut(PIECE), self.z.chunks_mut(PIECE));
        let references = self.references.chunks_mut(PIECE / BLOCK);
        references.map(move |references| SavedPiece {
            e: e.next().unwrap_or_default(),
            z: z.next().unwrap_or_default(),
            references,
        })
    }
}

impl<'a, S: Simd, T: Logit> RowWorker<'a, S, T> {
    pub(in crate::cpu) fn new(simd: S, call: &'a Call<'a, T>) -> Self {
        let len = padded(call.classes().min(BLOCK));
        let buffer = |needed: bool| Buffer::new(if needed { len } else { 0 }, T::Real::ZERO);
        let own_prior = matches!(call.prior, PriorVector::PerRow);
        Self {
            simd,
            call,
            z: buffer(true),
            g: buffer(true),
            e: Buffer::default(),
            v: buffer(own_prior),
            plain_v: buffer(
                own_prior
                    && call.plan.table().renormalises()
                    && call.plan.table().class_weights().is_some(),
            ),
            t: buffer(call.plan.dense_targets()),
            wide: Buffer::new(len, 0.0),
            rounded: Buffer::new(len, T::ZERO),
        }
    }
}

/// The blocks of a row that some of its classes are cut into: each one's first class and length.
#[inline(always)]
pub(super) fn blocks(classes: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    let mut left = classes;
    std::iter::from_fn(
        #[inline(always)]
        move || {
            let (start, len) = (left.start, BLOCK.min(left.len()));
            left.start += len;
            (len > 0).then_some((start, len))
        },
    )
}
