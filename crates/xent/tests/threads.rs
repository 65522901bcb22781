//! The same bits for any number of threads, past the cache or through it, and wherever buffers
//! begin.
#![cfg(feature = "rayon")]

mod common;

use xent::{Config, Element, Prior, Reduction, Rows, RowsMut, Targets, bf16, f16};

/// Numbers in [−4, 4).
fn noise(len: usize) -> impl Iterator<Item = f64> {
    common::noise(len).map(|z| 4.0 * z)
}

/// Whether two slices hold the same bits.
fn same<T: Element>(a: &[T], b: &[T]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| common::same_bits(*a, *b))
}

/// What `run` returns is the same on any number of threads.
fn on_any_number_of_threads<T: Element>(name: &str, run: impl Fn() -> (String, Vec<T>) + Sync) {
    let on = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&run)
    };
    let (output, grad) = on(1);
    for threads in [2, 3, 4, 5, 7] {
        let other = on(threads);
        assert!(other.0 == output && same(&other.1, &grad), "{name}: {threads} threads");
    }
}

fn bits_do_not_depend_on_threads<T: Element>(rows: usize, classes: usize) {
    let logits: Vec<T> = noise(rows * classes).map(T::from_f64).collect();
    let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 7919) % classes as u32).collect();
    let weights: Vec<f64> = noise(classes).map(|w| w + 4.5).collect();
    let criterion =
        Config::new().label_smoothing(0.1).class_weights(weights).z_loss(1e-4).build().unwrap();
    on_any_number_of_threads(&format!("{rows} rows of {classes} classes"), || {
        let mut grad = vec![T::from_f64(0.0); logits.len()];
        let mut view = RowsMut::new(&mut grad, classes).unwrap();
        let output = criterion
            .forward_backward(&Rows::new(&logits, classes).unwrap(), &targets, 1.0, &mut view)
            .unwrap();
        (format!("{output:?}"), grad)
    });
}

#[test]
fn many_short_rows() {
    bits_do_not_depend_on_threads::<f32>(20_011, 10);
    bits_do_not_depend_on_threads::<f64>(4_099, 33);
}

#[test]
fn few_long_rows() {
    bits_do_not_depend_on_threads::<f32>(9, 50_257);
    bits_do_not_depend_on_threads::<bf16>(33, 4_097);
}

#[test]
fn rows_in_tiles() {
    bits_do_not_depend_on_threads::<f32>(30_001, 3);
    bits_do_not_depend_on_threads::<f32>(9_973, 64);
    bits_do_not_depend_on_threads::<bf16>(9_973, 19);
}

#[test]
fn one_row_shared_by_threads() {
    bits_do_not_depend_on_threads::<f32>(1, 300_001);
    bits_do_not_depend_on_threads::<bf16>(3, 131_075);
    // Too long to keep its exponentials.
    bits_do_not_depend_on_threads::<f32>(1, 600_011);
}

/// A gradient that is written past the cache, of rows that are also small batches of their own,
/// whose gradients are not; from every offset.
fn rows_alone_have_the_same_bits<T: Element>(rows: usize, classes: usize, offsets: &[usize]) {
    let values: Vec<T> = noise(rows * classes + 20).map(T::from_f64).collect();
    let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 7919) % classes as u32).collect();
    let criterion = Config::new().label_smoothing(0.1).reduction(Reduction::None).build().unwrap();
    let sentinel = T::from_f64(-77.0);
    for offset in offsets.iter().copied() {
        let logits = &values[offset..][..rows * classes];
        let mut grad = vec![sentinel; values.len()];
        let mut view =
            RowsMut::strided(&mut grad, &[rows, classes], &[classes as isize, 1], offset, 1)
                .unwrap();
        let output = criterion
            .forward_backward(&Rows::new(logits, classes).unwrap(), &targets, 1.0, &mut view)
            .unwrap();
        for row in [0, 1, 2, 3]
            .into_iter()
            .chain((4..rows - 4).step_by(rows / 61 + 1))
            .chain(rows - 4..rows)
        {
            let mut alone = vec![T::from_f64(0.0); classes];
            let own = Rows::new(&logits[row * classes..][..classes], classes).unwrap();
            let loss = criterion
                .forward_backward(
                    &own,
                    &targets[row..=row],
                    1.0,
                    &mut RowsMut::new(&mut alone, classes).unwrap(),
                )
                .unwrap()
                .loss;
            assert_eq!(
                format!("{:?}", loss.as_slice()[0]),
                format!("{:?}", output.loss.as_slice()[row]),
                "loss of row {row} at offset {offset}"
            );
            assert!(
                same(&alone, &grad[offset + row * classes..][..classes]),
                "gradient of row {row} of {classes} classes at offset {offset}"
            );
        }
        let beside: Vec<T> =
            grad[..offset].iter().chain(&grad[offset + rows * classes..]).copied().collect();
        assert!(
            same(&beside, &vec![sentinel; beside.len()]),
            "written beside the view at offset {offset}"
        );
    }
}

#[test]
fn past_the_cache() {
    rows_alone_have_the_same_bits::<f32>(2_400, 1_000, &[0, 1, 2, 3, 5, 8, 13, 15, 16, 19]);
    rows_alone_have_the_same_bits::<bf16>(70, 65_537, &[0, 1, 7, 20]);
    rows_alone_have_the_same_bits::<f16>(4_300, 1_003, &[0, 1, 2, 9, 16, 17, 18]);
    rows_alone_have_the_same_bits::<f64>(1_100, 1_001, &[0, 1, 7]);
}

