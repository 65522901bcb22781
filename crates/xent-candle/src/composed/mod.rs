//! On every device: candle's own operations for what is one number a row and class, [`xent::plan`] for what is one number a row.
//!
//! The device reduces each row to its statistics, the host folds them into the loss and into the few coefficients of the gradient, and the device forms the gradient
//! from these when candle asks for it. O(N) numbers travel each way, O(K) for a prior, and O(N·K) only where the prior or the targets are themselves that large.

mod gradient;
mod statistics;
mod vectors;

use candle_core::{DType, Tensor, WithDType};
use xent::rules::{Folded, Plan, RowPlan, RowStats};
use xent::{Criterion, Output, Real, Upstream};

use crate::host::HostBatch;
use crate::shape::LogitsShape;
use crate::{Result, engine};
pub(crate) use gradient::Gradient;
use gradient::{Coefficients, RowCoefficients};
use vectors::Vectors;

/// Loss, parts and, of tracked logits, what forms the gradient.
pub(crate) fn forward(criterion: &Criterion, batch: &HostBatch, shape: &LogitsShape, logits: &Tensor) -> Result<(Tensor, Output<f64>, Option<Gradient>)> {
    batch.with(|host| {
        let plan = Plan::new(criterion, &host, shape.rows(), shape.classes())?;
        match logits.dtype() {
            DType::F64 => run::<f64>(&plan, batch, shape, logits),
            _ => run::<f32>(&plan, batch, shape, logits),
        }
    })
}

/// A kept row: before its logits were read, what was read, and what follows.
struct Row {
    plan: RowPlan,
    stats: RowStats,
    folded: Folded,
}

fn run<F: Real + WithDType>(plan: &Plan<'_>, batch: &HostBatch, shape: &LogitsShape, logits: &Tensor) -> Result<(Tensor, Output<f64>, Option<Gradient>)> {
    let plans: Vec<Option<RowPlan>> = (0..plan.rows()).map(|row| plan.row(row)).collect();
    let vectors = Vectors::new::<F>(plan, &plans, shape, batch, logits.device())?;
    let z = vectors.transformed(&logits.detach())?;
    let mut memo = plan.floor_memo();
    let rows: Vec<Option<Row>> = plans
        .into_iter()
        .zip(vectors.statistics::<F>(&z)?)
        .map(|(row, stats)| row.map(|row| Row { plan: row, stats, folded: plan.fold(&row, &stats, &mut memo) }))
        .collect();

    let floors = match rows.iter().flatten().all(|row| row.folded.floor.is_some()) {
        true => Vec::new(),
        false => {
            let target = rows.iter().map(|row| row.as_ref().map_or(RowCoefficients::default(), |row| RowCoefficients::of_target(&row.folded)));
            // Metal has no f64.
            let target =
                if logits.device().is_metal() { Coefficients::new::<F>(target, logits.device())? } else { Coefficients::new::<f64>(target, logits.device())? };
            vectors.floors(&z, &target)?
        }
    };
    let mut parts = plan.parts::<F>();
    let mut all = parts.all();
    for (i, row) in rows.iter().enumerate() {
        all.push(row.as_ref().map(|row| row.folded.parts(row.folded.floor.unwrap_or_else(|| floors[i]))));
    }
    let output = plan.finish(parts);
    let loss = engine::loss(&output, shape)?.to_device(logits.device())?;
    let gradient = match logits.track_op() {
        true => {
            let factor = plan.gradient_factors(Upstream::Scalar(1.0))?;
            let rows = rows.iter().enumerate().map(|(i, row)| match (row, factor.of(i)) {
                (Some(Row { plan, stats, folded }), Some(factor)) => RowCoefficients::of_gradient(plan, stats, folded, factor / vectors.temperature()),
                _ => RowCoefficients::default(),
            });
            Some(Gradient::new(Coefficients::new::<F>(rows, logits.device())?, vectors))
        }
        false => None,
    };
    Ok((loss, output.to_f64(), gradient))
}
