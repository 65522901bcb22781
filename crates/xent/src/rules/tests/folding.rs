use super::noise;
use crate::rules::{ClassFoldRows, FloorMemo, Functional, Parts, Plan, RowParts, RowStats};
use crate::{Batch, ClassWeighting, Config, Form, Masked, Prior, PriorMatrix, Reduction, Targets};

const ROWS: usize = 300;
const CLASSES: usize = 7;

fn stats(row: usize) -> RowStats {
    let mut noise = noise(row as u64);
    let z: Vec<f64> = (0..CLASSES).map(|_| noise() * 6.0 - 3.0).collect();
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shifted = z.iter().map(|z| max - z).sum();
    // In every fifth row a class is masked, in every seventh the hot one.
    let masked = usize::from(row.is_multiple_of(5));
    let hot = if row.is_multiple_of(7) { f64::NEG_INFINITY } else { z[0] };
    let prior =
        Functional { shifted, mass: (CLASSES - masked) as f64, masked_mass: masked as f64, masked };
    let rest = z.iter().map(|z| (z - max).exp()).sum::<f64>() - 1.0;
    RowStats {
        prior,
        open_prior: prior.mass,
        closed_prior: prior.masked_mass,
        ..RowStats::new(max, row % CLASSES, rest)
    }
    .with_hot(0, hot)
    .with_hot(1, z[1])
}

fn configs() -> Vec<Config> {
    let base = || Config::new().label_smoothing(0.1);
    let weights = [0.5, 0.0, 2.0, 1.0, 1.0, 0.25, 3.0];
    let matrix: Vec<f64> = (0..CLASSES * CLASSES)
        .map(|i| if i % CLASSES == i / CLASSES { 0.4 } else { 0.1 })
        .collect();
    vec![
        base(),
        Config::new(),
        base().class_weights(&weights),
        base().class_weights(&weights).class_weighting(ClassWeighting::PerRow),
        base().prior(Prior::WrongClasses).form(Form::KlDivergence),
        base().prior(Prior::Excluding(vec![0, 3])).class_weights(&weights),
        base().prior(Prior::Fixed(vec![0.1, 0.2, 0.1, 0.2, 0.1, 0.0, 0.3])),
        base().prior(Prior::ByTrueClass(PriorMatrix::new(CLASSES, matrix).unwrap())),
        base().masked(Masked::Renormalise),
        base().ignore_index(2).z_loss(0.01),
        base().class_weights(&weights).z_loss(0.01).form(Form::KlDivergence),
    ]
}

fn labels(seed: u64) -> Vec<i64> {
    let mut noise = noise(seed);
    (0..ROWS).map(|_| (noise() * CLASSES as f64) as i64).collect()
}

