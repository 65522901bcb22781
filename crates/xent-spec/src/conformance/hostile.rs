//! What strangers and broken training runs send.

use super::{Candidate, equal_bits, judge, run};
use crate::case::{
    Allowed, Case, Denominator, EmptyMean, Masked, Prior, Reduction, RowValue, Targets, Upstream,
};
use crate::dtype::{Dtype, IndexDtype};
use crate::families::Family;
use crate::textbook::evaluate;

/// Two good rows of three classes, to be spoilt.
fn good() -> Case {
    Case {
        epsilon: RowValue::Shared(0.1),
        ..Case::rows(&[&[2.0, -1.0, 0.5], &[0.0, 1.0, -2.0]], &[0, 2])
    }
}

fn labels(dtype: IndexDtype, labels: &[i64]) -> Targets {
    Targets::Classes { dtype, labels: labels.to_vec() }
}

/// Cases that have no answer.
fn refusals() -> Vec<(String, Case)> {
    let mut cases: Vec<(String, Case)> = Vec::new();
    let mut add = |why: String, case: Case| cases.push((why, case));
    let nan = f64::NAN;

    for (dtype, label) in [
        (IndexDtype::U8, 3),
        (IndexDtype::U8, 255),
        (IndexDtype::U16, 3),
        (IndexDtype::U16, i64::from(u16::MAX)),
        (IndexDtype::U64, 3),
        (IndexDtype::U64, i64::MAX),
        (IndexDtype::U32, 3),
        (IndexDtype::U32, i64::from(u32::MAX)),
        (IndexDtype::I32, -1),
        (IndexDtype::I32, i64::from(i32::MIN)),
        (IndexDtype::I64, 3),
        (IndexDtype::I64, -1),
        (IndexDtype::I64, -100),
        (IndexDtype::I64, i64::MIN),
        (IndexDtype::I64, i64::MAX),
        (IndexDtype::I64, 1 << 32),
    ] {
        add(
            format!("label {label} in {dtype:?}"),
            Case { targets: labels(dtype, &[0, label]), ..good() },
        );
    }
    for (a, b) in [([0, 3], [1, 1]), ([0, 1], [-1, 1])] {
        add(
            format!("two labels {a:?} and {b:?}"),
            Case { targets: Targets::two_labels(&a, &b, 0.5), ..good() },
        );
    }
    for lambda in [-0.1, 1.1, nan] {
        add(
            format!("λ = {lambda}"),
            Case { targets: Targets::two_labels(&[0, 1], &[1, 2], lambda), ..good() },
        );
    }
    for q in [-0.1, nan, f64::INFINITY] {
        let values = [0.5, 0.5, 0.0, 0.25, q, 0.25];
        add(
            format!("probability {q}"),
            Case { targets: Targets::probabilities(&values), ..good() },
        );
    }
    let one_hot = Targets::probabilities(&[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    add(
        "ignore index with probabilities".into(),
        Case { targets: one_hot.clone(), ignore_index: vec![-100], ..good() },
    );
    add(
        "too few probabilities".into(),
        Case { targets: Targets::probabilities(&[1.0, 0.0, 0.0]), ..good() },
    );
    add("too few labels".into(), Case { targets: Targets::classes(&[0]), ..good() });

    for epsilon in [-0.1, 1.1, nan, f64::INFINITY] {
        add(format!("ε = {epsilon}"), Case { epsilon: RowValue::Shared(epsilon), ..good() });
        add(
            format!("ε = {epsilon} in one row"),
            Case { epsilon: RowValue::Each(vec![0.1, epsilon]), ..good() },
        );
    }
    add("one ε for two rows".into(), Case { epsilon: RowValue::Each(vec![0.1]), ..good() });
    for prior in [
        vec![0.5, 0.25, 0.2],
        vec![0.5, 0.75, -0.25],
        vec![0.5, 0.5, nan],
        vec![0.5, 0.5],
        vec![0.25; 4],
    ] {
        add(format!("prior {prior:?}"), Case { prior: Prior::Fixed(prior.clone()), ..good() });
    }
    let third = vec![0.5, 0.25, 0.25, 0.25, 0.5, 0.25, 0.25, 0.25];
    for last in [vec![0.25], vec![0.5, 0.5], vec![]] {
        let priors = [third.clone(), last].concat();
        add(
            format!("priors by true class {priors:?}"),
            Case { prior: Prior::ByTrueClass(priors.clone()), ..good() },
        );
    }
    for weights in [
        vec![1.0, -1.0, 1.0],
        vec![1.0, nan, 1.0],
        vec![1.0, f64::INFINITY, 1.0],
        vec![1.0; 2],
        vec![1.0; 4],
    ] {
        add(
            format!("class weights {weights:?}"),
            Case { class_weights: Some(weights.clone()), ..good() },
        );
    }
    for weights in
        [vec![1.0, -1.0], vec![nan, 1.0], vec![1.0, f64::INFINITY], vec![1.0], vec![1.0; 3]]
    {
        add(
            format!("row weights {weights:?}"),
            Case { row_weights: Some(weights.clone()), ..good() },
        );
    }
    add("row mask for one row".into(), Case { ignored_rows: vec![false], ..good() });
    add(
        "class mask for two classes".into(),
        Case { allowed: Allowed::Shared(vec![true; 2]), ..good() },
    );
    add("class mask for one row".into(), Case { allowed: Allowed::Each(vec![true; 3]), ..good() });
    for bad in [0.0, -1.0, nan, f64::INFINITY] {
        add(format!("denominator {bad}"), Case { denominator: Denominator::Given(bad), ..good() });
        add(format!("temperature {bad}"), Case { temperature: Some(bad), ..good() });
        add(format!("softcap {bad}"), Case { softcap: Some(bad), ..good() });
    }
    for z_loss in [-1e-4, nan, f64::INFINITY] {
        add(format!("z-loss {z_loss}"), Case { z_loss, ..good() });
    }
    for reduction in [Reduction::Sum, Reduction::Mean] {
        add(
            format!("upstream per row with {reduction:?}"),
            Case { upstream: Upstream(RowValue::Each(vec![1.0, 2.0])), reduction, ..good() },
        );
    }
    let upstream = Upstream(RowValue::Each(vec![1.0; 3]));
    add(
        "three upstream gradients for two rows".into(),
        Case { upstream, reduction: Reduction::None, ..good() },
    );
    let empty = Case { ignored_rows: vec![true; 2], empty_mean: EmptyMean::Error, ..good() };
    add("empty mean".into(), empty.clone());
    add(
        "empty mean of no rows".into(),
        Case {
            shape: vec![0, 3],
            logits: vec![],
            targets: Targets::classes(&[]),
            ignored_rows: vec![],
            ..empty
        },
    );
    let weightless =
        Case { class_weights: Some(vec![0.0, 1.0, 0.0]), empty_mean: EmptyMean::Error, ..good() };
    add("mean over weights of 0".into(), weightless);
    cases
}

/// Each of the refusals is an error, and says something.
pub(super) fn refuses_bad_input(candidate: &Candidate) -> Result<(), String> {
    let every_dtype = Dtype::ALL
        .into_iter()
        .flat_map(|dtype| refusals().into_iter().map(move |(why, case)| (dtype, why, case)));
    for (dtype, why, case) in every_dtype {
        let case = Case { name: format!("{why}, {dtype:?}"), dtype, ..case };
        if !candidate.supports(&case) {
            continue;
        }
        if let Ok(answer) = evaluate(&case) {
            return Err(format!("the textbook answers {:?} with {answer:?}", case.name));
        }
        match candidate.run(&case) {
            Err(message) if message.trim().is_empty() => {
                return Err(format!("{:?} is refused without a word", case.name));
            }
            Err(_) => {}
            Ok(answer) => {
                return Err(format!(
                    "{:?} is accepted, with the loss {:?}",
                    case.name, answer.loss
                ));
            }
        }
    }
    Ok(())
}

/// 4 rows of 37 classes, one loss per row, right in row 2.
fn batch(dtype: Dtype) -> Case {
    const CLASSES: usize = 37;
    let mut rng = super::rng(5);
    let mut row = |favourite| Family::Confident(5.0).row(&mut rng, dtype, CLASSES, favourite);
    Case {
        dtype,
        shape: vec![4, CLASSES],
        axis: 1,
        logits: [row(3), row(0), row(36), row(9)].concat(),
        targets: Targets::classes(&[0, 7, 36, 12]),
        epsilon: RowValue::Shared(0.1),
        reduction: Reduction::None,
        ..Case::default()
    }
}

/// NaN or +∞ anywhere in a row makes that row NaN and no other.
pub(super) fn bad_logits_stay_in_their_row(candidate: &Candidate) -> Result<(), String> {
    for dtype in Dtype::ALL {
        let clean = batch(dtype);
        if !candidate.supports(&clean) {
            continue;
        }
        let untouched = run(candidate, &clean)?;
        for bad in [f64::NAN, f64::INFINITY] {
            for class in 0..clean.class_count() {
                let row = class % 4;
                let mut case = Case {
                    name: format!("{dtype:?}, {bad} in row {row}, class {class}"),
                    ..clean.clone()
                };
                let position = case.position(row, class);
                case.logits[position] = bad;
                judge(candidate, &case)?;
                let mut answer = run(candidate, &case)?;
                // The bad row apart, every bit is as before.
                for list in [&mut answer.loss, &mut answer.lse] {
                    list[row] = 0.0;
                }
                let mut expected = untouched.clone();
                expected.loss[row] = 0.0;
                expected.lse[row] = 0.0;
                for class in 0..case.class_count() {
                    let position = case.position(row, class);
                    (answer.grad[position], expected.grad[position]) = (0.0, 0.0);
                }
                for (what, got, expected) in [
                    ("loss", &answer.loss, &expected.loss),
                    ("lse", &answer.lse, &expected.lse),
                    ("gradient", &answer.grad, &expected.grad),
                ] {
                    equal_bits(&format!("{}: {what} of the other rows", case.name), got, expected)?;
                }
                judge(candidate, &Case { reduction: Reduction::Mean, ..case })?;
            }
        }
    }
    Ok(())
}

/// −∞ at every place of a short row and around every likely block edge of a long one, alone and
/// with all that follow.
pub(super) fn masked_classes_at_every_position(candidate: &Candidate) -> Result<(), String> {
    const LONG: usize = 4101;
    let mut edges = vec![0, 1, LONG - 1];
    for block in [16, 64, 256, 512, 1024, 2048, 4096] {
        edges.extend([block - 1, block, block + 1]);
    }
    let short = (0..37).map(|place| (37, place));
    for (classes, place) in short.chain(edges.into_iter().map(|place| (LONG, place))) {
        for (epsilon, masked) in
            [(0.0, Masked::PyTorch), (0.1, Masked::PyTorch), (0.1, Masked::Renormalise)]
        {
            let label = (place + 1) % classes;
            let mut rng = super::rng(place as u64);
            let mut logits =
                Family::Normal { scale: 1.0, offset: 0.0 }.row(&mut rng, Dtype::F32, classes, 0);
            let mut tail = logits.clone();
            logits[place] = f64::NEG_INFINITY;
            tail[place..].fill(f64::NEG_INFINITY);
            tail[label] = 0.5;
            judge(
                candidate,
                &Case {
                    name: format!("−∞ in class {place} of {classes}, ε = {epsilon}, {masked:?}"),
                    dtype: Dtype::F32,
                    epsilon: RowValue::Shared(epsilon),
                    masked,
                    reduction: Reduction::None,
                    ..Case::rows(&[&logits, &tail], &[label as i64; 2])
                },
            )?;
        }
    }
    Ok(())
}

/// A masked class that the target names: infinite is what has mass there, and nothing else. A prior
/// over the wrong classes has none on the true one.
pub(super) fn masked_targets(candidate: &Candidate) -> Result<(), String> {
    const MASKED: f64 = f64::NEG_INFINITY;
    for targets in [
        Targets::classes(&[0, 1]),
        Targets::two_labels(&[0, 2], &[1, 1], 0.25),
        Targets::probabilities(&[0.75, 0.25, 0.0, 0.0, 1.0, 0.0]),
    ] {
        for prior in [Prior::Uniform, Prior::WrongClasses, Prior::Excluding(vec![0, 2])] {
            for (dtype, epsilon, masked) in [
                (Dtype::F64, 0.1, Masked::PyTorch),
                (Dtype::F32, 1.0, Masked::PyTorch),
                (Dtype::F64, 1.0, Masked::Renormalise),
                (Dtype::F32, 0.1, Masked::Renormalise),
            ] {
                let case = Case {
                    name: format!("{targets:?}, {prior:?}, {dtype:?}, ε = {epsilon}, {masked:?}"),
                    dtype,
                    targets: targets.clone(),
                    prior: prior.clone(),
                    epsilon: RowValue::Shared(epsilon),
                    masked,
                    reduction: Reduction::None,
                    ..Case::rows(&[&[MASKED, 1.0, 0.5], &[2.0, MASKED, MASKED]], &[])
                };
                judge(candidate, &case)?;
            }
        }
    }
    Ok(())
}

/// The logits and probabilities of ignored rows are never looked at.
pub(super) fn ignored_rows_are_never_read(candidate: &Candidate) -> Result<(), String> {
    let nan = [f64::NAN; 3];
    for reduction in [Reduction::None, Reduction::Sum, Reduction::Mean] {
        let case = Case {
            name: format!("ignored rows of NaN, {reduction:?}"),
            reduction,
            epsilon: RowValue::Shared(0.1),
            z_loss: 0.01,
            ..Case::rows(
                &[
                    &nan,
                    &[1.0, 2.0, 4.0],
                    &[f64::INFINITY; 3],
                    &[0.0, 0.5, -1.0],
                    &[f64::NEG_INFINITY; 3],
                ],
                &[-100, 1, -100, 2, -100],
            )
        };
        judge(candidate, &Case { ignore_index: vec![-100], ..case.clone() })?;
        let ignored_rows = vec![true, false, true, false, true];
        let probabilities = [nan, [0.5, 0.25, 0.25], [-1.0; 3], [0.0, 0.0, 1.0], nan].concat();
        judge(
            candidate,
            &Case {
                ignored_rows: ignored_rows.clone(),
                targets: Targets::classes(&[0, 1, 0, 2, 0]),
                ..case.clone()
            },
        )?;
        judge(
            candidate,
            &Case { ignored_rows, targets: Targets::probabilities(&probabilities), ..case.clone() },
        )?;
        judge(
            candidate,
            &Case {
                ignore_index: vec![2, 7],
                targets: Targets::two_labels(&[7, 0, 1, 1, 2], &[1, 0, 2, 0, 7], 0.25),
                ..case
            },
        )?;
    }
    Ok(())
}

/// No rows, all rows ignored, weights of 0: every reduction, every denominator, every empty mean.
pub(super) fn empty_batches(candidate: &Candidate) -> Result<(), String> {
    let none = Case { shape: vec![0, 3], logits: vec![], targets: Targets::classes(&[]), ..good() };
    let all_ignored =
        Case { ignore_index: vec![-1], targets: Targets::classes(&[-1, -1]), ..good() };
    let weightless = Case { class_weights: Some(vec![0.0, 1.0, 0.0]), ..good() };
    let one_ignored = Case { ignore_index: vec![2], ..weightless.clone() };
    for (name, case) in [
        ("no rows", none),
        ("all ignored", all_ignored),
        ("weights of 0", weightless),
        ("weights of 0, one row ignored", one_ignored),
    ] {
        for reduction in [Reduction::None, Reduction::Sum, Reduction::Mean] {
            for denominator in [
                Denominator::PyTorch,
                Denominator::KeptRows,
                Denominator::Rows,
                Denominator::Given(3.0),
            ] {
                for empty_mean in [EmptyMean::Nan, EmptyMean::Zero, EmptyMean::Error] {
                    let name = format!("{name}, {reduction:?}, {denominator:?}, {empty_mean:?}");
                    judge(
                        candidate,
                        &Case { name, reduction, denominator, empty_mean, ..case.clone() },
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// With one class there is nothing to learn.
pub(super) fn one_class(candidate: &Candidate) -> Result<(), String> {
    for dtype in Dtype::ALL {
        for prior in [
            Prior::Uniform,
            Prior::WrongClasses,
            Prior::Excluding(vec![0]),
            Prior::Fixed(vec![1.0]),
        ] {
            let case = Case {
                name: format!("one class, {dtype:?}, {prior:?}"),
                dtype,
                prior,
                reduction: Reduction::None,
                epsilon: RowValue::Shared(0.3),
                ..Case::rows(&[&[2.0], &[-1e4], &[0.0]], &[0, 0, 0])
            };
            let case = Case {
                logits: case.logits.iter().map(|&logit| dtype.round(logit)).collect(),
                ..case
            };
            judge(candidate, &case)?;
            if candidate.supports(&case) {
                let answer = run(candidate, &case)?;
                if answer.loss.iter().chain(&answer.grad).any(|&value| value != 0.0) {
                    return Err(format!(
                        "case {:?}: expected losses and gradients of 0, got {answer:?}",
                        case.name
                    ));
                }
            }
        }
    }
    Ok(())
}
