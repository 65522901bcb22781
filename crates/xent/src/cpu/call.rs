//! What all tasks of a call share.

use fearless_simd::Simd;

use super::buffer::Buffer;
use super::kernels::Lane;
use super::kernels::block::padded;
use super::memory::{Ahead, Sink, Source};
use crate::Element;
use crate::rules::{GradientFactors, Plan, SharedPrior, Transform};
use crate::targets::Probabilities;

/// A batch, its logits and, for a gradient, where that goes.
#[doc(hidden)]
pub struct Call<'a, T: Element> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) source: Source<'a, T>,
    pub(super) sink: Option<Sink<'a, T>>,
    pub(super) factors: GradientFactors<'a>,
    pub(super) transform: Transform,
    pub(super) prior: PriorVector<T::Real>,
    /// A dense target of the type that is computed with.
    target: Option<Source<'a, T::Real>>,
    /// Class weights of a dense target, 0 beyond the last class.
    pub(super) weights: Option<Buffer<T::Real>>,
}

/// v as the kernels take it.
pub(super) enum PriorVector<R> {
    /// 1 on every class.
    Uniform,
    /// The same for all rows, 0 beyond the last class: weighted, and for the sums that class weights do not enter.
    Shared { weighted: Buffer<R>, plain: Option<Buffer<R>> },
    /// Asked of the plan row by row.
    PerRow,
}

impl<'a, T: Element> Call<'a, T> {
    pub(super) fn new(plan: &'a Plan<'a>, source: Source<'a, T>, sink: Option<Sink<'a, T>>, factors: GradientFactors<'a>) -> Self {
        let weights = plan.table().class_weights();
        let vector = |value: &dyn Fn(usize) -> f64| {
            let mut buffer = Buffer::new(padded(plan.classes()), T::Real::ZERO);
            (0..plan.classes()).for_each(|class| buffer[class] = T::Real::from_f64(value(class)));
            buffer
        };
        let shared = |v: &dyn Fn(usize) -> f64| match weights {
            Some(weights) => {
                PriorVector::Shared { weighted: vector(&|class| v(class) * weights[class]), plain: plan.table().renormalises().then(|| vector(v)) }
            }
            None => PriorVector::Shared { weighted: vector(v), plain: None },
        };
        let prior = match plan.table().prior() {
            SharedPrior::Uniform if plan.table().is_uniform() => PriorVector::Uniform,
            SharedPrior::Uniform => shared(&|_| 1.0),
            SharedPrior::Vector(v) => shared(&|class| v[class]),
            SharedPrior::PerRow => PriorVector::PerRow,
        };
        let weights = weights.filter(|_| plan.dense_targets()).map(|weights| vector(&|class| weights[class]));
        let target = plan.probabilities().and_then(T::Real::source);
        Self { plan, source, sink, factors, transform: plan.transform(), prior, target, weights }
    }

    pub(super) fn classes(&self) -> usize {
        self.plan.classes()
    }

    /// Whether the gradient is more than a product of exponentials and a sum of targets.
    pub(super) fn gradient_asks_for_logits(&self) -> bool {
        self.transform.softcap.is_some() || self.plan.table().renormalises()
    }

    /// Classes `start..start + len` of a row where they lie, if they are neighbours and need no widening.
    #[inline(always)]
    pub(super) fn logits(&self, row: usize, start: usize, len: usize) -> Option<&[T::Real]> {
        // SAFETY: every caller asks for what is its own; see `Source`.
        T::as_real(unsafe { self.source.neighbours(row, start, len) }?)
    }

    /// Classes `start..start + len` of a row's dense target where they lie, if they are neighbours, need no widening and have no weights.
    #[inline(always)]
    pub(super) fn target(&self, row: usize, start: usize, len: usize) -> Option<&[T::Real]> {
        let target = self.target.as_ref().filter(|_| self.weights.is_none())?;
        // SAFETY: the plan checked that probabilities have the shape of the logits, inside which the row and the classes are; nobody writes probabilities.
        unsafe { target.neighbours(row, start, len) }
    }

    /// As [`Source::ahead`] for a dense target of the type that is computed with.
    #[inline(always)]
    pub(super) fn target_ahead(&self, row: usize, start: usize, len: usize) -> Ahead<T::Real> {
        self.target.as_ref().map_or(Ahead::NOTHING, |target| target.ahead(row, start, len))
    }

    /// Makes what this thread wrote visible to whoever it tells next.
    pub(super) fn finish(&self) {
        if let Some(sink) = &self.sink {
            sink.finish();
        }
    }
}

/// Dense targets whose type widens to this one.
#[doc(hidden)]
pub trait ReadTarget: Sized {
    /// Targets of this very type.
    fn source<'a>(probabilities: &'a Probabilities<'_>) -> Option<Source<'a, Self>>;
    /// Classes `start..start + out.len()` of a row's target before class weights; `false` if they have to be narrowed from f64.
    fn read_target<S: Simd>(simd: S, probabilities: &Probabilities<'_>, row: usize, start: usize, out: &mut [Self]) -> bool;
}

macro_rules! read_target {
    ($real:ty, $own:ident: $($variant:ident),*) => {
        impl ReadTarget for $real {
            #[inline(always)]
            fn source<'a>(probabilities: &'a Probabilities<'_>) -> Option<Source<'a, Self>> {
                match probabilities {
                    Probabilities::$own(rows) => Some(Source::new(rows)),
                    _ => None,
                }
            }

            #[inline(always)]
            fn read_target<S: Simd>(simd: S, probabilities: &Probabilities<'_>, row: usize, start: usize, out: &mut [Self]) -> bool {
                match probabilities {
                    // SAFETY: as in `Call::target`.
                    $(Probabilities::$variant(rows) => unsafe { Source::new(rows).read(simd, row, start, out) },)*
                    _ => return false,
                }
                true
            }
        }
    };
}
read_target!(f32, F32: F32, F16, Bf16);
read_target!(f64, F64: F64);
