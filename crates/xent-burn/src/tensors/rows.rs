//! What a batch says of each row before its logits are read: the row's line of the table, ε, weights, and which rows are
//! ignored or cannot be used. SEMANTICS.md S2 to S6.

use std::sync::Arc;

use burn::tensor::{Bool, DType, Float, Int, Tensor};
use xent::host::LogitsShape;
use xent::{Config, Denominator};

use super::ops::{Value, largest, sum, zero_where};
use super::table::{PriorVector, Table, Vector};
use crate::batch::{DeviceBatch, GivenLambda, GivenTargets, PerRow};
use crate::shape::rows_of;

/// N rows. Columns are `[N, 1]`.
pub(super) struct Rows {
    pub(super) table: Arc<Table>,
    pub(super) count: usize,
    /// `None`: no row is.
    pub(super) ignored: Option<Tensor<2, Bool>>,
    /// Rows whose targets or per-row values are outside their range; ignored rows may be among them.
    pub(super) unusable: Option<Tensor<2, Bool>>,
    pub(super) target: Target,
    /// ε.
    pub(super) epsilon: Value,
    /// r.
    pub(super) weight: Value,
    /// W.
    pub(super) class_weight: Value,
    /// v and σ; `None` if nothing is smoothed.
    pub(super) prior: Option<(Arc<Vector>, Value)>,
}

pub(super) enum Target {
    Hot(Hot),
    Dense(Vector),
}

/// The hot classes, `[N, H]`, of one label per row or of two.
pub(super) struct Hot {
    pub(super) class: Tensor<2, Int>,
    /// s, their shares of the target.
    pub(super) share: Value,
    /// What class weights multiply their terms with.
    pub(super) term: Value,
    /// s·π, what the prior puts on them in addition to σ·v, before that weight.
    pub(super) prior: Value,
}

impl Rows {
    /// Of a batch whose shapes were checked.
    pub(super) fn new<const D: usize>(config: &Config, table: Arc<Table>, batch: &DeviceBatch<D>, shape: &LogitsShape) -> Self {
        let mut reader = Reader { table: &table, ignore_indices: &config.ignore_indices, ignored: Vec::new(), unusable: Vec::new() };
        reader.ignored.extend(batch.ignored.as_ref().map(|mask| mask.column(&table.device)));
        let target = match (&batch.targets, &batch.mix) {
            (GivenTargets::Classes(classes), None) => Target::hot(&table, reader.labels(classes), Value::Same(1.0)),
            (GivenTargets::Classes(first), Some((second, lambda))) => {
                let [first, second] = [first, second].map(|labels| reader.labels(labels));
                let lambda = match lambda {
                    GivenLambda::Scalar(lambda) => Tensor::full(first.dims(), *lambda, (&table.device, table.wide)),
                    GivenLambda::Rows(lambda) => reader.numbers(lambda, 1.0),
                };
                // The same label twice is one hot class.
                let lambda = lambda.mask_fill(first.clone().equal(second.clone()), 1.0);
                let share = Tensor::cat(vec![lambda.clone(), -lambda + 1.0], 1);
                Target::hot(&table, Tensor::cat(vec![first, second], 1), Value::Each(share))
            }
            (GivenTargets::Probabilities(probabilities), _) => {
                let t = rows_of(probabilities.clone().to_device(&table.device), shape).cast(table.dtype);
                let good = t.clone().greater_equal_elem(0.0).bool_and(t.clone().lower_equal_elem(largest(t.dtype())));
                reader.unusable.push(good.bool_not().any_dim(1));
                Target::Dense(Vector::new(t, &table.term, table.wide))
            }
        };
        let epsilon = batch.epsilon.as_ref().map(|epsilon| Value::Each(reader.numbers(epsilon, 1.0)));
        let epsilon = epsilon.unwrap_or(Value::Same(config.label_smoothing));
        let weight = batch.row_weights.as_ref().map(|weights| Value::Each(reader.numbers(weights, largest(table.wide))));
        Self {
            count: shape.rows(),
            ignored: reader.ignored.into_iter().reduce(Tensor::bool_or),
            unusable: reader.unusable.into_iter().reduce(Tensor::bool_or),
            class_weight: target.average(&table.whole),
            prior: (!matches!(epsilon, Value::Same(0.0))).then(|| target.prior(&table)),
            target,
            epsilon,
            weight: weight.unwrap_or(Value::Same(1.0)),
            table,
        }
    }

