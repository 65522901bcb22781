//! What is given a row, and what changes the logits.

use crate::array_folder::{ArrayFolder, Y, Z, close, nll, npy};

fn row(index: usize) -> &'static [f64] {
    &Z[4 * index..][..4]
}

/// Rows with all targets in range: class 2 in row 2.
fn all_kept() -> ArrayFolder {
    ArrayFolder::new().i64("y", &[4], &[0, 3, 2, 1])
}

const KEPT: [usize; 4] = [0, 3, 2, 1];

fn plain(index: usize) -> f64 {
    nll(row(index), KEPT[index])
}

/// Cross-entropy to the uniform prior.
fn to_uniform(index: usize) -> f64 {
    (0..4).map(|class| nll(row(index), class) / 4.0).sum()
}

#[test]
fn an_amount_a_row() {
    let amounts = [0.1, 0.0, 1.0, 0.3];
    let place = all_kept().f64("e", &[4], &amounts);
    let rows = place.json("--epsilon e.npy --reduction none");
    let expected: Vec<f64> =
        (0..4).map(|i| (1.0 - amounts[i]) * plain(i) + amounts[i] * to_uniform(i)).collect();
    close(&rows["loss"], &expected);
}

#[test]
fn weights_and_masks_a_row() {
    let weights = [2.0, 0.0, 1.0, 0.5];
    let place = all_kept().f64("r", &[4], &weights).bool("m", &[4], &[false, false, false, true]);
    let rows = place.json("--row-weights r.npy --reduction none");
    close(&rows["loss"], &[2.0 * plain(0), 0.0, plain(2), 0.5 * plain(3)]);
    let mean = place.json("--row-weights r.npy --ignored-rows m.npy --ignore-index 2");
    close(&mean["loss"], &[2.0 * plain(0) / 2.0]);
    assert_eq!(mean["ignored"], 2);
}

#[test]
fn weights_of_any_number_type() {
    let place = all_kept().i64("r", &[4], &[2, 0, 1, 3]).i64("w", &[4], &[1, 2, 0, 5]);
    let rows = place.json("--row-weights r.npy --class-weights w.npy --reduction none");
    close(&rows["loss"], &[2.0 * plain(0), 0.0, 0.0, 3.0 * 2.0 * plain(3)]);
}

#[test]
fn two_labels() {
    let place = all_kept().i64("b", &[4], &[1, 3, 0, -7]).f64("l", &[4], &[0.25, 0.5, 1.0, 0.0]);
    let mixed =
        |i: usize, other: usize, share: f64| share * plain(i) + (1.0 - share) * nll(row(i), other);
    let rows = place.json("--mix b.npy --lambda 0.25 --ignore-index -7 --reduction none");
    close(&rows["loss"], &[mixed(0, 1, 0.25), mixed(1, 3, 0.25), mixed(2, 0, 0.25), 0.0]);
    let rows = place.json("--mix b.npy --lambda l.npy --ignore-index -7 --reduction none");
    close(&rows["loss"], &[mixed(0, 1, 0.25), mixed(1, 3, 0.5), mixed(2, 0, 1.0), 0.0]);
}

#[test]
fn priors_from_files() {
    let by_class: [f64; 4] = [0.5, 0.25, 0.25, 0.0];
    let matrix =
        [0.5, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 1.0, 0.125, 0.125, 0.25, 0.5, 0.25, 0.25, 0.5, 0.0];
    let mut transposed = [0.0; 16];
    (0..16).for_each(|at| transposed[at % 4 * 4 + at / 4] = matrix[at]);
    let transposed: Vec<u8> =
        transposed.iter().flat_map(|entry: &f64| entry.to_le_bytes()).collect();
    let place = all_kept()
        .f64("u", &[4], &by_class)
        .f64("U", &[4, 4], &matrix)
        .bytes("F", &npy("<f8", true, &[4, 4], &transposed));
    let smoothed = |i: usize, prior: &[f64]| {
        0.9 * plain(i) + 0.1 * (0..4).map(|class| prior[class] * nll(row(i), class)).sum::<f64>()
    };
    close(
        &place.json("--prior u.npy --reduction none")["loss"],
        &[0, 1, 2, 3].map(|i| smoothed(i, &by_class)),
    );
    for file in ["U", "F"] {
        close(
            &place.json(&format!("--prior {file}.npy --reduction none"))["loss"],
            &[0, 1, 2, 3].map(|i| smoothed(i, &matrix[4 * KEPT[i]..])),
        );
    }
}

#[test]
fn allowed_classes() {
    let f = false;
    let place = all_kept()
        .bool("a", &[4], &[true, true, true, true])
        .bool("b", &[4], &[true, true, f, true])
        .bool(
            "c",
            &[4, 4],
            &[true, true, f, f, f, f, f, true, true, true, true, true, true, true, true, true],
        );
    close(
        &place.json("--allowed-classes a.npy --reduction none")["loss"],
        &[0, 1, 2, 3].map(plain),
    );
    let two = nll(&row(0)[..2], 0);
    close(
        &place.json("--allowed-classes c.npy --reduction none")["loss"],
        &[two, 0.0, plain(2), plain(3)],
    );
    let renormalised =
        place.json("--allowed-classes c.npy --masked renormalise --epsilon 0.1 --reduction none");
    let expected = 0.9 * two + 0.1 * (two + nll(&row(0)[..2], 1)) / 2.0;
    close(
        &renormalised["loss"],
        &[
            expected,
            0.0,
            0.9 * plain(2) + 0.1 * to_uniform(2),
            0.9 * plain(3) + 0.1 * to_uniform(3),
        ],
    );
    // Row 2's own class is not allowed.
    assert_eq!(place.json("--allowed-classes b.npy --reduction none")["loss"][2], "Infinity");
}

#[test]
fn changed_logits() {
    let place = all_kept();
    let changed = |change: &dyn Fn(f64) -> f64| -> Vec<f64> {
        (0..4)
            .map(|i| nll(&row(i).iter().map(|z| change(*z)).collect::<Vec<_>>(), KEPT[i]))
            .collect()
    };
    close(&place.json("--temperature 2.5 --reduction none")["loss"], &changed(&|z| z / 2.5));
    close(
        &place.json("--temperature 2 --softcap 1.5 --reduction none")["loss"],
        &changed(&|z| 1.5 * (z / 2.0 / 1.5).tanh()),
    );
}

#[test]
fn z_loss() {
    let place = ArrayFolder::new();
    let rows = place.json("--ignore-index -100 --z-loss 0.01 --reduction none");
    let lse = |i: usize| row(i).iter().map(|z| z.exp()).sum::<f64>().ln();
    let expected = [0, 1, 2, 3].map(|i| if Y[i] < 0 { 0.0 } else { 0.01 * lse(i).powi(2) });
    close(&rows["z_loss"], &expected);
    let loss: Vec<f64> = (0..4)
        .map(|i| if Y[i] < 0 { 0.0 } else { nll(row(i), Y[i] as usize) + expected[i] })
        .collect();
    close(&rows["loss"], &loss);
}
