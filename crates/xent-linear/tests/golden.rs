//! Losses and gradients of PyTorch in f64: `golden/make_golden.py`.

mod reference;

use reference::{Layer, distance, narrow};
use serde::Deserialize;
use xent::{Batch, Config, Element, Rows, Targets, Upstream, bf16, f16};
use xent_linear::{Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    rows: usize,
    features: usize,
    classes: usize,
    hidden: Vec<f64>,
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
    labels: Option<Vec<i64>>,
    probabilities: Option<Vec<f64>>,
    epsilon: f64,
    class_weights: Option<Vec<f64>>,
    reduction: String,
    upstream: Vec<f64>,
    loss: Vec<f64>,
    to_hidden: Vec<f64>,
    to_weight: Vec<f64>,
    to_bias: Option<Vec<f64>>,
}

/// Compares with PyTorch's numbers: `bar` is the largest difference over the largest entry, for
/// the gradient of H in units of its type.
fn check<T: Element>(case: &Case, number: usize, bar: f64, hidden_bar: f64) {
    let Case { rows, features, classes, .. } = *case;
    let mut config =
        Config::new().label_smoothing(case.epsilon).reduction(case.reduction.parse().unwrap());
    if case.labels.is_some() {
        config = config.ignore_index(-100);
    }
    config.class_weights = case.class_weights.clone();
    let criterion = config.build().unwrap();
    let targets = match (&case.labels, &case.probabilities) {
        (Some(labels), _) => Targets::from(labels),
        (_, probabilities) => Rows::new(probabilities.as_ref().unwrap(), classes).unwrap().into(),
    };
    let upstream = match case.reduction.as_str() {
        "none" => Upstream::from(&case.upstream[..rows]),
        _ => Upstream::Scalar(case.upstream[0]),
    };

    // The reference of the other tests is judged, too.
    let layer = Layer {
        rows,
        features,
        classes,
        hidden: case.hidden.clone(),
        weight: case.weight.clone(),
        bias: case.bias.clone(),
    };
    let reference =
        layer.expected(&criterion, Batch::new(targets.clone()), upstream.clone()).unwrap();
    assert!(distance(&reference.weight, &case.to_weight, 1e-9) < 1e-12, "case {number}");
    assert!(distance(&reference.hidden, &case.to_hidden, 1e-9) < 1e-12, "case {number}");

    let (hidden, weight): (Vec<T>, Vec<T>) = (narrow(&case.hidden), narrow(&case.weight));
    let bias: Option<Vec<T>> = case.bias.as_deref().map(narrow);
    let mut linear = Linear::new(
        Matrix::new(&hidden, features).unwrap(),
        Matrix::new(&weight, features).unwrap(),
    )
    .unwrap();
    if let Some(bias) = &bias {
        linear = linear.bias(bias).unwrap();
    }
    let mut to_hidden = vec![T::from_f64(f64::NAN); hidden.len()];
    let mut to_weight = vec![T::Real::from_f64(f64::NAN); weight.len()];
    let mut to_bias = vec![T::Real::from_f64(f64::NAN); classes];
    let into = Gradients {
        hidden: Some(MatrixMut::new(&mut to_hidden, features).unwrap()),
        weight: Some(MatrixMut::new(&mut to_weight, features).unwrap()),
        bias: Some(&mut to_bias),
    };
    let output = criterion
        .linear_forward_backward(&linear, targets, upstream, into, &mut Workspace::default())
        .unwrap();
    // With one class everything is 0 but for rounding errors.
    let least = if classes == 1 { 1.0 } else { 1e-9 };
    let close = |what: &str, distance: f64, bar: f64| {
        assert!(distance <= bar, "case {number}: {what} is {distance:e} away, {bar:e} allowed");
    };
    close("the loss", distance(output.loss.as_slice(), &case.loss, least), bar);
    close("∂H", distance(&to_hidden, &case.to_hidden, least), hidden_bar);
    close("∂W", distance(&to_weight, &case.to_weight, least), bar);
    if let Some(expected) = &case.to_bias {
        close("∂b", distance(&to_bias, expected, least), bar);
    }
}

#[test]
fn pytorch_has_the_same_loss_and_gradients() {
    let golden: Golden = serde_json::from_str(include_str!("golden/pytorch.json")).unwrap();
    assert_eq!(golden.cases.len(), 12);
    for (number, case) in golden.cases.iter().enumerate() {
        check::<f64>(case, number, 1e-13, 1e-13);
        check::<f32>(case, number, 1e-6, 1e-6);
        // An upstream gradient of 2^16 goes beyond what f16 holds.
        if case.upstream[0] < 65_504.0 {
            check::<f16>(case, number, 1e-6, 5e-4);
        }
        check::<bf16>(case, number, 1e-6, 4e-3);
    }
}