#[test]
fn tiles_past_the_cache() {
    rows_alone_have_the_same_bits::<f32>(220_000, 10, &[0, 1, 18]);
    rows_alone_have_the_same_bits::<bf16>(230_011, 19, &[0, 3]);
}

/// Two entries of a row are written by themselves wherever they are: at the ends, in one line or in
/// two.
#[test]
fn two_hot_classes_past_the_cache() {
    let (rows, classes) = (2_200, 1_000);
    let logits: Vec<f32> = noise(rows * classes).map(|z| z as f32).collect();
    let a: Vec<u32> = (0..rows as u32).map(|row| row % classes as u32).collect();
    let b: Vec<u32> =
        (0..rows as u32).map(|row| (row + 1 + row / 1000 * 300) % classes as u32).collect();
    let criterion = Config::new().label_smoothing(0.1).reduction(Reduction::None).build().unwrap();
    let run = |from: usize, len: usize| {
        let mut grad = vec![f32::NAN; len * classes];
        let own = Rows::new(&logits[from * classes..][..len * classes], classes).unwrap();
        let targets = Targets::mix(&a[from..from + len], &b[from..from + len], 0.7);
        criterion
            .forward_backward(&own, targets, 1.0, &mut RowsMut::new(&mut grad, classes).unwrap())
            .unwrap();
        grad
    };
    let all = run(0, rows);
    for row in 0..rows {
        assert!(same(&run(row, 1), &all[row * classes..][..classes]), "row {row}");
    }
}

/// `[N, K, H, W]` with the classes on axis 1 and an odd number of pixels: tiles end where tasks and
/// images do not.
#[test]
fn images() {
    fn of<T: Element>(shape: [usize; 4]) {
        let logits: Vec<T> = noise(shape.iter().product()).map(T::from_f64).collect();
        let (rows, classes) = (logits.len() / shape[1], shape[1]);
        let targets: Vec<i64> = (0..rows as i64)
            .map(|row| if row % 9 == 4 { -100 } else { (row * 7919) % classes as i64 })
            .collect();
        let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).build().unwrap();
        on_any_number_of_threads(&format!("{shape:?}"), || {
            let mut grad = vec![T::from_f64(0.0); logits.len()];
            let mut view = RowsMut::with_axis(&mut grad, &shape, 1).unwrap();
            let output = criterion
                .forward_backward(
                    &Rows::with_axis(&logits, &shape, 1).unwrap(),
                    &targets,
                    1.0,
                    &mut view,
                )
                .unwrap();
            (format!("{output:?}"), grad)
        });
    }
    of::<f32>([3, 19, 61, 53]);
    of::<f32>([2, 65, 37, 41]);
    of::<bf16>([1, 10, 173, 91]);
    of::<f64>([7, 3, 51, 33]);
    // More classes than fit a tile of the least width.
    of::<f32>([2, 300, 9, 11]);
}

/// A row of many pieces, which threads share where it is alone, and one thread has for itself where
/// there are many rows: with a class and with a distribution as its target.
#[test]
fn a_long_row_alone_and_among_others() {
    fn of<T: Element>(rows: usize, classes: usize) {
        let logits: Vec<T> = noise(rows * classes).map(T::from_f64).collect();
        let labels: Vec<u32> =
            (0..rows as u32).map(|row| (row * 65_535) % classes as u32).collect();
        let shares: Vec<f32> =
            noise(rows * classes).map(|q| (q + 4.0) as f32 / (4.0 * classes as f32)).collect();
        let upstream: Vec<f64> = (0..rows).map(|row| row as f64 - 1.5).collect();
        for (prior, dense) in
            [(Prior::Uniform, false), (Prior::Uniform, true), (Prior::WrongClasses, false)]
        {
            let criterion = Config::new()
                .label_smoothing(0.1)
                .prior(prior)
                .z_loss(1e-4)
                .reduction(Reduction::None)
                .build()
                .unwrap();
            let run = |from: usize, len: usize| {
                let mut grad = vec![T::from_f64(f64::NAN); len * classes];
                let own = |values| Rows::new(values, classes).unwrap();
                let targets = if dense {
                    Rows::new(&shares[from * classes..][..len * classes], classes).unwrap().into()
                } else {
                    Targets::from(&labels[from..from + len])
                };
                let mut view = RowsMut::new(&mut grad, classes).unwrap();
                let upstream = &upstream[from..from + len];
                let output = criterion
                    .forward_backward(
                        &own(&logits[from * classes..][..len * classes]),
                        targets,
                        upstream,
                        &mut view,
                    )
                    .unwrap();
                (output, grad)
            };
            let on = |threads: usize, from: usize, len: usize| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap()
                    .install(|| run(from, len))
            };
            // With one thread two rows are many.
            let (output, grad) = on(1, 0, rows);
            for row in 0..rows {
                for threads in 1..=4 {
                    let (alone, own) = on(threads, row, 1);
                    let parts = |output: &xent::Output<T::Real>, row: usize| {
                        [
                            &output.loss,
                            &output.nll,
                            &output.smoothing,
                            &output.floor,
                            &output.z_loss,
                        ]
                        .map(|part| format!("{:?}", part.as_slice()[row]))
                    };
                    assert_eq!(
                        parts(&alone, 0),
                        parts(&output, row),
                        "row {row} of {classes} classes, {threads} threads"
                    );
                    assert!(
                        same(&own, &grad[row * classes..][..classes]),
                        "gradient of row {row} of {classes} classes, {threads} threads"
                    );
                }
            }
        }
    }
    of::<f32>(3, 65_537);
    of::<bf16>(2, 196_609);
    of::<f64>(2, 131_072);
    of::<f32>(2, 524_290);
}
