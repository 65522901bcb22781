//! The worked example of SEMANTICS.md ("Known answers").

use super::{Candidate, run};
use crate::case::{Case, ClassWeighting, Denominator, Form, Prior, Reduction, RowValue, Targets};

const LOGITS: [[f64; 4]; 4] =
    [[2.0, -1.0, 0.5, 0.0], [0.0, 1.0, -2.0, 3.0], [5.0; 4], [1.0, 0.0, 0.0, -1.0]];
const IGNORED: i64 = -100;
const LABELS: [i64; 4] = [0, 3, IGNORED, 1];

/// The printed values have ten digits.
const RELATIVE: f64 = 1e-9;

fn example(name: &str, epsilon: f64) -> Case {
    let rows: Vec<&[f64]> = LOGITS.iter().map(|row| row.as_slice()).collect();
    Case {
        name: name.into(),
        epsilon: RowValue::Shared(epsilon),
        ignore_index: vec![IGNORED],
        ..Case::rows(&rows, &LABELS)
    }
}

fn with(name: &str, prior: Prior, reduction: Reduction) -> Case {
    Case { prior, reduction, ..example(name, 0.1) }
}

fn weighted(name: &str, reduction: Reduction) -> Case {
    Case { class_weights: Some(vec![1.0, 2.0, 0.5, 3.0]), ..with(name, Prior::Uniform, reduction) }
}

/// The weighted example with its labels written as distributions, the ignored row masked.
fn as_probabilities() -> Case {
    let one_hot = |&label: &i64| (0..4).map(move |class| if class == label { 1.0 } else { 0.0 });
    Case {
        targets: Targets::probabilities(&LABELS.iter().flat_map(one_hot).collect::<Vec<f64>>()),
        ignore_index: Vec::new(),
        ignored_rows: vec![false, false, true, false],
        ..weighted("the same as probability targets", Reduction::Mean)
    }
}

fn cases() -> Vec<(Case, Vec<f64>)> {
    use Reduction::{Mean, None, Sum};
    let excluding = || Prior::Excluding(vec![2]);
    let kl = |case: Case| Case { form: Form::KlDivergence, ..case };
    let third = 1.6265233750;
    vec![
        (
            Case { reduction: None, ..example("nll", 0.0) },
            vec![0.3423495824, 0.1755153626, 0.0, third],
        ),
        (with("Uniform", Prior::Uniform, None), vec![0.5048495824, 0.4255153626, 0.0, third]),
        (with("Uniform", Prior::Uniform, Sum), vec![2.5568883200]),
        (with("Uniform", Prior::Uniform, Mean), vec![0.8522961067]),
        (
            with("WrongClasses", Prior::WrongClasses, None),
            vec![0.5590162491, 0.5088486960, 0.0, third],
        ),
        (with("WrongClasses", Prior::WrongClasses, Sum), vec![2.6943883200]),
        (with("WrongClasses", Prior::WrongClasses, Mean), vec![0.8981294400]),
        (
            kl(Case {
                denominator: Denominator::Rows,
                ..with("WrongClasses, KL, over Rows", Prior::WrongClasses, Mean)
            }),
            vec![0.3473889283],
        ),
        (with("Excluding({2})", excluding(), None), vec![0.5923495824, 0.4255153626, 0.0, third]),
        (with("Excluding({2})", excluding(), Sum), vec![2.6443883200]),
        (kl(with("Excluding({2}), KL", excluding(), Sum)), vec![1.4611952457]),
        (weighted("Uniform, class weights", Sum), vec![4.6644612803]),
        (weighted("Uniform, class weights", Mean), vec![0.7774102134]),
        (as_probabilities(), vec![1.5548204268]),
        (
            Case {
                class_weighting: ClassWeighting::PerRow,
                ..weighted("whole rows weighted", Mean)
            },
            vec![0.8390737367],
        ),
    ]
}

/// Every printed value; the nll of smoothed rows, and the counts and denominators too.
pub(super) fn known_answers(candidate: &Candidate) -> Result<(), String> {
    let cases = cases();
    let nll = cases[0].1.clone();
    for (case, expected) in cases.into_iter().filter(|(case, _)| candidate.supports(case)) {
        let answer = run(candidate, &case)?;
        near(&case, "loss", &answer.loss, &expected)?;
        if case.reduction == Reduction::None {
            near(&case, "nll", &answer.nll, &nll)?;
        }
        let denominator = match (case.denominator, &case.class_weights, &case.targets) {
            (Denominator::Rows, ..) => 4.0,
            (_, Some(_), Targets::Classes { .. }) => 6.0,
            _ => 3.0,
        };
        near(&case, "denominator", &[answer.denominator], &[denominator])?;
        if (answer.ignored, answer.correct, answer.non_finite) != (1, 2, 0) {
            return Err(format!(
                "case {:?}: ignored, correct and not finite are {answer:?}, expected 1, 2 and 0",
                case.name
            ));
        }
    }
    Ok(())
}

fn near(case: &Case, what: &str, got: &[f64], expected: &[f64]) -> Result<(), String> {
    let close = |(got, expected): (&f64, &f64)| (got - expected).abs() <= RELATIVE * expected.abs();
    if got.len() == expected.len() && got.iter().zip(expected).all(close) {
        return Ok(());
    }
    Err(format!("case {:?}: {what} is {got:?}, expected {expected:?}", case.name))
}
