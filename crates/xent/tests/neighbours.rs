//! A row has the same bits in any company: alone, beside rows that send a whole tile by the slow
//! way, and on any instruction set.

mod common;

use xent::Instructions;
use xent_spec::{
    Allowed, Answer, Case, ClassWeighting, Denominator, Dtype, Form, Masked, Prior, Reduction,
    RowValue, Targets, Upstream,
};

/// The label of ignored rows.
const IGNORED: i64 = -100;

/// Numbers that a training run may come up with, one kind a row.
fn odd_row(kind: usize, classes: usize, z: &mut [f64]) {
    let at = kind % classes;
    match kind % 6 {
        0 => z[at] = f64::NAN,
        1 => z[at] = f64::INFINITY,
        2 => z[at] = f64::NEG_INFINITY,
        3 => z.fill(f64::NEG_INFINITY),
        4 => z.iter_mut().enumerate().for_each(|(k, z)| *z = if k == at { 3e38 } else { -3e38 }),
        _ => z.fill(-0.0),
    }
}

/// `rows` rows; those whose number is in `odd` hold odd numbers, those in `ignored` are ignored.
fn batch(
    dtype: Dtype,
    rows: usize,
    classes: usize,
    odd: impl Fn(usize) -> bool,
    ignored: impl Fn(usize) -> bool,
) -> Case {
    let mut logits: Vec<f64> =
        common::noise(rows * classes).map(|z| dtype.round(4.0 * z)).collect();
    for (row, z) in logits.chunks_exact_mut(classes).enumerate().filter(|(row, _)| odd(*row)) {
        odd_row(row, classes, z);
        z.iter_mut().for_each(|z| *z = dtype.round(*z));
    }
    let labels: Vec<i64> = (0..rows)
        .map(|row| if ignored(row) { IGNORED } else { (row * 7919 % classes) as i64 })
        .collect();
    Case {
        dtype,
        shape: vec![rows, classes],
        axis: 1,
        logits,
        targets: Targets::classes(&labels),
        ignore_index: vec![IGNORED],
        // What rows are divided by must not depend on how many there are.
        denominator: Denominator::Given(7.5),
        ..Case::default()
    }
}

/// The same rows as `[N, K, inner]`.
fn inside(case: &Case, inner: usize) -> Case {
    let (rows, classes) = (case.row_count(), case.class_count());
    let mut moved = Case {
        shape: vec![rows / inner, classes, inner],
        axis: 1,
        logits: vec![0.0; case.logits.len()],
        ..case.clone()
    };
    for row in 0..rows {
        for class in 0..classes {
            let position = moved.position(row, class);
            moved.logits[position] = case.logits[row * classes + class];
        }
    }
    moved
}

/// `len` rows from `start` on, as a batch of their own with one row after another.
fn part(case: &Case, start: usize, len: usize) -> Case {
    let classes = case.class_count();
    let Targets::Classes { labels, .. } = &case.targets else { unreachable!() };
    let values = |value: &RowValue| match value {
        RowValue::Each(values) => RowValue::Each(values[start..][..len].to_vec()),
        shared => shared.clone(),
    };
    Case {
        shape: vec![len, classes],
        logits: (start..start + len).flat_map(|row| case.row(row)).collect(),
        targets: Targets::classes(&labels[start..][..len]),
        epsilon: values(&case.epsilon),
        upstream: Upstream(values(&case.upstream.0)),
        row_weights: case.row_weights.as_ref().map(|weights| weights[start..][..len].to_vec()),
        allowed: match &case.allowed {
            Allowed::Each(allowed) => {
                Allowed::Each(allowed[start * classes..][..len * classes].to_vec())
            }
            other => other.clone(),
        },
        ..case.clone()
    }
}

