//! Answers that are wrong in one deliberate way each. A conformance suite that lets one of them
//! pass would let a backend pass that is wrong in that way.

use crate::answer::Answer;
use crate::budget::unit;
use crate::case::{
    Allowed, Case, ClassWeighting, Denominator, EmptyMean, Form, Masked, Prior, Reduction,
    RowValue, Targets, Upstream,
};
use crate::conformance::Candidate;
use crate::dtype::Dtype;
use crate::refuse::Refusal;
use crate::sum::sum;
use crate::textbook::{self, Row, evaluate};

/// The textbook with a defect.
pub struct Mutant {
    /// What is wrong with it.
    pub name: &'static str,
    /// For which logits.
    pub dtypes: &'static [Dtype],
    run: Defect,
}

type Defect = fn(&Case) -> Result<Answer, Refusal>;

impl Mutant {
    /// The mutant as a backend, whose answers are wrong for logits of `dtype` and right for all
    /// others.
    pub fn candidate(&self, dtype: Dtype) -> Candidate {
        let defect = self.run;
        let run =
            move |case: &Case| if case.dtype == dtype { defect(case) } else { evaluate(case) };
        let reported = move |case: &Case| {
            run(case)
                .map(|answer| answer.reported(case.dtype))
                .map_err(|refusal| refusal.to_string())
        };
        Candidate::new(self.name, reported)
    }
}

const fn mutant(name: &'static str, run: Defect) -> Mutant {
    Mutant { name, dtypes: &Dtype::ALL, run }
}

/// A defect of arithmetic in f32.
const fn mutant_f32(name: &'static str, run: Defect) -> Mutant {
    Mutant { name, dtypes: &[Dtype::F32, Dtype::F16, Dtype::Bf16], run }
}

/// Every mutant.
pub const MUTANTS: &[Mutant] = &[
    mutant("loss off by 20u", loss_off),
    Mutant { name: "gradient off by 20u", dtypes: &[Dtype::F64, Dtype::F32], run: gradient_off },
    mutant("gradient only on the target", gradient_on_target_only),
    mutant("mean over all rows, ignored ones too", |case| {
        evaluate(&instead_of_pytorch(case, Denominator::Rows))
    }),
    mutant("mean over rows, not their weights", |case| {
        evaluate(&instead_of_pytorch(case, Denominator::KeptRows))
    }),
    mutant("row weights in the denominator", row_weights_in_denominator),
    mutant("gradient of the mean not divided", gradient_of_the_sum),
    mutant("empty mean always 0", |case| {
        evaluate(&Case { empty_mean: EmptyMean::Zero, ..case.clone() })
    }),
    mutant("class mask dropped", |case| evaluate(&Case { allowed: Allowed::All, ..case.clone() })),
    mutant("prior on masked classes kept", |case| {
        evaluate(&Case { masked: Masked::PyTorch, ..case.clone() })
    }),
    mutant("ε and 1 − ε swapped", |case| evaluate(&map_epsilon(case, |epsilon| 1.0 - epsilon))),
    mutant("ε/K where ε/(K−1) belongs", |case| {
        evaluate(&instead_of_prior(case, &Prior::WrongClasses, Prior::Uniform))
    }),
    mutant("excluded classes smoothed", excluded_classes_smoothed),
    mutant("mean of the rows' ε", mean_epsilon),
    mutant("ε out of range clamped", |case| {
        evaluate(&map_epsilon(case, |epsilon| epsilon.clamp(0.0, 1.0)))
    }),
    mutant("class weights not on the smoothing", weights_not_on_smoothing),
    mutant("class weights on the whole row", |case| {
        evaluate(&Case { class_weighting: ClassWeighting::PerRow, ..case.clone() })
    }),
    mutant("ignored rows have a gradient", ignored_rows_learn),
    mutant("ignored rows times 0", ignored_rows_times_zero),
    mutant("NaN losses as 0", nan_as_zero),
    mutant("upstream of the first row for all", upstream_of_first_row),
    mutant("upstream missing", |case| {
        evaluate(&Case { upstream: Upstream::default(), ..case.clone() })
    }),
    mutant("upstream twice", upstream_twice),
    mutant("divergence without the entropy", |case| {
        evaluate(&Case { form: Form::CrossEntropy, ..case.clone() })
    }),
    mutant("z-loss divided by the class weights", z_loss_by_class_weights),
    mutant("z-loss not in the gradient", |case| {
        with_gradient_of(case, &Case { z_loss: 0.0, ..case.clone() })
    }),
    mutant("softcap's derivative missing", |case| {
        per_entry(
            case,
            |row, class, entry| if row.forbidden[class] { entry } else { entry / row.slope[class] },
        )
    }),
    mutant("temperature's derivative missing", temperature_not_in_gradient),
    mutant("last label off by one", last_label_off_by_one),
    mutant("two labels' shares swapped", shares_swapped),
    mutant("ties go to the last class", ties_to_the_last),
    mutant("class axis taken for the last", last_axis),
    mutant_f32("gradient from e^(z − lse), lse in f32", |case| {
        with_lse_error(case, |row| round_f32(row.parts.lse) - row.parts.lse, Fault::Gradient)
    }),
    mutant_f32("exponentials summed one by one in f32", |case| {
        with_lse_error(case, one_by_one, Fault::LossAndGradient)
    }),
    mutant_f32("confident loss as lse − z", |case| {
        with_lse_error(case, |row| round_f32(row.parts.lse) - row.parts.lse, Fault::Loss)
    }),
    Mutant {
        name: "p and y rounded before their difference",
        dtypes: &[Dtype::F16, Dtype::Bf16],
        run: rounded_too_soon,
    },
];

