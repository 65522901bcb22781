//! What a batch says of each row before its logits are read: the row's line of the table, ε,
//! weights, and which rows are ignored or cannot be used. SEMANTICS.md S2 to S6.

use std::sync::Arc;

use burn::tensor::{Bool, DType, Int, Tensor};
use xent::host::LogitsShape;
use xent::{Config, Denominator};

use super::ops::{Value, largest, sum, zero_where};
use super::table::Table;
use crate::batch::{DeviceBatch, GivenLambda, GivenTargets};
use crate::shape::rows_of;

/// N rows. Columns are `[N, 1]`; of hot classes, one per label, `[N, H]`.
pub(super) struct Rows {
    pub(super) table: Arc<Table>,
    pub(super) count: usize,
    /// `None`: no row is.
    pub(super) ignored: Option<Tensor<2, Bool>>,
    /// Rows whose targets or per-row values are outside their range; ignored rows may be among
    /// them.
    pub(super) unusable: Option<Tensor<2, Bool>>,
    /// The hot classes; `None` for a dense target.
    pub(super) hot: Option<Tensor<2, Int>>,
    /// s, their shares of the target.
    pub(super) share: Value,
    /// The label with the largest share, the first on ties.
    pub(super) label: Option<Tensor<2, Int>>,
    /// The dense target, `[N, K]`.
    pub(super) dense: Option<Tensor<2>>,
    /// ε.
    pub(super) epsilon: Value,
    /// r.
    pub(super) weight: Value,
    /// W.
    pub(super) class_weight: Value,
    /// v, `[1, K]` or `[N, K]`; `None` is 1 on every class.
    pub(super) v: Option<Tensor<2>>,
    /// σ; 0 if nothing is smoothed. And π of the hot classes.
    pub(super) sigma: Value,
    pub(super) pi: Value,
}

impl Rows {
    /// Of a batch whose shapes were checked.
    pub(super) fn new<const D: usize>(
        config: &Config,
        table: Arc<Table>,
        batch: &DeviceBatch<D>,
        shape: &LogitsShape,
    ) -> Self {
        let Table { device, dtype, wide, index, .. } = &*table;
        let mut ignored: Vec<_> = batch.ignored.iter().map(|mask| mask.column(device)).collect();
        let mut unusable = Vec::new();
        // 0 where a number is outside its range.
        let mut numbers = |numbers: Tensor<2>, highest: f64| {
            let outside = outside(&numbers, highest);
            unusable.push(outside.clone());
            Value::Each(numbers.mask_fill(outside, 0.0))
        };
        let epsilon =
            batch.epsilon.as_ref().map(|epsilon| numbers(epsilon.column(device).cast(*wide), 1.0));
        let weight = batch
            .row_weights
            .as_ref()
            .map(|weights| numbers(weights.column(device).cast(*wide), largest(*wide)));
        let lambda = batch.mix.as_ref().map(|(_, lambda)| match lambda {
            GivenLambda::Scalar(lambda) => Value::Same(*lambda),
            GivenLambda::Rows(lambda) => numbers(lambda.column(device).cast(*wide), 1.0),
        });
        let (mut hot, mut share, mut label, mut dense) = (None, Value::Same(1.0), None, None);
        match &batch.targets {
            GivenTargets::Probabilities(probabilities) => {
                let t = rows_of(probabilities.clone().to_device(device), shape).cast(*dtype);
                unusable.push(outside(&t, largest(*dtype)).any_dim(1));
                dense = Some(t);
            }
            GivenTargets::Classes(labels) => {
                let mut labels = labels.column(device).cast(*index);
                label = Some(labels.clone());
                if let (Some((second, _)), Some(lambda)) = (&batch.mix, lambda) {
                    let second = second.column(device).cast(*index);
                    // The same label twice is one hot class.
                    let same = labels.clone().equal(second.clone());
                    let lambda = lambda
                        .tensor(&Tensor::ones(same.dims(), (device, *wide)))
                        .mask_fill(same, 1.0);
                    label = Some(
                        labels.clone().mask_where(lambda.clone().lower_elem(0.5), second.clone()),
                    );
                    share = Value::Each(Tensor::cat(vec![lambda.clone(), -lambda + 1.0], 1));
                    labels = Tensor::cat(vec![labels, second], 1);
                }
                // An index that the dtype cannot hold marks no row.
                let held = config
                    .ignore_indices
                    .iter()
                    .filter(|&&ignore| *index == DType::I64 || i32::try_from(ignore).is_ok());
                ignored.extend(held.map(|&ignore| labels.clone().equal_elem(ignore).any_dim(1)));
                let outside = labels
                    .clone()
                    .lower_elem(0)
                    .bool_or(labels.clone().greater_equal_elem(table.classes as i64));
                unusable.push(outside.clone().any_dim(1));
                hot = Some(labels.mask_fill(outside, 0));
            }
        }
        let mut rows = Self {
            count: shape.rows(),
            ignored: ignored.into_iter().reduce(Tensor::bool_or),
            unusable: unusable.into_iter().reduce(Tensor::bool_or),
            hot,
            share,
            label,
            dense,
            epsilon: epsilon.unwrap_or(Value::Same(config.label_smoothing)),
            weight: weight.unwrap_or(Value::Same(1.0)),
            class_weight: Value::Same(1.0),
            v: None,
            sigma: Value::Same(0.0),
            pi: Value::Same(0.0),
            table,
        };
        rows.class_weight = rows.average(&rows.table.whole);
        if !matches!(rows.epsilon, Value::Same(0.0)) {
            (rows.v, rows.sigma) = rows.prior();
            rows.pi = &rows.share * rows.at_hot(&rows.table.pi);
        }
        rows
    }

