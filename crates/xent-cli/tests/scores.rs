//! The numbers of `xent eval` against numbers computed here from their definitions.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A data set, and what is computed from it by the book.
struct Data {
    logits: Vec<Vec<f64>>,
    labels: Vec<usize>,
}

impl Data {
    /// Rows of `classes` logits between −2 and 2; every third label has the largest logit.
    fn new(rows: usize, classes: usize) -> Self {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / f64::from(1u32 << 31)
        };
        let logits: Vec<Vec<f64>> =
            (0..rows).map(|_| (0..classes).map(|_| 4.0 * next() - 2.0).collect()).collect();
        let label = |(row, z): (usize, &Vec<f64>)| {
            let largest = (0..classes).max_by(|a, b| z[*a].total_cmp(&z[*b])).unwrap();
            if row % 3 == 0 { largest } else { (next() * classes as f64) as usize }
        };
        let labels = logits.iter().enumerate().map(label).collect();
        Self { logits, labels }
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        let logits = self.logits.iter().map(|row| row.iter().map(|z| f(*z)).collect()).collect();
        Self { logits, labels: self.labels.clone() }
    }

    fn probabilities(&self, temperature: f64) -> Vec<Vec<f64>> {
        let softmax = |row: &Vec<f64>| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let e: Vec<f64> = row.iter().map(|z| ((z - max) / temperature).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.iter().map(|e| e / sum).collect()
        };
        self.logits.iter().map(softmax).collect()
    }

    fn nll(&self, temperature: f64) -> f64 {
        let p = self.probabilities(temperature);
        p.iter().zip(&self.labels).map(|(p, label)| -p[*label].ln()).sum::<f64>() / p.len() as f64
    }

    /// By golden-section search in ln T.
    fn best_temperature(&self) -> f64 {
        let (mut low, mut high) = (-20f64, 20f64);
        while high - low > 1e-9 {
            let (a, b) = (low + 0.381966 * (high - low), low + 0.618034 * (high - low));
            if self.nll(a.exp()) < self.nll(b.exp()) { high = b } else { low = a }
        }
        low.exp()
    }

    /// Writes `name`, with a column `label`.
    fn write(&self, folder: &Path, name: &str) {
        let classes = self.logits[0].len();
        let header: Vec<String> = (0..classes).map(|k| format!("class_{k}")).collect();
        let mut text = header.join(",") + ",label\n";
        for (row, label) in self.logits.iter().zip(&self.labels) {
            row.iter().for_each(|z| text.push_str(&format!("{z:e},")));
            text.push_str(&format!("{label}\n"));
        }
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// Runs `xent eval` and returns what it prints and its JSON.
fn eval(folder: &Path, arguments: &[&str]) -> (String, Value) {
    let run = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_xent"))
            .arg("eval")
            .args(arguments)
            .args(more)
            .current_dir(folder)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    // Sentences in one line each, whatever the width.
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    (words(run(&[])), serde_json::from_str(&run(&["--json"])).unwrap())
}

/// `xent eval` of one model in a file with labels.
fn eval_data(data: &Data, more: &[&str]) -> (String, Value) {
    let folder = tempfile::tempdir().unwrap();
    data.write(folder.path(), "z.csv");
    let arguments = [&["--logits=z.csv", "--targets=z.csv:label"], more].concat();
    let (text, mut report) = eval(folder.path(), &arguments);
    (text, report["models"][0].take())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn the_temperature_is_where_the_optimum_is() {
    let data = Data::new(200, 4);
    // As the cosines of a contrastive model, and as logits that were multiplied before.
    for scale in [0.001, 0.01, 1.0, 100.0, 1e4] {
        let scaled = data.map(|z| z * scale);
        let (_, model) = eval_data(&scaled, &[]);
        let (found, expected) = (number(&model["temperature"]["value"]), scaled.best_temperature());
        assert!((found / expected - 1.0).abs() < 1e-6, "{scale}: {found} {expected}");
        let nll = number(&model["scaled"]["nll"]["value"]);
        assert!((nll / scaled.nll(found) - 1.0).abs() < 1e-9, "{scale}: {nll}");
    }
}

#[test]
fn where_no_temperature_is_best_the_report_says_why() {
    let mut data = Data::new(60, 3);
    let largest = |row: &Vec<f64>, sign: f64| {
        (0..3).max_by(|a, b| (sign * row[*a]).total_cmp(&(sign * row[*b]))).unwrap()
    };
    for (sign, reason, says) in [
        (1.0, "separable", "every label has the largest logit of its row"),
        (-1.0, "worse_than_chance", "which is worse than chance"),
    ] {
        data.labels = data.logits.iter().map(|row| largest(row, sign)).collect();
        let (text, model) = eval_data(&data, &[]);
        assert_eq!(model["temperature"]["no_optimum"], reason);
        assert!(text.contains(says) && text.contains("those at T = 1"), "{text}");
        assert_eq!(model["scaled"]["nll"], model["raw"]["nll"]);
    }
}

#[test]
fn ties_stay_ties_at_every_temperature() {
    // The same two differences at many offsets: one confidence, half of the rows are right.
    let logits = (0..40).map(|row| vec![f64::from(row) + 1.0, f64::from(row)]).collect();
    let data = Data { logits, labels: (0..40).map(|row| row % 2).collect() };
    for temperature in ["0.3", "0.7", "1", "1.1", "1.2", "1.3", "3"] {
        let (_, model) = eval_data(&data, &[&format!("--temperature={temperature}")]);
        let t: f64 = temperature.parse().unwrap();
        let scaled = &model["scaled"];
        assert_eq!(scaled["aurc"]["value"], 0.5, "{t}");
        let gap = 1.0 / (1.0 + (-1.0 / t).exp()) - 0.5;
        let error = number(&scaled["ece_equal_mass"]["value"]);
        assert!((error - gap).abs() < 1e-12, "{t}: {error}, expected {gap}");
    }
}

#[test]
fn infinity_is_a_word_wherever_it_comes() {
    // The second row's label has no probability, and the uniform target none of class 2.
    let mut data = Data::new(40, 3);
    data.logits.iter_mut().for_each(|row| row[2] = f64::NEG_INFINITY);
    data.labels.iter_mut().for_each(|label| *label %= 2);
    data.labels[1] = 2;
    let (text, model) = eval_data(&data, &[]);
    assert!(text.contains('∞') && !text.contains("NaN"), "{text}");
    for scored in [&model["raw"], &model["scaled"]] {
        for measure in ["nll", "perplexity"] {
            assert_eq!(scored[measure]["value"], "Infinity", "{measure}");
        }
        assert_eq!(scored["uniform_nll"], "Infinity");
    }
    for smoothed in model["smoothed"].as_array().unwrap() {
        for loss in ["loss", "loss_after_temperature"] {
            assert_eq!(smoothed[loss], "Infinity", "{smoothed}");
        }
    }
}

/// P(X ≤ k) of a binomial number with the share ½, twice.
fn mcnemar(k: u64, n: u64) -> f64 {
    let mut term = 0.5f64.powi(n as i32);
    let mut sum = 0.0;
    for i in 0..=k {
        sum += term;
        term *= (n - i) as f64 / (i + 1) as f64;
    }
    (2.0 * sum).min(1.0)
}

#[test]
fn models_are_compared_row_by_row() {
    let first = Data::new(300, 4);
    // Better on some rows, and too sure of itself.
    let mut second = first.map(|z| 3.0 * z);
    for (row, (logits, label)) in second.logits.iter_mut().zip(&second.labels).enumerate() {
        logits[*label] += if row % 4 == 0 { 3.0 } else { 0.1 };
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    first.write(at, "a.csv");
    second.write(at, "b.csv");
    // The labels of a table and those of the other are the same column.
    let arguments =
        ["--logits=a.csv", "--compare=b.csv", "--names=calm,loud", "--targets=a.csv:label"];
    let (text, report) = eval(at, &arguments);
    let paired = &report["paired"][0];
    assert_eq!((&paired["model"], &paired["against"]), (&"loud".into(), &"calm".into()));
    assert_eq!(paired["rows"], 300);
    let temperature = |model: usize| number(&report["models"][model]["temperature"]["value"]);

    let right = |data: &Data| -> Vec<bool> {
        let top = |row: &Vec<f64>| (0..4).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        data.logits.iter().zip(&data.labels).map(|(row, label)| top(row) == *label).collect()
    };
    let (a, b) = (right(&first), right(&second));
    let count = |here: bool| a.iter().zip(&b).filter(|(a, b)| a != b && **b == here).count() as u64;
    let (here, there) = (count(true), count(false));
    assert!(here > there);
    assert_eq!(
        (&paired["right_only_here"], &paired["right_only_there"]),
        (&here.into(), &there.into())
    );
    let p = mcnemar(here.min(there), here + there);
    assert!((number(&paired["accuracy"]["p"]) / p - 1.0).abs() < 1e-9, "{paired} {p}");

    type Score = fn(&[f64], usize) -> f64;
    let nll: Score = |p, label| -p[label].ln();
    let brier: Score = |p, label| {
        let square = |(k, p): (usize, &f64)| (p - f64::from(u8::from(k == label))).powi(2);
        p.iter().enumerate().map(square).sum()
    };
    for (name, score, [s, t]) in [
        ("nll", nll, [1.0, 1.0]),
        ("brier", brier, [1.0, 1.0]),
        ("nll_after_temperature", nll, [temperature(0), temperature(1)]),
        ("brier_after_temperature", brier, [temperature(0), temperature(1)]),
    ] {
        let (p, q) = (first.probabilities(s), second.probabilities(t));
        let differences: Vec<f64> = (0..300)
            .map(|row| score(&q[row], first.labels[row]) - score(&p[row], first.labels[row]))
            .collect();
        let mean = differences.iter().sum::<f64>() / 300.0;
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 299.0;
        // t(0.975, 299) = 1.96793.
        let half = 1.96793 * (variance / 300.0).sqrt();
        let found = &paired[name];
        let near = |value: &Value, expected: f64| (number(value) - expected).abs() < 1e-5;
        assert!(near(&found["mean"], mean), "{name}: {found}, expected {mean}");
        let interval = &found["interval"];
        assert!(near(&interval[0], mean - half) && near(&interval[1], mean + half), "{interval}");
        let beyond = mean.abs() > half;
        assert_eq!(number(&found["p"]) < 0.05, beyond, "{name}: {found}");
        assert_eq!(found["more_than_noise"], beyond, "{name}: {found}");
    }
    assert!(text.contains("Accuracy against calm: better with loud ("), "{text}");
}

#[test]
fn only_models_of_the_same_rows_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (mut data, full) = (Data::new(60, 3), Data::new(60, 3));
    full.write(at, "a.csv");
    data.labels.swap(3, 4);
    data.labels[3] = (data.labels[4] + 1) % 3;
    data.write(at, "b.csv");
    data.labels = full.labels.clone();
    data.logits.pop();
    data.labels.pop();
    data.write(at, "c.csv");
    for (other, says) in [("b.csv", "b.csv: row "), ("c.csv", "c.csv: 59 rows, and 60 in a.csv")] {
        let output = Command::new(env!("CARGO_BIN_EXE_xent"))
            .args(["eval", "--logits=a.csv", "--compare", other])
            .current_dir(at)
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && message.contains(says), "{message}");
        assert!(message.contains("expected the same rows in both"), "{message}");
    }
}

#[test]
fn calibrated_probabilities_are_written_and_read() {
    let data = Data::new(50, 4).map(|z| 3.0 * z);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    data.write(at, "z.csv");
    let labels = "--targets=z.csv:label";
    for name in ["p.npy", "p.csv"] {
        let written = format!("--write-probabilities={name}");
        let (_, report) = eval(at, &["--logits=z.csv", labels, "--ignore-index=2", &written]);
        let model = &report["models"][0];
        let temperature = number(&model["temperature"]["value"]);
        let (_, again) = eval(
            at,
            &["--logits", name, labels, "--ignore-index=2", "--probabilities", "--temperature=1"],
        );
        let (was, is) = (&model["scaled"], &again["models"][0]["raw"]);
        for measure in ["nll", "brier", "accuracy", "ece"] {
            let (was, is) = (number(&was[measure]["value"]), number(&is[measure]["value"]));
            assert!((was - is).abs() < 1e-12, "{name}: {measure}: {was} {is}");
        }
        // Rows that are ignored are written, too, in their places.
        let p = data.probabilities(temperature);
        let numbers: Vec<f64> = if name == "p.npy" {
            let bytes = std::fs::read(at.join(name)).unwrap();
            let entries = bytes[bytes.len() - 50 * 4 * 8..].as_chunks::<8>().0;
            assert!(String::from_utf8_lossy(&bytes[..128]).contains("'<f8'"));
            assert!(String::from_utf8_lossy(&bytes[..128]).contains("(50, 4)"));
            entries.iter().map(|entry| f64::from_le_bytes(*entry)).collect()
        } else {
            let text = std::fs::read_to_string(at.join(name)).unwrap();
            assert!(text.starts_with("class_0,class_1,class_2,class_3\n"));
            let cells = text.lines().skip(1).flat_map(|line| line.split(','));
            cells.map(|cell| cell.parse().unwrap()).collect()
        };
        assert_eq!(numbers.len(), 200);
        for (found, expected) in numbers.iter().zip(p.iter().flatten()) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }
    let refused = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_xent"))
            .args(["eval", "--logits=z.csv"])
            .args(arguments)
            .current_dir(at)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--write-probabilities=z.csv"]).contains("replace a file that is read"));
    assert!(refused(&["--write-probabilities=p.txt"]).contains("ends in .npy or .csv"));
    let two = ["--write-probabilities=q.npy", "--compare=p.csv"];
    assert!(refused(&two).contains("cannot be used with"));
    assert!(!at.join("q.npy").exists() && !at.join("p.txt").exists());
}

#[test]
fn rows_are_weighted() {
    let data = Data::new(200, 4).map(|z| 2.0 * z);
    let weights: Vec<f64> = (0..200).map(|row| f64::from(row * row % 7) / 2.0).collect();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    data.write(at, "z.csv");
    let lines: String = weights.iter().map(|weight| format!("{weight}\n")).collect();
    std::fs::write(at.join("w.csv"), format!("weight\n{lines}")).unwrap();
    let (text, report) =
        eval(at, &["--logits=z.csv", "--targets=z.csv:label", "--weights=w.csv", "--bins=10"]);
    assert!(text.contains("With row weights"), "{text}");
    let model = &report["models"][0];
    let (weighted, total) = (&model["weighted"], weights.iter().sum::<f64>());
    assert_eq!(number(&weighted["weight"]), total);
    assert_eq!(weighted["rows"], weights.iter().filter(|weight| **weight > 0.0).count());

    let top = |p: &Vec<f64>| (0..4).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap();
    let scaled = number(&model["temperature"]["value"]);
    for (temperature, found) in [(1.0, &weighted["raw"]), (scaled, &weighted["scaled"])] {
        let p = data.probabilities(temperature);
        let mean = |score: &dyn Fn(usize) -> f64| {
            (0..200).map(|row| weights[row] * score(row)).sum::<f64>() / total
        };
        let right = |row: usize| f64::from(u8::from(top(&p[row]) == data.labels[row]));
        let nll = |row: usize| -p[row][data.labels[row]].ln();
        let brier = |row: usize| {
            let is_label = |k: usize| f64::from(u8::from(k == data.labels[row]));
            (0..4).map(|k| (p[row][k] - is_label(k)).powi(2)).sum::<f64>()
        };
        let mut bins = [0.0; 10];
        for row in 0..200 {
            let confidence = p[row][top(&p[row])];
            let bin = ((confidence * 10.0).ceil() as usize).max(1) - 1;
            bins[bin] += weights[row] * (right(row) - confidence);
        }
        let ece = bins.iter().map(|bin: &f64| bin.abs()).sum::<f64>() / total;
        for (found, expected) in [
            (&weighted["accuracy"]["value"], mean(&right)),
            (&found["nll"]["value"], mean(&nll)),
            (&found["perplexity"], mean(&nll).exp()),
            (&found["brier"]["value"], mean(&brier)),
            (&found["ece"], ece),
        ] {
            assert!((number(found) - expected).abs() < 1e-12, "{found}, expected {expected}");
        }
        // √(n/(n−1)·Σ w²(x − mean)²)/Σ w, of the rows that have a weight.
        let (center, n) = (mean(&nll), number(&weighted["rows"]));
        let squares: f64 = (0..200).map(|row| (weights[row] * (nll(row) - center)).powi(2)).sum();
        let half = 1.974 * (n / (n - 1.0) * squares).sqrt() / total;
        let interval = &found["nll"]["interval"];
        assert!((number(&interval[1]) - center - half).abs() < 1e-3 * half, "{interval}");
    }
}

#[test]
fn weights_that_are_none_are_refused() {
    let data = Data::new(20, 3);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    data.write(at, "z.csv");
    let all = |weight: &str| format!("w\n{}", format!("{weight}\n").repeat(20));
    let but = |weight: &str| all("1").replacen("1\n1\n", &format!("1\n{weight}\n"), 1);
    for (weights, says) in [
        (but("-1"), "the weight of row 1 of z.csv is -1, expected a finite number from 0 up"),
        (but("inf"), "the weight of row 1 of z.csv is inf"),
        (but("NaN"), "the weight of row 1 of z.csv is NaN"),
        (all("0"), "w.csv: all weights are 0"),
        (all("1").replacen("1\n", "", 1), "w.csv: too few rows"),
        (all("1") + "1\n", "w.csv: more rows than there are rows of logits"),
    ] {
        std::fs::write(at.join("w.csv"), weights).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_xent"))
            .args(["eval", "--logits=z.csv", "--weights=w.csv"])
            .current_dir(at)
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && message.contains(says), "{says}: {message}");
        assert!(!at.join("xent-eval/report.json").exists());
    }
}

