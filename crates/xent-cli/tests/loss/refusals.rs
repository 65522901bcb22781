//! Input that cannot be used: what is said, and that nothing is left behind.

use crate::array_folder::{ArrayFolder, Z, npy};

/// With a gradient asked for, so that one left behind would be seen.
const ON: &str = "--logits z.npy --targets y.npy --ignore-index -100 --epsilon 0.1 --grad g.npy";

#[track_caller]
fn refused(place: &ArrayFolder, options: &str, parts: &[&str]) {
    place.run(&format!("{ON} {options}")).refused(parts);
}

/// The same with other options than [`ON`]'s.
#[track_caller]
fn refused_instead(place: &ArrayFolder, options: &str, parts: &[&str]) {
    place.run(&format!("--logits z.npy --targets y.npy --grad g.npy {options}")).refused(parts);
}

#[test]
fn labels_out_of_range() {
    for label in [4, -1, -101, i64::MIN, i64::MAX, 1 << 32, (1 << 32) + 1] {
        let place = ArrayFolder::new().i64("y", &[4], &[0, 3, label, 1]);
        refused(&place, "", &[&format!("y.npy: target {label} in row 2 is outside 0..4")]);
    }
    let place = ArrayFolder::new().i64("z", &[4, 4], &[0; 16]).f64("z", &[2, 2, 4], &Z).i64(
        "y",
        &[2, 2],
        &[0, 1, 9, 1],
    );
    refused(&place, "", &["y.npy: target 9 in row 2", "the row is at [1, 0]"]);
}

#[test]
fn labels_that_int64_cannot_hold() {
    let labels: Vec<u8> =
        [0, 1, u64::MAX, 3].iter().flat_map(|label: &u64| label.to_le_bytes()).collect();
    let place = ArrayFolder::new().bytes("y", &npy("<u8", false, &[4], &labels)).bool(
        "m",
        &[4],
        &[false, false, true, false],
    );
    refused(&place, "", &["y.npy: target 18446744073709551615 in row 2"]);
    // u64::MAX is not −1, and where it is masked it is never looked at.
    refused_instead(&place, "--ignore-index -1", &["y.npy: target 18446744073709551615 in row 2"]);
    assert_eq!(place.json("--ignored-rows m.npy")["ignored"], 1);
}

#[test]
fn epsilon() {
    let place = ArrayFolder::new();
    for epsilon in ["-0.1", "1.0000001", "NaN", "inf"] {
        refused_instead(
            &place,
            &format!("--ignore-index -100 --epsilon {epsilon}"),
            &[&format!("label smoothing is {epsilon}, expected 0 ≤ ε ≤ 1")],
        );
    }
    for epsilon in ["many", "0.1.csv", "0,1"] {
        refused_instead(
            &place,
            &format!("--ignore-index -100 --epsilon {epsilon}"),
            &["--epsilon", "expected a number, or the name of a .npy, .npz or .safetensors file"],
        );
    }
    let place = place.f64("e", &[4], &[0.1, 1.5, 0.0, 0.0]).f64("short", &[3], &[0.1; 3]);
    refused_instead(
        &place,
        "--ignore-index -100 --epsilon e.npy",
        &["e.npy: ε of row 1 is 1.5, expected 0 ≤ ε ≤ 1"],
    );
    refused_instead(
        &place,
        "--ignore-index -100 --epsilon short.npy",
        &[
            "short.npy: the array has shape [3]",
            "logits of shape [4, 4]",
            "expected [4], one entry per row",
        ],
    );
}

#[test]
fn class_weights() {
    for (weights, message) in [
        (vec![1.0, -1.0, 0.0, 1.0], "w.npy: class weights[1] is -1, expected a finite number ≥ 0"),
        (vec![1.0, 1.0, f64::NAN, 1.0], "w.npy: class weights[2] is NaN"),
        (vec![1.0, 1.0, 1.0, f64::INFINITY], "w.npy: class weights[3] is inf"),
        (vec![1.0; 3], "w.npy: the array has shape [3], expected [4], one entry per class"),
        (vec![1.0; 5], "w.npy: the array has shape [5]"),
        (vec![], "w.npy: the array has shape [0]"),
    ] {
        let place = ArrayFolder::new().f64("w", &[weights.len()], &weights);
        refused(&place, "--class-weights w.npy", &[message]);
    }
    refused(
        &ArrayFolder::new().bool("w", &[4], &[true; 4]),
        "--class-weights w.npy",
        &["w.npy: dtype bool, expected numbers"],
    );
    refused(&ArrayFolder::new(), "--class-weighting per_row", &["--class-weights"]);
    refused(
        &ArrayFolder::new(),
        "--class-weights w.npy --class-weighting batch",
        &["'batch'", "per_class, per_row"],
    );
}

