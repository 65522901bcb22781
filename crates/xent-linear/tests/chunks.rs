//! Batches of several chunks: accuracy, threads, memory that is used again, ignored rows.

mod reference;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reference::{Layer, distance, narrow, wide};
use xent::{Batch, Config, Element, Output, Reduction, Upstream, bf16};
use xent_linear::{Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};

struct Came<T: Element> {
    output: Output<T::Real>,
    hidden: Vec<T>,
    weight: Vec<T::Real>,
    bias: Vec<T::Real>,
}

impl<T: Element> Came<T> {
    fn bits(&self) -> String {
        format!("{:?} {:?} {:?} {:?}", self.output, self.hidden, self.weight, self.bias)
    }
}

fn run<T: Element>(
    layer: &Layer,
    criterion: &xent::Criterion,
    targets: &[i64],
    upstream: Upstream<'_>,
    workspace: &mut Workspace<T::Real>,
) -> Came<T> {
    let (hidden, weight): (Vec<T>, Vec<T>) = (narrow(&layer.hidden), narrow(&layer.weight));
    let bias: Option<Vec<T>> = layer.bias.as_deref().map(narrow);
    let matrix = |data| Matrix::new(data, layer.features).unwrap();
    let mut linear = Linear::new(matrix(&hidden), matrix(&weight)).unwrap();
    if let Some(bias) = &bias {
        linear = linear.bias(bias).unwrap();
    }
    let mut to_hidden = vec![T::from_f64(f64::NAN); hidden.len()];
    let mut to_weight = vec![T::Real::from_f64(f64::NAN); weight.len()];
    let mut to_bias = vec![T::Real::from_f64(f64::NAN); layer.classes];
    let into = Gradients {
        hidden: Some(MatrixMut::new(&mut to_hidden, layer.features).unwrap()),
        weight: Some(MatrixMut::new(&mut to_weight, layer.features).unwrap()),
        bias: Some(&mut to_bias),
    };
    let output = criterion
        .linear_forward_backward(&linear, Batch::new(targets), upstream, into, workspace)
        .unwrap();
    Came { output, hidden: to_hidden, weight: to_weight, bias: to_bias }
}

/// Labels of which about a third is padding, some of it at the start.
fn targets(rows: usize, classes: usize, ignored: f64) -> Vec<i64> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    (0..rows)
        .map(|row| match row < 3 && ignored > 0.0 || rng.random_bool(ignored) {
            true => -100,
            false => rng.random_range(0..classes as i64),
        })
        .collect()
}

fn config() -> Config {
    Config::new().label_smoothing(0.1).ignore_index(-100).z_loss(1e-4)
}

#[test]
fn several_chunks_are_as_exact_as_one() {
    let layer = Layer::new::<bf16>(1100, 24, 70, true, 7);
    for (reduction, ignored) in
        [(Reduction::Mean, 0.0), (Reduction::Sum, 0.3), (Reduction::None, 0.3)]
    {
        let criterion = config().reduction(reduction).build().unwrap();
        let targets = targets(1100, 70, ignored);
        let rows: Vec<f64> = (0..1100).map(|row| f64::from(row % 5) - 1.5).collect();
        let upstream = || match reduction {
            Reduction::None => Upstream::from(&rows),
            _ => Upstream::Scalar(3.7),
        };
        let expected = layer.expected(&criterion, Batch::new(&targets), upstream()).unwrap();
        let wide = run::<f64>(&layer, &criterion, &targets, upstream(), &mut Workspace::default());
        let narrow =
            run::<f32>(&layer, &criterion, &targets, upstream(), &mut Workspace::default());
        let half = run::<bf16>(&layer, &criterion, &targets, upstream(), &mut Workspace::default());
        let [hidden, weight, bias] = [&expected.hidden, &expected.weight, &expected.bias];
        assert!(distance(&wide.hidden, hidden, 0.0) < 1e-14);
        assert!(distance(&wide.weight, weight, 0.0) < 1e-13);
        assert!(distance(&wide.bias, bias, 0.0) < 1e-13);
        assert!(distance(&narrow.hidden, hidden, 0.0) < 1e-6);
        assert!(distance(&narrow.weight, weight, 0.0) < 2e-6);
        assert!(distance(&narrow.bias, bias, 0.0) < 1e-6);
        assert!(distance(&half.hidden, hidden, 0.0) < 4e-3);
        // The same numbers as in f32, since all of them are bf16's.
        assert!(distance(&half.weight, weight, 0.0) < 2e-6);
        let losses = expected.output.loss.as_slice();
        assert!(distance(wide.output.loss.as_slice(), losses, 0.0) < 1e-14);
        assert!(distance(narrow.output.loss.as_slice(), losses, 0.0) < 1e-6);
        assert_eq!(narrow.output.ignored, expected.output.ignored);
        assert_eq!(narrow.output.correct, expected.output.correct);
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    fn check<T: Element>() {
        for (rows, features, classes) in [(1030, 48, 513), (3, 300, 3000), (600, 1, 33)] {
            let layer = Layer::new::<T>(rows, features, classes, true, 3);
            let criterion = config().build().unwrap();
            for ignored in [0.0, 0.3] {
                let targets = targets(rows, classes, ignored);
                let on = |threads: usize| {
                    let pool =
                        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| {
                        let mut workspace = Workspace::default();
                        run::<T>(&layer, &criterion, &targets, 1.0.into(), &mut workspace).bits()
                    })
                };
                let one = on(1);
                for threads in [2, 3, 5] {
                    assert!(one == on(threads), "{rows} {features} {classes}: {threads} threads");
                }
                let alone = xent::host::on_this_thread(|| {
                    let mut workspace = Workspace::default();
                    run::<T>(&layer, &criterion, &targets, 1.0.into(), &mut workspace).bits()
                });
                assert!(one == alone, "{rows} {features} {classes}: without a pool");
            }
        }
    }
    check::<f32>();
    check::<bf16>();
    check::<f64>();
}

