//! Types, orders, axes and gradients.

use half::{bf16, f16};

use crate::array_folder::{ArrayFolder, Y, Z, all_close, close, npy, softmax};

const LOSS: [f64; 4] = [0.5048495824, 0.4255153626, 0.0, 1.6265233750];
const OPTIONS: &str = "--ignore-index -100 --epsilon 0.1 --reduction none --grad g.npy";

/// The gradient of each row's loss with ε = 0.1: p − y.
fn gradient() -> Vec<f64> {
    let row = |i: usize| -> Vec<f64> {
        let p = softmax(&Z[4 * i..][..4]);
        (0..4)
            .map(|k| {
                if Y[i] < 0 { 0.0 } else { p[k] - 0.025 - if Y[i] == k as i64 { 0.9 } else { 0.0 } }
            })
            .collect()
    };
    (0..4).flat_map(row).collect()
}

#[test]
fn gradients_of_each_reduction() {
    let place = ArrayFolder::new();
    for (reduction, scale) in [("none", 1.0), ("sum", 1.0), ("mean", 1.0 / 3.0)] {
        place.json(&format!(
            "--ignore-index -100 --epsilon 0.1 --reduction {reduction} --grad g.npy"
        ));
        let expected: Vec<f64> = gradient().iter().map(|entry| entry * scale).collect();
        let found = place.read_f64("g", "(4, 4)");
        all_close(&found, &expected, 1e-15);
        assert_eq!(found[8..12], [0.0; 4]);
    }
}

/// The fixtures of xent-arrays have the same five rows.
#[test]
fn every_format_has_the_same_loss() {
    let place = ArrayFolder::new();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../xent-arrays/tests/fixtures");
    let loss = |logits: &str, targets: &str| {
        place
            .run(&format!(
                "--logits {fixtures}/{logits} --targets {fixtures}/{targets} --epsilon 0.1 --json"
            ))
            .json()["loss"]
            .as_f64()
            .unwrap()
    };
    let expected = loss("z64.npy", "y.npy");
    for (logits, targets) in [
        ("fortran.npy", "y8.npy"),
        ("fortran.npz:logits", "fortran.npz"),
        ("deflated.npz", "deflated.npz:y"),
        ("several.safetensors:z", "f32.safetensors"),
        ("e4m3.safetensors:logits", "e4m3.safetensors:labels"),
        ("table.csv", "table.csv"),
        ("table.csv", "table.csv:label"),
        ("list.parquet", "list.parquet"),
        ("fixed.parquet:logits", "labels.csv"),
        ("wide.parquet", "wide.parquet:label"),
    ] {
        let found = loss(logits, targets);
        assert!((found - expected).abs() < 1e-6, "{logits}: {found}, expected {expected}");
    }
    place
        .run(&format!("--logits {fixtures}/z64.npy --targets {fixtures}/y.npy --row-weights {fixtures}/table.csv"))
        .refused(&["table.csv", "expected an array (.npy, .npz or .safetensors)"]);
}

#[test]
fn probabilities_are_told_from_logits() {
    let p = [0.7, 0.2, 0.1, 0.25, 0.5, 0.25];
    let place = ArrayFolder::empty().f64("p", &[2, 3], &p).i64("y", &[2], &[0, 1]).f64(
        "columns",
        &[3, 2],
        &[0.7, 0.25, 0.2, 0.5, 0.1, 0.25],
    );
    let nll = -(0.7f64.ln() + 0.5f64.ln()) / 2.0;
    for logits in ["--logits p.npy", "--logits columns.npy --axis 0"] {
        let run = place.run(&format!("{logits} --targets y.npy --json"));
        assert!(run.stderr().contains("seem to be probabilities"), "{}", run.stderr());
        let run = place.run(&format!("{logits} --targets y.npy --json --probabilities"));
        assert_eq!(run.stderr(), "");
        close(&run.json()["loss"], &[nll]);
    }
    let place = place.f64("q", &[2, 3], &[0.7, 0.2, 0.2, 0.0, 0.0, 1.0]);
    place
        .run("--logits q.npy --targets y.npy --probabilities")
        .refused(&["q.npy: row 0 is no distribution"]);
    let run = place.run("--logits q.npy --targets y.npy --json");
    assert_eq!(run.stderr(), "");
}

