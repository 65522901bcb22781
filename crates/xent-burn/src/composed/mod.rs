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
use burn::tensor::{DType, Int, Shape, Tensor};
use xent::{EmptyMean, Form, Reduction};

use crate::backend::{Chain, CrossEntropyBackend, maybe};
use crate::batch::{DeviceBatch, GivenAllowed, names};
use crate::shape::LogitsShape;
use crate::{CrossEntropyConfig, CrossEntropyOutput, Result};
use fold::Folded;
use gradient::{GradientOf, entries, floors};
use ops::{constant, finite, first_of, select, zero_where};
use prior::Mixed;
use statistics::{Statistics, Transformed};
use target::{Setting, Target, total};

/// Loss and, where `parts` is said, its parts, which are the loss again otherwise.
pub(crate) fn forward<const D: usize>(
    config: &CrossEntropyConfig,
    batch: &DeviceBatch<D>,
    shape: &LogitsShape,
    logits: Tensor<D>,
    reduction: Reduction,
    parts: bool,
) -> Result<CrossEntropyOutput<1>> {
    match &batch.allowed {
        Some(GivenAllowed::Shared(mask)) => shape.expect_classes(names::ALLOWED, &mask.dims())?,
        Some(GivenAllowed::PerRow(mask)) => shape.expect_logits(names::ALLOWED, &mask.dims())?,
        None => {}
    }
    let setting = Setting::new(&logits, shape);
    let target = Target::new(config, batch, shape, &setting)?;
    let allowed = batch.allowed.as_ref().map(|allowed| Transformed::allowed(allowed, shape, &setting));
    let transformed = Transformed::new(logits.clone().inner(), allowed, &target.ignored, config, shape, &setting);
    let prior = match &target.epsilon {
        Some(_) => Some(Mixed::new(config, &target, &transformed.masked, &setting)?),
        None => None,
    };
    let prior = prior.as_ref();
    let statistics = Statistics::new(&transformed, &target, &setting);
    let folded = Folded::new(config, &target, prior, &statistics, &setting);

    let nan = constant(f64::NAN, setting.wide, &setting.device);
    // S5, S8: a row's own number.
    let row = |number: &Tensor<2>| zero_where(&target.ignored, &select(&statistics.nan, &nan, number));
    let weighed = |number: &Tensor<2>| match &target.row_weights {
        Some(weights) => row(&(number.clone() * weights.clone())),
        None => row(number),
    };
    let floor =
        (parts || config.form == Form::KlDivergence).then(|| floors(entries(&folded.target, &folded.lse.ones_like(), &target, prior, &setting, setting.wide)));
    let loss = match &floor {
        Some(floor) if config.form == Form::KlDivergence => weighed(&(folded.loss.clone() - floor.clone())),
        _ => weighed(&folded.loss),
    };

    let denominator = target.denominator(config, batch.denominator, &setting);
    let empty = denominator.clone().equal_elem(0.0);
    let reported = if setting.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let reduced = |rows: &Tensor<2>| {
        let reduced = match reduction {
            Reduction::Mean => {
                let mean = total(rows) / select(&empty, &nan, &denominator);
                if config.empty_mean == EmptyMean::Zero { zero_where(&empty, &mean) } else { mean }
            }
            Reduction::Sum => total(rows),
            _ => rows.clone(),
        };
        let numbers = reduced.dims()[0];
        reduced.reshape([numbers]).cast(reported)
    };

    let mut reported_loss = reduced(&loss);
    if logits.is_tracked() {
        let ones = folded.lse.ones_like();
        let (mut factor, mut dead) = (target.row_weights.clone().unwrap_or(ones), target.ignored.clone());
        if reduction == Reduction::Mean {
            factor = factor / select(&empty, &nan, &denominator);
            if config.empty_mean == EmptyMean::Zero {
                dead = dead.bool_or(empty.clone().expand([setting.rows, 1]));
            }
        }
        let of = GradientOf { config, target: &target, prior, transformed: &transformed, statistics: &statistics, setting: &setting };
        let gradient = shape.like_logits::<D>(of.unit(&folded.alpha, &folded.target, &factor, &dead));
        let mut broadcast = shape.dims().to_vec();
        broadcast.iter_mut().enumerate().filter(|&(axis, _)| reduction != Reduction::None || axis == shape.axis()).for_each(|(_, length)| *length = 1);
        let attached = Dispatch::attach(
            logits.into_dispatch(),
            reported_loss.into_dispatch(),
            maybe(Some(gradient)),
            maybe::<D>(None),
            Chain::Multiply(Shape::from(broadcast)),
        );
        reported_loss = Tensor::from_dispatch(attached);
    }

    if !parts {
        let nothing = Tensor::<1, Int>::zeros([1], &setting.device);
        let part = reported_loss.clone().inner();
        return Ok(CrossEntropyOutput {
            loss: reported_loss,
            nll: part.clone(),
            smoothing: part.clone(),
            z_loss: part.clone(),
            floor: part.clone(),
            lse: part.clone(),
            correct: nothing.clone(),
            denominator: part,
            ignored: nothing.clone(),
            non_finite: nothing.clone(),
            first_non_finite: nothing,
        });
    }
    let kept = target.ignored.clone().bool_not();
    let count = |mask: Tensor<2, burn::tensor::Bool>| mask.int().sum();
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
    let non_finite = finite(&loss).bool_not().bool_and(kept);
    let rows = numbers(setting.rows).reshape([setting.rows, 1]);
    let first = select(&non_finite, &rows, &rows.full_like(setting.rows as i64)).min_dim(0);
    let first = select(&first.clone().equal_elem(setting.rows as i64), &first.full_like(-1), &first);
    Ok(CrossEntropyOutput {
        loss: reported_loss,
        nll: reduced(&weighed(&folded.nll)),
        smoothing: reduced(&weighed(&folded.smoothing)),
        z_loss: reduced(&weighed(&folded.z_loss)),
        floor: reduced(&weighed(&floor.unwrap_or_else(|| folded.lse.clone()))),
        lse: row(&folded.lse).reshape([setting.rows]).cast(reported),
        correct: count(correct),
        denominator: denominator.reshape([1]).cast(reported),
        ignored: count(target.ignored.clone()),
        non_finite: count(non_finite),
        first_non_finite: first.reshape([1]),
    })
}
