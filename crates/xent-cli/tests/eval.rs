//! `xent eval` as its users start it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn xent(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xent"))
        .arg("eval")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = xent(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = xent(folder, arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert!(message.starts_with("error: ") && output.stdout.is_empty(), "{message}");
    message
}

/// Without what the run itself took.
fn report(path: &Path) -> Value {
    let mut report: Value =
        serde_json::from_slice(&std::fs::read(path.join("report.json")).unwrap()).unwrap();
    report["environment"].take();
    report
}

/// A CSV file with three classes and a label, whose rows are made of `from..to`.
fn table(folder: &Path, name: &str, from: usize, to: usize, scale: f64) {
    let row = |i: usize| {
        let label = (i * 7) % 3;
        let logit = |k: usize| {
            scale
                * (((i * 31 + k * 17) % 23) as f64 / 10.0
                    + f64::from(u8::from(k == label && !i.is_multiple_of(5))))
        };
        format!("{},{},{},{label}\n", logit(0), logit(1), logit(2))
    };
    std::fs::write(
        folder.join(name),
        format!("a,b,c,label\n{}", (from..to).map(row).collect::<String>()),
    )
    .unwrap();
}

#[test]
fn shards_merge_to_the_bits_of_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let shards = [("s1.csv", 0, 70), ("s10.csv", 70, 75), ("s2.csv", 75, 200)];
    for (name, from, to) in shards {
        table(at, name, from, to, 1.5);
        let labels = format!("{name}:label");
        done(
            at,
            &[
                "--logits",
                name,
                "--targets",
                &labels,
                "--names=m",
                "--partial",
                &format!("{name}.json"),
            ],
        );
    }
    done(
        at,
        &["--logits=s*.csv", "--targets=s*.csv:label", "--names=m", "--out=whole", "--threads=1"],
    );
    done(
        at,
        &["--logits=s*.csv", "--targets=s*.csv:label", "--names=m", "--out=threads", "--threads=3"],
    );
    done(at, &["--merge", "s2.csv.json", "s1.csv.json", "s10.csv.json", "--out=merged"]);
    let whole = report(&at.join("whole"));
    assert_eq!(whole, report(&at.join("merged")));
    assert_eq!(whole, report(&at.join("threads")));
    assert_eq!(whole["models"][0]["raw"]["rows"], 200);
    assert_eq!(
        whole["models"][0]["raw"]["mistakes"][0]["source"].as_str().unwrap().rsplit('.').next(),
        Some("csv")
    );

    assert!(
        refusal(at, &["--merge", "s1.csv.json", "s1.csv.json"])
            .contains("the rows of s1.csv, which are in s1.csv.json, too")
    );
    std::fs::write(at.join("half.json"), &std::fs::read(at.join("s1.csv.json")).unwrap()[..1000])
        .unwrap();
    assert!(
        refusal(at, &["--merge", "half.json"])
            .contains("cannot read half.json: not written by --partial")
    );
    done(
        at,
        &[
            "--logits=s1.csv",
            "--targets=s1.csv:label",
            "--names=m",
            "--temperature=2",
            "--partial=other.json",
        ],
    );
    assert!(
        refusal(at, &["--merge", "s2.csv.json", "other.json"]).contains("their settings differ")
    );
}

