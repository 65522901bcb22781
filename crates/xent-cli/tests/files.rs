//! Files as other programs write them: the right numbers, or an error that says what is wrong and
//! which option helps. The right numbers are NumPy's, in float64.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The inputs, and a folder for reports.
struct Files {
    reports: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { reports: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.reports.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.at(name), text).unwrap();
        self.at(name).display().to_string()
    }

    fn eval(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xent"))
            .args(["eval", "--json", "--out"])
            .arg(self.at("report"))
            .args(arguments)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files"))
            .output()
            .unwrap()
    }

    /// Classes, NLL and accuracy of every model.
    fn scores(&self, arguments: &[&str]) -> Vec<(u64, f64, f64)> {
        let output = self.eval(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |value: &Value| value.as_f64().unwrap();
        let models = report["models"].as_array().unwrap().iter();
        models
            .map(|model| {
                let raw = &model["raw"];
                (
                    model["classes"].as_u64().unwrap(),
                    number(&raw["nll"]["value"]),
                    number(&raw["accuracy"]["value"]),
                )
            })
            .collect()
    }

    fn scores_are(&self, arguments: &[&str], right: &[(u64, f64, f64)]) {
        let found = self.scores(arguments);
        let near = |(a, b): (&(u64, f64, f64), &(u64, f64, f64))| {
            a.0 == b.0 && (a.1 - b.1).abs() < 5e-5 && (a.2 - b.2).abs() < 1e-12
        };
        assert!(
            found.len() == right.len() && found.iter().zip(right).all(near),
            "{arguments:?}: {found:?}, expected {right:?}"
        );
    }

    fn refused(&self, arguments: &[&str], says: &str) {
        let output = self.eval(arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(says), "{arguments:?}: {message}");
    }
}

const FIRST: (u64, f64, f64) = (4, 0.6128, 0.825);

#[test]
fn labels_are_no_class_whichever_file_has_them() {
    let files = Files::new();
    files.scores_are(
        &["--logits=a_label.csv", "--compare=b_label.csv", "--targets=a_label.csv:label"],
        &[FIRST, (4, 0.8445, 0.825)],
    );
    for (logits, labels) in [
        ("./a_label.csv", "a_label.csv:label"),
        ("a_label.csv", "labels.npy"),
        ("a_label.csv", "float_labels.csv:label"),
        ("float_labels.csv", "labels.npy"),
        ("pandas_index.csv", "pandas_index.csv:label"),
        ("noheader_logits.csv", "noheader_labels.csv"),
        ("noheader_logits.csv", "labels.npy"),
    ] {
        files.scores_are(&["--logits", logits, "--targets", labels], &[FIRST]);
    }
    files.scores_are(&["--logits=a_label.csv"], &[FIRST]);
}

#[test]
fn classes_are_in_the_order_of_their_numbers() {
    let files = Files::new();
    files.scores_are(
        &["--logits=columns_alphabetical.csv", "--targets=columns_alphabetical.csv:label"],
        &[(12, 0.7606, 0.9)],
    );
    files.scores_are(
        &[
            "--logits=columns_alphabetical.csv",
            "--targets=columns_alphabetical.csv:label",
            "--columns=class_*",
        ],
        &[(12, 0.7606, 0.9)],
    );
}

