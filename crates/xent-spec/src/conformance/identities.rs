//! What must hold between answers, whoever computes them. All in f64.

use super::{Candidate, ask, rng, run};
use crate::answer::Answer;
use crate::case::{Case, ClassWeighting, Form, Prior, Reduction, RowValue, Targets, Upstream};
use crate::dtype::Dtype;
use crate::families::Family;

const TOLERANCE: f64 = 1e-12;
const CLASSES: usize = 7;

fn batch(name: &str) -> Case {
    let mut rng = rng(11);
    let mut row =
        || Family::Normal { scale: 2.0, offset: 0.0 }.row(&mut rng, Dtype::F64, CLASSES, 0);
    // Few digits, so that a shift by a power of two is exact.
    let logits: Vec<f64> = [row(), row(), row(), row()]
        .concat()
        .into_iter()
        .map(|z| (z * 1024.0).round() / 1024.0)
        .collect();
    Case {
        name: name.into(),
        shape: vec![4, CLASSES],
        axis: 1,
        logits,
        targets: Targets::classes(&[0, 3, 6, 2]),
        epsilon: RowValue::Shared(0.1),
        reduction: Reduction::None,
        ..Case::default()
    }
}

fn one_hot(label: usize) -> Vec<f64> {
    (0..CLASSES).map(|class| if class == label { 1.0 } else { 0.0 }).collect()
}

fn near(what: &str, got: &[f64], expected: &[f64], tolerance: f64) -> Result<(), String> {
    let pairs = got.iter().zip(expected);
    let is_near = |(got, expected): (&f64, &f64)| {
        (got - expected).abs() <= tolerance * expected.abs().max(1.0)
    };
    match pairs.enumerate().find(|&(_, pair)| !is_near(pair)) {
        None if got.len() == expected.len() => Ok(()),
        None => Err(format!("{what}: {} values, expected {}", got.len(), expected.len())),
        Some((index, (got, expected))) => {
            Err(format!("{what}, value {index}: got {got:e}, expected {expected:e}"))
        }
    }
}

fn same_loss_and_gradient(what: &str, got: &Answer, expected: &Answer) -> Result<(), String> {
    near(&format!("{what}: loss"), &got.loss, &expected.loss, TOLERANCE)?;
    near(&format!("{what}: gradient"), &got.grad, &expected.grad, TOLERANCE)
}

/// Raising all logits alike changes nothing, so a row's gradient sums to 0; only the z-loss
/// notices.
pub(super) fn shift_invariance(candidate: &Candidate) -> Result<(), String> {
    let case = batch("shift");
    let Some(answer) = ask(candidate, &case)? else { return Ok(()) };
    for row in answer.grad.chunks(CLASSES) {
        near("sum of a row's gradient", &[row.iter().sum()], &[0.0], 1e-15)?;
    }
    for shift in [-64.0, 1024.0] {
        let shifted =
            Case { logits: case.logits.iter().map(|z| z + shift).collect(), ..case.clone() };
        same_loss_and_gradient(&format!("shift by {shift}"), &run(candidate, &shifted)?, &answer)?;
    }
    Ok(())
}

/// The parts add up, the loss is between its floor and what the hardest row allows, and the
/// divergence is the excess over the floor.
pub(super) fn parts_and_bounds(candidate: &Candidate) -> Result<(), String> {
    for prior in [Prior::Uniform, Prior::WrongClasses, Prior::Excluding(vec![1, 3])] {
        let name = format!("parts, {prior:?}");
        let case = Case { prior, ..batch(&name) };
        let Some(answer) = ask(candidate, &case)? else { continue };
        let sums: Vec<f64> = answer
            .nll
            .iter()
            .zip(&answer.smoothing)
            .map(|(nll, smoothing)| 0.9 * nll + smoothing)
            .collect();
        near(&format!("{name}: (1−ε)·nll + smoothing"), &sums, &answer.loss, TOLERANCE)?;
        for row in 0..4 {
            let (loss, floor, lse) = (answer.loss[row], answer.floor[row], answer.lse[row]);
            let smallest = case.row(row).into_iter().fold(f64::INFINITY, f64::min);
            if !(0.0 < floor && floor <= loss && loss <= lse - smallest) {
                return Err(format!(
                    "{name}, row {row}: floor {floor}, loss {loss}, largest possible {}",
                    lse - smallest
                ));
            }
        }
        let Some(kl) = ask(candidate, &Case { form: Form::KlDivergence, ..case })? else {
            continue;
        };
        let excess: Vec<f64> =
            answer.loss.iter().zip(&answer.floor).map(|(loss, floor)| loss - floor).collect();
        near(&format!("{name}: divergence"), &kl.loss, &excess, TOLERANCE)?;
        near(&format!("{name}: gradient of the divergence"), &kl.grad, &answer.grad, TOLERANCE)?;
    }
    Ok(())
}

