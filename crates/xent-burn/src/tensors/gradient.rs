//! The gradient `α·softmax(z) − γ·v − τ·t − Σ β_j δ_j` with the exceptions of
//! [`xent::rules::RowGradient`], and the entropy of the smoothed target. SEMANTICS.md S4.3, S7, S8
//! and S9.

use burn::tensor::{IndexingUpdateOp, Tensor};
use xent::{Config, Masked};

use super::fold::Folded;
use super::ops::{Value, sum, zero_where};
use super::rows::Rows;
use super::statistics::Statistics;

/// `left`, `[N, K]`, less the smoothed target of each row times `factor`.
fn less_target(mut left: Tensor<2>, factor: &Value, rows: &Rows, folded: &Folded) -> Tensor<2> {
    let (table, dtype) = (&rows.table, left.dtype());
    let column =
        |coefficient: &Value, like: &Tensor<2>| (coefficient * factor).tensor(like).cast(dtype);
    if !matches!(folded.gamma, Value::Same(0.0)) {
        let gamma = column(&folded.gamma, &table.nan);
        left = left
            - table.weighed(folded.v.as_ref()).map_or(gamma.clone(), |v| v.cast(dtype) * gamma);
    }
    if let Some(t) = rows.dense.as_ref().and_then(|t| table.weighed(Some(t))) {
        left = left - t.cast(dtype) * column(&folded.tau, &table.nan);
    }
    match &rows.hot {
        Some(hot) => {
            let beta = column(&folded.beta, &Tensor::ones(hot.dims(), (&table.device, table.wide)));
            left.scatter(1, hot.clone(), -beta.expand(hot.dims()), IndexingUpdateOp::Add)
        }
        None => left,
    }
}

/// Σ −y ln(y/Y) of each row's smoothed target y, whose mass is Y, `[N, 1]` in the wide dtype.
pub(super) fn floors(rows: &Rows, folded: &Folded) -> Tensor<2> {
    let zeros =
        Tensor::zeros([rows.count, rows.table.classes], (&rows.table.device, rows.table.wide));
    let y = -less_target(zeros, &Value::Same(1.0), rows, folded);
    // y/Y is at most 1, and 1 where a row has one class.
    let terms = y.clone() * (y.clone() / sum(&y)).log();
    -sum(&zero_where(&y.greater_elem(0.0).bool_not(), &terms))
}

/// The gradient of each row's loss times `factor`, `[N, K]`, whatever the row: exceptions 1 to 3
/// are left to the caller. `z_loss` is λ, times the divisor of the loss over that of z-loss.
pub(super) fn gradient(
    config: &Config,
    rows: &Rows,
    statistics: &Statistics,
    folded: &Folded,
    z_loss: &Value,
    factor: Value,
) -> Tensor<2> {
    let Statistics { z, masked, max, rest, .. } = statistics;
    let factor = factor / Value::Same(config.temperature);
    let alpha = &folded.mass + &folded.lse * z_loss * Value::Same(2.0);
    let on_exp = (alpha * &factor).tensor(rest) / (rest.clone() + 1.0);
    let softmax = (z.clone() - max.clone()).exp() * on_exp.cast(z.dtype());
    let mut gradient = less_target(softmax, &factor, rows, folded);
    if config.masked == Masked::Renormalise {
        gradient = zero_where(masked, &gradient);
    }
    if let Some(cap) = config.softcap {
        let tanh = z.clone() / cap;
        gradient = gradient * zero_where(masked, &((-tanh.clone() + 1.0) * (tanh + 1.0)));
    }
    gradient
}
