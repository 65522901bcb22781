//! What instruction sets may differ by: a few last places, since some round a product and its sum
//! once, others twice.

mod common;

use xent::Instructions;
use xent_spec::{CLASSES, Case, Dtype, FAMILIES, Reduction, RowValue, Targets, sweep_case, unit};

const EPSILONS: [f64; 2] = [0.1, 0.0];

/// How far sets may be apart, in units of rounding: losses relative to themselves, gradient entries
/// to p or y, whichever is larger there.
///
/// An exponential is within 1 ulp, hence 2 units, of what it should be, on either side; an entry is
/// rounded once more.
const BARS: [f64; 2] = [4.0, 5.0];

/// The largest differences between any set and the best, in units of rounding.
fn differences(case: &Case, epsilon: f64) -> [f64; 2] {
    let answers: Vec<_> = Instructions::available()
        .into_iter()
        .map(|set| common::run(case, Some(set)).unwrap())
        .collect();
    let Targets::Classes { labels, .. } = &case.targets else {
        unreachable!("the sweep has a class a row")
    };
    let classes = case.class_count();
    let mut worst = [0.0f64; 2];
    for (row, &label) in labels.iter().enumerate() {
        let z = case.row(row);
        let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = z.iter().map(|z| (z - max).exp()).sum();
        for other in &answers[1..] {
            let (a, b) = (answers[0].loss[row], other.loss[row]);
            if a != b {
                worst[0] = worst[0].max((a - b).abs() / a.abs());
            }
            for (class, z) in z.iter().enumerate() {
                let (a, b) =
                    (answers[0].grad[row * classes + class], other.grad[row * classes + class]);
                if a != b {
                    let y = epsilon / classes as f64
                        + if class as i64 == label { 1.0 - epsilon } else { 0.0 };
                    worst[1] = worst[1].max((a - b).abs() / ((z - max).exp() / total).max(y));
                }
            }
        }
    }
    worst.map(|worst| worst / unit(case.dtype))
}

fn differ_little(cases: impl Iterator<Item = (Case, f64)>) {
    let mut worst = [0.0f64; 2];
    for (case, epsilon) in cases {
        let these = differences(&case, epsilon);
        assert!(
            these[0] <= BARS[0] && these[1] <= BARS[1],
            "case {:?}: losses and gradients differ by {these:?} units, bars {BARS:?}",
            case.name
        );
        worst = [worst[0].max(these[0]), worst[1].max(these[1])];
    }
    println!("losses and gradients differ by up to {worst:?} units");
}

fn sweep(dtype: Dtype, classes: impl Iterator<Item = usize>) -> impl Iterator<Item = (Case, f64)> {
    let options = classes.flat_map(|classes| {
        FAMILIES
            .into_iter()
            .flat_map(move |family| EPSILONS.map(|epsilon| (classes, family, epsilon)))
    });
    options.map(move |(classes, family, epsilon)| {
        (sweep_case(dtype, classes, family, epsilon), epsilon)
    })
}

#[test]
fn in_f32() {
    differ_little(sweep(Dtype::F32, CLASSES.into_iter()));
}

#[test]
fn in_f64() {
    differ_little(sweep(Dtype::F64, CLASSES.into_iter().filter(|&classes| classes <= 50_257)));
}

/// Many rows of few classes, where a loss is but a few exponentials.
#[test]
fn in_short_rows() {
    let options = [2, 3, 10, 33, 64, 65, 200]
        .into_iter()
        .flat_map(|classes| [1.0, 4.0, 20.0].map(|scale| (classes, scale)));
    differ_little(options.flat_map(|(classes, scale)| {
        let rows = 500;
        EPSILONS.map(|epsilon| {
            let noise = common::noise(rows * classes);
            let case = Case {
                name: format!(
                    "{rows} rows of {classes} classes, up to {scale} from 0, ε = {epsilon}"
                ),
                dtype: Dtype::F32,
                shape: vec![rows, classes],
                axis: 1,
                logits: noise.map(|z| Dtype::F32.round(z * scale)).collect(),
                targets: Targets::classes(
                    &(0..rows).map(|row| (row * 7919 % classes) as i64).collect::<Vec<_>>(),
                ),
                epsilon: RowValue::Shared(epsilon),
                reduction: Reduction::None,
                ..Case::default()
            };
            (case, epsilon)
        })
    }));
}
