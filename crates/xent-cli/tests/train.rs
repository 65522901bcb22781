//! `xent train` as its users start it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn xent(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xent")).args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs what must be refused and returns its message.
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = xent(folder, arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert!(message.starts_with("error: "), "{message}");
    assert!(output.stdout.is_empty());
    message
}

fn report(folder: &Path, out: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(out).join("report.json")).unwrap()).unwrap()
}

fn mean(report: &Value, epsilon: usize, measure: &str) -> f64 {
    report["epsilons"][epsilon]["measures"][measure]["mean"].as_f64().unwrap()
}

const TINY: [&str; 6] =
    ["--epochs=3", "--seeds=2", "--hidden=16,8", "--epsilon=0,0.1", "--batch-size=50", "--lr=0.01"];

#[test]
fn the_numbers_do_not_depend_on_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    for threads in ["1", "2"] {
        let output = xent(
            folder.path(),
            &[&["train", "--save", "--threads", threads, "--out", threads], &TINY[..]].concat(),
        );
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let (mut one, mut two) = (report(folder.path(), "1"), report(folder.path(), "2"));
    assert_eq!(
        (one["environment"]["threads"].take(), two["environment"]["threads"].take()),
        (1.into(), 2.into())
    );
    one["environment"].take();
    two["environment"].take();
    assert_eq!(one, two);
    for file in ["epsilon-0-seed-0", "epsilon-0-seed-1", "epsilon-0.1-seed-0", "epsilon-0.1-seed-1"]
    {
        let weights = |threads: &str| {
            std::fs::read(
                folder.path().join(threads).join("weights").join(format!("{file}.safetensors")),
            )
            .unwrap()
        };
        assert!(weights("1") == weights("2"), "{file}");
    }
    assert_ne!(
        one["epsilons"][0]["measures"], one["epsilons"][1]["measures"],
        "smoothing must do something"
    );
    let accuracies = one["epsilons"][0]["measures"]["accuracy"]["values"].as_array().unwrap();
    assert_ne!(accuracies[0], accuracies[1], "seeds must do something");
}

#[test]
fn saved_weights_are_the_network_that_was_reported() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        xent(folder.path(), &["--epochs=2", "--seeds=1", "--epsilon=0.1", "--save", "--quiet"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let file = folder.path().join("xent-out/weights/epsilon-0.1-seed-0.safetensors");
    let bytes = std::fs::read(file).unwrap();
    let weights = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = weights.tensors();
    let mut shapes: Vec<(&str, &[usize])> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape())).collect();
    shapes.sort();
    let expected: [(&str, &[usize]); 4] = [
        ("layers.0.bias", &[128]),
        ("layers.0.weight", &[128, 64]),
        ("layers.1.bias", &[10]),
        ("layers.1.weight", &[10, 128]),
    ];
    assert_eq!(shapes, expected);
    let leftovers: Vec<_> =
        std::fs::read_dir(folder.path().join("xent-out/weights")).unwrap().collect();
    assert_eq!(leftovers.len(), 1, "nothing temporary stays");
}

