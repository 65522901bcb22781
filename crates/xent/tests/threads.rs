//! The same bits for any number of threads.
#![cfg(feature = "rayon")]

use xent::{Config, Element, Rows, RowsMut, bf16};

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
