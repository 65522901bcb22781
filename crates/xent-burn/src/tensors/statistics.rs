//! What the loss needs of each row of transformed logits. SEMANTICS.md S1 and S4.

use burn::tensor::{Bool, Int, Tensor};
use xent::Config;
use xent::host::LogitsShape;

use super::ops::{Value, finite, first_of, minus_infinite, select, sum, zero_where};
use super::rows::Rows;
use crate::batch::GivenAllowed;
use crate::shape::rows_of;

/// The transformed logits and their statistics: columns `[N, 1]`, per-row values in the wide dtype.
pub(super) struct Statistics {
    /// z, `[N, K]`.
    pub(super) z: Tensor<2>,
    /// Where z is −∞.
    pub(super) masked: Tensor<2, Bool>,
    /// Where the allowed-class mask is false, `[1, K]` or `[N, K]`.
    pub(super) forbidden: Option<Tensor<2, Bool>>,
    /// m, in the dtype of z.
    pub(super) max: Tensor<2>,
    pub(super) argmax: Tensor<2, Int>,
    /// `Σ e^(z − m)` over all classes except the first with z = m.
    pub(super) rest: Tensor<2>,
    /// Rows with NaN or +∞, or with nothing but masked classes.
    pub(super) nan: Tensor<2, Bool>,
    /// m − z, `[N, K]`, 0 where masked.
    below: Tensor<2>,
    /// The same at the hot classes, `[N, H]` in the wide dtype, and where those are masked.
    pub(super) hot: Option<(Tensor<2>, Tensor<2, Bool>)>,
}

impl Statistics {
    pub(super) fn new<const D: usize>(
        logits: Tensor<D>,
        allowed: Option<&GivenAllowed<D>>,
        shape: &LogitsShape,
        config: &Config,
        rows: &Rows,
    ) -> Self {
        let table = &rows.table;
        let mut z = rows_of(logits, shape).cast(table.dtype);
        if config.temperature != 1.0 {
            z = z / config.temperature;
        }
        if let Some(cap) = config.softcap {
            z = select(&minus_infinite(&z), &z, &((z.clone() / cap).tanh() * cap));
        }
        let forbidden = allowed.map(|allowed| match allowed {
            GivenAllowed::Shared(mask) => {
                mask.clone().to_device(&table.device).reshape([1, table.classes]).bool_not()
            }
            GivenAllowed::PerRow(mask) => {
                rows_of(mask.clone().to_device(&table.device), shape).bool_not()
            }
        });
        if let Some(forbidden) = &forbidden {
            z = select(forbidden, &-table.infinity.clone().cast(table.dtype), &z);
        }
        let (argmax, max) = first_of(&z, &table.numbers);
        let below = max.clone() - z.clone();
        let at_first =
            table.numbers.clone().expand(z.dims()).equal(argmax.clone().expand(z.dims()));
        let rest = sum(&zero_where(&at_first, &(-below.clone()).exp()));
        let masked = minus_infinite(&z);
        let hot = rows.hot.as_ref().map(|classes| {
            let z = z.clone().gather(1, classes.clone());
            let masked = minus_infinite(&z);
            (zero_where(&masked, &(max.clone().cast(table.wide) - z.cast(table.wide))), masked)
        });
        Self {
            below: zero_where(&masked, &below),
            nan: finite(&max).bool_and(finite(&rest)).bool_not(),
            rest: rest.cast(table.wide),
            z,
            masked,
            forbidden,
            max,
            argmax,
            hot,
        }
    }

    /// Mass Σ y_k and shifted sum Σ y_k (m − z_k) of a part y of the target: class weights times
    /// `coefficient·vector`, and `masses` `[N, H]` on the hot classes. The shifted sum is +∞ where
    /// a masked class has mass. No vector is 1 on every class.
    pub(super) fn against(
        &self,
        vector: Option<&Tensor<2>>,
        coefficient: &Value,
        masses: &Value,
        rows: &Rows,
    ) -> (Value, Value) {
        let (table, is_zero) = (&rows.table, |value: &Value| matches!(value, Value::Same(0.0)));
        let (mut mass, mut shifted, mut masked) = (Value::Same(0.0), Value::Same(0.0), Vec::new());
        let count = |mask: Tensor<2, Bool>| mask.int().sum_dim(1);
        if !is_zero(coefficient) {
            let (total, below, with_mass) = match table.weighed(vector) {
                None => {
                    (Value::Same(table.classes as f64), self.below.clone(), self.masked.clone())
                }
                Some(v) => {
                    let with_mass = self
                        .masked
                        .clone()
                        .bool_and(v.clone().greater_elem(0.0).expand(self.masked.dims()));
                    (Value::Each(sum(&v).cast(table.wide)), self.below.clone() * v, with_mass)
                }
            };
            mass = coefficient * total;
            shifted = coefficient * Value::Each(sum(&below).cast(table.wide));
            masked.push(
                count(with_mass).mask_fill(coefficient.tensor(&self.rest).equal_elem(0.0), 0),
            );
        }
        if let (Some((below, hot_masked)), false) = (&self.hot, is_zero(masses)) {
            mass = mass + masses.sum();
            shifted = shifted + (masses * Value::Each(below.clone())).sum();
            // A correction may take off again all that the vector puts on the class.
            let own = masses.tensor(below);
            let none_left = (coefficient * rows.at_hot(&table.term) + masses)
                .tensor(below)
                .equal_elem(0.0)
                .bool_and(own.clone().lower_elem(0.0));
            let [adds, cancels] = [own.greater_elem(0.0), none_left]
                .map(|mask| count(mask.bool_and(hot_masked.clone())));
            masked.push(adds - cancels);
        }
        let Some(masked) = masked.into_iter().reduce(|a, b| a + b) else { return (mass, shifted) };
        (
            mass,
            Value::Each(select(
                &masked.greater_elem(0),
                &table.infinity,
                &shifted.tensor(&self.rest),
            )),
        )
    }
}