/// The mean that divided everything by Σ w̄: z-loss of the sum, divided by what the weighted loss
/// is divided by.
fn z_loss_by_class_weights(case: &Case) -> Result<Answer, Refusal> {
    let answer = evaluate(case)?;
    if case.reduction != Reduction::Mean
        || case.denominator != Denominator::PyTorch
        || answer.denominator == 0.0
    {
        return Ok(answer);
    }
    Ok(Answer {
        denominator: answer.denominator,
        ..evaluate(&Case { denominator: Denominator::Given(answer.denominator), ..case.clone() })?
    })
}

fn instead_of_pytorch(case: &Case, denominator: Denominator) -> Case {
    let denominator =
        if case.denominator == Denominator::PyTorch { denominator } else { case.denominator };
    Case { denominator, ..case.clone() }
}

fn instead_of_prior(case: &Case, right: &Prior, wrong: Prior) -> Case {
    if case.prior == *right { Case { prior: wrong, ..case.clone() } } else { case.clone() }
}

fn map_values(value: &RowValue, map: impl Fn(f64) -> f64) -> RowValue {
    match value {
        RowValue::Shared(value) => RowValue::Shared(map(*value)),
        RowValue::Each(values) => RowValue::Each(values.iter().map(|&value| map(value)).collect()),
    }
}

fn map_epsilon(case: &Case, map: fn(f64) -> f64) -> Case {
    Case { epsilon: map_values(&case.epsilon, map), ..case.clone() }
}

/// The right answer but for a gradient that belongs to `other`.
fn with_gradient_of(case: &Case, other: &Case) -> Result<Answer, Refusal> {
    let grad = evaluate(other)?.grad;
    Ok(Answer { grad, ..evaluate(case)? })
}

/// The right answer, each kept row's gradient entry passed through `change`.
fn per_entry(case: &Case, change: impl Fn(&Row, usize, f64) -> f64) -> Result<Answer, Refusal> {
    let rows = textbook::rows(case)?;
    let mut answer = textbook::answer(case, &rows);
    for (number, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        for class in 0..case.class_count() {
            let position = case.position(number, class);
            answer.grad[position] = change(row, class, answer.grad[position]);
        }
    }
    Ok(answer)
}

fn loss_off(case: &Case) -> Result<Answer, Refusal> {
    let mut answer = evaluate(case)?;
    answer.loss.iter_mut().for_each(|loss| *loss *= 1.0 + 20.0 * unit(case.dtype));
    Ok(answer)
}