#[test]
fn targets_may_be_probabilities() {
    let data = Data::new(80, 4).map(|z| 2.0 * z);
    let targets = Data { logits: Data::new(160, 4).logits[80..].to_vec(), labels: vec![0; 80] };
    let t = targets.probabilities(0.5);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    data.write(at, "z.csv");
    let row = |row: &Vec<f64>| row.iter().map(f64::to_string).collect::<Vec<_>>().join(",") + "\n";
    let text =
        |rows: &[Vec<f64>]| "a,b,c,d\n".to_string() + &rows.iter().map(row).collect::<String>();
    std::fs::write(at.join("t.csv"), text(&t)).unwrap();
    let arguments = ["--logits=z.csv", "--drop=label", "--soft-targets=t.csv"];
    let (printed, report) = eval(at, &arguments);
    assert!(printed.contains("Against soft targets"), "{printed}");
    let model = &report["models"][0];
    let (soft, scaled) = (&model["soft_targets"], number(&model["temperature"]["value"]));
    let mean = |score: &dyn Fn(usize, usize) -> f64| {
        (0..80).flat_map(|row| (0..4).map(move |k| score(row, k))).sum::<f64>() / 80.0
    };
    let near = |found: &Value, expected: f64| {
        assert!((number(found) - expected).abs() < 1e-12, "{found}, expected {expected}");
    };
    near(&soft["entropy"], mean(&|row, k| -t[row][k] * t[row][k].ln()));
    for (temperature, found) in [(1.0, &soft["raw"]), (scaled, &soft["scaled"])] {
        let p = data.probabilities(temperature);
        near(&found["nll"]["value"], mean(&|row, k| -t[row][k] * p[row][k].ln()));
        near(&found["brier"]["value"], mean(&|row, k| (p[row][k] - t[row][k]).powi(2)));
    }
    // Everything else has the likeliest classes for labels.
    let top = |t: &Vec<f64>| (0..4).max_by(|a, b| t[*a].total_cmp(&t[*b])).unwrap();
    let hard = Data { labels: t.iter().map(top).collect(), ..data };
    near(&model["raw"]["nll"]["value"], hard.nll(1.0));
    assert!((scaled / hard.best_temperature() - 1.0).abs() < 1e-6);

    let mut wrong = t.clone();
    wrong[5][1] += 0.5;
    std::fs::write(at.join("wrong.csv"), text(&wrong)).unwrap();
    std::fs::write(at.join("narrow.csv"), "a,b\n0.5,0.5\n").unwrap();
    for (targets, says) in [
        ("wrong.csv", "wrong.csv: row 5 is no distribution"),
        ("narrow.csv", "narrow.csv: 2 classes, expected 4 as the logits have"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_xent"))
            .args(["eval", "--logits=z.csv", "--drop=label", "--soft-targets", targets])
            .current_dir(at)
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && message.contains(says), "{message}");
    }
}

