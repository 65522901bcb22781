//! Every metric against scikit-learn, torchmetrics, netcal and SciPy: the answers in
//! `golden/references.jsonl`, which `golden/make_golden.py` wrote.

use serde_json::Value;
use xent_metrics::{Binning, Evaluation, LabelledRows, Logits, Scored, Scores, Settings};

struct Case {
    name: String,
    classes: usize,
    logits: Vec<f64>,
    labels: Vec<i64>,
    answers: Value,
}

fn cases() -> Vec<Case> {
    let numbers = |value: &Value| {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>()
    };
    let case = |line: &str| {
        let case: Value = serde_json::from_str(line).unwrap();
        Case {
            name: case["name"].as_str().unwrap().to_string(),
            classes: case["classes"].as_u64().unwrap() as usize,
            logits: numbers(&case["logits"]),
            labels: numbers(&case["labels"]).into_iter().map(|label| label as i64).collect(),
            answers: case["answers"].clone(),
        }
    };
    include_str!("../golden/references.jsonl").lines().skip(1).map(case).collect()
}

fn scores(case: &Case, binning: Binning) -> Scores {
    let mut evaluation = Evaluation::new(Settings { binning, ..Settings::new(case.classes) });
    evaluation
        .add(&LabelledRows {
            source: "case",
            first: 0,
            logits: Logits::F64(&case.logits),
            labels: &case.labels,
        })
        .unwrap();
    evaluation.scores()
}

/// Where a reference has an answer, ours is within `tolerance` of it. Returns whether it had one.
fn agrees(case: &Case, what: &str, found: f64, expected: &Value, tolerance: f64) -> bool {
    let Some(expected) = expected.as_f64() else { return false };
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{}, {what}: {found}, expected {expected}",
        case.name
    );
    true
}

fn calibration(case: &Case, when: &str, scored: &Scored, answers: &Value) -> usize {
    let mut checked = 0;
    for (reference, tolerance) in [("torchmetrics", 1e-6), ("netcal", 1e-9)] {
        for (measure, found) in [
            ("ece", scored.ece.value),
            ("mce", scored.mce.value),
            ("classwise", scored.ece_classwise.value),
        ] {
            checked += usize::from(agrees(
                case,
                &format!("{when} {measure} ({reference})"),
                found,
                &answers[reference][measure],
                tolerance,
            ));
        }
    }
    checked
}

#[test]
fn every_metric_agrees_with_its_references() {
    let mut checked = 0;
    for case in cases() {
        let Scores { raw, temperature, scaled, .. } = scores(&case, Binning::RightClosed);
        let scaled = scaled.unwrap();
        let answers = &case.answers;
        let mut check = |what: &str, found: f64, expected: &Value| {
            checked += usize::from(agrees(&case, what, found, expected, 1e-9))
        };
        check("accuracy", raw.accuracy.value, &answers["accuracy"]);
        check("nll", raw.nll.value, &answers["nll"]);
        check("brier", raw.brier.value, &answers["brier"]);
        check("uniform", raw.uniform_nll, &answers["uniform"]);
        check("gap", raw.gap.mean, &answers["gap"]);
        check("plain gap", raw.gap.plain_mean, &answers["plain_gap"]);
        for (quantile, expected) in
            raw.gap.quantiles.iter().zip(answers["gap_quantiles"].as_array().unwrap())
        {
            check("gap quantile", quantile.0, expected);
        }
        assert_eq!(raw.top5.is_some(), case.classes > 5);
        check("top5", raw.top5.map_or(f64::NAN, |top5| top5.value), &answers["top5"]);
        check("equal mass", raw.ece_equal_mass.value, &answers["ece_equal_mass"]);
        check("aurc", raw.aurc.value, &answers["aurc"]);
        check("temperature", temperature.unwrap().value, &answers["temperature"]);
        // The reference searches from 0.05 to 20.
        let found = temperature.unwrap();
        let within = found.no_optimum.is_none() && (0.05..20.0).contains(&found.value);
        assert_eq!(within, !answers["temperature"].is_null(), "{}: {found:?}", case.name);
        check("scaled nll", scaled.nll.value, &answers["scaled"]["nll"]);
        check("scaled brier", scaled.brier.value, &answers["scaled"]["brier"]);
        assert_eq!(scaled.accuracy.value, raw.accuracy.value);
        if case.name != "edges" {
            checked += calibration(&case, "raw", &raw, answers);
            checked += calibration(&case, "scaled", &scaled, &answers["scaled"]);
        }
    }
    assert!(checked > 200, "only {checked} answers were compared");
}

#[test]
fn conventions_differ_on_edges_and_compat_follows_them() {
    let cases = cases();
    let edges = cases.iter().find(|case| case.name == "edges").unwrap();
    let ours = scores(edges, Binning::RightClosed).raw;
    for (binning, reference, tolerance) in
        [(Binning::Torchmetrics, "torchmetrics", 1e-6), (Binning::Netcal, "netcal", 1e-9)]
    {
        let theirs = scores(edges, binning).raw;
        let answers = &edges.answers[reference];
        assert!(agrees(edges, "ece", theirs.ece.value, &answers["ece"], tolerance));
        assert!(agrees(edges, "mce", theirs.mce.value, &answers["mce"], tolerance));
        assert!(agrees(
            edges,
            "ece_classwise",
            theirs.ece_classwise.value,
            &answers["classwise"],
            tolerance
        ));
        assert!(
            (ours.ece.value - theirs.ece.value).abs() > 1e-3,
            "the case tells the conventions apart"
        );
    }
    // Elsewhere they agree.
    for case in cases.iter().filter(|case| case.name != "edges") {
        let netcal = scores(case, Binning::Netcal).raw;
        assert!(
            (netcal.ece.value - scores(case, Binning::RightClosed).raw.ece.value).abs() < 1e-12,
            "{}",
            case.name
        );
    }
}