    /// What a mean divides by, and what it divides z-loss by (S6).
    pub(super) fn denominators(&self, config: &Config, given: Option<f64>) -> [Value; 2] {
        let one = Value::Same(1.0);
        let weights = match (given, config.denominator, &self.target) {
            (Some(given), ..) => return [Value::Same(given), Value::Same(given)],
            (None, Denominator::Rows, _) => return [self.count as f64; 2].map(Value::Same),
            // Class weights act on terms or on whole rows, not on both.
            (None, Denominator::PyTorch, Target::Hot(_)) => &self.class_weight * self.target.average(&self.table.term),
            (None, Denominator::PyTorch, _) => self.class_weight.clone(),
            _ => one.clone(),
        };
        [weights, one].map(|weights| match (weights, &self.ignored) {
            (Value::Same(_), None) => Value::Same(self.count as f64),
            (weights, ignored) => {
                let column = weights.tensor(&Tensor::ones([self.count, 1], (&self.table.device, self.table.wide)));
                Value::Each(sum(&zero_where(ignored, &column).reshape([1, self.count])))
            }
        })
    }
}

impl Target {
    fn hot(table: &Table, class: Tensor<2, Int>, share: Value) -> Self {
        Self::Hot(Hot { prior: &share * table.pi.at(&class), term: table.term.at(&class), share, class })
    }

    /// Σ t_c·value_c of per-class values; a value that all classes share is that of a row.
    fn average(&self, values: &Value) -> Value {
        match (self, values) {
            (_, Value::Same(_)) => values.clone(),
            (Self::Hot(hot), _) => (&hot.share * values.at(&hot.class)).sum(),
            (Self::Dense(t), Value::Each(values)) => Value::Each(sum(&(t.plain.clone() * values.clone().cast(t.plain.dtype()))).cast(values.dtype())),
        }
    }

    /// v of these rows, and σ.
    fn prior(&self, table: &Table) -> (Arc<Vector>, Value) {
        let v = match (&table.prior, self) {
            (PriorVector::ByTrueClass(matrix), Self::Dense(t)) => t.plain.clone().matmul(matrix.clone()),
            (PriorVector::ByTrueClass(matrix), Self::Hot(hot)) => {
                let rows = hot.class.dims()[0];
                let of_label = |j: usize| {
                    let v = matrix.clone().select(0, hot.class.clone().narrow(1, j, 1).reshape([rows]));
                    match &hot.share {
                        Value::Each(share) => v * share.clone().narrow(1, j, 1).cast(table.dtype),
                        Value::Same(_) => v,
                    }
                };
                (1..hot.class.dims()[1]).map(of_label).fold(of_label(0), |sum, v| sum + v)
            }
            // Over the wrong classes of a dense target: linear in it. What rounding leaves below 0 is 0.
            (PriorVector::Shared(v), Self::Dense(t)) if !matches!(table.pi, Value::Same(0.0)) => {
                let [sigma, pi] = [&table.sigma, &table.pi].map(|column| t.plain.clone() * column.tensor(&v.plain).cast(table.dtype));
                (sum(&sigma) * v.plain.clone() + pi).clamp_min(0.0)
            }
            (PriorVector::Shared(v), _) => return (v.clone(), self.average(&table.sigma)),
        };
        (Arc::new(Vector::new(v, &table.term, table.wide)), Value::Same(1.0))
    }
}

/// Reads the tensors of a batch, and collects the rows that they ignore and those that cannot be used.
struct Reader<'a> {
    table: &'a Table,
    ignore_indices: &'a [i64],
    ignored: Vec<Tensor<2, Bool>>,
    unusable: Vec<Tensor<2, Bool>>,
}

impl Reader<'_> {
    /// Class indices `[N, 1]`, 0 where they are outside the classes.
    fn labels(&mut self, given: &PerRow<Int>) -> Tensor<2, Int> {
        let labels = given.column(&self.table.device).cast(self.table.index);
        // An index that the dtype cannot hold marks no row.
        let held = |index: &&i64| self.table.index == DType::I64 || i32::try_from(**index).is_ok();
        self.ignored.extend(self.ignore_indices.iter().filter(held).map(|&index| labels.clone().equal_elem(index)));
        let outside = labels.clone().lower_elem(0).bool_or(labels.clone().greater_equal_elem(self.table.classes as i64));
        self.unusable.push(outside.clone());
        labels.mask_fill(outside, 0)
    }

    /// A column of numbers in [0, `highest`], 0 where they are not.
    fn numbers(&mut self, given: &PerRow<Float>, highest: f64) -> Tensor<2> {
        let column = given.column(&self.table.device).cast(self.table.wide);
        let outside = column.clone().greater_equal_elem(0.0).bool_and(column.clone().lower_equal_elem(highest)).bool_not();
        self.unusable.push(outside.clone());
        column.mask_fill(outside, 0.0)
    }
}