#[test]
fn a_column_that_may_be_no_class_is_an_error_that_names_the_option() {
    let files = Files::new();
    files.refused(
        &["--logits=binary_id_score.csv", "--targets=binary_id_score.csv:label"],
        "column id is not a class by its name; --drop id leaves it out",
    );
    files.refused(
        &["--logits=semicolon_decimal_comma.csv", "--targets=semicolon_decimal_comma.csv:label"],
        "'-0,656' with a decimal comma, expected a decimal point",
    );
    let rows = |row: &dyn Fn(usize) -> String| (0..12).map(row).collect::<String>();
    let count = rows(&|i| format!("{},{}.5,{}.25,{}\n", i, i % 3, i % 2, i % 2));
    let counted = files.write("counted.csv", &format!("n,cat,dog,label\n{count}"));
    files.refused(&["--logits", &counted], "column n is an index: it counts the rows; --drop n");
    assert_eq!(files.scores(&["--logits", &counted, "--drop=n"])[0].0, 2);
    assert_eq!(files.scores(&["--logits", &counted, "--columns=cat..dog"])[0].0, 2);
    files.refused(&["--logits", &counted, "--drop=m"], "no column 'm'");
    let whole = rows(&|i| format!("{}.5,{}.25,{}\n", i % 3, i % 2, i % 2));
    let whole = files.write("whole.csv", &whole);
    files.refused(
        &["--logits", &whole, "--targets=labels.npy"],
        "column 2 has whole numbers only, as labels have",
    );
    assert_eq!(files.scores(&["--logits", &whole, "--targets", &format!("{whole}:2")])[0].0, 2);
    let zero = files.write("zero.csv", "0\n1\n1\n");
    files.refused(
        &["--logits=a_label.csv", "--targets", &zero],
        "its only column begins with 0, which is either its name",
    );
}

#[test]
fn separators_and_compression_are_seen() {
    let files = Files::new();
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/a_label.csv"),
    )
    .unwrap();
    for (name, separator) in [("a.tsv", "\t"), ("tabs.csv", "\t"), ("semicolons.csv", ";")] {
        let file = files.write(name, &text.replace(',', separator));
        files.scores_are(&["--logits", &file], &[FIRST]);
    }
    let file = files.at("a.csv.gz");
    let mut gzip = flate2::write::GzEncoder::new(
        std::fs::File::create(&file).unwrap(),
        flate2::Compression::default(),
    );
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    gzip.finish().unwrap();
    let file = file.display().to_string();
    files.scores_are(&["--logits", &file, "--targets", &format!("{file}:label")], &[FIRST]);
}

#[test]
fn shards_are_in_the_order_of_their_numbers() {
    let files = Files::new();
    files.scores_are(&["--logits=shards/logits_*.npy", "--targets=labels.npy"], &[FIRST]);
    files.scores_are(&["--logits=shards/logits_*.npy", "--targets=shards/labels_*.npy"], &[FIRST]);
    // As a shell lists them.
    let mut listed: Vec<String> =
        (0..12).map(|shard| format!("shards/logits_{shard}.npy")).collect();
    listed.sort();
    let mut arguments = vec!["--targets=labels.npy", "--logits"];
    arguments.extend(listed.iter().map(String::as_str));
    files.refused(&arguments, "shards/logits_11.npy comes before shards/logits_2.npy");
    files.refused(
        &["--targets=labels.npy", "--logits", "shards/logits_0.npy", "./shards/logits_0.npy"],
        "are the same file",
    );
}

#[test]
fn labels_of_parquet_have_many_types() {
    let files = Files::new();
    files.scores_are(&["--logits=label_dictionary.parquet"], &[FIRST]);
    files.scores_are(&["--logits=label_bool.parquet"], &[(2, 1.0716, 0.475)]);
    // The strings are the labels, and not the integers called id.
    files.scores_are(&["--logits=id_as_label.parquet"], &[(4, 0.4963, 0.75)]);
}

#[test]
fn probabilities_are_no_logits() {
    let files = Files::new();
    let table = ["--logits", "probabilities.csv", "--targets", "probabilities.csv:label"];
    let output = files.eval(&table);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("--probabilities takes them"), "{stderr}");
    let taken = [&table[..], &["--probabilities"]].concat();
    files.scores_are(&taken, &[(4, 0.6128, 0.825)]);
    assert!(files.eval(&taken).stderr.is_empty());
    let logits = ["--logits", "a_label.csv", "--targets", "a_label.csv:label"];
    assert!(files.eval(&logits).stderr.is_empty());
    let output = files.eval(&[&logits[..], &["--probabilities"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("a_label.csv: row 0 is no distribution"), "{stderr}");
}

#[test]
fn labels_from_1_get_a_hint() {
    let files = Files::new();
    let path = files.write("ones.csv", "cat,dog,label\n1.5,0.5,1\n0.5,1.25,2\n");
    let output = files.eval(&["--logits", &path, "--targets", &format!("{path}:label")]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("classes are counted from 0"), "{stderr}");
}
