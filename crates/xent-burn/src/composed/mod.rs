//! On every backend: burn's own operations, on the logits' device from end to end. No number comes to the host, so that no call waits.
//!
//! Written with plain tensors, without differentiation: [`attach`](crate::backend::CrossEntropyBackend::attach) puts the gradient into burn's graph. What is one number a
//! row is computed in f64 on the CPU, and in the dtype of the loss elsewhere. A kernel of a device's own would take the place of what is `[N, K]` here: `statistics` and `gradient`.

mod fold;
mod gradient;
mod ops;
mod prior;
mod statistics;
mod target;

use burn::backend::Dispatch;
use burn::tensor::{Bool, Int, Shape, Tensor};
use xent::{EmptyMean, Form, Reduction};

use crate::backend::{Chain, CrossEntropyBackend, maybe};
use crate::batch::{DeviceBatch, GivenAllowed, names};
use crate::shape::LogitsShape;
use crate::{CrossEntropyConfig, CrossEntropyOutput, Result};
use fold::Folded;
use gradient::{entries, floors};
use ops::{constant, finite, first_of, select, zero_where};
use prior::Mixed;
use statistics::{Statistics, Transformed};
use target::{Setting, Target, total};

/// A batch whose rows are folded.
pub(crate) struct Composed<'a> {
    config: &'a CrossEntropyConfig,
    reduction: Reduction,
    setting: Setting,
    target: Target,
    transformed: Transformed,
    prior: Option<Mixed>,
    statistics: Statistics,
    folded: Folded,
    /// Each row's loss.
    rows: Tensor<2>,
    /// `[1, 1]`.
    denominator: Tensor<2>,
}

impl<'a> Composed<'a> {
    pub(crate) fn new<const D: usize>(
        config: &'a CrossEntropyConfig,
        batch: &DeviceBatch<D>,
        shape: &LogitsShape,
        logits: &Tensor<D>,
        reduction: Reduction,
    ) -> Result<Self> {
        match &batch.allowed {
            Some(GivenAllowed::Shared(mask)) => shape.expect_classes(names::ALLOWED, &mask.dims())?,
            Some(GivenAllowed::PerRow(mask)) => shape.expect_logits(names::ALLOWED, &mask.dims())?,
            None => {}
        }
        let setting = Setting::new(logits, shape);
        let target = Target::new(config, batch, shape, &setting)?;
        let allowed = batch.allowed.as_ref().map(|allowed| Transformed::allowed(allowed, shape, &setting));
        let transformed = Transformed::new(logits.clone().inner(), allowed, &target.ignored, config, shape, &setting);
        let prior = match &target.epsilon {
            Some(_) => Some(Mixed::new(config, &target, &transformed.masked, &setting)?),
            None => None,
        };
        let statistics = Statistics::new(&transformed, &target, &setting);
        let folded = Folded::new(config, &target, prior.as_ref(), &statistics, &setting);
        let denominator = target.denominator(config, batch.denominator, &setting);
        let mut composed = Self { config, reduction, rows: folded.loss.clone(), setting, target, transformed, prior, statistics, folded, denominator };
        if config.form == Form::KlDivergence {
            composed.rows = composed.rows.clone() - composed.floors();
        }
        composed.rows = composed.weighed(&composed.rows);
        Ok(composed)
    }

    /// The loss, with its gradient in burn's graph where the logits are in one.
    pub(crate) fn loss<const D: usize>(&self, logits: Tensor<D>, shape: &LogitsShape) -> Tensor<1> {
        let loss = self.reduced(&self.rows);
        if !logits.is_tracked() {
            return loss;
        }
        let mut broadcast = shape.dims().to_vec();
        broadcast.iter_mut().enumerate().filter(|&(axis, _)| self.reduction != Reduction::None || axis == shape.axis()).for_each(|(_, length)| *length = 1);
        let gradient = maybe(Some(shape.like_logits::<D>(self.gradient())));
        let chain = Chain::Multiply(Shape::from(broadcast));
        Tensor::from_dispatch(Dispatch::attach(logits.into_dispatch(), loss.into_dispatch(), gradient, maybe::<D>(None), chain))
    }

