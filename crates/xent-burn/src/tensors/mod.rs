//! The loss in burn's own tensor operations, on the logits' device from end to end: nothing is read
//! back, so that no call waits, and after the first call nothing is uploaded ([`table`]).
//!
//! ```text
//! table       xent's table by class on the device, kept from call to call
//! rows        labels, shares, ε and weights: each row's line of the table, by gathers
//! statistics  the transformed logits; max, argmax, rest, sums against v and t
//! fold        a row's loss, its parts, and the coefficients α, β, γ, τ
//! gradient    α·p − γ·v − τ·t − Σ β_j δ_j with its exceptions; the entropy floor
//! ```
//!
//! Plain tensors, without differentiation: [`attach`](CrossEntropyBackend::attach) puts the
//! gradient into burn's graph. Per-row values are computed in f64 on the CPU, and in the dtype of
//! the loss elsewhere. A kernel of a device's own would take the place of what is `[N, K]` here:
//! `statistics` and `gradient`.

mod fold;
mod gradient;
mod ops;
mod rows;
mod statistics;
mod table;
#[cfg(test)]
mod tests;

use burn::backend::Dispatch;
use burn::tensor::{Bool, Shape, Tensor};
use xent::host::LogitsShape;
use xent::{Config, Criterion, EmptyMean, Form, Reduction};

use crate::autodiff::{Chain, CrossEntropyBackend, maybe};
use crate::batch::DeviceBatch;
use crate::shape::like_logits;
use crate::{CrossEntropyOutput, Result};
use fold::Folded;
use gradient::{floors, gradient};
use ops::{Value, finite, first_of, select, sum, zero_where};
use rows::Rows;
use statistics::Statistics;

pub(crate) use table::Tables;

/// A batch whose rows are folded. Columns are `[N, 1]`.
pub(crate) struct Composed<'a> {
    config: &'a Config,
    rows: Rows,
    statistics: Statistics,
    folded: Folded,
    /// What a mean divides by, whatever the reduction.
    denominator: Value,
    /// What the reduction divides by, and what it divides z-loss by.
    divisors: [Value; 2],
    /// Whether a mean over nothing is 0, `[1, 1]`; `None` if it cannot be.
    zero: Option<Tensor<2, Bool>>,
    /// Rows whose loss is NaN; ignored rows may be among them.
    nan: Tensor<2, Bool>,
    /// The loss of each row without z-loss, row weight included.
    losses: Tensor<2>,
}

impl<'a> Composed<'a> {
    /// Of a batch whose shapes were checked.
    pub(crate) fn new<const D: usize>(
        criterion: &'a Criterion,
        tables: &Tables,
        batch: &DeviceBatch<D>,
        shape: &LogitsShape,
        logits: &Tensor<D>,
    ) -> Result<Self> {
        let config = criterion.config();
        let table = tables.get(criterion, logits, shape.classes()).map_err(xent::Error::from)?;
        let rows = Rows::new(config, table.clone(), batch, shape);
        let statistics =
            Statistics::new(logits.clone().inner(), batch.allowed.as_ref(), shape, config, &rows);
        let folded = Folded::new(config, &rows, &statistics);
        let nan = rows.unusable.clone().into_iter().fold(statistics.nan.clone(), Tensor::bool_or);
        let mut losses = folded.cross_entropy.tensor(&statistics.rest);
        if config.form == Form::KlDivergence {
            losses = losses - floors(&rows, &folded);
        }

        let mut divisors = rows.denominators(config, batch.denominator);
        let (denominator, mut zero) = (divisors[0].clone(), None);
        match &denominator {
            _ if config.reduction != Reduction::Mean => {
                divisors = [Value::Same(1.0), Value::Same(1.0)]
            }
            // What the host knows is not 0.
            Value::Same(_) => {}
            Value::Each(denominator) => {
                let empty = denominator.clone().equal_elem(0.0);
                divisors = divisors.map(|divisor| {
                    Value::Each(select(&empty, &table.nan, &divisor.tensor(denominator)))
                });
                zero = Some(empty).filter(|_| config.empty_mean == EmptyMean::Zero);
            }
        }
        let mut composed =
            Self { config, rows, statistics, folded, denominator, divisors, zero, nan, losses };
        composed.losses = composed.weighed(&Value::Each(composed.losses.clone()));
        Ok(composed)
    }