#[test]
fn what_is_given_a_row() {
    let place = ArrayFolder::new()
        .f64("r", &[4], &[1.0, 1.0, 1.0, -2.0])
        .f64("nan", &[4], &[f64::NAN, 1.0, 1.0, 1.0])
        .f64("square", &[2, 2], &[1.0; 4])
        .i64("large", &[4], &[(1 << 53) + 1; 4])
        .bool("m", &[3], &[true; 3]);
    refused(
        &place,
        "--row-weights r.npy",
        &["r.npy: the weight of row 3 is -2, expected a finite number ≥ 0"],
    );
    refused(&place, "--row-weights nan.npy", &["nan.npy: the weight of row 0 is NaN"]);
    refused(
        &place,
        "--row-weights square.npy",
        &["square.npy: the array has shape [2, 2]", "expected [4], one entry per row"],
    );
    refused(&place, "--row-weights large.npy", &["large.npy: entry 0 is 9007199254740993"]);
    refused(
        &place,
        "--ignored-rows m.npy",
        &["m.npy: the array has shape [3]", "expected [4], one entry per row"],
    );
    refused(&place, "--ignored-rows r.npy", &["r.npy: dtype float64, expected bool"]);
    refused(
        &place,
        "--allowed-classes m.npy",
        &["m.npy: the array has shape [3]", "expected [4], one entry per class, or [4, 4]"],
    );
    refused(&place, "--allowed-classes w.npy", &["w.npy: dtype float64, expected bool"]);
}

#[test]
fn mixes() {
    let place = ArrayFolder::new()
        .i64("b", &[4], &[0, 4, 0, 0])
        .i64("ok", &[4], &[0; 4])
        .f64("f", &[4], &[0.0; 4])
        .f64("l", &[4], &[0.5, 0.5, 0.5, -0.5]);
    refused(&place, "--mix b.npy --lambda 0.5", &["b.npy: target 4 in row 1"]);
    refused(
        &place,
        "--mix ok.npy --lambda l.npy",
        &["l.npy: λ of row 3 is -0.5, expected 0 ≤ λ ≤ 1"],
    );
    refused(&place, "--mix ok.npy --lambda 1.5", &["λ is 1.5, expected 0 ≤ λ ≤ 1"]);
    refused(&place, "--mix ok.npy --lambda nan", &["λ is NaN"]);
    refused(&place, "--mix f.npy --lambda 0.5", &["f.npy: dtype float64, expected integers"]);
    refused(&place, "--mix ok.npy", &["--lambda"]);
    refused(&place, "--lambda 0.5", &["--mix"]);
    refused(
        &place.i64("y", &[4], &[9, 3, 0, 1]),
        "--mix ok.npy --lambda 0.5",
        &["y.npy: target 9 in row 0"],
    );
}