#[test]
fn targets_that_do_not_sum_to_1_are_named() {
    let place = ArrayFolder::empty()
        .f64("z", &[3, 2], &[0.5, -1.0, 2.0, 0.0, 1.0, 3.0])
        .f64("t", &[3, 2], &[0.5, 0.5, 0.75, 0.5, 3.0, 1.0])
        .bool("m", &[3], &[false, true, false]);
    let warning = |options: &str| {
        place.run(&format!("--logits z.npy --targets t.npy {options}")).stderr().to_string()
    };
    assert!(warning("").contains("t.npy: row 1 sums to 1.25, expected 1"), "{}", warning(""));
    let masked = warning("--ignored-rows m.npy");
    assert!(masked.contains("t.npy: row 2 sums to 4, expected 1"), "{masked}");
}

#[test]
fn the_loss_is_the_same_with_and_without_gradient() {
    let place = ArrayFolder::new();
    let without = place.json("--ignore-index -100 --epsilon 0.1 --class-weights w.npy");
    assert_eq!(
        place.json("--ignore-index -100 --epsilon 0.1 --class-weights w.npy --grad g.npy"),
        without
    );
}

#[test]
fn logits_of_every_type() {
    let f32s = |entry: f64| (entry as f32).to_le_bytes().to_vec();
    let f16s = |entry: f64| f16::from_f64(entry).to_le_bytes().to_vec();
    let bf16s = |entry: f64| bf16::from_f64(entry).to_le_bytes().to_vec();
    let reversed = |mut bytes: Vec<u8>| {
        bytes.reverse();
        bytes
    };
    type Encode<'a> = &'a dyn Fn(f64) -> Vec<u8>;
    let types: [(&str, &str, f64, Encode); 8] = [
        ("<f8", "<f8", 1e-15, &|z| z.to_le_bytes().to_vec()),
        (">f8", "<f8", 1e-15, &|z| z.to_be_bytes().to_vec()),
        ("<f4", "<f4", 1e-7, &f32s),
        (">f4", "<f4", 1e-7, &|z| reversed(f32s(z))),
        ("<f2", "<f2", 5e-4, &f16s),
        (">f2", "<f2", 5e-4, &|z| reversed(f16s(z))),
        ("<V2", "<V2", 4e-3, &bf16s),
        ("|V2", "<V2", 4e-3, &bf16s),
    ];
    for (descr, written, tolerance, encode) in types {
        let entries: Vec<u8> = Z.iter().flat_map(|&z| encode(z)).collect();
        let place = ArrayFolder::new().bytes("z", &npy(descr, false, &[4, 4], &entries));
        let found = place.json(OPTIONS);
        let loss: Vec<f64> =
            found["loss"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();
        all_close(&loss, &LOSS, if written == "<f8" { 1e-9 } else { 2e-7 });
        let bytes = place.read("g", written, "(4, 4)");
        let size = bytes.len() / 16;
        let grad: Vec<f64> = bytes
            .chunks_exact(size)
            .map(|bytes| match (written, bytes) {
                ("<f2", &[a, b]) => f16::from_le_bytes([a, b]).into(),
                ("<V2", &[a, b]) => bf16::from_le_bytes([a, b]).into(),
                ("<f4", bytes) => f32::from_le_bytes(bytes.try_into().unwrap()).into(),
                (_, bytes) => f64::from_le_bytes(bytes.try_into().unwrap()),
            })
            .collect();
        all_close(&grad, &gradient(), tolerance);
    }
}

#[test]
fn bfloat16_as_ml_dtypes_saves_it() {
    // numpy.save of the known answers' logits as ml_dtypes.bfloat16 (NumPy 2.4, ml_dtypes 0.5); all
    // of them are exact in bfloat16.
    let place = ArrayFolder::new().bytes("z", include_bytes!("data/bfloat16.npy"));
    let found = place.json("--ignore-index -100 --epsilon 0.1");
    assert!((found["loss"].as_f64().unwrap() - 0.8522961067).abs() < 1e-7, "{found}");
}

#[test]
fn class_indices_of_every_type() {
    for (descr, bytes) in
        [("i1", 1), ("i2", 2), ("i4", 4), ("i8", 8), ("u1", 1), ("u2", 2), ("u4", 4), ("u8", 8)]
    {
        let signed = descr.starts_with('i');
        let ignore: i64 = if signed { -100 } else { 255 };
        for big in [false, true] {
            let entry = |label: i64| {
                let mut entry = label.to_le_bytes()[..bytes].to_vec();
                if big {
                    entry.reverse();
                }
                entry
            };
            let entries: Vec<u8> = [0, 3, ignore, 1].into_iter().flat_map(entry).collect();
            let order = if big { '>' } else { '<' };
            let place = ArrayFolder::new()
                .bytes("y", &npy(&format!("{order}{descr}"), false, &[4], &entries));
            close(
                &place.json(&format!("--ignore-index {ignore} --epsilon 0.1 --reduction none"))["loss"],
                &LOSS,
            );
        }
    }
}

#[test]
fn probabilities_of_every_float_type() {
    let soft =
        [0.5, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.125, 0.125, 0.25, 0.5];
    let expected =
        ArrayFolder::new().f64("y", &[4, 4], &soft).json("--epsilon 0.1 --reduction none")["loss"]
            .clone();
    let f32s: Vec<u8> = soft.iter().flat_map(|&q| (q as f32).to_le_bytes()).collect();
    let f16s: Vec<u8> = soft.iter().flat_map(|&q| f16::from_f64(q).to_le_bytes()).collect();
    let bf16s: Vec<u8> = soft.iter().flat_map(|&q| bf16::from_f64(q).to_le_bytes()).collect();
    for (descr, entries) in [("<f4", f32s), ("<f2", f16s), ("<V2", bf16s)] {
        let place = ArrayFolder::new().bytes("y", &npy(descr, false, &[4, 4], &entries));
        assert_eq!(place.json("--epsilon 0.1 --reduction none")["loss"], expected, "{descr}");
    }
}

/// Entry (i, j) of a 4×4 array goes to where C order of (j, i) has it.
fn transposed<T: Copy>(entries: &[T]) -> Vec<T> {
    (0..16).map(|at| entries[at % 4 * 4 + at / 4]).collect()
}

#[test]
fn fortran_order() {
    let entries: Vec<u8> = transposed(&Z).iter().flat_map(|z| z.to_le_bytes()).collect();
    let place = ArrayFolder::new().bytes("z", &npy("<f8", true, &[4, 4], &entries));
    close(&place.json(OPTIONS)["loss"], &LOSS);
    // The gradient has the order of the logits.
    all_close(&place.read_f64_in("g", true, "(4, 4)"), &transposed(&gradient()), 1e-15);

    let soft =
        [0.5, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.125, 0.125, 0.25, 0.5];
    let entries: Vec<u8> = transposed(&soft).iter().flat_map(|q: &f64| q.to_le_bytes()).collect();
    let as_c = ArrayFolder::new().f64("y", &[4, 4], &soft).json("--reduction none");
    assert_eq!(
        ArrayFolder::new()
            .bytes("y", &npy("<f8", true, &[4, 4], &entries))
            .json("--reduction none"),
        as_c
    );
}

#[test]
fn the_class_axis_anywhere() {
    for (axis, options) in [(0, "--axis 0"), (0, "--axis -2"), (1, "--axis 1"), (1, "--axis -1")] {
        let logits = if axis == 0 { transposed(&Z) } else { Z.to_vec() };
        let place = ArrayFolder::new().f64("z", &[4, 4], &logits);
        close(&place.json(&format!("{OPTIONS} {options}"))["loss"], &LOSS);
        let expected = if axis == 0 { transposed(&gradient()) } else { gradient() };
        all_close(&place.read_f64("g", "(4, 4)"), &expected, 1e-15);
    }
}

/// Images: `[batch, classes, height, width]`, with everything that is given a row or a class, each
/// file in either order.
#[test]
fn more_axes() {
    let images =
        ArrayFolder::empty().f64("z", &[1, 4, 2, 2], &transposed(&Z)).i64("y", &[1, 2, 2], &Y);
    let found = images.json(&format!("{OPTIONS} --axis 1"));
    close(&found["loss"], &LOSS);
    assert_eq!((&found["rows"], &found["classes"]), (&4.into(), &4.into()));
    all_close(&images.read_f64("g", "(1, 4, 2, 2)"), &transposed(&gradient()), 1e-15);

    // In Fortran order of (height, width) rows 1 and 2 change places in the file.
    let swapped: Vec<u8> =
        [Y[0], Y[2], Y[1], Y[3]].iter().flat_map(|label| label.to_le_bytes()).collect();
    let images = images.bytes("y", &npy("<i8", true, &[1, 2, 2], &swapped));
    close(&images.json(&format!("{OPTIONS} --axis 1"))["loss"], &LOSS);

    // An allowed-class mask in the logits' shape means the same rows as one for [rows, classes].
    let mut allowed = [true; 16];
    (allowed[1], allowed[2], allowed[4], allowed[14]) = (false, false, false, false);
    let matrix = ArrayFolder::new()
        .bool("a", &[4, 4], &allowed)
        .json("--ignore-index -100 --allowed-classes a.npy --reduction none");
    let images = images.bool("a", &[1, 4, 2, 2], &transposed(&allowed));
    assert_eq!(
        images.json("--ignore-index -100 --allowed-classes a.npy --reduction none --axis 1"),
        matrix
    );
}

#[test]
fn one_row_without_a_row_axis() {
    let place = ArrayFolder::empty().f64("z", &[4], &Z[..4]).i64("y", &[], &[0]);
    let found = place.json("--epsilon 0.1 --grad g.npy");
    close(&found["loss"], &[0.5048495824]);
    assert_eq!(found["rows"], 1);
    all_close(&place.read_f64("g", "(4,)"), &gradient()[..4], 1e-15);
    close(&place.json("--epsilon 0.1 --reduction none")["loss"], &[0.5048495824]);
}

#[test]
fn one_class() {
    let place = ArrayFolder::empty().f64("z", &[2, 1], &[3.0, -4.0]).i64("y", &[2], &[0, 0]);
    for prior in ["uniform", "wrong_classes"] {
        let found = place.json(&format!("--prior {prior} --reduction none --grad g.npy"));
        close(&found["loss"], &[0.0, 0.0]);
        assert_eq!(place.read_f64("g", "(2, 1)"), [0.0, 0.0]);
    }
}

#[test]
fn no_rows() {
    let place = ArrayFolder::empty().f64("z", &[0, 4], &[]).i64("y", &[0], &[]);
    let found = place.json("--epsilon 0.1 --grad g.npy");
    assert_eq!(
        (&found["loss"], &found["rows"], &found["classes"]),
        (&"NaN".into(), &0.into(), &4.into())
    );
    assert!(place.read_f64("g", "(0, 4)").is_empty());
    close(&place.json("--reduction sum")["loss"], &[0.0]);
    close(&place.json("--reduction none")["loss"], &[]);
    let image = ArrayFolder::empty().f64("z", &[2, 4, 0], &[]).i64("y", &[2, 0], &[]);
    close(&image.json("--reduction sum --axis 1")["loss"], &[0.0]);
}