#[test]
fn training_learns_and_the_report_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        xent(folder.path(), &["--epochs=15", "--seeds=2", "--epsilon=0,0.2", "--prior=others"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = report(folder.path(), "xent-out");
    assert!(mean(&report, 0, "accuracy") > 0.9);
    assert!(
        mean(&report, 0, "logit_gap_train") > mean(&report, 1, "logit_gap_train") + 0.5,
        "smoothing bounds the gap"
    );
    let floor = report["epsilons"][1]["optimum"]["floor"].as_f64().unwrap();
    assert!((floor - (-0.8 * 0.8f64.ln() - 0.2 * (0.2f64 / 9.0).ln())).abs() < 1e-12, "{floor}");
    assert!((report["epsilons"][1]["optimum"]["gap"].as_f64().unwrap() - 36f64.ln()).abs() < 1e-12);
    assert_eq!(report["epsilons"][0]["optimum"]["gap"], "Infinity");
    assert!(mean(&report, 1, "train_loss") > floor);

    let printed = text(&output.stdout);
    assert!(
        printed.contains(&format!("{:.2} ±", 100.0 * mean(&report, 0, "accuracy"))),
        "{printed}"
    );
    assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
    assert!(
        !printed.contains('\u{1b}') && text(&output.stderr).is_empty(),
        "piped output is plain text"
    );
    let html = std::fs::read_to_string(folder.path().join("xent-out/report.html")).unwrap();
    assert_eq!(html.matches("<svg role=\"img\"").count(), 8);
    for outside in ["src=", "href=", "<script", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    let verdict = report["verdict"].as_array().unwrap();
    assert!((2..=4).contains(&verdict.len()), "{verdict:?}");
    assert!(verdict[0].as_str().unwrap().starts_with("Accuracy against ε = 0: "), "{verdict:?}");
    for plot in ["Accuracy", "NLL after temperature scaling", "ECE, raw"] {
        assert!(html.contains(&format!("<figcaption>{plot} <small>")), "{plot}");
    }
    for finding in report["findings"].as_array().unwrap() {
        let sentence = finding["text"].as_str().unwrap();
        assert!(
            html.replace('\u{a0}', " ").contains(&sentence.replace('&', "&amp;")),
            "{sentence}"
        );
    }
}

#[test]
fn the_mixture_knows_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let output = xent(
        folder.path(),
        &["--data=mixture", "--epochs=20", "--seeds=1", "--epsilon=0", "--quiet"],
    );
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    let report = report(folder.path(), "xent-out");
    let kl = mean(&report, 0, "kl_from_truth");
    assert!(kl > 0.0 && kl < 1.0, "{kl}");
    assert!(mean(&report, 0, "accuracy") < mean(&report, 0, "accuracy_best_possible") + 0.03);
    // In expectation NLL = entropy of the truth + KL from it.
    let (nll, best) = (mean(&report, 0, "nll"), mean(&report, 0, "nll_best_possible"));
    assert!((nll - best - kl).abs() < 0.1, "{nll} {best} {kl}");
}

#[test]
fn a_table_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..200)
        .map(|row| {
            format!(
                "{},{},{}\n",
                row % 2,
                if row % 3 == 0 { "red" } else { "blue" },
                ["no", "yes"][row % 2]
            )
        })
        .collect();
    std::fs::write(folder.path().join("mine.csv"), format!("bit,colour,answer\n{rows}")).unwrap();
    let output = xent(
        folder.path(),
        &["train", "--data=mine.csv", "--epochs=20", "--seeds=1", "--epsilon=0", "--lr=0.01"],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = report(folder.path(), "xent-out");
    assert_eq!(mean(&report, 0, "accuracy"), 1.0);
    assert_eq!(report["data"]["features"], 3);

    let data = |contents: &str| std::fs::write(folder.path().join("bad.csv"), contents).unwrap();
    data("a,b\n1,x\n,y\n");
    assert!(
        refusal(folder.path(), &["--data=bad.csv"])
            .contains("bad.csv: line 3, column \"a\": missing value")
    );
    data("a,b\n1,x\n2,y,3\n");
    assert!(
        refusal(folder.path(), &["--data=bad.csv"])
            .contains("bad.csv: line 3 has 3 fields, expected 2")
    );
    data("a,b\n1,x\n2,y\n1,x\n2,y\n");
    assert!(refusal(folder.path(), &["--data=bad.csv"]).contains("4 rows; expected at least 36"));
    assert!(refusal(folder.path(), &["--data=bad.csv", "--label=c"]).contains("no column \"c\""));
    assert!(refusal(folder.path(), &["--label=c"]).contains("--label names columns of a CSV file"));
    assert!(refusal(folder.path(), &["--data=absent.csv"]).contains("absent.csv"));
    assert!(!folder.path().join("xent-out-bad").exists());
}

#[test]
fn idx_files_are_checked_before_they_are_believed() {
    let folder = tempfile::tempdir().unwrap();
    let idx = |dimensions: &[u32], values: &[u8]| {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        dimensions.iter().for_each(|length| bytes.extend(length.to_be_bytes()));
        bytes.extend(values);
        bytes
    };
    let mnist = folder.path().join("mnist");
    std::fs::create_dir(&mnist).unwrap();
    assert!(refusal(folder.path(), &["--data=mnist"]).contains("expected train-images-idx3-ubyte"));
    let labels: Vec<u8> = (0..60).map(|row| row % 2).collect();
    let pixels: Vec<u8> =
        labels.iter().flat_map(|label| [255 * label, 128, 0, 255 - 255 * label]).collect();
    std::fs::write(mnist.join("train-labels-idx1-ubyte"), idx(&[60], &labels)).unwrap();
    std::fs::write(mnist.join("train-images-idx3-ubyte"), idx(&[61, 2, 2], &pixels)).unwrap();
    let message = refusal(folder.path(), &["--data=mnist"]);
    assert!(message.contains("train-images-idx3-ubyte: 256 bytes, expected 260 for the [61, 2, 2] values that it declares"), "{message}");
    std::fs::write(mnist.join("train-images-idx3-ubyte"), idx(&[60, 2, 2], &pixels)).unwrap();
    let output =
        xent(folder.path(), &["--data=mnist", "--epochs=5", "--seeds=1", "--quiet", "--hidden=8"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(report(folder.path(), "xent-out")["data"]["rows"]["test"], 17);
}

#[test]
fn failures_leave_nothing_behind_and_say_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refusal(folder.path(), &["--epsilon=1.5"]).contains("expected a number from 0 to 1"));
    assert!(
        refusal(folder.path(), &["train", "--epochs=0"])
            .contains("expected a whole number from 1 to 1000000")
    );
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());

    let output = xent(folder.path(), &["--lr=1e30", "--epochs=3", "--seeds=2"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("diverged")
            && text(&output.stderr).contains("a lower --lr may help"),
        "{}",
        text(&output.stderr)
    );
    assert!(std::fs::read_dir(folder.path().join("xent-out")).unwrap().next().is_none());

    let output = xent(
        folder.path(),
        &["--lr=1000", "--epochs=2", "--seeds=1", "--epsilon=0.1", "--out=far"],
    );
    assert!(
        text(&output.stdout)
            .contains("Diverged. Training ended with a higher loss than it began with"),
        "{}",
        text(&output.stdout)
    );

    std::fs::write(folder.path().join("file"), "").unwrap();
    let output = xent(folder.path(), &["--out=file/below"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).starts_with("error: cannot make the folder file/below"),
        "{}",
        text(&output.stderr)
    );
    assert!(
        refusal(folder.path(), &["--out=file"]).contains("file: it is a file, expected a folder")
    );
    assert!(
        refusal(folder.path(), &["--epsilon", "-0.1"]).contains("expected a number from 0 to 1")
    );
}
