//! What SEMANTICS.md says where PyTorch is silent, with numbers worked out by hand.

use xent_spec::{
    Allowed, Case, ClassWeighting, Denominator, EmptyMean, Masked, Prior, Reduction, RowValue,
    Targets, evaluate,
};

const MASKED: f64 = f64::NEG_INFINITY;

/// Logits whose probabilities are 1/2, 1/4, 1/4.
fn quarters() -> [f64; 3] {
    [2f64.ln(), 0.0, 0.0]
}

fn each(case: Case) -> Case {
    Case { reduction: Reduction::None, ..case }
}

fn smoothed(epsilon: f64, case: Case) -> Case {
    each(Case { epsilon: RowValue::Shared(epsilon), ..case })
}

#[track_caller]
fn near(got: &[f64], expected: &[f64]) {
    let close = |(got, expected): (&f64, &f64)| {
        got == expected
            || (got.is_nan() && expected.is_nan())
            || (got - expected).abs() <= 4e-16 * expected.abs().max(0.25)
    };
    assert!(
        got.len() == expected.len() && got.iter().zip(expected).all(close),
        "got {got:?}, expected {expected:?}"
    );
}

/// S4.1: the loss of a confident row keeps its digits.
#[test]
fn confident_rows_keep_their_digits() {
    for gap in [5f64, 20.0, 60.0, 700.0] {
        let loss = evaluate(&Case::rows(&[&[gap, 0.0]], &[0])).unwrap().loss[0];
        let exact = (-gap).exp().ln_1p();
        assert!((loss / exact - 1.0).abs() <= 4e-16, "{loss:e} {exact:e}");
    }
    let constant = vec![-20.0; 262_144];
    near(&evaluate(&Case::rows(&[&constant], &[77])).unwrap().loss, &[18.0 * 2f64.ln()]);
}

/// S3.2, S3.3, S3.6: smoothing has nowhere to go.
#[test]
fn a_row_without_other_classes_is_not_smoothed() {
    let row = quarters();
    let rows: [&[f64]; 2] = [&row, &row];
    let excluding = evaluate(&smoothed(
        0.5,
        Case { prior: Prior::Excluding(vec![1, 2]), ..Case::rows(&rows, &[0, 1]) },
    ))
    .unwrap();
    let (half, quarter) = (2f64.ln(), 4f64.ln());
    // Row 0 has no class left, row 1 has class 0.
    near(&excluding.loss, &[half, (quarter + half) / 2.0]);
    near(&excluding.smoothing, &[half / 2.0, half / 2.0]);
    let single = evaluate(&smoothed(
        0.5,
        Case { prior: Prior::WrongClasses, ..Case::rows(&[&[3.0]], &[0]) },
    ))
    .unwrap();
    near(&[single.loss[0], single.grad[0]], &[0.0, 0.0]);
}

/// S3: rows of the prior that know no true class are added once, also where the probabilities do
/// not sum to 1.
#[test]
fn uniform_is_added_once() {
    let case = smoothed(
        0.5,
        Case { targets: Targets::probabilities(&[0.0, 3.0, 0.0]), ..Case::rows(&[&[0.0; 3]], &[]) },
    );
    let third = 3f64.ln();
    near(&evaluate(&case).unwrap().loss, &[1.5 * third + 0.5 * third]);
    near(
        &evaluate(&Case { prior: Prior::WrongClasses, ..case }).unwrap().loss,
        &[1.5 * third + 1.5 * third],
    );
}