/// Every option that makes another path through a tile or a row.
fn options(case: &Case) -> Vec<Case> {
    let (rows, classes) = (case.row_count(), case.class_count());
    let mut all = Vec::new();
    for (reduction, upstream) in [
        (Reduction::None, RowValue::Each((0..rows).map(|row| (row % 5) as f64 - 1.5).collect())),
        (Reduction::None, RowValue::Shared(1.0)),
        (Reduction::Sum, RowValue::Shared(-0.3)),
        (Reduction::Mean, RowValue::Shared(1.0)),
    ] {
        for epsilon in [0.0, 0.1, 1.0] {
            for (form, z_loss) in [
                (Form::CrossEntropy, 0.0),
                (Form::KlDivergence, 0.0),
                (Form::CrossEntropy, 1e-3),
                (Form::KlDivergence, 1e-3),
            ] {
                let base = Case {
                    reduction,
                    upstream: Upstream(upstream.clone()),
                    epsilon: RowValue::Shared(epsilon),
                    form,
                    z_loss,
                    ..case.clone()
                };
                all.push(Case { prior: Prior::WrongClasses, ..base.clone() });
                all.push(base);
            }
        }
    }
    let plain = Case { reduction: Reduction::None, epsilon: RowValue::Shared(0.2), ..case.clone() };
    let weights: Vec<f64> = common::noise(classes).map(|w| w + 1.5).collect();
    let total: f64 = weights.iter().sum();
    let allowed: Vec<bool> = (0..rows * classes).map(|i| (i * 2654435761) >> 3 & 3 != 0).collect();
    all.extend([
        Case { prior: Prior::Excluding(vec![0, classes - 1]), ..plain.clone() },
        Case { prior: Prior::Fixed(weights.iter().map(|w| w / total).collect()), ..plain.clone() },
        Case { class_weights: Some(weights.clone()), ..plain.clone() },
        Case {
            class_weights: Some(weights),
            class_weighting: ClassWeighting::PerRow,
            ..plain.clone()
        },
        Case {
            row_weights: Some((0..rows).map(|row| (row % 3) as f64).collect()),
            ..plain.clone()
        },
        Case {
            epsilon: RowValue::Each((0..rows).map(|row| (row % 4) as f64 / 4.0).collect()),
            ..plain.clone()
        },
        Case { allowed: Allowed::Each(allowed.clone()), ..plain.clone() },
        Case { allowed: Allowed::Each(allowed), masked: Masked::Renormalise, ..plain.clone() },
        Case { masked: Masked::Renormalise, ..plain.clone() },
        Case { softcap: Some(3.0), ..plain.clone() },
        Case { temperature: Some(0.7), ..plain },
    ]);
    for (i, case) in all.iter_mut().enumerate() {
        case.name = format!(
            "{:?}, {:?}, options {i}: ε {:?}, {:?}, z-loss {}, {:?}",
            case.dtype,
            case.shape,
            case.epsilon.of(0),
            case.form,
            case.z_loss,
            case.reduction
        );
    }
    all
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Whether rows `start..` of `case` have the bits that they have in `alone`, a batch of them only.
fn assert_rows_are_as_alone(case: &Case, together: &Answer, alone: &Answer, start: usize) {
    let classes = case.class_count();
    for i in 0..alone.lse.len() {
        let row = start + i;
        let mut pairs = vec![("lse", together.lse[row], alone.lse[i])];
        if case.reduction == Reduction::None {
            let parts = |answer: &Answer, i: usize| {
                [
                    answer.loss[i],
                    answer.nll[i],
                    answer.smoothing[i],
                    answer.floor[i],
                    answer.z_loss[i],
                ]
            };
            pairs.extend(
                ["loss", "nll", "smoothing", "floor", "z-loss"]
                    .into_iter()
                    .zip(parts(together, row))
                    .zip(parts(alone, i))
                    .map(|((what, a), b)| (what, a, b)),
            );
        }
        pairs.extend((0..classes).map(|class| {
            ("gradient", together.grad[case.position(row, class)], alone.grad[i * classes + class])
        }));
        for (n, (what, a, b)) in pairs.into_iter().enumerate() {
            assert!(same(a, b), "{}: {what} ({n}) of row {row} is {a:e}, alone {b:e}", case.name);
        }
    }
}

/// Tiles of the first rows hold plain rows only, those of the others odd ones, too.
fn rows_of(classes: usize) -> usize {
    (2 * (4096 / classes).clamp(16, 256)).next_multiple_of(16) + 45
}

/// What answers the case of that number: instruction sets take turns.
fn on_every_set(number: usize, case: &Case) -> impl Fn(&Case) -> Answer {
    let (sets, name) = (Instructions::available(), case.name.clone());
    move |case| {
        common::run(case, Some(sets[number % sets.len()]))
            .unwrap_or_else(|why| panic!("{name}: {why}"))
    }
}

fn in_any_company(dtype: Dtype, classes: usize) {
    let rows = rows_of(classes);
    let odd = |row: usize| row > rows / 2 && row.is_multiple_of(5);
    let case = batch(dtype, rows, classes, odd, |row| row % 11 == 3);
    for (number, case) in options(&case).into_iter().enumerate() {
        let run = on_every_set(number, &case);
        let together = run(&case);
        let starts = [0, 1, 13, rows / 2 - 1].into_iter().chain((rows / 2..rows).step_by(31));
        for row in starts {
            assert_rows_are_as_alone(&case, &together, &run(&part(&case, row, 1)), row);
        }
        // Not at a multiple of a tile or a group, so that lanes are others.
        assert_rows_are_as_alone(
            &case,
            &together,
            &run(&part(&case, rows / 2 - 3, 21)),
            rows / 2 - 3,
        );
    }
}

#[test]
fn one_class_after_another() {
    let shapes = [
        (2, Dtype::F32),
        (3, Dtype::F16),
        (10, Dtype::F32),
        (10, Dtype::F64),
        (19, Dtype::Bf16),
        (64, Dtype::F32),
        (65, Dtype::F32),
        (65, Dtype::F64),
    ];
    shapes.into_iter().for_each(|(classes, dtype)| in_any_company(dtype, classes));
}

/// `[N, K, H·W]`, whose rows are neighbours in memory, has the bits of `[N, K]` as long as both are
/// taken in tiles, and of other cuts of itself always.
#[test]
fn a_class_axis_that_is_not_the_last() {
    for (classes, dtype) in
        [(3, Dtype::F32), (19, Dtype::F16), (64, Dtype::F64), (65, Dtype::F32), (65, Dtype::Bf16)]
    {
        let rows = 525;
        let case =
            batch(dtype, rows, classes, |row| row > rows / 2 && row % 5 == 0, |row| row % 11 == 3);
        for (number, case) in options(&case).into_iter().enumerate() {
            let run = on_every_set(number, &case);
            let moved = inside(&case, 105);
            let together = run(&moved);
            if classes <= 64 {
                assert_rows_are_as_alone(&moved, &together, &run(&case), 0);
            }
            let other = inside(&case, [7, 21, 175][number % 3]);
            let mut answer = run(&other);
            let positions =
                (0..rows * classes).map(|entry| other.position(entry / classes, entry % classes));
            answer.grad = positions.map(|position| answer.grad[position]).collect();
            assert_rows_are_as_alone(&moved, &together, &answer, 0);
        }
    }
}

/// Whatever an ignored row holds changes nothing at all: losses that are reduced have the same bits
/// by the quick way and by the slow way.
#[test]
fn what_ignored_rows_hold() {
    for (classes, dtype) in [
        (2, Dtype::F64),
        (3, Dtype::Bf16),
        (10, Dtype::F32),
        (19, Dtype::F32),
        (64, Dtype::F16),
        (65, Dtype::F32),
    ] {
        let rows = rows_of(classes);
        let ignored = |row: usize| row % 6 == 1;
        let (tidy, untidy) = (
            batch(dtype, rows, classes, |_| false, ignored),
            batch(dtype, rows, classes, ignored, ignored),
        );
        for (number, (tidy, untidy)) in options(&tidy).into_iter().zip(options(&untidy)).enumerate()
        {
            let run = on_every_set(number, &tidy);
            let (a, b) = (run(&tidy), run(&untidy));
            assert_eq!(a, b, "{}", tidy.name);
            assert!(a.non_finite == 0 || tidy.allowed != Allowed::All, "{}", tidy.name);
        }
    }
}