    /// The loss, with its gradient in burn's graph where the logits are in one.
    pub(crate) fn loss<const D: usize>(&self, logits: Tensor<D>, shape: &LogitsShape) -> Tensor<1> {
        let mut loss = self.reduced(&self.losses, &self.divisors[0]);
        if self.config.z_loss != 0.0 {
            loss = loss + self.reduced(&self.weighed(&self.folded.z_loss), &self.divisors[1]);
        }
        if !logits.is_tracked() {
            return loss;
        }
        let mut broadcast = shape.dims().to_vec();
        match self.config.reduction {
            Reduction::None => broadcast[shape.axis()] = 1,
            _ => broadcast.fill(1),
        }
        let gradient = maybe(Some(like_logits::<D>(self.gradient(), shape)));
        let chain = Chain::Multiply(Shape::from(broadcast));
        Tensor::from_dispatch(Dispatch::attach(
            logits.into_dispatch(),
            loss.into_dispatch(),
            gradient,
            maybe::<D>(None),
            chain,
        ))
    }

    /// All that comes in addition to `loss`.
    pub(crate) fn output(&self, loss: Tensor<1>) -> CrossEntropyOutput<1> {
        let Self { rows, statistics, folded, .. } = self;
        let table = &rows.table;
        let count = |mask: Tensor<2, Bool>| mask.int().sum();
        let ignored = rows
            .ignored
            .clone()
            .unwrap_or_else(|| Tensor::full([rows.count, 1], false, &rows.table.device));
        let kept = ignored.clone().bool_not();
        let largest = |t: &Tensor<2>| first_of(t, &table.numbers).0;
        let label = rows
            .label
            .clone()
            .or(rows.dense.as_ref().map(largest))
            .unwrap_or_else(|| statistics.argmax.clone());
        let correct = statistics
            .argmax
            .clone()
            .equal(label)
            .bool_and(kept.clone())
            .bool_and(self.nan.clone().bool_not());
        let z_loss = self.weighed(&folded.z_loss);
        let non_finite = finite(&(self.losses.clone() + z_loss.clone())).bool_not().bool_and(kept);
        // As many rows as come before the first; all of them if there is none.
        let first = count(non_finite.clone().int().cumsum(0).equal_elem(0));
        let none = first.clone().equal_elem(rows.count as i64);
        let part = |rows: &Value| self.reduced(&self.weighed(rows), &self.divisors[0]);
        CrossEntropyOutput {
            loss,
            nll: part(&folded.nll),
            smoothing: part(&folded.smoothing),
            z_loss: self.reduced(&z_loss, &self.divisors[1]),
            floor: part(&Value::Each(floors(rows, folded))),
            lse: self.row(&folded.lse).reshape([rows.count]).cast(rows.table.dtype),
            correct: count(correct),
            denominator: self
                .denominator
                .tensor(&rows.table.nan)
                .reshape([1])
                .cast(rows.table.dtype),
            ignored: count(ignored),
            non_finite: count(non_finite),
            first_non_finite: first.mask_fill(none, -1),
        }
    }

    /// A per-row value as it is reported: 0 for ignored rows (S5), NaN where S8 says so.
    fn row(&self, value: &Value) -> Tensor<2> {
        zero_where(
            self.rows.ignored.as_ref(),
            &select(&self.nan, &self.rows.table.nan, &value.tensor(&self.statistics.rest)),
        )
    }

    fn weighed(&self, value: &Value) -> Tensor<2> {
        self.row(&(value * &self.rows.weight))
    }

    /// S6.
    fn reduced(&self, rows: &Tensor<2>, divisor: &Value) -> Tensor<1> {
        let reduced = match self.config.reduction {
            Reduction::None => rows.clone(),
            _ => (Value::Each(sum(&rows.clone().reshape([1, self.rows.count]))) / divisor)
                .tensor(rows),
        };
        let numbers = reduced.dims()[0];
        zero_where(self.zero.as_ref(), &reduced).reshape([numbers]).cast(self.rows.table.dtype)
    }

    fn gradient(&self) -> Tensor<2> {
        let Self { config, rows, statistics, folded, divisors: [divisor, of_z_loss], .. } = self;
        let z_loss = Value::Same(config.z_loss) * (divisor / of_z_loss);
        let gradient = gradient(config, rows, statistics, folded, &z_loss, &rows.weight / divisor);
        let gradient = select(&self.nan, &rows.table.nan.clone().cast(rows.table.dtype), &gradient);
        let masks = [statistics.forbidden.as_ref(), rows.ignored.as_ref(), self.zero.as_ref()];
        masks.into_iter().fold(gradient, |gradient, mask| zero_where(mask, &gradient))
    }
}
