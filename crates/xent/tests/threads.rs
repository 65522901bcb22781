//! The same bits for any number of threads.
#![cfg(feature = "rayon")]

use xent::{Config, Element, Real, Rows, RowsMut, bf16};

fn noise(len: usize) -> impl Iterator<Item = f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 21) as f64 - 4.0
    })
}

fn bits_do_not_depend_on_threads<T: Element>(rows: usize, classes: usize) {
    let logits: Vec<T> = noise(rows * classes).map(T::from_f64).collect();
    let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 7919) % classes as u32).collect();
    let weights: Vec<f64> = noise(classes).map(|w| w + 4.5).collect();
    let criterion = Config::new().label_smoothing(0.1).class_weights(weights).z_loss(1e-4).build().unwrap();
    let run = |threads: usize| {
        let mut grad = vec![T::from_f64(0.0); logits.len()];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let output = pool.install(|| {
            let mut grad = RowsMut::new(&mut grad, rows, classes).unwrap();
            criterion.forward_backward(&Rows::new(&logits, rows, classes).unwrap(), &targets, 1.0, &mut grad).unwrap()
        });
        (format!("{output:?}"), format!("{grad:?}"))
    };
    let alone = run(1);
    for threads in [2, 3, 4, 7] {
        assert!(run(threads) == alone, "{threads} threads, {rows} rows of {classes} classes");
    }
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

/// A gradient that is written past the cache, of rows that are also small batches of their own, whose gradients are not; from every offset.
fn rows_alone_have_the_same_bits<T: Element>(rows: usize, classes: usize) {
    let values: Vec<T> = noise(rows * classes + 20).map(T::from_f64).collect();
    let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 7919) % classes as u32).collect();
    let criterion = Config::new().label_smoothing(0.1).reduction(xent::Reduction::None).build().unwrap();
    for offset in [0, 1, 7, 19] {
        let logits = &values[offset..][..rows * classes];
        let mut grad = vec![T::from_f64(0.0); values.len()];
        let mut view = RowsMut::strided(&mut grad, &[rows, classes], &[classes as isize, 1], offset, 1).unwrap();
        let output = criterion.forward_backward(&Rows::new(logits, rows, classes).unwrap(), &targets, 1.0, &mut view).unwrap();
        for row in [0, 1, rows / 2, rows - 2, rows - 1] {
            let mut alone = vec![T::from_f64(0.0); classes];
            let own = Rows::new(&logits[row * classes..][..classes], 1, classes).unwrap();
            let loss = criterion.forward_backward(&own, &targets[row..=row], 1.0, &mut RowsMut::new(&mut alone, 1, classes).unwrap()).unwrap().loss;
            assert_eq!(format!("{:?}", loss.as_slice()[0]), format!("{:?}", output.loss.as_slice()[row]), "loss of row {row} at offset {offset}");
            let same = alone.iter().zip(&grad[offset + row * classes..]).all(|(a, b)| a.to_real().to_f64().to_bits() == b.to_real().to_f64().to_bits());
            assert!(same, "gradient of row {row} of {classes} classes at offset {offset}");
        }
        assert!(
            grad[..offset].iter().chain(&grad[offset + rows * classes..]).all(|g| g.to_real().to_f64() == 0.0),
            "written beside the view at offset {offset}"
        );
    }
}

#[test]
fn past_the_cache() {
    rows_alone_have_the_same_bits::<f32>(2_400, 1_000);
    rows_alone_have_the_same_bits::<bf16>(70, 65_537);
    rows_alone_have_the_same_bits::<f64>(1_100, 1_001);
    rows_alone_have_the_same_bits::<f32>(220_000, 10);
}
