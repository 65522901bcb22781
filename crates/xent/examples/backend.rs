//! A whole backend in a hundred lines: statistics of a row's logits, and its gradient. All that a
//! loss means is in `xent::rules`.
//!
//! It is slow and in f64, but it has every option: the conformance suite of `xent-spec` judges it
//! as it judges xent's own engine (`tests/backend.rs`). `cargo run -p xent --example backend` runs
//! it on the worked example of SEMANTICS.md.

use xent::rules::{
    ClassEntry, Functional, Plan, RowGradient, RowPlan, RowStats, relative_entropy_term,
};
use xent::{Batch, Config, Criterion, Output, Result, Upstream};

/// Classes of a piece of a row.
const PIECE: usize = 64;

/// The loss of `[N, K]` logits and its gradient.
pub fn forward_backward(
    criterion: &Criterion,
    logits: &[f64],
    classes: usize,
    batch: &Batch<'_>,
    upstream: &Upstream<'_>,
) -> Result<(Output<f64>, Vec<f64>)> {
    let plan = Plan::new(criterion, batch, logits.len() / classes, classes)?;
    let factors = plan.gradient_factors(upstream)?;
    let (mut parts, mut memo) = (plan.parts(), plan.floor_memo());
    let mut all = parts.all();
    let mut gradient = vec![0.0; logits.len()];
    for ((row, logits), gradient) in
        logits.chunks_exact(classes).enumerate().zip(gradient.chunks_exact_mut(classes))
    {
        // An ignored row: its logits are not read, and its gradient stays 0.
        let Some(row_plan) = plan.row(row) else {
            all.push(None);
            continue;
        };
        let entries = entries(&plan, &row_plan, logits);
        // A row may be cut into pieces; whoever computes them, they merge. Short ones keep sums
        // exact, too.
        let stats = entries
            .chunks(PIECE)
            .map(|piece| statistics(&plan, &row_plan, piece))
            .fold(RowStats::EMPTY, RowStats::merge);

        let folded = plan.fold(&row_plan, &stats, &mut memo);
        let floor = folded.floor.unwrap_or_else(|| {
            let target = entries.iter().map(|at| plan.target_entry(&row_plan, &folded, at));
            -target.map(|y| relative_entropy_term(y, folded.target_mass())).sum::<f64>()
        });
        all.push(Some(folded.parts(floor)));

        match RowGradient::new(&row_plan, &stats, &folded, factors.of(row), plan.transform()) {
            Ok(row) => gradient
                .iter_mut()
                .zip(&entries)
                .for_each(|(entry, at)| *entry = row.entry(&plan, at)),
            Err(value) => gradient
                .iter_mut()
                .enumerate()
                .filter(|&(class, _)| !plan.forbids(row, class))
                .for_each(|(_, entry)| *entry = value),
        }
    }
    Ok((plan.finish(parts), gradient))
}

/// What the row has of each class: the transformed logit, −∞ where it is forbidden; the prior's v
/// and the dense target's t.
fn entries(plan: &Plan<'_>, row: &RowPlan, logits: &[f64]) -> Vec<ClassEntry> {
    let (mut v, mut t) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
    plan.fill_prior(row, 0, &mut v);
    plan.fill_target(row.row, 0, &mut t);
    let z = |(class, &logit)| {
        if plan.forbids(row.row, class) { f64::NEG_INFINITY } else { plan.transform().apply(logit) }
    };
    logits
        .iter()
        .enumerate()
        .map(z)
        .zip(v.into_iter().zip(t))
        .enumerate()
        .map(|(class, (z, (v, t)))| ClassEntry::new(class, z, v, t))
        .collect()
}

/// What the rules ask of a piece of a row.
fn statistics(plan: &Plan<'_>, row: &RowPlan, piece: &[ClassEntry]) -> RowStats {
    let mut stats = RowStats::EMPTY;
    for at in piece {
        if at.z > stats.max {
            (stats.max, stats.argmax) = (at.z, at.class);
        }
        if at.target > stats.target_max {
            (stats.target_max, stats.target_argmax) = (at.target, at.class);
        }
    }
    for at in piece {
        let masked = at.z == f64::NEG_INFINITY;
        let weight = plan.table().class_weights().map_or(1.0, |weights| weights[at.class]);
        // The largest term is 1 and left out, so that the loss of a confident row keeps its digits.
        // A NaN reaches the sum.
        if !masked && (at.class != stats.argmax || at.z.is_nan()) {
            stats.rest += (at.z - stats.max).exp();
        }
        add(&mut stats.target, at.target * weight, at.z, stats.max);
        if masked && plan.table().renormalises() {
            stats.closed_prior += at.prior;
        } else {
            add(&mut stats.prior, at.prior * weight, at.z, stats.max);
            stats.open_prior += at.prior;
        }
        if let Some(j) = row.hot().iter().position(|hot| hot.class == at.class) {
            stats = stats.with_hot(j, at.z);
        }
    }
    stats
}

fn add(functional: &mut Functional, v: f64, z: f64, max: f64) {
    if z == f64::NEG_INFINITY {
        functional.masked_mass += v;
        functional.masked += usize::from(v > 0.0);
    } else {
        functional.mass += v;
        // 0·∞ is 0.
        functional.shifted += if v == 0.0 { 0.0 } else { v * (max - z) };
    }
}

#[allow(dead_code)] // Not where a test includes this file.
pub(crate) fn main() -> Result<()> {
    let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).build()?;
    let logits =
        [2.0, -1.0, 0.5, 0.0, 0.0, 1.0, -2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 1.0, 0.0, 0.0, -1.0];
    let targets = [0i64, 3, -100, 1];
    let (output, gradient) =
        forward_backward(&criterion, &logits, 4, &Batch::new(&targets), &Upstream::Scalar(1.0))?;
    let loss = output.loss.as_slice()[0];
    println!("loss {loss:.10}");
    assert!((loss - 0.8522961067).abs() < 1e-9); // SEMANTICS.md, "Known answers"
    println!("gradient of the first row {:?}", &gradient[..4]);
    Ok(())
}