    /// Per-class values at the hot classes; 0 for a dense target.
    pub(super) fn at_hot(&self, values: &Value) -> Value {
        self.hot.as_ref().map_or(Value::Same(0.0), |hot| values.at(hot))
    }

    /// Σ t_c·value_c of per-class values; a value that all classes share is that of a row.
    fn average(&self, values: &Value) -> Value {
        match (values, &self.dense) {
            (Value::Same(_), _) => values.clone(),
            (_, None) => (&self.share * self.at_hot(values)).sum(),
            (Value::Each(values), Some(t)) => {
                Value::Each(sum(&(t.clone() * values.clone().cast(t.dtype()))).cast(values.dtype()))
            }
        }
    }

    /// v and σ.
    fn prior(&self) -> (Option<Tensor<2>>, Value) {
        let table = &self.table;
        let v = match (&table.by_true_class, &self.hot, &self.dense) {
            (Some(matrix), _, Some(t)) => t.clone().matmul(matrix.clone()),
            (Some(matrix), Some(hot), _) => {
                let of_label = |j: usize| {
                    let share = self.share.tensor(&table.nan).cast(table.dtype);
                    matrix.clone().select(0, hot.clone().narrow(1, j, 1).flatten(0, 1))
                        * share.narrow(1, j, 1)
                };
                (1..hot.dims()[1]).map(of_label).fold(of_label(0), |sum, v| sum + v)
            }
            // Over the wrong classes of a dense target: linear in it. What rounding leaves below 0
            // is 0.
            (None, _, Some(t)) if !matches!(table.pi, Value::Same(0.0)) => {
                let [shared, own] = [&table.sigma, &table.pi]
                    .map(|column| t.clone() * column.tensor(&table.nan).cast(table.dtype));
                let shared = sum(&shared);
                (table.v.as_ref().map_or(shared.clone(), |v| shared * v.clone()) + own)
                    .clamp_min(0.0)
            }
            _ => return (table.v.clone(), self.average(&table.sigma)),
        };
        (Some(v), Value::Same(1.0))
    }

    /// What a mean divides by, and what it divides z-loss by (S6).
    pub(super) fn denominators(&self, config: &Config, given: Option<f64>) -> [Value; 2] {
        let weights = match (given, config.denominator, &self.dense) {
            (Some(given), ..) => return [given; 2].map(Value::Same),
            (None, Denominator::Rows, _) => return [self.count as f64; 2].map(Value::Same),
            // Class weights act on terms or on whole rows, not on both.
            (None, Denominator::PyTorch, None) => {
                &self.class_weight * self.average(&self.table.term)
            }
            (None, Denominator::PyTorch, Some(_)) => self.class_weight.clone(),
            _ => Value::Same(1.0),
        };
        [weights, Value::Same(1.0)].map(|weights| match (weights, &self.ignored) {
            (Value::Same(_), None) => Value::Same(self.count as f64),
            (weights, ignored) => {
                let column = weights
                    .tensor(&Tensor::ones([self.count, 1], (&self.table.device, self.table.wide)));
                Value::Each(sum(&zero_where(ignored, &column).reshape([1, self.count])))
            }
        })
    }
}

/// Where a number is not in [0, `highest`].
fn outside(numbers: &Tensor<2>, highest: f64) -> Tensor<2, Bool> {
    numbers
        .clone()
        .greater_equal_elem(0.0)
        .bool_and(numbers.clone().lower_equal_elem(highest))
        .bool_not()
}
