//! `xent bench` as its users start it. Nothing here depends on how fast anything is.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xent"))
        .arg("bench")
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn succeeds(arguments: &str) -> String {
    let output = bench(arguments);
    assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn cases(arguments: &str) -> Vec<Value> {
    let printed = succeeds(&format!("{arguments} --json"));
    let value: Value =
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    value.as_array().unwrap().clone()
}

#[track_caller]
fn refused(arguments: &str, parts: &[&str]) {
    let output = bench(arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments}: {message}");
    assert!(message.starts_with("error: ") && output.stdout.is_empty(), "{arguments}: {message}");
    for part in parts {
        assert!(message.contains(part), "{arguments}: {message}\nlacks {part}");
    }
}

#[track_caller]
fn number(case: &Value, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("{key} in {case}"))
}

#[test]
fn json_has_its_keys_with_numbers_that_go_together() {
    let [case] = &cases("--rows 12 --classes 7 --threads 2 --epsilon 0.2 --rounds 3")[..] else {
        panic!("one case")
    };
    for (key, expected) in
        [("rows", 12.0), ("classes", 7.0), ("threads", 2.0), ("epsilon", 0.2), ("rounds", 3.0)]
    {
        assert_eq!(number(case, key), expected, "{key}");
    }
    assert_eq!(
        (&case["dtype"], &case["layout"], &case["shape"]),
        (&"f32".into(), &"last".into(), &serde_json::json!([12, 7]))
    );
    assert_eq!(case["xent_version"], env!("CARGO_PKG_VERSION"));
    assert!(
        number(case, "cores") >= 1.0
            && case.as_object().unwrap().contains_key("cpu")
            && case["build"].is_string()
    );
    for (name, moved) in [("read", 1.0), ("copy", 2.0), ("forward", 1.0), ("forward_backward", 2.0)]
    {
        let [low, median, high] = ["_low", "", "_high"]
            .map(|which| number(case, &format!("{name}_ns_per_element{which}")));
        assert!(
            0.0 < low && low <= median && median <= high && high.is_finite(),
            "{name}: {low} {median} {high}"
        );
        let rate = number(case, &format!("{name}_gb_per_second"));
        assert!(
            (rate * median / (4.0 * moved) - 1.0).abs() < 1e-9,
            "{name}: {rate} GB/s at {median} ns"
        );
    }
    for (ratio, over, under) in [
        ("forward_per_read", "forward", "read"),
        ("forward_backward_per_copy", "forward_backward", "copy"),
    ] {
        let expected = number(case, &format!("{over}_ns_per_element"))
            / number(case, &format!("{under}_ns_per_element"));
        assert!((number(case, ratio) / expected - 1.0).abs() < 1e-9, "{ratio}");
    }
}

#[test]
fn every_combination_is_a_case() {
    let cases = cases(
        "--rows 6,16 --rows 5 --classes 3,4 --dtype f32,f64,f16,bf16 --layout last,middle --threads 1,2 --rounds 1",
    );
    let mut names: Vec<String> = cases
        .iter()
        .map(|case| {
            ["rows", "classes", "dtype", "layout", "threads"]
                .map(|key| case[key].to_string())
                .join(" ")
        })
        .collect();
    assert_eq!(
        (names.len(), &*names[0], &*names[95]),
        (3 * 2 * 4 * 2 * 2, "6 3 \"f32\" \"last\" 1", "5 4 \"bf16\" \"middle\" 2")
    );
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases.len());
    for case in &cases {
        assert!(number(case, "forward_backward_ns_per_element") > 0.0, "{case}");
        let (rows, classes) = (case["rows"].as_u64().unwrap(), case["classes"].as_u64().unwrap());
        let images = if rows == 16 { 8 } else { rows };
        let shape = if case["layout"] == "last" {
            vec![rows, classes]
        } else {
            vec![images, classes, rows / images]
        };
        assert_eq!(case["shape"], serde_json::json!(shape));
    }
}

#[test]
fn shapes_at_the_edges() {
    for arguments in [
        "--rows 1 --classes 1",
        "--rows 3 --classes 1 --epsilon 1",
        "--rows 1 --classes 5000 --dtype f16",
        "--rows 4100 --classes 2 --epsilon 0",
    ] {
        assert_eq!(cases(&format!("{arguments} --rounds 1 --layout last,middle")).len(), 2);
    }
    let split = cases("--rows 12 --classes 3 --layout middle --batch 2 --rounds 1");
    assert_eq!(split[0]["shape"], serde_json::json!([2, 3, 6]));
}

#[test]
fn time_is_given_in_seconds_unless_in_rounds() {
    let [case] = &cases("--rows 3 --classes 5 --seconds 0.001")[..] else { panic!("one case") };
    assert!(number(case, "rounds") >= 7.0);
}

#[test]
fn the_table_has_a_row_a_case_and_fits() {
    let printed = succeeds("--rows 20 --classes 10,30 --rounds 2 --threads 1 --epsilon 0.05");
    assert!(
        printed.lines().all(|line| line.chars().count() <= 80) && !printed.contains('\u{1b}'),
        "{printed}"
    );
    let flat = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "rows classes dtype layout threads ns/element ",
        "GB/s copy",
        " forward ",
        "forward+",
        "backward",
        " per ",
        "Medians of 2 rounds",
        "quartiles",
    ] {
        assert!(flat.contains(part), "{part}: {printed}");
    }
    assert!(
        printed.starts_with(&format!("xent {}", env!("CARGO_PKG_VERSION")))
            && flat.contains(" core")
            && flat.contains("Label smoothing 0.05"),
        "{printed}"
    );
    for case in ["20 10 f32 last 1 ", "20 30 f32 last 1 "] {
        assert_eq!(flat.matches(case).count(), 1, "{printed}");
    }
}