#[test]
fn models_stand_side_by_side_and_the_page_says_what_the_json_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    table(at, "one.csv", 0, 300, 1.0);
    table(at, "two.csv", 0, 300, 4.0);
    let printed = done(
        at,
        &[
            "--logits=one.csv",
            "--compare=two.csv",
            "--targets=one.csv:label",
            "--names=calm,loud",
            "--epsilon=0.1",
            "--out=out",
        ],
    );
    assert!(!printed.contains("4 classes"), "the second file's labels are no class: {printed}");
    assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
    let report = report(&at.join("out"));
    let models = report["models"].as_array().unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!(
        models[0]["raw"]["accuracy"]["value"], models[1]["raw"]["accuracy"]["value"],
        "a temperature changes no order"
    );
    let ratio =
        number(&models[1]["temperature"]["value"]) / number(&models[0]["temperature"]["value"]);
    assert!((ratio - 4.0).abs() < 1e-9, "{ratio}");
    let (nll, uniform) =
        (number(&models[0]["raw"]["nll"]["value"]), number(&models[0]["raw"]["uniform_nll"]));
    assert_eq!(number(&models[0]["raw"]["perplexity"]["value"]), nll.exp());
    assert!(printed.contains("perplexity"), "{printed}");
    assert!(
        (number(&models[0]["smoothed"][0]["loss"]) - (0.9 * nll + 0.1 * uniform)).abs() < 1e-12
    );
    let html = std::fs::read_to_string(at.join("out/report.html")).unwrap();
    assert!(html.contains(&format!(
        "{:.2} <small>",
        100.0 * number(&models[0]["raw"]["accuracy"]["value"])
    )));
    for outside in ["src=", "href=", "<script", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    let verdict = report["verdict"].as_array().unwrap();
    assert_eq!(verdict[0], "Accuracy against calm: no difference beyond the noise.");
    assert!((3..=4).contains(&verdict.len()), "{verdict:?}");
    for line in verdict {
        assert!(html.contains(&format!("<li>{}</li>", line.as_str().unwrap())), "{line}");
    }
    let plots = ["Accuracy", "NLL", "NLL after temperature scaling", "Brier score"];
    for plot in plots {
        assert!(html.contains(&format!("<figcaption>{plot} <small>")), "{plot}");
    }
    let json: Value =
        serde_json::from_str(&done(at, &["--logits=one.csv", "--targets=one.csv:label", "--json"]))
            .unwrap();
    assert_eq!(json["models"][0]["name"], "one.csv");
    let first = json["verdict"][0].as_str().unwrap();
    let accuracy = 100.0 * number(&json["models"][0]["raw"]["accuracy"]["value"]);
    assert!(first.starts_with(&format!("{accuracy:.2} % of the rows are right")), "{first}");
    assert!((2..=4).contains(&json["verdict"].as_array().unwrap().len()));
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    table(at, "z.csv", 0, 20, 1.0);
    table(at, "short.csv", 0, 19, 1.0);
    std::fs::write(at.join("wrong.csv"), "label\n0\n3\n").unwrap();
    std::fs::write(at.join("two.csv"), "a,b,c\n1,2,3\nnan,0,1\n").unwrap();
    let cases: [(&[&str], &str); 12] = [
        (
            &["--logits=z.csv", "--targets=short.csv:label"],
            "short.csv:label: no label for row 19 of z.csv",
        ),
        (&["--logits=short.csv", "--targets=z.csv:label"], "more labels than there are rows"),
        (
            &["--logits=two.csv", "--targets=wrong.csv"],
            "two.csv: row 1 has the label 3, expected a class from 0 to 2 or an ignored index; classes are counted from 0; the labels are in wrong.csv",
        ),
        (
            &[
                "--logits=two.csv",
                "--targets=wrong.csv",
                "--ignore-index=3",
                "--compare=absent*.npy",
            ],
            "no file matches absent*.npy",
        ),
        (&["--logits=absent.npy", "--targets=z.csv:label"], "absent.npy"),
        (&["--logits=z.csv", "--targets=z.csv:lable"], "no column 'lable'; it has a, b, c, label"),
        (&["--logits=z.csv", "--targets=z.csv:label", "--names=a,b"], "2 names for 1 models"),
        (
            &["--logits=z.csv", "--targets=z.csv:label", "--compare=z.csv"],
            "two models are named z.csv",
        ),
        (&["--logits", "z.csv", "z.csv", "--targets=z.csv:label"], "z.csv is named twice"),
        (
            &["--logits=z.csv", "--targets=z.csv:label", "--temperature=0"],
            "expected a finite number above 0",
        ),
        (&["--targets=z.csv:label"], "--logits"),
        (&["--merge", "z.csv"], "not written by --partial"),
    ];
    for (arguments, says) in cases {
        let message = refusal(at, arguments);
        assert!(message.contains(says), "{arguments:?}: {message}");
        assert!(
            !at.join("xent-eval/report.html").exists()
                && !at.join("xent-eval/report.json").exists()
        );
    }
    // A row that is not finite: an error, or left out and counted.
    std::fs::write(at.join("y.csv"), "label\n0\n1\n").unwrap();
    assert!(
        refusal(at, &["--logits=two.csv", "--targets=y.csv"])
            .contains("two.csv: row 1, class 0: the logit is NaN")
    );
    let printed = done(at, &["--logits=two.csv", "--targets=y.csv", "--skip-non-finite"]);
    assert!(printed.contains("1 rows (1 with NaN or infinite logits left out)"), "{printed}");
    // An ignored row is never read.
    std::fs::write(at.join("y.csv"), "label\n0\n-100\n").unwrap();
    assert!(
        done(at, &["--logits=two.csv", "--targets=y.csv", "--ignore-index=-100"])
            .contains("1 rows (1 ignored)")
    );
}

/// The recipe for clusters, with the names that files have there.
#[test]
fn shards_merge_without_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // Each in its own folder, under the same name.
    let parts: Vec<String> = (0..3)
        .map(|node| {
            let name = format!("node{node}");
            std::fs::create_dir(at.join(&name)).unwrap();
            table(&at.join(&name), "z.csv", 60 * node, 60 * (node + 1), 1.5);
            let part = format!("{name}.json");
            let there = ["--logits=z.csv", "--partial", &format!("../{part}")];
            done(&at.join(&name), &there);
            part
        })
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    done(at, &[&["--out=merged", "--merge"], &parts[..]].concat());
    let merged = report(&at.join("merged"));
    assert_eq!(
        (&merged["models"][0]["name"], &merged["models"][0]["raw"]["rows"]),
        (&"z.csv".into(), &180.into())
    );
    assert!(
        refusal(at, &["--merge", "node0.json", "node1.json", "node0.json"])
            .contains("node0.json: it has the rows of z.csv, which are in node0.json, too")
    );
    // From one folder, as a run over the pattern calls them.
    for node in ["node0", "node1", "node2"] {
        let logits = format!("{node}/z.csv");
        done(at, &["--logits", &logits, "--partial", &format!("{node}.json")]);
    }
    done(at, &["--logits=node*/z.csv", "--out=whole"]);
    done(at, &[&["--out=merged", "--merge"], &parts[..]].concat());
    assert_eq!(report(&at.join("whole")), report(&at.join("merged")));
    done(at, &["--logits=node0/z.csv", "--names=m", "--partial=named.json"]);
    assert!(
        refusal(at, &["--merge", "named.json", "node1.json"])
            .contains("it is of node1/z.csv, expected m as before")
    );
}