#[test]
fn priors() {
    let place = ArrayFolder::new()
        .f64("u", &[4], &[0.5, 0.5, 0.5, 0.5])
        .f64("negative", &[4], &[0.5, 0.75, -0.25, 0.0])
        .f64("nan", &[4], &[f64::NAN, 1.0, 0.0, 0.0])
        .f64("short", &[3], &[0.5, 0.25, 0.25])
        .f64("oblong", &[4, 3], &[0.25; 12])
        .f64(
            "matrix",
            &[4, 4],
            &[
                0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25,
                0.25, 0.25,
            ],
        );
    refused(&place, "--prior u.npy", &["u.npy: the prior sums to 2, expected 1"]);
    refused(
        &place,
        "--prior negative.npy",
        &["negative.npy: prior[2] is -0.25, expected a finite number ≥ 0"],
    );
    refused(&place, "--prior nan.npy", &["nan.npy: prior[0] is NaN"]);
    refused(
        &place,
        "--prior short.npy",
        &["short.npy: the array has shape [3]", "expected [4] or [4, 4]"],
    );
    refused(&place, "--prior oblong.npy", &["oblong.npy: the array has shape [4, 3]"]);
    refused(&place, "--prior matrix.npy", &["matrix.npy: row 2 of the prior matrix sums to 1.25"]);
    refused(
        &place,
        "--prior gaussian",
        &[
            "--prior",
            "expected 'uniform', 'wrong_classes', or the name of a .npy, .npz or .safetensors file",
        ],
    );
    refused(&place, "--prior absent.npy", &["cannot read absent.npy"]);
    refused(&place, "--exclude 4", &["names class 4, but the logits have 4 classes"]);
    refused(&place, "--exclude -1", &["-1"]);
    refused(
        &place,
        "--exclude 1 --prior uniform",
        &[
            "--exclude",
            "--prior uniform gives the true class its share",
            "expected --prior wrong_classes",
        ],
    );
    refused(
        &place,
        "--exclude 1 --prior u.npy",
        &["--exclude", "u.npy itself says what each class gets", "zeros in the file"],
    );
}

#[test]
fn numbers_out_of_range() {
    let place = ArrayFolder::new();
    for (option, values, message) in [
        ("--temperature", ["0", "-1", "nan", "inf"], "temperature is"),
        ("--softcap", ["0", "-1", "nan", "inf"], "softcap is"),
        ("--z-loss", ["-0.1", "-1", "nan", "inf"], "z-loss is"),
        ("--denominator", ["0", "-3", "nan", "inf"], "the given denominator is"),
    ] {
        for value in values {
            refused(&place, &format!("{option} {value}"), &[message, "expected a finite number"]);
        }
        refused(&place, &format!("{option} much"), &["'much'"]);
    }
    for (option, value) in [
        ("--reduction", "max"),
        ("--form", "js"),
        ("--masked", "no"),
        ("--empty-mean", "one"),
        ("--axis", "last"),
        ("--ignore-index", "0.5"),
    ] {
        refused(&place, &format!("{option} {value}"), &[value, option]);
    }
}

#[test]
fn shapes() {
    let place = ArrayFolder::new().f64("z", &[4, 4], &Z).i64("y", &[3], &[0; 3]);
    refused(
        &place,
        "",
        &[
            "y.npy: the array has shape [3] and dtype int64, expected [4] of integers (class indices) or [4, 4] of floats",
            "logits of shape [4, 4]",
        ],
    );
    refused(
        &place.i64("y", &[4, 4], &[0; 16]),
        "",
        &["y.npy: the array has shape [4, 4] and dtype int64"],
    );
    refused(
        &ArrayFolder::new().f64("y", &[4], &[0.0; 4]),
        "",
        &["y.npy: the array has shape [4] and dtype float64"],
    );
    refused(
        &ArrayFolder::new().f64("y", &[4, 3], &[0.0; 12]),
        "",
        &["y.npy: the array has shape [4, 3] and dtype float64"],
    );
    refused(
        &ArrayFolder::new().bool("y", &[4], &[true; 4]),
        "",
        &["y.npy: the array has shape [4] and dtype bool"],
    );
    refused(
        &ArrayFolder::new().bool("y", &[4, 4], &[true; 16]),
        "",
        &["y.npy: the array has shape [4, 4] and dtype bool"],
    );
    refused(
        &ArrayFolder::new().f64("z", &[], &[1.0]),
        "",
        &["z.npy: class axis -1 of a shape with 0 axes, expected at least 1 axis"],
    );
    refused(
        &ArrayFolder::new().f64("z", &[4, 0], &[]),
        "",
        &["z.npy: the class axis has length 0"],
    );
    refused(
        &ArrayFolder::new().i64("z", &[4, 4], &[0; 16]),
        "",
        &["z.npy: dtype int64, expected float16, bfloat16, float32 or float64"],
    );
    for axis in [2, -3] {
        refused(
            &ArrayFolder::new(),
            &format!("--axis {axis}"),
            &[&format!("z.npy: class axis {axis} of a shape with 2 axes, expected -2 to 1")],
        );
    }
}

