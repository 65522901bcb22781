//! What all tasks of a call share.

use super::kernels::block::padded;
use super::logit::{DenseTarget, Logit};
use super::memory::{Ahead, Memory};
use crate::buffer::Buffer;
use crate::element::sealed::Sealed;
use crate::rules::{GradientFactors, Plan, SharedPrior, Transform};
use crate::targets::with_probabilities;
use crate::{Element, Rows};

/// A batch and what is worked out for it once. Logits and gradient are not here, but in a task's
/// claims.
pub(super) struct Call<'a, T: Logit> {
    pub(super) plan: &'a Plan<'a>,
    /// Whether there is to be a gradient.
    pub(super) has_gradient: bool,
    pub(super) factors: GradientFactors<'a>,
    pub(super) transform: Transform,
    pub(super) prior: PriorVector<T::Real>,
    /// A dense target of the type that is computed with.
    target: Option<&'a Rows<'a, T::Real>>,
    /// Class weights, where they multiply a dense target; 0 beyond the last class.
    pub(super) weights: Option<Buffer<T::Real>>,
}

/// v as the kernels take it.
pub(super) enum PriorVector<R> {
    /// 1 on every class.
    Uniform,
    /// The same for all rows, 0 beyond the last class: weighted and, where sums without class
    /// weights are needed, plain.
    Shared { weighted: Buffer<R>, plain: Option<Buffer<R>> },
    /// A row's own, which the rules give block by block.
    PerRow,
}

impl<'a, T: Logit> Call<'a, T> {
    /// # Panics
    /// If the plan or its dense target is of another shape than the memory.
    pub(super) fn new(
        plan: &'a Plan<'a>,
        memory: &Memory<'_, T>,
        factors: GradientFactors<'a>,
    ) -> Self {
        let shape = (memory.rows(), memory.classes());
        let here = plan.here();
        assert_eq!(
            (plan.rows(), here.len()),
            shape,
            "internal error: a plan of another shape than its logits"
        );
        if let Some(probabilities) = plan.probabilities() {
            let target = with_probabilities!(probabilities, rows => (rows.rows(), rows.classes()));
            assert_eq!(
                target, shape,
                "internal error: dense targets of another shape than their logits"
            );
        }
        let weights = plan.table().class_weights();
        let vector = |value: &dyn Fn(usize) -> f64| {
            let mut buffer = Buffer::new(padded(here.len()), T::Real::ZERO);
            buffer.iter_mut().zip(here.clone()).for_each(|(v, k)| *v = T::Real::from_f64(value(k)));
            buffer
        };
        let shared = |v: &dyn Fn(usize) -> f64| match weights {
            Some(weights) => PriorVector::Shared {
                weighted: vector(&|class| v(class) * weights[class]),
                plain: plan.table().renormalises().then(|| vector(v)),
            },
            None => PriorVector::Shared { weighted: vector(v), plain: None },
        };
        let prior = match plan.table().prior() {
            SharedPrior::Uniform if plan.table().is_uniform() => PriorVector::Uniform,
            SharedPrior::Uniform => shared(&|_| 1.0),
            SharedPrior::Vector(v) => shared(&|class| v[class]),
            SharedPrior::PerRow => PriorVector::PerRow,
        };
        let weights =
            weights.filter(|_| plan.dense_targets()).map(|weights| vector(&|class| weights[class]));
        let target = plan.probabilities().and_then(T::Real::own);
        Self {
            plan,
            has_gradient: memory.has_gradient(),
            factors,
            transform: plan.transform(),
            prior,
            target,
            weights,
        }
    }

    /// How many classes the logits have.
    pub(super) fn classes(&self) -> usize {
        self.plan.here().len()
    }

    /// What the first class of the logits is called in the plan: 0, but for a shard. Kernels count
    /// from 0; so do vectors of the call and masks.
    #[inline(always)]
    pub(super) fn first(&self) -> usize {
        self.plan.here().start
    }

    /// Whether the gradient is more than a product of exponentials and a sum of targets.
    pub(super) fn gradient_asks_for_logits(&self) -> bool {
        self.transform.softcap.is_some() || self.plan.table().renormalises()
    }

    /// Classes `start..start + len` of a row's dense target where they lie, if they are neighbours,
    /// need no widening and have no weights.
    #[inline(always)]
    pub(super) fn target(&self, row: usize, start: usize, len: usize) -> Option<&[T::Real]> {
        let target = self
            .target
            .filter(|target| self.weights.is_none() && target.layout().class_stride == 1)?;
        let first = target.layout().row_start(row) + start as isize;
        Some(&target.data()[first as usize..][..len])
    }

    /// As [`ClaimedClasses::ahead`](super::memory::ClaimedClasses::ahead) for a dense target of the
    /// type that is computed with.
    #[inline(always)]
    pub(super) fn target_ahead(&self, row: usize, start: usize, len: usize) -> Ahead<T::Real> {
        self.target.map_or(Ahead::NOTHING, |target| {
            Ahead::new(target.data().as_ptr(), target.layout(), row, start, len)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Config, Upstream};

    #[test]
    #[should_panic(expected = "a plan of another shape than its logits")]
    fn plans_of_another_shape_are_refused() {
        let criterion = Config::new().build().unwrap();
        let batch = Batch::from(&[0i64, 1, 2]);
        let plan = Plan::new(&criterion, &batch, 3, 4).unwrap();
        let factors = plan.gradient_factors(&Upstream::Scalar(1.0)).unwrap();
        let logits = [0f32; 12];
        Call::new(&plan, &Memory::logits(&Rows::new(&logits, 6).unwrap()), factors);
    }
}