#[test]
fn rows_are_ranked_by_normalised_logits_too() {
    let data = Data::new(150, 5);
    let score = |row: &Vec<f64>| {
        let mean = row.iter().sum::<f64>() / 5.0;
        let norm = row.iter().map(|z| (z - mean).powi(4)).sum::<f64>().powf(0.25);
        row.iter().map(|z| z - mean).fold(0.0, f64::max) / norm
    };
    let mut rows: Vec<(f64, bool)> = data
        .logits
        .iter()
        .zip(&data.labels)
        .map(|(row, label)| {
            let top = (0..5).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
            (score(row), top != *label)
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut wrong, mut sum) = (0.0, 0.0);
    for (index, (_, is_wrong)) in rows.iter().enumerate() {
        wrong += f64::from(u8::from(*is_wrong));
        sum += wrong / (index + 1) as f64;
    }
    let expected = sum / 150.0;
    let mut temperatures = vec![];
    // Ranks of whole rows do not depend on their scale, and confidences do.
    for scale in [1.0, 10.0] {
        let (text, model) = eval_data(&data.map(|z| scale * z), &[]);
        let found = &model["aurc_normalised"];
        assert!((number(&found["value"]) - expected).abs() < 1e-12, "{found} {expected}");
        let interval = &found["interval"];
        assert!(number(&interval[0]) < expected && expected < number(&interval[1]), "{interval}");
        assert!(text.contains("AURC, normalised logits"), "{text}");
        temperatures.push(number(&model["temperature"]["value"]));
    }
    assert!(temperatures[1] > 9.0 * temperatures[0]);
}

#[test]
fn features_are_measured_by_class() {
    let data = Data::new(60, 3);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    data.write(at, "z.csv");
    // Two directions: that of class 0, and that of all others.
    let feature = |(row, label): (usize, &usize)| match label {
        0 => [2.0 + (row % 2) as f64, 0.0],
        _ => [0.0, 1.0],
    };
    let features: Vec<[f64; 2]> = data.labels.iter().enumerate().map(feature).collect();
    let lines: String = features.iter().map(|[a, b]| format!("{a},{b}\n")).collect();
    std::fs::write(at.join("f.csv"), format!("f0,f1\n{lines}")).unwrap();
    let run = |more: &[&str]| {
        let arguments = ["--logits=z.csv", "--targets=z.csv:label", "--features=f.csv"];
        eval(at, &[&arguments[..], more].concat())
    };
    // Without class 2 the classes' directions are orthogonal: nothing within, ½ in all.
    let (text, report) = run(&["--ignore-index=2"]);
    let found = &report["models"][0]["features"];
    assert_eq!(found["class_separation"], 1.0, "{found}");
    assert!(text.contains("class separation"), "{text}");
    let of = |class: usize| {
        let rows = features.iter().zip(&data.labels).filter(move |(_, label)| **label == class);
        rows.map(|(row, _)| *row).collect::<Vec<_>>()
    };
    let (zeros, ones) = (of(0), of(1));
    let (n, m) = (zeros.len() as f64, ones.len() as f64);
    let mean = zeros.iter().map(|row| row[0]).sum::<f64>() / n;
    let within = zeros.iter().map(|row| (row[0] - mean).powi(2)).sum::<f64>() / (n + m);
    // Means (mean, 0) and (0, 1), a share of n and m of the rows.
    let between = n * m / (n + m).powi(2) * (mean * mean + 1.0);
    assert_eq!(found["rows"], zeros.len() + ones.len());
    for (name, expected) in [
        ("within_variance", within),
        ("between_variance", between),
        ("within_over_between", within / between),
    ] {
        assert!((number(&found[name]) - expected).abs() < 1e-12, "{name}: {found} {expected}");
    }
    // Classes 1 and 2 have one direction: within 0, and all pairs 4 of 9 at distance 1.
    let (_, report) = run(&[]);
    assert_eq!(report["models"][0]["features"]["class_separation"], 1.0);

    std::fs::write(at.join("f.csv"), format!("f0,f1\n{lines}").replacen("0,1\n", "0,inf\n", 1))
        .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xent"))
        .args(["eval", "--logits=z.csv", "--features=f.csv"])
        .current_dir(at)
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2), "{message}");
    assert!(message.contains("is inf, expected a finite number"), "{message}");
}