#[test]
fn numbers_that_cannot_be() {
    for option in ["rows", "classes", "threads", "batch", "rounds"] {
        for value in ["0", "-1", "1.5", "many", "1,,2", "99999999999999999999"] {
            refused(
                &format!("--{option}={value}"),
                &[&format!("--{option} <"), "expected a whole number from 1 to"],
            );
        }
    }
    refused("--rows=", &["--rows", "expected a whole number from 1"]);
    refused("--threads 5000", &["expected a whole number from 1 to 1024"]);
    for epsilon in ["-0.1", "1.01", "NaN"] {
        refused(&format!("--epsilon {epsilon}"), &["--epsilon", "expected a number from 0 to 1"]);
    }
    for seconds in ["0", "-1", "inf", "NaN", "1e9"] {
        refused(
            &format!("--seconds {seconds}"),
            &["--seconds", "expected a number above 0, at most 86400"],
        );
    }
    refused("--dtype f8", &["[possible values: f32, f64, f16, bf16]"]);
    refused("--layout first", &["[possible values: last, middle]"]);
    refused("--seconds 1 --rounds 2", &["cannot be used with"]);
}

#[test]
fn lists_that_repeat_themselves() {
    refused("--rows 5,6,5", &["--rows names 5 twice"]);
    refused("--classes 5 --classes 5", &["--classes names 5 twice"]);
    refused("--dtype f32,f16,f32", &["--dtype names f32 twice"]);
    refused("--layout middle,middle", &["--layout names middle twice"]);
    refused("--threads 1,1", &["--threads names 1 twice"]);
}

#[test]
fn batches_that_do_not_split() {
    refused("--rows 12 --batch 5 --layout middle", &["--batch 5 does not divide 12 rows"]);
    refused("--rows 12 --batch 4", &["expected --layout middle"]);
}

#[test]
fn more_memory_than_there_is() {
    refused(
        "--rows 1000000000 --classes 1000000",
        &["1000000000 rows of 1000000 classes in f32 need 8000128000000000 bytes", "are free"],
    );
    refused(
        "--rows 18446744073709551615 --classes 2",
        &["18446744073709551615 rows of 2 classes in f32 need more than 16 EiB"],
    );
    // The first case would fit; it is not begun.
    refused(
        "--rows 2,1000000000 --classes 1000000 --dtype f16",
        &["in f16 need 4000128000000000 bytes"],
    );
}

#[test]
fn linear_layers_are_cases_too() {
    let cases =
        cases("--linear 20x5x7,3x1x1 --dtype f32,bf16 --threads 1,2 --rounds 2 --epsilon 0.2");
    assert_eq!(cases.len(), 2 * 2 * 2);
    let case = &cases[3];
    for (key, expected) in [
        ("rows", 20.0),
        ("features", 5.0),
        ("classes", 7.0),
        ("threads", 2.0),
        ("rounds", 2.0),
        ("epsilon", 0.2),
        ("logits_bytes", 2.0 * 20.0 * 7.0 * 2.0),
    ] {
        assert_eq!(number(case, key), expected, "{key}");
    }
    assert_eq!(case["dtype"], "bf16");
    for case in &cases {
        for name in ["products", "whole", "padded", "frozen"] {
            let [low, median, high] =
                ["_low", "", "_high"].map(|which| number(case, &format!("{name}_ms{which}")));
            assert!(0.0 < low && low <= median && median <= high && high.is_finite(), "{case}");
        }
        for (ratio, over, under) in [
            ("whole_per_products", "whole_ms", "products_ms"),
            ("padded_per_whole", "padded_ms", "whole_ms"),
            ("frozen_per_whole", "frozen_ms", "whole_ms"),
        ] {
            let expected = number(case, over) / number(case, under);
            assert!((number(case, ratio) / expected - 1.0).abs() < 1e-9, "{ratio}");
        }
        assert!(number(case, "gflop_per_second") > 0.0 && number(case, "workspace_bytes") > 0.0);
    }
}

#[test]
fn the_table_of_linear_layers_has_a_row_a_case() {
    let printed = succeeds("--linear 20x5x7,10x4x3 --rounds 1 --threads 1");
    assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
    let flat = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "N x D x K dtype threads",
        "per whole",
        "20x5x7 f32 1 ",
        "10x4x3 f32 1 ",
        "Medians of 1 round",
    ] {
        assert!(flat.contains(part), "{part}: {printed}");
    }
}

#[test]
fn linear_layers_that_cannot_be() {
    for shape in ["5", "5x4", "5x4x3x2", "5x0x3", "axbxc", "1x2x-3", "1x2x99999999999999999999"] {
        refused(
            &format!("--linear {shape}"),
            &["--linear", "expected three whole numbers above 0"],
        );
    }
    refused("--linear 5x4x3,6x1x1,5x4x3", &["--linear names 5x4x3 twice"]);
    refused("--linear --classes 5", &["cannot be used with"]);
    refused(
        "--linear 1000000x1000000x1000000",
        &["linear layers of 1000000x1000000x1000000 in f32 need", "are free"],
    );
    refused("--linear 18446744073709551615x9x9", &["need more than 16 EiB"]);
}
