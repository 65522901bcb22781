//! What rows predict, by every way through the engine, against a search for the largest logit.

use xent::{AllowedClasses, Batch, Config, Lambda, Prior, Rows, Targets};

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Few values, so that the largest is often a tie.
        ((state >> 60) as f32) / 4.0
    };
    (0..len).map(|_| next()).collect()
}

/// The first class with the largest of a row's values.
fn first_largest(row: impl Iterator<Item = f32>) -> i64 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (class, value) in row.enumerate() {
        if value > best.0 {
            best = (value, class as i64);
        }
    }
    best.1
}

/// Rows of `classes` classes, the classes last and in the middle of the shape; of a row of NaN and
/// of an ignored one, nothing is predicted.
fn check(rows: usize, classes: usize, config: Config) {
    let mut logits = noise(rows * classes);
    let mut labels: Vec<i64> = (0..rows).map(|row| (row * 7 % classes) as i64).collect();
    labels[rows / 2] = -100;
    if rows > 2 {
        logits[classes] = f32::NAN;
    }
    let expected: Vec<i64> = (0..rows)
        .map(|row| match labels[row] {
            -100 => -1,
            _ if rows > 2 && row == 1 => -1,
            _ => first_largest(logits[row * classes..][..classes].iter().copied()),
        })
        .collect();
    let right: Vec<bool> =
        expected.iter().zip(&labels).map(|(class, label)| class == label && *label >= 0).collect();
    let criterion = config.ignore_index(-100).build().unwrap();
    let turned: Vec<f32> = (0..classes)
        .flat_map(|k| (0..rows).map(move |row| row * classes + k))
        .map(|i| logits[i])
        .collect();
    for (logits, shape, axis) in [(&logits, [rows, classes], 1), (&turned, [classes, rows], 0)] {
        let logits = Rows::with_axis(logits, &shape, axis).unwrap();
        let plain = criterion.forward(&logits, &labels).unwrap();
        assert!(plain.predicted.is_empty() && plain.correct_rows.is_empty());
        let (output, _) =
            criterion.loss_and_gradient(&logits, Batch::new(&labels).predictions(true)).unwrap();
        assert_eq!(output.predicted, expected, "{rows} rows of {classes} classes on axis {axis}");
        assert_eq!(output.correct_rows, right, "{rows} rows of {classes} classes on axis {axis}");
        assert_eq!(output.correct, right.iter().filter(|right| **right).count());
        assert_eq!(output.correct, plain.correct);
    }
}

#[test]
fn by_every_way() {
    for (rows, classes) in
        [(1, 1), (5, 3), (300, 10), (1000, 64), (40, 65), (33, 1000), (3, 300_000)]
    {
        for config in [
            Config::new(),
            Config::new().label_smoothing(0.1).class_weights(vec![0.5; classes]),
            Config::new().label_smoothing(0.1).prior(Prior::Excluding(vec![0])).softcap(20.0),
        ] {
            check(rows, classes, config);
        }
    }
}

#[test]
fn of_masks_mixes_and_probabilities() {
    let logits = [3.0f32, 2.0, 1.0, 0.0, 5.0, 5.0];
    let logits = Rows::new(&logits, 3).unwrap();
    let criterion = Config::new().build().unwrap();
    let of = |batch: Batch<'_>| {
        let output = criterion.forward(&logits, batch.predictions(true)).unwrap();
        (output.predicted, output.correct_rows)
    };
    let allowed = AllowedClasses::Shared(&[false, true, true]);
    assert_eq!(of(Batch::new(&[1u8, 2]).allowed_classes(allowed)), (vec![1, 1], vec![true, false]));
    let mix = Targets::mix(&[0u8, 0], &[1u8, 1], Lambda::Rows((&[0.6, 0.4]).into()));
    assert_eq!(of(Batch::new(mix)), (vec![0, 1], vec![true, true]));
    let shares = [0.2f32, 0.5, 0.3, 0.1, 0.45, 0.45];
    assert_eq!(of(Batch::new(Rows::new(&shares, 3).unwrap())), (vec![0, 1], vec![false, true]));
}
