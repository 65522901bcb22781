//! Parts merge to the bits of the whole, through JSON too; files that are not evaluations are
//! refused.

use proptest::prelude::*;
use serde_json::json;
use xent_metrics::{Binning, Evaluation, InputError, LabelledRows, Logits, MergeError, Settings};

/// Rows of a file.
#[derive(Debug, Clone)]
struct Data {
    classes: usize,
    logits: Vec<f32>,
    labels: Vec<i64>,
}

impl Data {
    fn evaluation(&self, settings: &Settings, range: std::ops::Range<usize>) -> Evaluation {
        let mut evaluation = Evaluation::new(settings.clone());
        let logits = &self.logits[range.start * self.classes..range.end * self.classes];
        evaluation
            .add(&LabelledRows {
                source: "file",
                first: range.start as u64,
                logits: Logits::F32(logits),
                labels: &self.labels[range],
            })
            .unwrap();
        evaluation
    }
}

fn data() -> impl Strategy<Value = Data> {
    (2..12usize, 1..60usize).prop_flat_map(|(classes, rows)| {
        let logit = prop_oneof![8 => -8.0..8.0f32, 1 => Just(0.0f32), 1 => Just(f32::NEG_INFINITY), 1 => Just(f32::NAN)];
        let label = prop_oneof![9 => 0..classes as i64, 1 => Just(-100i64)];
        (Just(classes), prop::collection::vec(logit, classes * rows), prop::collection::vec(label, rows)).prop_map(|(classes, logits, labels)| Data {
            classes,
            logits,
            labels,
        })
    })
}

fn written(evaluation: &Evaluation) -> String {
    serde_json::to_string(evaluation).unwrap()
}

fn read(text: &str) -> Result<Evaluation, serde_json::Error> {
    serde_json::from_str(text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn parts_merge_to_the_whole(data in data(), cuts in (0..60usize, 0..60usize), temperature in prop::option::of(0.5..3.0f64), kept in 1..400usize) {
        let settings = Settings { ignored: vec![-100], skip_not_finite: true, temperature, sample_logits: kept, ..Settings::new(data.classes) };
        let rows = data.labels.len();
        let (a, b) = (cuts.0.min(cuts.1) % (rows + 1), cuts.0.max(cuts.1) % (rows + 1));
        let (a, b) = (a.min(b), a.max(b));
        let whole = data.evaluation(&settings, 0..rows);
        let mut parts = data.evaluation(&settings, b..rows);
        for range in [0..a, a..b] {
            let part = read(&written(&data.evaluation(&settings, range))).unwrap();
            parts.merge(&part).unwrap();
        }
        prop_assert_eq!(written(&parts), written(&whole));
        let scores = |evaluation: &Evaluation| serde_json::to_string(&evaluation.scores()).unwrap();
        prop_assert_eq!(scores(&parts), scores(&whole));
    }
}

#[test]
fn only_like_merges_with_like() {
    let mut one = Evaluation::new(Settings::new(3));
    for other in [
        Settings::new(4),
        Settings { temperature: Some(2.0), ..Settings::new(3) },
        Settings { binning: Binning::Netcal, ..Settings::new(3) },
    ] {
        assert!(matches!(one.merge(&Evaluation::new(other)), Err(MergeError::Settings { .. })));
    }
    assert_eq!(one.merge(&Evaluation::new(Settings::new(3))), Ok(()));
}

#[test]
fn rows_that_cannot_be_judged_are_named() {
    let add = |logits: &[f64], labels: &[i64]| {
        let rows = LabelledRows { source: "z.npy", first: 10, logits: Logits::F64(logits), labels };
        Evaluation::new(Settings::new(2)).add(&rows).map_err(|error| error.to_string())
    };
    assert_eq!(
        add(&[0.0, 1.0, 2.0], &[0]),
        Err(InputError::Lengths { logits: 3, labels: 1, classes: 2 }.to_string())
    );
    assert!(
        add(&[0.0, 1.0, 2.0, 3.0], &[0, 2])
            .unwrap_err()
            .contains("z.npy: row 11 has the label 2, expected a class from 0 to 1")
    );
    assert!(add(&[0.0, 1.0], &[i64::MIN]).unwrap_err().contains("label -9223372036854775808"));
    assert!(
        add(&[0.0, 1.0, 2.0, f64::NAN], &[0, 1])
            .unwrap_err()
            .contains("z.npy: row 11, class 1: the logit is NaN")
    );
    assert!(
        add(&[f64::NEG_INFINITY; 2], &[0])
            .unwrap_err()
            .contains("row 10, class 0: the logit is -inf")
    );
}

#[test]
fn what_is_no_evaluation_is_refused() {
    let mut evaluation = Evaluation::new(Settings::new(3));
    let logits: Vec<f32> = (0..30).map(|i| (i % 7) as f32).collect();
    evaluation
        .add(&LabelledRows {
            source: "a",
            first: 0,
            logits: Logits::F32(&logits),
            labels: &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0],
        })
        .unwrap();
    let text = written(&evaluation);
    assert!(read(&text).is_ok());
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let changed = |path: &str, new: serde_json::Value| {
        let mut value = value.clone();
        *value.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = new;
        read(&value.to_string()).map(|evaluation| evaluation.scores())
    };
    for (path, new) in [
        ("/tallies/settings/classes", json!(4)),
        ("/tallies/settings/temperature", json!("-1")),
        ("/tallies/settings/kept_logits", json!(0)),
        ("/tallies/raw/rows", json!(11)),
        ("/tallies/raw/correct", json!(12)),
        ("/tallies/raw/bins", json!("AAAA")),
        ("/tallies/raw/bins", json!("")),
        ("/tallies/raw/confidence/keys", json!("AAAAAAAAAAA=")),
        ("/tallies/raw/confidence/dropped", json!(60)),
        ("/tallies/raw/confidence/most", json!(1)),
        ("/tallies/raw/classes/class_rows", json!("AAAAAAAAAAA=")),
        ("/tallies/raw/classes/upper", json!("/////////////w==")),
        ("/tallies/raw/nll/first", json!(1000)),
        ("/tallies/raw/nll/limbs", json!([i64::MAX])),
        ("/kept/classes", json!(2)),
        ("/kept/seen", json!(9)),
        ("/kept/labels", json!("")),
        ("/kept/most", json!(2)),
        ("/kept/single", json!("AAAA")),
        ("/kept/single", json!("not base64")),
    ] {
        assert!(changed(path, new.clone()).is_err(), "{path} = {new} was taken");
    }
}