#[test]
fn what_a_memo_holds_changes_nothing() {
    let (a, b) = (labels(1), labels(2));
    let mut random = noise(3);
    let epsilon: Vec<f64> = (0..ROWS).map(|row| [0.0, 0.1, random(), 1.0][row % 4]).collect();
    let lambda: Vec<f64> = (0..ROWS).map(|_| random()).collect();
    // Used by all plans one after the other.
    let mut used: Vec<FloorMemo> = Vec::new();
    for config in configs() {
        let criterion = config.build().unwrap();
        for batch in [
            Batch::new(&a),
            Batch::new(&a).label_smoothing_rows(&epsilon),
            Batch::new(Targets::mix(&a, &b, &lambda)),
        ] {
            let plan = Plan::new(&criterion, &batch, ROWS, CLASSES).unwrap();
            used.push(plan.floor_memo());
            for row in (0..ROWS).chain((0..ROWS).rev()) {
                let Some(row_plan) = plan.row(row) else { continue };
                let fresh =
                    format!("{:?}", plan.fold(&row_plan, &stats(row), &mut plan.floor_memo()));
                for memo in used.iter_mut().rev().take(3) {
                    assert_eq!(
                        format!("{:?}", plan.fold(&row_plan, &stats(row), memo)),
                        fresh,
                        "row {row} of {criterion:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_is_planned_alike_into_memory_that_was_used() {
    let (a, b) = (labels(4), labels(5));
    let epsilon: Vec<f64> = (0..ROWS).map(|row| (row % 3) as f64 / 4.0).collect();
    let mut used = Default::default();
    for config in configs() {
        let criterion = config.build().unwrap();
        for batch in [
            Batch::new(&a),
            Batch::new(&b).label_smoothing_rows(&epsilon),
            Batch::new(Targets::mix(&a, &b, 0.25)),
        ] {
            let plan = Plan::new(&criterion, &batch, ROWS, CLASSES).unwrap();
            let mut kept = 0;
            for row in 0..ROWS {
                let into = plan.row_into(row, &mut used).then_some(used);
                assert_eq!(into, plan.row(row));
                assert_eq!(into.is_none(), plan.labels.is_ignored(row));
                kept += usize::from(into.is_some());
            }
            assert_eq!(plan.ignored(), ROWS - kept);
        }
    }
}

#[test]
fn rows_folded_at_once_have_the_bits_of_rows_folded_alone() {
    let labels = labels(6);
    let classes: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
    let mut random = noise(7);
    let mut folds = 0;
    for config in configs() {
        let criterion = config.build().unwrap();
        let batch = Batch::new(&labels);
        let plan = Plan::new(&criterion, &batch, ROWS, CLASSES).unwrap();
        let mass = plan.table().prior_mass();
        let Some(class_fold) = plan.class_fold(mass) else { continue };
        folds += 1;
        let mut columns = class_fold.rows(ROWS);
        let mut rows = ClassFoldRows::of(&mut columns);
        let alone: Vec<RowStats> = (0..ROWS)
            .map(|_| {
                let max = 6.0 * random() - 3.0;
                let shifted = 20.0 * random();
                RowStats {
                    prior: Functional { shifted, mass, ..Functional::default() },
                    ..RowStats::new(max, 0, 5.0 * random())
                }
                .with_hot(0, max - 6.0 * random())
            })
            .collect();
        for (row, stats) in alone.iter().enumerate() {
            rows.max[row] = stats.max;
            rows.log1p_rest[row] = stats.rest.ln_1p();
            rows.below[row] = stats.max - stats.hot[0];
            rows.shifted[row] = stats.prior.shifted;
        }
        class_fold.fold(&classes, &mut rows);
        for (row, stats) in alone.iter().enumerate() {
            let folded = plan.fold(&plan.row(row).unwrap(), stats, &mut plan.floor_memo());
            let on = folded.coefficients;
            assert_eq!(
                [rows.alpha[row], rows.gamma[row], rows.beta[row]],
                [on.alpha, on.gamma, on.beta[0]],
                "row {row} of {criterion:?}"
            );
            let parts = folded.parts(folded.floor.unwrap());
            assert_eq!(
                [
                    rows.loss[row],
                    rows.nll[row],
                    rows.smoothing[row],
                    rows.z_loss[row],
                    rows.floor[row],
                    rows.lse[row]
                ],
                [parts.loss, parts.nll, parts.smoothing, parts.z_loss, parts.floor, parts.lse],
                "row {row} of {criterion:?}"
            );
        }
    }
    assert_eq!(folds, 7, "the criteria for which rows can be folded at once");
}

/// Rows of all kinds: ignored, not finite, of many sizes.
fn row_parts(row: usize) -> Option<RowParts> {
    if row % 11 == 3 {
        return None;
    }
    let mut noise = noise(row as u64);
    let mut part = || noise() * 10f64.powi((row % 5) as i32);
    let loss = if row == 70 { f64::NAN } else { part() };
    Some(RowParts {
        loss,
        nll: part(),
        smoothing: part(),
        z_loss: part(),
        floor: part(),
        lse: -part(),
        correct: row.is_multiple_of(3),
        argmax: (row != 70).then_some(row),
    })
}

#[test]
fn chunks_of_any_size_reduce_to_the_same_bits() {
    for (rows, classes) in [
        (0, 10),
        (1, 10),
        (15, 10),
        (16, 10),
        (17, 10),
        (321, 10),
        (321, 2047),
        (40, 2048),
        (75, 100_000),
    ] {
        let labels = vec![0u8; rows];
        let batch = Batch::new(&labels).predictions(true);
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let criterion = Config::new().reduction(reduction).build().unwrap();
            let plan = Plan::new(&criterion, &batch, rows, classes).unwrap();
            let mut parts: Parts<f32> = plan.parts();
            let mut all = parts.all();
            assert_eq!(all.rows(), 0..rows);
            (0..rows).for_each(|row| all.push(row_parts(row)));
            assert!(all.rows().is_empty());
            let whole = plan.finish(parts);
            assert_eq!(whole.non_finite, usize::from(rows > 70));
            assert_eq!(whole.first_non_finite, (rows > 70).then_some(70));
            let whole = format!("{whole:?}");
            for per_chunk in [0, 1, 2, 7, 16, 33, 100, usize::MAX] {
                let mut parts: Parts<f32> = plan.parts();
                let mut chunks = parts.chunks_mut(per_chunk);
                let seen: Vec<usize> = chunks.iter().flat_map(|chunk| chunk.rows()).collect();
                assert_eq!(seen, (0..rows).collect::<Vec<_>>(), "{per_chunk} a chunk");
                // The last first, as threads may.
                for chunk in chunks.iter_mut().rev() {
                    chunk.rows().for_each(|row| chunk.push(row_parts(row)));
                }
                drop(chunks);
                assert_eq!(
                    format!("{:?}", plan.finish(parts)),
                    whole,
                    "{rows} rows of {classes} classes, {per_chunk} a chunk, {reduction:?}"
                );
            }
        }
    }
}

#[test]
fn long_rows_are_tasks_of_their_own() {
    let labels = [0u8; 9];
    let (batch, criterion) = (Batch::new(&labels), Config::new().build().unwrap());
    let plan = Plan::new(&criterion, &batch, 9, 50_257).unwrap();
    assert_eq!(plan.parts::<f32>().chunks_mut(1).len(), 9);
}

#[test]
fn a_long_sum_is_exact() {
    let rows = 1 << 20;
    let labels = vec![0u8; rows];
    let (batch, criterion) = (Batch::new(&labels), Config::new().build().unwrap());
    let plan = Plan::new(&criterion, &batch, rows, 10).unwrap();
    let mut parts: Parts<f64> = plan.parts();
    let mut all = parts.all();
    // Sums that closed forms give, one of them with 16 orders of magnitude between its terms.
    let value = |row: usize| 0.1 + row as f64 / (1u64 << 30) as f64;
    for row in 0..rows {
        let loss = value(row);
        all.push(Some(RowParts {
            loss,
            nll: loss * 1e-6,
            smoothing: if row == 0 { 1e9 } else { 1e-7 },
            z_loss: 0.0,
            floor: 0.0,
            lse: 0.0,
            correct: false,
            argmax: Some(0),
        }));
    }
    let output = plan.finish(parts);
    let near = |got: Option<f64>, expected: f64| {
        assert!((got.unwrap() / expected - 1.0).abs() < 2e-15, "{got:?}, expected {expected}")
    };
    near(output.loss.scalar(), 0.1 + (rows - 1) as f64 / 2.0 / (1u64 << 30) as f64);
    near(output.nll.scalar(), 1e-6 * (0.1 + (rows - 1) as f64 / 2.0 / (1u64 << 30) as f64));
    near(output.smoothing.scalar(), (1e9 + (rows - 1) as f64 * 1e-7) / rows as f64);
}