#[test]
fn probabilities() {
    for value in [-0.5, f64::NAN, f64::INFINITY] {
        let mut soft = [0.25; 16];
        soft[6] = value;
        let place = ArrayFolder::new().f64("y", &[4, 4], &soft);
        let message = format!(
            "y.npy: the target probability of class 2 in row 1 is {value}, expected a finite number ≥ 0"
        );
        refused_instead(&place, "--epsilon 0.1", &[&message]);
    }
    let place = ArrayFolder::new().f64("y", &[4, 4], &[0.25; 16]);
    refused(&place, "", &["probability targets have no index to ignore"]);
}

#[test]
fn files() {
    let place = ArrayFolder::new();
    refused_instead(&place, "--row-weights absent.npy", &["cannot read absent.npy"]);
    place.run("--logits absent.npy --targets y.npy").refused(&["cannot read absent.npy"]);
    place
        .run("--logits . --targets y.npy")
        .refused(&["cannot read .: its name ends in nothing, expected .npy, .npz"]);
    place.run("--logits z.npy").refused(&["--targets"]);
    if cfg!(unix) {
        place
            .run("--logits /dev/zero --targets y.npy")
            .refused(&["cannot read /dev/zero: its name ends in nothing"]);
        std::os::unix::fs::symlink("/dev/zero", place.path("zero")).unwrap();
        place
            .run("--logits zero.npy --targets y.npy")
            .refused(&["cannot read zero.npy: it is a folder, pipe or device"]);
    }
    place
        .run("--logits z.npy --targets y.npy --ignore-index -100 --grad .")
        .refused(&[".: it is a folder"]);
    let mut header_only = npy("<f8", false, &[1 << 40, 4], &[]);
    refused(
        &ArrayFolder::new().bytes("z", &header_only),
        "",
        &[
            "cannot read z.npy: shape (1099511627776, 4) of float64 has 35184372088832 bytes, but 0 follow",
        ],
    );
    header_only.truncate(9);
    refused(
        &ArrayFolder::new().bytes("z", &header_only),
        "",
        &["cannot read z.npy: the file ends after 9 bytes, inside the header"],
    );
    refused(
        &ArrayFolder::new().bytes("z", b"2 -1 0.5 0\n"),
        "",
        &["cannot read z.npy: it begins with '2 -1 0'"],
    );
    refused(
        &ArrayFolder::new().bytes("z", &npy("|O", false, &[4, 4], &[])),
        "",
        &["cannot read z.npy: dtype '|O' (Python objects)"],
    );
    refused(
        &ArrayFolder::new().bytes("y", &[npy("<i8", false, &[4], &[0; 32]), vec![0]].concat()),
        "",
        &["cannot read y.npy: shape (4,) of int64 has 32 bytes, but 33"],
    );
}

/// What is not a file would be replaced by one. A socket stands for devices, which a test must not
/// put at risk.
#[cfg(unix)]
#[test]
fn a_gradient_where_no_file_is() {
    use std::os::unix::fs::FileTypeExt;
    let place = ArrayFolder::new();
    let _listener = std::os::unix::net::UnixListener::bind(place.path("g")).unwrap();
    refused(&place, "", &["g.npy: it is a folder, pipe or device, expected a file"]);
    assert!(std::fs::symlink_metadata(place.path("g")).unwrap().file_type().is_socket());
}

#[test]
fn a_gradient_that_cannot_be_written() {
    let place = ArrayFolder::new();
    place
        .run("--logits z.npy --targets y.npy --ignore-index -100 --grad absent/g.npy")
        .refused(&["absent/g.npy: absent is not a folder"]);
}

#[test]
fn a_gradient_over_an_input() {
    for input in ["z.npy", "y.npy", "w.npy", "./z.npy"] {
        let place = ArrayFolder::new();
        let options =
            "--logits z.npy --targets y.npy --ignore-index -100 --class-weights w.npy --grad";
        place.run(&format!("{options} {input}")).refused(&["it would replace a file that is read"]);
    }
}

#[test]
fn an_error_leaves_the_old_gradient() {
    let place = ArrayFolder::new().f64("g", &[1], &[7.0]).i64("y", &[4], &[0, 3, 9, 1]);
    refused(&place, "", &["target 9"]);
    let kept = std::fs::read(place.path("g")).unwrap();
    assert!(kept.ends_with(&7.0f64.to_le_bytes()));
}
