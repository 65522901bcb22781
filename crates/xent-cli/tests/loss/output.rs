//! What is printed, in words and in JSON, and what is said about rows that are not finite.

use serde_json::Value;

use crate::array_folder::{ArrayFolder, Z, close};

const ON: &str = "--logits z.npy --targets y.npy --ignore-index -100";

fn with_logit(at: usize, value: f64) -> ArrayFolder {
    let mut logits = Z;
    logits[at] = value;
    ArrayFolder::new().f64("z", &[4, 4], &logits)
}

#[test]
fn text() {
    let run = ArrayFolder::new().run(&format!("{ON} --epsilon 0.1")).succeeded();
    let lines: Vec<Vec<&str>> =
        run.stdout().lines().map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!(
        names,
        [
            "loss",
            "nll",
            "smoothing",
            "floor",
            "z_loss",
            "denominator",
            "correct",
            "ignored",
            "non_finite",
            "classes"
        ]
    );
    assert!((lines[0][1].parse::<f64>().unwrap() - 0.8522961067).abs() < 1e-9);
    assert_eq!(lines[5][1..], ["3"]);
    assert_eq!(lines[6][1..], ["2", "of", "3", "kept", "rows"]);
    assert_eq!(lines[7][1..], ["1", "of", "4", "rows"]);
    assert_eq!(run.stderr(), "");
}

#[test]
fn text_of_rows() {
    let run =
        with_logit(5, f64::NAN).run(&format!("{ON} --epsilon 0.1 --reduction none")).succeeded();
    let lines: Vec<&str> = run.stdout().lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() < 80), "{}", run.stdout());
    let cells: Vec<Vec<&str>> =
        lines[..5].iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["row", "loss", "nll", "smoothing", "floor", "z_loss"]);
    assert_eq!(cells[1][..3], ["0", "0.5048496", "0.3423496"]);
    assert_eq!(cells[2][..2], ["1", "NaN"]);
    assert_eq!(cells[3], ["2", "0", "0", "0", "0", "0"]);
}

#[test]
fn every_key_once() {
    let Value::Object(object) = ArrayFolder::new().json("--ignore-index -100") else {
        panic!("no object")
    };
    let mut keys: Vec<&String> = object.keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "classes",
            "correct",
            "denominator",
            "floor",
            "ignored",
            "loss",
            "nll",
            "non_finite",
            "rows",
            "smoothing",
            "z_loss"
        ]
    );
}

#[test]
fn digits_that_read_back() {
    let place = ArrayFolder::new();
    let parts = place.json("--ignore-index -100 --epsilon 0.3 --reduction none");
    let entry = |part: &str| parts[part][0].as_f64().unwrap();
    // Exact digits or not at all: this holds to the last bits of f64.
    assert!(
        (entry("loss") - (0.7 * entry("nll") + entry("smoothing"))).abs() <= 4.0 * f64::EPSILON
    );
    let text = place.run(&format!("{ON} --epsilon 0.3 --reduction sum")).succeeded();
    let json = place.json("--ignore-index -100 --epsilon 0.3 --reduction sum");
    let printed: f64 = text.stdout().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(Some(printed), json["loss"].as_f64());
}

#[test]
fn nan_and_infinite_logits_stay_in_their_rows() {
    for value in [f64::NAN, f64::INFINITY] {
        let place = with_logit(5, value);
        let run = place
            .run(&format!("{ON} --epsilon 0.1 --reduction none --json --grad g.npy"))
            .succeeded();
        assert_eq!(
            run.stderr(),
            "warning: the loss of 1 of 3 kept rows is NaN or infinite; the first is row 1\n"
        );
        let rows = run.json();
        assert_eq!((&rows["loss"][1], &rows["non_finite"]), (&"NaN".into(), &1.into()));
        close(&rows["loss"][0], &[0.5048495824]);
        let grad = place.read_f64("g", "(4, 4)");
        assert!(grad[4..8].iter().all(|entry| entry.is_nan()));
        assert!(grad[..4].iter().chain(&grad[8..]).all(|entry| entry.is_finite()));
        assert_eq!(place.json("--ignore-index -100")["loss"], "NaN");
    }
}

#[test]
fn masked_logits() {
    let place = with_logit(1, f64::NEG_INFINITY);
    let rows = place.json("--ignore-index -100 --reduction none");
    close(&rows["loss"][0], &[crate::array_folder::nll(&[2.0, 0.5, 0.0], 0)]);
    assert_eq!(
        place.json("--ignore-index -100 --epsilon 0.1 --reduction none")["loss"][0],
        "Infinity"
    );
    assert_eq!(place.json("--ignore-index -100 --epsilon 0.1")["loss"], "Infinity");
    assert!(place.json("--ignore-index -100 --epsilon 0.1 --masked renormalise")["loss"].is_f64());
}

#[test]
fn the_place_of_a_row() {
    let mut logits = Z;
    logits[13] = f64::NAN;
    let place = ArrayFolder::empty().f64("z", &[2, 2, 4], &logits).i64("y", &[2, 2], &[0, 1, 2, 3]);
    let run = place.run("--logits z.npy --targets y.npy").succeeded();
    assert_eq!(
        run.stderr(),
        "warning: the loss of 1 of 4 kept rows is NaN or infinite; the first is row 3, at [1, 1]\n"
    );
}

#[test]
fn a_floor_of_nothing_is_no_negative_zero() {
    let run = ArrayFolder::new().run(&format!("{ON} --reduction none --json")).succeeded();
    assert!(run.stdout().contains("\"floor\":[0.0,0.0,0.0,0.0]"), "{}", run.stdout());
}

#[test]
fn everything_ignored() {
    let place = ArrayFolder::new().i64("y", &[4], &[-100; 4]);
    for (empty_mean, expected) in [("nan", Value::from("NaN")), ("zero", Value::from(0.0))] {
        let found = place.json(&format!(
            "--ignore-index -100 --epsilon 0.1 --empty-mean {empty_mean} --grad g.npy"
        ));
        assert_eq!((&found["loss"], &found["denominator"]), (&expected, &0.0.into()));
        assert_eq!(place.read_f64("g", "(4, 4)"), [0.0; 16]);
    }
    let place = ArrayFolder::new().i64("y", &[4], &[-100; 4]);
    place
        .run(&format!("{ON} --empty-mean error --grad g.npy"))
        .refused(&["the mean's denominator is 0", "4 of 4 rows are ignored"]);
}

#[test]
fn weights_that_are_all_zero() {
    let place = ArrayFolder::new().f64("w", &[4], &[0.0; 4]);
    let found = place.json("--ignore-index -100 --class-weights w.npy");
    assert_eq!((&found["loss"], &found["denominator"]), (&"NaN".into(), &0.0.into()));
    let run = place
        .run("--logits z.npy --targets y.npy --ignore-index -100 --class-weights w.npy")
        .succeeded();
    assert_eq!(
        run.stderr(),
        "warning: the denominator of the mean is 0: 1 of 4 rows are ignored and the weights of the others are 0; see --empty-mean\n"
    );
    close(&place.json("--ignore-index -100 --class-weights w.npy --reduction sum")["loss"], &[0.0]);
}

#[test]
fn help_says_how_json_is_written() {
    let help = ArrayFolder::empty().run("--help").succeeded();
    for part in ["flat arrays", "\"NaN\", \"Infinity\"", "--softcap", "Exit code"] {
        assert!(help.stdout().contains(part), "{part}");
    }
}