#[test]
fn any_number_of_bins() {
    let data = Data::new(150, 4);
    let p = data.probabilities(1.0);
    for bins in [1usize, 7, 30, 1000] {
        let mut sums = vec![0.0; bins];
        for (p, label) in p.iter().zip(&data.labels) {
            let top = (0..4).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap();
            let bin = ((p[top] * bins as f64).ceil() as usize).max(1) - 1;
            sums[bin] += f64::from(u8::from(top == *label)) - p[top];
        }
        let expected = sums.iter().map(|sum| sum.abs()).sum::<f64>() / p.len() as f64;
        let (_, model) = eval_data(&data, &[&format!("--bins={bins}")]);
        let found = number(&model["raw"]["ece"]["value"]);
        assert!((found - expected).abs() < 1e-12, "{bins}: {found} {expected}");
        assert_eq!(model["raw"]["reliability"]["bins"].as_array().unwrap().len(), bins);
    }
}

#[test]
fn many_classes_make_a_small_report_and_all_of_them_a_file() {
    let data = Data::new(3, 20_000);
    let folder = tempfile::tempdir().unwrap();
    data.write(folder.path(), "z.csv");
    let arguments =
        ["--logits=z.csv", "--targets=z.csv:label", "--per-class=classes.csv", "--out=out"];
    let (_, report) = eval(folder.path(), &arguments);
    let written = std::fs::metadata(folder.path().join("out/report.json")).unwrap().len();
    assert!(written < 1 << 20, "{written}");
    let classes = report["models"][0]["raw"]["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 1000);
    for label in &data.labels {
        assert!(
            classes.iter().any(|class| class["class"] == *label && number(&class["rows"]) > 0.0)
        );
    }
    let table = std::fs::read_to_string(folder.path().join("classes.csv")).unwrap();
    assert_eq!(table.lines().count(), 20_001);
    let missed = data.labels[1];
    assert!(table.lines().nth(missed + 1).unwrap().starts_with(&format!("z.csv,{missed},1,0,0,,")));
}
