//! Batches of nothing, layers of one, and calls that are refused.

use xent::{Batch, Config, EmptyMean, Reduction};
use xent_linear::{Error, Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};

/// Loss, and the gradients of H, W and b under an upstream gradient of 1.
fn gradients(
    config: Config,
    hidden: &[f32],
    features: usize,
    weight: &[f32],
    targets: &[i64],
) -> (xent::Output<f32>, [Vec<f32>; 3]) {
    let criterion = config.ignore_index(-100).build().unwrap();
    let classes = weight.len() / features;
    let matrix = |data| Matrix::new(data, features).unwrap();
    let linear = Linear::new(matrix(hidden), matrix(weight)).unwrap();
    let mut to = [hidden.len(), weight.len(), classes].map(|len| vec![7.0f32; len]);
    let [to_hidden, to_weight, to_bias] = &mut to;
    let into = Gradients {
        hidden: Some(MatrixMut::new(to_hidden, features).unwrap()),
        weight: Some(MatrixMut::new(to_weight, features).unwrap()),
        bias: Some(to_bias),
    };
    let batch = Batch::new(targets).predictions(true);
    let workspace = &mut Workspace::default();
    let output = criterion.linear_forward_backward(&linear, batch, 1.0, into, workspace).unwrap();
    (output, to)
}

#[test]
fn a_batch_of_nothing_has_gradients_of_nothing() {
    let weight = [0.5; 12];
    for (hidden, targets) in [(&[][..], &[][..]), (&[1.0; 6][..], &[-100, -100][..])] {
        let (output, to) = gradients(Config::new(), hidden, 3, &weight, targets);
        assert!(output.loss.scalar().unwrap().is_nan());
        assert_eq!((output.rows, output.ignored), (targets.len(), targets.len()));
        assert_eq!(output.predicted, vec![-1; targets.len()]);
        assert_eq!(to, [hidden.len(), 12, 4].map(|len| vec![0.0; len]));
        let sum = Config::new().reduction(Reduction::Sum);
        assert_eq!(gradients(sum, hidden, 3, &weight, targets).0.loss.scalar(), Some(0.0));
    }
}

#[test]
fn a_mean_over_weights_of_0_is_what_empty_means_are() {
    let (hidden, weight) = ([1.0, 2.0, 3.0, 4.0], [0.5, 1.0, -1.0, 0.0, 0.25, 0.5]);
    let config = Config::new().class_weights(&[1.0, 0.0, 1.0]);
    let (output, to) = gradients(config.clone(), &hidden, 2, &weight, &[1, 1]);
    assert!(output.loss.scalar().unwrap().is_nan() && output.ignored == 0);
    assert!(to.iter().flatten().all(|g| g.is_nan()));
    let zero = config.clone().empty_mean(EmptyMean::Zero);
    let (output, to) = gradients(zero, &hidden, 2, &weight, &[1, 1]);
    assert_eq!(output.loss.scalar(), Some(0.0));
    assert!(output.lse.iter().all(|lse| *lse > 0.0), "its logits are formed all the same");
    assert!(to.iter().flatten().all(|g| *g == 0.0));
}

#[test]
fn one_class_and_one_feature() {
    let (output, to) =
        gradients(Config::new().label_smoothing(0.1), &[1.0, 2.0], 1, &[3.0], &[0, 0]);
    assert_eq!(output.loss.scalar(), Some(0.0));
    assert!(to.iter().flatten().all(|g| g.abs() < 1e-6));
    let (output, to) = gradients(Config::new(), &[1.0], 1, &[1.0, 0.0], &[0]);
    let p = 1.0 / (1.0 + std::f32::consts::E);
    assert!((output.loss.scalar().unwrap() - (1.0f32 + (-1.0f32).exp()).ln()).abs() < 1e-6);
    for (came, expected) in to.iter().flatten().zip([-p, -p, p, -p, p]) {
        assert!((came - expected).abs() < 1e-6, "{came} {expected}");
    }
}

#[test]
fn shapes_that_do_not_go_together_are_refused() {
    let (hidden, weight) = ([0.0f32; 6], [0.0f32; 12]);
    let [hidden, narrow] = [3, 2].map(|columns| Matrix::new(&hidden, columns).unwrap());
    let weight = Matrix::new(&weight, 3).unwrap();
    let message = |error: Error| error.to_string();
    assert_eq!(
        message(Linear::new(narrow, weight).unwrap_err()),
        "the weight has shape [4, 3], expected [classes, 2]: hidden states of shape [3, 2] have 2 features"
    );
    assert_eq!(
        message(Linear::new(hidden, Matrix::new(&[], 3).unwrap()).unwrap_err()),
        "the weight has shape [0, 3], expected at least 1 class and 1 feature"
    );
    let linear = Linear::new(hidden, weight).unwrap();
    assert_eq!((linear.rows(), linear.features(), linear.classes()), (2, 3, 4));
    assert_eq!(
        message(linear.bias(&[0.0; 3]).unwrap_err()),
        "the bias: 3 entries, expected 4, one per class"
    );

    let criterion = Config::new().build().unwrap();
    let refuse = |targets: &[i64], into: Gradients<'_, f32>| {
        let workspace = &mut Workspace::default();
        message(
            criterion.linear_forward_backward(&linear, targets, 1.0, into, workspace).unwrap_err(),
        )
    };
    let mut buffer = [7.0f32; 12];
    let to_hidden = Some(MatrixMut::new(&mut buffer, 3).unwrap());
    assert_eq!(
        refuse(&[0, 1], Gradients { hidden: to_hidden, ..Gradients::default() }),
        "the gradient of the hidden states has shape [4, 3], expected [2, 3], the shape of the hidden states"
    );
    let to_weight = Some(MatrixMut::new(&mut buffer, 4).unwrap());
    assert_eq!(
        refuse(&[0, 1], Gradients { weight: to_weight, ..Gradients::default() }),
        "the gradient of the weight has shape [3, 4], expected [4, 3], the shape of the weight"
    );
    assert_eq!(
        refuse(&[0, 1], Gradients { bias: Some(&mut buffer[..5]), ..Gradients::default() }),
        "the gradient of the bias: 5 entries, expected 4, one per class"
    );
    let to_weight = Some(MatrixMut::new(&mut buffer, 3).unwrap());
    assert_eq!(
        refuse(&[0, 4], Gradients { weight: to_weight, ..Gradients::default() }),
        "target 4 in row 1 is outside 0..4 and not an ignore index"
    );
    assert_eq!(refuse(&[0], Gradients::default()), "targets: 1 entries, expected 2 (one per row)");
    assert_eq!(buffer, [7.0; 12], "nothing is written by a call that is refused");
}