fn gradient_off(case: &Case) -> Result<Answer, Refusal> {
    per_entry(case, |_, _, entry| entry * (1.0 + 20.0 * unit(case.dtype)))
}

fn gradient_on_target_only(case: &Case) -> Result<Answer, Refusal> {
    per_entry(case, |row, class, entry| if row.before[class] > 0.0 { entry } else { 0.0 })
}

fn row_weights_in_denominator(case: &Case) -> Result<Answer, Refusal> {
    let right = evaluate(case)?;
    match &case.row_weights {
        Some(weights)
            if case.denominator == Denominator::PyTorch
                && weights.iter().any(|&weight| weight > 0.0) =>
        {
            evaluate(&Case {
                denominator: Denominator::Given(sum(weights.iter().copied())),
                ..case.clone()
            })
        }
        _ => Ok(right),
    }
}

fn gradient_of_the_sum(case: &Case) -> Result<Answer, Refusal> {
    let reduction = if case.reduction == Reduction::Mean { Reduction::Sum } else { case.reduction };
    with_gradient_of(case, &Case { reduction, ..case.clone() })
}

fn excluded_classes_smoothed(case: &Case) -> Result<Answer, Refusal> {
    match case.prior {
        Prior::Excluding(_) => evaluate(&Case { prior: Prior::WrongClasses, ..case.clone() }),
        _ => evaluate(case),
    }
}

fn mean_epsilon(case: &Case) -> Result<Answer, Refusal> {
    evaluate(case)?;
    let values = case.epsilon.values();
    let mean = sum(values.iter().copied()) / values.len().max(1) as f64;
    evaluate(&Case { epsilon: RowValue::Shared(mean), ..case.clone() })
}

fn weights_not_on_smoothing(case: &Case) -> Result<Answer, Refusal> {
    let mut answer = evaluate(case)?;
    if case.class_weights.is_none() {
        return Ok(answer);
    }
    let unweighted = evaluate(&Case {
        class_weights: None,
        denominator: Denominator::Given(answer.denominator.max(1e-9)),
        ..case.clone()
    })?;
    for (loss, (weighted, unweighted)) in
        answer.loss.iter_mut().zip(answer.smoothing.iter_mut().zip(unweighted.smoothing))
    {
        *loss += unweighted - *weighted;
        *weighted = unweighted;
    }
    Ok(answer)
}

/// Ignored labels taken for class 0 by the gradient.
fn ignored_rows_learn(case: &Case) -> Result<Answer, Refusal> {
    let mut targets = case.targets.clone();
    if let Targets::Classes { labels, .. } = &mut targets {
        labels
            .iter_mut()
            .filter(|label| case.ignore_index.contains(label))
            .for_each(|label| *label = 0);
        return with_gradient_of(case, &Case { targets, ignore_index: Vec::new(), ..case.clone() });
    }
    evaluate(case)
}

fn ignored_rows_times_zero(case: &Case) -> Result<Answer, Refusal> {
    let mut answer = evaluate(case)?;
    let ignored = (0..case.row_count()).filter(|&row| textbook::is_ignored(case, row));
    let products = ignored.map(|row| 0.0 * case.row(row).iter().sum::<f64>());
    let nothing: f64 = products.sum();
    answer.loss.iter_mut().for_each(|loss| *loss += nothing);
    Ok(answer)
}

fn nan_as_zero(case: &Case) -> Result<Answer, Refusal> {
    let mut answer = evaluate(case)?;
    answer.loss.iter_mut().filter(|loss| loss.is_nan()).for_each(|loss| *loss = 0.0);
    Ok(answer)
}

fn upstream_of_first_row(case: &Case) -> Result<Answer, Refusal> {
    evaluate(case)?;
    let first = case.upstream.0.values().first().copied().unwrap_or(1.0);
    evaluate(&Case { upstream: Upstream(RowValue::Shared(first)), ..case.clone() })
}

