//! What may not go in.

use thiserror::Error;

use crate::case::{Allowed, Case, Denominator, Prior, Reduction, RowValue, Targets};
use crate::sum::sum;

/// Why a case has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// How far from 1 a prior may sum.
const SUM_TOLERANCE: f64 = 1e-4;

/// Everything that is refused before a row is looked at; the label of a kept row and the empty mean
/// come later.
pub(crate) fn check(case: &Case) -> Result<(), Refusal> {
    shape(case)?;
    targets(case)?;
    smoothing(case)?;
    weights(case)?;
    masks(case)?;
    options(case)
}

fn refuse_unless(holds: bool, why: impl FnOnce() -> String) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal(why())) }
}

fn shape(case: &Case) -> Result<(), Refusal> {
    let Case { shape, axis, .. } = case;
    refuse_unless(*axis < shape.len(), || format!("class axis {axis} of the shape {shape:?}"))?;
    refuse_unless(case.class_count() > 0, || format!("no classes in the shape {shape:?}"))?;
    let elements: usize = shape.iter().product();
    refuse_unless(case.logits.len() == elements, || {
        format!("{} logits for the shape {shape:?}, expected {elements}", case.logits.len())
    })
}

fn length(what: &str, got: usize, expected: usize) -> Result<(), Refusal> {
    refuse_unless(got == expected, || format!("{got} {what}, expected {expected}"))
}

fn each(what: &str, value: &RowValue, rows: usize) -> Result<(), Refusal> {
    if let RowValue::Each(values) = value { length(what, values.len(), rows) } else { Ok(()) }
}

fn all_within(
    what: &str,
    values: &[f64],
    range: std::ops::RangeInclusive<f64>,
) -> Result<(), Refusal> {
    match values.iter().position(|value| !range.contains(value)) {
        Some(index) => Err(Refusal(format!(
            "{what} {index} is {}, expected a number in {range:?}",
            values[index]
        ))),
        None => Ok(()),
    }
}

const UNIT: std::ops::RangeInclusive<f64> = 0.0..=1.0;
const NON_NEGATIVE: std::ops::RangeInclusive<f64> = 0.0..=f64::MAX;

/// S2, S5.
fn targets(case: &Case) -> Result<(), Refusal> {
    let rows = case.row_count();
    match &case.targets {
        Targets::Classes { labels, .. } => length("labels", labels.len(), rows),
        Targets::TwoLabels { a, b, lambda, .. } => {
            length("first labels", a.len(), rows)?;
            length("second labels", b.len(), rows)?;
            each("λ", lambda, rows)?;
            all_within("λ", lambda.values(), UNIT)
        }
        Targets::Probabilities { values, .. } => {
            refuse_unless(case.ignore_index.is_empty(), || {
                format!(
                    "ignore indices {:?} with probabilities, whose rows have no index",
                    case.ignore_index
                )
            })?;
            length("probabilities", values.len(), rows * case.class_count())
        }
    }
}

/// S3.
fn smoothing(case: &Case) -> Result<(), Refusal> {
    each("ε", &case.epsilon, case.row_count())?;
    all_within("ε", case.epsilon.values(), UNIT)?;
    let classes = case.class_count();
    match &case.prior {
        Prior::Uniform | Prior::WrongClasses => Ok(()),
        Prior::Excluding(excluded) => {
            refuse_unless(excluded.iter().all(|&class| class < classes), || {
                format!("excluded classes {excluded:?}, expected classes below {classes}")
            })
        }
        Prior::Fixed(prior) => {
            length("values in the prior", prior.len(), classes)?;
            distribution(prior)
        }
        Prior::ByTrueClass(priors) => {
            length("values in the priors by true class", priors.len(), classes * classes)?;
            priors.chunks(classes).try_for_each(distribution)
        }
    }
}

fn distribution(prior: &[f64]) -> Result<(), Refusal> {
    all_within("prior of class", prior, NON_NEGATIVE)?;
    let total = sum(prior.iter().copied());
    refuse_unless((total - 1.0).abs() <= SUM_TOLERANCE, || {
        format!("a prior sums to {total}, expected 1")
    })
}

/// S4.2, S4.6.
fn weights(case: &Case) -> Result<(), Refusal> {
    if let Some(weights) = &case.class_weights {
        length("class weights", weights.len(), case.class_count())?;
        all_within("class weight", weights, NON_NEGATIVE)?;
    }
    if let Some(weights) = &case.row_weights {
        length("row weights", weights.len(), case.row_count())?;
        all_within("row weight", weights, NON_NEGATIVE)?;
    }
    Ok(())
}

fn masks(case: &Case) -> Result<(), Refusal> {
    let (rows, classes) = (case.row_count(), case.class_count());
    if !case.ignored_rows.is_empty() {
        length("values in the row mask", case.ignored_rows.len(), rows)?;
    }
    match &case.allowed {
        Allowed::All => Ok(()),
        Allowed::Shared(mask) => length("values in the class mask", mask.len(), classes),
        Allowed::Each(mask) => length("values in the class mask", mask.len(), rows * classes),
    }
}

fn options(case: &Case) -> Result<(), Refusal> {
    all_within("z-loss", &[case.z_loss], NON_NEGATIVE)?;
    let given = match case.denominator {
        Denominator::Given(denominator) => Some(denominator),
        _ => None,
    };
    for (what, value) in
        [("softcap", case.softcap), ("temperature", case.temperature), ("denominator", given)]
    {
        if let Some(value) = value {
            refuse_unless(value.is_finite() && value > 0.0, || {
                format!("{what} is {value}, expected a finite number > 0")
            })?;
        }
    }
    refuse_unless(
        case.reduction == Reduction::None || matches!(case.upstream.0, RowValue::Shared(_)),
        || "an upstream gradient a row, expected one number, since the loss is reduced".into(),
    )?;
    each("upstream gradients", &case.upstream.0, case.row_count())
}