    /// All that comes beside `loss`.
    pub(crate) fn output(&self, loss: Tensor<1>) -> CrossEntropyOutput<1> {
        let Self { setting, target, statistics, folded, .. } = self;
        let kept = target.ignored.clone().bool_not();
        let count = |mask: Tensor<2, Bool>| mask.int().sum();
        let numbers = |classes: usize| Tensor::<1, Int>::arange(0..classes as i64, (&setting.device, setting.index)).reshape([1, classes]);
        let label = match (&target.hot, &target.dense) {
            (Some(hot), _) => {
                let share = &hot.share;
                let (first, _) = first_of(share, &numbers(share.dims()[1]));
                hot.class.clone().gather(1, first)
            }
            (None, Some(dense)) => first_of(dense, &numbers(setting.classes)).0,
            (None, None) => statistics.argmax.clone(),
        };
        let correct = statistics.argmax.clone().equal(label).bool_and(kept.clone()).bool_and(statistics.nan.clone().bool_not());
        let non_finite = finite(&self.rows).bool_not().bool_and(kept);
        let rows = numbers(setting.rows).reshape([setting.rows, 1]);
        let first = select(&non_finite, &rows, &rows.full_like(setting.rows as i64)).min_dim(0);
        let first = select(&first.clone().equal_elem(setting.rows as i64), &first.full_like(-1), &first);
        let part = |rows: &Tensor<2>| self.reduced(&self.weighed(rows));
        CrossEntropyOutput {
            loss,
            nll: part(&folded.nll),
            smoothing: part(&folded.smoothing),
            z_loss: part(&folded.z_loss),
            floor: part(&self.floors()),
            lse: self.row(&folded.lse).reshape([setting.rows]).cast(setting.dtype),
            correct: count(correct),
            denominator: self.denominator.clone().reshape([1]).cast(setting.dtype),
            ignored: count(target.ignored.clone()),
            non_finite: count(non_finite),
            first_non_finite: first.reshape([1]),
        }
    }

    /// A row's own number: 0 for ignored rows (S5), NaN where S8 says so.
    fn row(&self, number: &Tensor<2>) -> Tensor<2> {
        zero_where(&self.target.ignored, &select(&self.statistics.nan, &self.nan(), number))
    }

    fn weighed(&self, number: &Tensor<2>) -> Tensor<2> {
        match &self.target.row_weights {
            Some(weights) => self.row(&(number.clone() * weights.clone())),
            None => self.row(number),
        }
    }

    fn floors(&self) -> Tensor<2> {
        let ones = self.folded.lse.ones_like();
        floors(entries(&self.folded.target, &ones, &self.target, self.prior.as_ref(), &self.setting, self.setting.wide))
    }

    /// S6.
    fn reduced(&self, rows: &Tensor<2>) -> Tensor<1> {
        let reduced = match self.reduction {
            Reduction::Mean => {
                let mean = total(rows) / self.divisor();
                if self.config.empty_mean == EmptyMean::Zero { zero_where(&self.empty(), &mean) } else { mean }
            }
            Reduction::Sum => total(rows),
            _ => rows.clone(),
        };
        let numbers = reduced.dims()[0];
        reduced.reshape([numbers]).cast(self.setting.dtype)
    }

    fn gradient(&self) -> Tensor<2> {
        let Self { config, setting, target, folded, .. } = self;
        let mut factor = target.row_weights.clone().unwrap_or_else(|| folded.lse.ones_like());
        let mut dead = target.ignored.clone();
        if self.reduction == Reduction::Mean {
            factor = factor / self.divisor();
            if config.empty_mean == EmptyMean::Zero {
                dead = dead.bool_or(self.empty().expand([setting.rows, 1]));
            }
        }
        self.unit_gradient(&factor, &dead)
    }

    fn empty(&self) -> Tensor<2, Bool> {
        self.denominator.clone().equal_elem(0.0)
    }

    /// The denominator, NaN where it is 0.
    fn divisor(&self) -> Tensor<2> {
        select(&self.empty(), &self.nan(), &self.denominator)
    }

    fn nan(&self) -> Tensor<2> {
        constant(f64::NAN, self.setting.wide, &self.setting.device)
    }
}
