//! The gradient `α·softmax(z) − γ·v − τ·t − Σ β_j δ_j` with the exceptions of [`xent::rules::RowGradient`], and the entropy of the
//! smoothed target. SEMANTICS.md S4.3, S7, S8 and S9.

use burn::tensor::{Bool, IndexingUpdateOp, Tensor};
use xent::{Config, Masked};

use super::fold::Folded;
use super::ops::{Value, select, sum, zero_where};
use super::rows::{Rows, Target};
use super::statistics::Statistics;

/// `start`, `[N, K]`, less the smoothed target of each row times `factor`.
fn less_target(start: Tensor<2>, factor: &Value, rows: &Rows, folded: &Folded) -> Tensor<2> {
    let dtype = start.dtype();
    let less = |from: Tensor<2>, vector: &Option<Tensor<2>>, coefficient: &Value| {
        let column = (coefficient * factor).tensor(&rows.table.nan).cast(dtype);
        match vector {
            Some(vector) => from - vector.clone().cast(dtype) * column,
            None => from - column,
        }
    };
    let left = match &folded.gamma {
        Some((v, gamma)) => less(start, &v.weighted, gamma),
        None => start,
    };
    match &rows.target {
        Target::Dense(t) => less(left, &t.weighted, &folded.tau),
        Target::Hot(hot) => {
            let beta = (&folded.beta * factor).tensor(&Tensor::ones(hot.class.dims(), (&rows.table.device, dtype)));
            left.scatter(1, hot.class.clone(), -beta.cast(dtype), IndexingUpdateOp::Add)
        }
    }
}

/// Σ −y ln(y/Y) of each row's smoothed target y, whose mass is Y, `[N, 1]` in the wide dtype.
pub(super) fn floors(rows: &Rows, folded: &Folded) -> Tensor<2> {
    let zeros = Tensor::zeros([rows.count, rows.table.classes], (&rows.table.device, rows.table.wide));
    let y = -less_target(zeros, &Value::Same(1.0), rows, folded);
    // y/Y is at most 1, and 1 where a row has one class.
    let terms = y.clone() * (y.clone() / sum(&y)).log();
    -sum(&zero_where(&y.greater_elem(0.0).bool_not(), &terms))
}

/// The gradient under an upstream gradient of 1, `[N, K]`: each row times `factor`, NaN where `nan` is true, 0 where `dead` is.
/// `z_loss` is λ over its denominator, times that of the loss.
pub(super) fn gradient(
    config: &Config,
    (rows, statistics, folded): (&Rows, &Statistics, &Folded),
    z_loss: &Value,
    factor: Value,
    nan: &Tensor<2, Bool>,
    dead: Option<&Tensor<2, Bool>>,
) -> Tensor<2> {
    let Statistics { z, masked, forbidden, max, rest, .. } = statistics;
    let factor = factor / Value::Same(config.temperature);
    let alpha = &folded.mass + &folded.lse * z_loss * Value::Same(2.0);
    let on_exp = (alpha * &factor).tensor(rest) / (rest.clone() + 1.0);
    let softmax = (z.clone() - max.clone()).exp() * on_exp.cast(z.dtype());
    let mut gradient = less_target(softmax, &factor, rows, folded);
    if let Some(cap) = config.softcap {
        let tanh = z.clone() / cap;
        gradient = gradient * zero_where(masked, &((-tanh.clone() + 1.0) * (tanh + 1.0)));
    }
    if config.masked == Masked::Renormalise {
        gradient = zero_where(masked, &gradient);
    }
    gradient = select(nan, &rows.table.nan.clone().cast(z.dtype()), &gradient);
    zero_where(dead, &zero_where(forbidden.as_ref(), &gradient))
}