fn upstream_twice(case: &Case) -> Result<Answer, Refusal> {
    evaluate(&Case {
        upstream: Upstream(map_values(&case.upstream.0, |upstream| upstream * upstream)),
        ..case.clone()
    })
}

fn temperature_not_in_gradient(case: &Case) -> Result<Answer, Refusal> {
    per_entry(case, |_, _, entry| entry * case.temperature.unwrap_or(1.0))
}

fn last_label_off_by_one(case: &Case) -> Result<Answer, Refusal> {
    let mut case = case.clone();
    let last = case.class_count() as i64 - 1;
    if let Targets::Classes { labels, .. } = &mut case.targets
        && last > 0
    {
        labels.iter_mut().filter(|label| **label == last).for_each(|label| *label -= 1);
    }
    evaluate(&case)
}

fn shares_swapped(case: &Case) -> Result<Answer, Refusal> {
    let mut case = case.clone();
    if let Targets::TwoLabels { lambda, .. } = &mut case.targets {
        *lambda = map_values(lambda, |lambda| 1.0 - lambda);
    }
    evaluate(&case)
}

fn ties_to_the_last(case: &Case) -> Result<Answer, Refusal> {
    let rows = textbook::rows(case)?;
    let is_right = |(number, row): (usize, &Option<Row>)| match (row, &case.targets) {
        (Some(row), Targets::Classes { labels, .. }) if row.softmax.valid => {
            let last = row.logits.iter().rposition(|&z| z == row.softmax.max);
            last == Some(labels[number] as usize)
        }
        _ => false,
    };
    let correct = rows.iter().enumerate().filter(|&row| is_right(row)).count();
    let right = textbook::answer(case, &rows);
    Ok(if matches!(case.targets, Targets::Classes { .. }) {
        Answer { correct, ..right }
    } else {
        right
    })
}

fn last_axis(case: &Case) -> Result<Answer, Refusal> {
    evaluate(case)?;
    let mut shape = case.shape.clone();
    let classes = shape.remove(case.axis);
    shape.push(classes);
    evaluate(&Case { axis: shape.len() - 1, shape, ..case.clone() })
}

fn round_f32(value: f64) -> f64 {
    Dtype::F32.round(value)
}

/// By how much the lse is off when the exponentials are added up in f32 in order.
fn one_by_one(row: &Row) -> f64 {
    let total = row.logits.iter().fold(0f32, |total, z| total + (z - row.softmax.max).exp() as f32);
    f64::from(total).ln() - row.softmax.rest
}

/// Where an error of the lse shows.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Loss,
    Gradient,
    LossAndGradient,
}

/// What an lse that is off by `error` does in f32: the loss is off by W times it, p by a factor.
fn with_lse_error(case: &Case, error: fn(&Row) -> f64, fault: Fault) -> Result<Answer, Refusal> {
    let rows = textbook::rows(case)?;
    let mut answer = textbook::answer(case, &rows);
    for (number, row) in rows.iter().enumerate() {
        let Some(row) = row.as_ref().filter(|row| row.softmax.valid) else { continue };
        let error = error(row);
        let mass = sum(row.target.iter().copied());
        if fault != Fault::Gradient && case.reduction == Reduction::None {
            answer.loss[number] += row.row_weight * mass * error;
        }
        if fault != Fault::Loss {
            let factor = row.row_weight
                * mass
                * textbook::outer_factor(case, number, answer.denominator)
                * f64::exp_m1(-error);
            for class in 0..case.class_count() {
                answer.grad[case.position(number, class)] +=
                    factor * row.slope[class] * row.softmax.p[class];
            }
        }
    }
    Ok(answer)
}

/// Halves: each term of p − y in the stored format first.
fn rounded_too_soon(case: &Case) -> Result<Answer, Refusal> {
    let round = |value| case.dtype.round(value);
    per_entry(case, |row, class, entry| {
        let bracket = row.softmax.p[class] - row.target[class];
        let outer = if bracket == 0.0 { 0.0 } else { entry / bracket };
        outer * round(round(row.softmax.p[class]) - round(row.target[class]))
    })
}