/// ε over the wrong classes is εK/(K−1) over all.
pub(super) fn wrong_classes_are_a_rescaled_uniform(candidate: &Candidate) -> Result<(), String> {
    for epsilon in [0.1, 0.5, 0.8] {
        let wrong = Case {
            epsilon: RowValue::Shared(epsilon),
            prior: Prior::WrongClasses,
            ..batch("wrong classes")
        };
        let more = epsilon * CLASSES as f64 / (CLASSES - 1) as f64;
        let uniform = Case { epsilon: RowValue::Shared(more), ..batch("uniform") };
        let (Some(wrong), Some(uniform)) = (ask(candidate, &wrong)?, ask(candidate, &uniform)?)
        else {
            continue;
        };
        same_loss_and_gradient(
            &format!("ε = {epsilon} over the wrong classes, {more} over all"),
            &wrong,
            &uniform,
        )?;
    }
    Ok(())
}

/// Smoothing a smoothed target: 1 − ε is the product of both.
pub(super) fn smoothing_composes(candidate: &Candidate) -> Result<(), String> {
    let (first, second) = (0.25, 0.4);
    let smoothed =
        |label| one_hot(label).into_iter().map(|t| (1.0 - first) * t + first / CLASSES as f64);
    let values: Vec<f64> = [0, 3, 6, 2].into_iter().flat_map(smoothed).collect();
    let twice = Case {
        targets: Targets::probabilities(&values),
        epsilon: RowValue::Shared(second),
        ..batch("twice")
    };
    let once =
        Case { epsilon: RowValue::Shared(1.0 - (1.0 - first) * (1.0 - second)), ..batch("once") };
    match (ask(candidate, &twice)?, ask(candidate, &once)?) {
        (Some(twice), Some(once)) => {
            same_loss_and_gradient("smoothing twice and once", &twice, &once)
        }
        _ => Ok(()),
    }
}

/// One target in the three ways of writing it: a label, a distribution, and a mix of a label with
/// another of no share.
pub(super) fn targets_agree(candidate: &Candidate) -> Result<(), String> {
    for prior in [Prior::Uniform, Prior::WrongClasses, Prior::Excluding(vec![2, 5])] {
        let labels = Case { prior, ..batch("labels") };
        let values = [0, 3, 6, 2].into_iter().flat_map(one_hot).collect::<Vec<_>>();
        let probabilities = Case { targets: Targets::probabilities(&values), ..labels.clone() };
        let mixed = Case {
            targets: Targets::two_labels(&[0, 3, 6, 2], &[1, 1, 1, 1], 1.0),
            ..labels.clone()
        };
        let Some(expected) = ask(candidate, &labels)? else { continue };
        for other in [probabilities, mixed] {
            let Some(answer) = ask(candidate, &other)? else { continue };
            same_loss_and_gradient(
                &format!("{:?}, {:?}", other.prior, other.targets),
                &answer,
                &expected,
            )?;
        }
    }
    Ok(())
}

/// A mix of two labels costs the mix of what the labels cost.
pub(super) fn two_labels_are_linear(candidate: &Candidate) -> Result<(), String> {
    const LAMBDA: f64 = 0.3;
    let (a, b) = ([0, 3, 6, 2], [5, 3, 0, 1]);
    for prior in [Prior::Uniform, Prior::WrongClasses] {
        let mixed =
            Case { prior, targets: Targets::two_labels(&a, &b, LAMBDA), ..batch("two labels") };
        let one = |labels: &[i64]| {
            ask(candidate, &Case { targets: Targets::classes(labels), ..mixed.clone() })
        };
        let (Some(mixed), Some(a), Some(b)) = (ask(candidate, &mixed)?, one(&a)?, one(&b)?) else {
            continue;
        };
        let mix = |a: &[f64], b: &[f64]| -> Vec<f64> {
            a.iter().zip(b).map(|(a, b)| LAMBDA * a + (1.0 - LAMBDA) * b).collect()
        };
        near("loss of two labels", &mixed.loss, &mix(&a.loss, &b.loss), TOLERANCE)?;
        near("gradient of two labels", &mixed.grad, &mix(&a.grad, &b.grad), TOLERANCE)?;
    }
    Ok(())
}

/// Numbering the classes from the other end numbers the gradient from there too.
pub(super) fn class_order_is_free(candidate: &Candidate) -> Result<(), String> {
    let weights: Vec<f64> = (1..=CLASSES).map(|w| w as f64 / 4.0).collect();
    let case = Case {
        class_weights: Some(weights.clone()),
        prior: Prior::WrongClasses,
        ..batch("class order")
    };
    let last = CLASSES as i64 - 1;
    let backwards = |values: &[f64]| -> Vec<f64> {
        values.chunks(CLASSES).flat_map(|row| row.iter().rev().copied()).collect()
    };
    let turned = Case {
        logits: backwards(&case.logits),
        targets: Targets::classes(&[last, last - 3, last - 6, last - 2]),
        class_weights: Some(backwards(&weights)),
        ..case.clone()
    };
    let (Some(answer), Some(turned)) = (ask(candidate, &case)?, ask(candidate, &turned)?) else {
        return Ok(());
    };
    near("loss, classes turned round", &turned.loss, &answer.loss, TOLERANCE)?;
    near("gradient, classes turned round", &backwards(&turned.grad), &answer.grad, TOLERANCE)
}