#[test]
fn what_is_in_the_workspace_does_not_matter() {
    let criterion = config().build().unwrap();
    let mut workspace = Workspace::default();
    for (rows, features, classes) in [(600, 8, 40), (9, 3, 5), (0, 3, 5), (40, 30, 90)] {
        let layer = Layer::new::<bf16>(rows, features, classes, true, 11);
        let targets = targets(rows, classes, 0.3);
        let again = run::<bf16>(&layer, &criterion, &targets, 1.0.into(), &mut workspace);
        let new = run::<bf16>(&layer, &criterion, &targets, 1.0.into(), &mut Workspace::default());
        assert_eq!(again.bits(), new.bits());
    }
}

#[test]
fn ignored_rows_enter_no_product() {
    // Numbers that would show in every sum.
    for poison in [f64::NAN, f64::INFINITY] {
        let criterion = config().build().unwrap();
        let mut layer = Layer::new::<f32>(700, 6, 20, false, 5);
        let targets = targets(700, 20, 0.3);
        let clean = run::<f32>(&layer, &criterion, &targets, 1.0.into(), &mut Workspace::default());
        for (row, target) in targets.iter().enumerate() {
            if *target == -100 {
                layer.hidden[row * 6..][..6].fill(poison);
            }
        }
        let came = run::<f32>(&layer, &criterion, &targets, 1.0.into(), &mut Workspace::default());
        assert_eq!(came.bits(), clean.bits());
        assert!(clean.output.ignored > 100 && clean.output.non_finite == 0);
        for (row, target) in targets.iter().enumerate() {
            assert_eq!(*target == -100, came.hidden[row * 6..][..6] == [0.0; 6], "row {row}");
        }
    }
}

#[test]
fn rows_that_are_not_finite_are_named_by_their_place_in_the_batch() {
    let criterion = config().reduction(Reduction::None).build().unwrap();
    let mut layer = Layer::new::<f32>(1500, 4, 10, false, 5);
    let targets = targets(1500, 10, 0.3);
    let kept = |row: usize| (row..).find(|&row| targets[row] != -100).unwrap();
    let (first, second) = (kept(900), kept(1400));
    for row in [first, second] {
        layer.hidden[row * 4] = f64::INFINITY;
    }
    let came = run::<f32>(&layer, &criterion, &targets, 1.0.into(), &mut Workspace::default());
    assert_eq!((came.output.non_finite, came.output.first_non_finite), (2, Some(first)));
    assert!(came.output.loss.as_slice()[second].is_nan());
    assert!(came.weight.iter().any(|g| g.is_nan()));
    assert!(came.hidden[..4 * first].iter().all(|g| g.is_finite()));
}

#[test]
fn bf16_gradients_are_as_exact_as_their_rounding() {
    // As many chunks as rows would be 8 of them; the error of the norm is that of one rounding.
    let layer = Layer::new::<bf16>(2048, 16, 30, false, 9);
    let criterion = config().build().unwrap();
    let targets = targets(2048, 30, 0.0);
    let expected = layer.expected(&criterion, Batch::new(&targets), 1.0.into()).unwrap();
    let came = run::<bf16>(&layer, &criterion, &targets, 1.0.into(), &mut Workspace::default());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let rounded = came.weight.iter().map(|&g| wide(bf16::from_f32(g)));
    let error = norm(&mut rounded.zip(&expected.weight).map(|(came, expected)| came - expected));
    let relative = error / norm(&mut expected.weight.iter().copied());
    assert!(relative <= 0.0022, "{relative}");
}