/// S7: masked classes pass their prior on, or make the loss infinite.
#[test]
fn masked_classes() {
    let row = [2f64.ln(), 0.0, 0.0, MASKED];
    let case = smoothed(0.5, Case::rows(&[&row], &[0]));
    let pytorch = evaluate(&case).unwrap();
    near(&pytorch.loss, &[f64::INFINITY]);
    near(&pytorch.grad, &[0.5 - 0.625, 0.25 - 0.125, 0.25 - 0.125, -0.125]);
    let renormalised = evaluate(&Case { masked: Masked::Renormalise, ..case.clone() }).unwrap();
    near(&renormalised.loss, &[0.5 * 2f64.ln() + (2f64.ln() + 2.0 * 4f64.ln()) / 6.0]);
    near(&renormalised.grad, &[0.5 - 2.0 / 3.0, 0.25 - 1.0 / 6.0, 0.25 - 1.0 / 6.0, 0.0]);
    // The label itself masked: infinite either way.
    let label =
        Case { targets: Targets::classes(&[3]), masked: Masked::Renormalise, ..case.clone() };
    near(&evaluate(&label).unwrap().loss, &[f64::INFINITY]);
    // Forbidden by the mask instead: no gradient at all there.
    let forbidden = Case {
        logits: vec![2f64.ln(), 0.0, 0.0, f64::NAN],
        allowed: Allowed::Shared(vec![true, true, true, false]),
        ..case
    };
    near(&evaluate(&forbidden).unwrap().grad, &[0.5 - 0.625, 0.25 - 0.125, 0.25 - 0.125, 0.0]);
}

/// S8: a weight of 0 for the row makes 0·∞ NaN; a term's weight of 0 does not.
#[test]
fn weights_of_zero() {
    let row = [0.0, MASKED];
    let case = each(Case::rows(&[&row], &[1]));
    near(
        &evaluate(&Case { row_weights: Some(vec![0.0]), ..case.clone() }).unwrap().loss,
        &[f64::NAN],
    );
    let weights = Some(vec![1.0, 0.0]);
    let whole = Case {
        class_weights: weights.clone(),
        class_weighting: ClassWeighting::PerRow,
        ..case.clone()
    };
    near(&evaluate(&whole).unwrap().loss, &[f64::NAN]);
    near(&evaluate(&Case { class_weights: weights, ..case }).unwrap().loss, &[0.0]);
}

/// S6: what a mean over nothing is.
#[test]
fn empty_means() {
    let weightless = Case {
        class_weights: Some(vec![0.0, 0.0, 1.0]),
        ignored_rows: vec![false, true],
        ..Case::rows(&[&quarters(), &quarters()], &[0, 2])
    };
    let nan = evaluate(&weightless).unwrap();
    near(&nan.loss, &[f64::NAN]);
    near(&nan.grad, &[f64::NAN, f64::NAN, f64::NAN, 0.0, 0.0, 0.0]);
    let zero = evaluate(&Case { empty_mean: EmptyMean::Zero, ..weightless.clone() }).unwrap();
    near(&zero.loss, &[0.0]);
    near(&zero.grad, &[0.0; 6]);
    assert!(evaluate(&Case { empty_mean: EmptyMean::Error, ..weightless.clone() }).is_err());
    let over_rows = evaluate(&Case { denominator: Denominator::Rows, ..weightless }).unwrap();
    near(&[over_rows.loss[0], over_rows.denominator], &[0.0, 2.0]);
}

/// S1, S8: +∞ under a softcap is the cap; −∞ stays.
#[test]
fn infinite_logits_under_a_softcap() {
    let answer = evaluate(&each(Case {
        softcap: Some(2.0),
        ..Case::rows(&[&[f64::INFINITY, 0.0, MASKED]], &[1])
    }))
    .unwrap();
    near(&answer.loss, &[2.0 + (-2f64).exp().ln_1p()]);
    assert_eq!((answer.grad[0], answer.grad[2], answer.non_finite), (0.0, 0.0, 0));
}

/// S10.
#[test]
fn counts() {
    let ties = [1.0, 1.0, 0.0];
    let nan = [f64::NAN, 0.0, 0.0];
    let rows: [&[f64]; 4] = [&ties, &ties, &nan, &[MASKED; 3]];
    let answer = evaluate(&Case::rows(&rows, &[0, 1, 1, 0])).unwrap();
    assert_eq!((answer.correct, answer.non_finite, answer.first_non_finite), (1, 2, Some(2)));
    let mixed = Case {
        targets: Targets::two_labels(&[0, 1], &[1, 0], 0.5),
        ..Case::rows(&[&ties, &ties], &[])
    };
    assert_eq!(evaluate(&mixed).unwrap().correct, 1);
    let shares = Case {
        targets: Targets::probabilities(&[0.5, 0.5, 0.0, 0.0, 0.0, 1.0]),
        ..Case::rows(&[&ties, &ties], &[])
    };
    assert_eq!(evaluate(&shares).unwrap().correct, 1);
}