/// At the logits that the loss asks for, the gradient is 0 and the loss its floor: the label this
/// far above all others.
pub(super) fn logit_gap_is_the_optimum(candidate: &Candidate) -> Result<(), String> {
    let classes = CLASSES as f64;
    for epsilon in [0.01, 0.1, 0.5] {
        let uniform = f64::ln(1.0 + (1.0 - epsilon) * classes / epsilon);
        let wrong = f64::ln((1.0 - epsilon) * (classes - 1.0) / epsilon);
        for (prior, gap) in [(Prior::Uniform, uniform), (Prior::WrongClasses, wrong)] {
            let name = format!("optimum, {prior:?}, ε = {epsilon}");
            let logits: Vec<f64> = one_hot(4).into_iter().map(|on| 1.5 + gap * on).collect();
            let case = Case {
                name: name.clone(),
                prior,
                epsilon: RowValue::Shared(epsilon),
                ..Case::rows(&[&logits], &[4])
            };
            let (Some(answer), Some(divergence)) = (
                ask(candidate, &case)?,
                ask(candidate, &Case { form: Form::KlDivergence, ..case })?,
            ) else {
                continue;
            };
            near(&format!("{name}: loss and floor"), &answer.loss, &answer.floor, TOLERANCE)?;
            near(&format!("{name}: divergence"), &divergence.loss, &[0.0], TOLERANCE)?;
            near(&format!("{name}: gradient"), &answer.grad, &[0.0; CLASSES], TOLERANCE)?;
        }
    }
    Ok(())
}

/// Cases with a scalar loss and many options at once.
fn composed() -> Vec<Case> {
    let all = Case {
        reduction: Reduction::Mean,
        z_loss: 0.01,
        upstream: Upstream(RowValue::Shared(-1.5)),
        ..batch("z-loss")
    };
    let weights = Some(vec![0.5, 1.0, 2.0, 0.0, 1.5, 3.0, 0.25]);
    vec![
        Case {
            name: "softcap and temperature".into(),
            softcap: Some(5.0),
            temperature: Some(1.5),
            ..all.clone()
        },
        Case {
            name: "class weights".into(),
            class_weights: weights.clone(),
            prior: Prior::WrongClasses,
            ..all.clone()
        },
        Case {
            name: "weighted rows, two labels".into(),
            class_weights: weights,
            class_weighting: ClassWeighting::PerRow,
            row_weights: Some(vec![1.0, 0.5, 2.0, 0.25]),
            targets: Targets::two_labels(&[0, 3, 6, 2], &[1, 1, 4, 5], 0.75),
            ..all.clone()
        },
        Case {
            name: "divergence, ε a row".into(),
            form: Form::KlDivergence,
            epsilon: RowValue::Each(vec![0.0, 0.1, 0.5, 1.0]),
            ..all
        },
    ]
}

/// The case with one logit moved by `step`.
fn moved(case: &Case, position: usize, step: f64) -> Case {
    let mut case = case.clone();
    case.logits[position] += step;
    case
}

/// The gradient is that of the reported loss: central differences, at gradcheck's usual step and
/// tolerance.
pub(super) fn finite_differences(candidate: &Candidate) -> Result<(), String> {
    const STEP: f64 = 1e-6;
    for case in composed() {
        let Some(answer) = ask(candidate, &case)? else { continue };
        let upstream = case.upstream.0.of(0);
        for (position, &entry) in answer.grad.iter().enumerate() {
            let loss = |step| {
                run(candidate, &moved(&case, position, step))
                    .map(|answer| upstream * answer.loss[0])
            };
            let slope = (loss(STEP)? - loss(-STEP)?) / (2.0 * STEP);
            let near = (slope - entry).abs() <= 1e-5 + 1e-3 * slope.abs();
            if !near || (slope.abs() > 1e-5 && entry == 0.0) {
                return Err(format!(
                    "case {:?}: gradient entry {position} is {entry:e}, the loss's slope {slope:e}",
                    case.name
                ));
            }
        }
    }
    Ok(())
}

/// Second derivatives, as differences of the gradient: symmetric.
pub(super) fn hessian_is_symmetric(candidate: &Candidate) -> Result<(), String> {
    const STEP: f64 = 1e-4;
    for case in composed() {
        if ask(candidate, &case)?.is_none() {
            continue;
        }
        let column = |position: usize| -> Result<Vec<f64>, String> {
            let grad =
                |step| run(candidate, &moved(&case, position, step)).map(|answer| answer.grad);
            Ok(grad(STEP)?
                .iter()
                .zip(&grad(-STEP)?)
                .map(|(up, down)| (up - down) / (2.0 * STEP))
                .collect())
        };
        let columns = (0..case.logits.len()).map(column).collect::<Result<Vec<_>, _>>()?;
        for (i, column) in columns.iter().enumerate() {
            for (j, &entry) in column.iter().enumerate() {
                near(
                    &format!("case {:?}: second derivative by {i} and {j}", case.name),
                    &[entry],
                    &[columns[j][i]],
                    1e-7,
                )?;
            }
        }
    }
    Ok(())
}
