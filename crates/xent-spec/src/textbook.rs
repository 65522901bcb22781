//! SEMANTICS.md in f64, written to be read. Nothing is fused, skipped or folded: every row gets its
//! dense target, its log-probabilities and its gradient, and only sums are done with care.

use crate::answer::Answer;
use crate::case::{
    Case, ClassWeighting, Denominator, EmptyMean, Form, Masked, Prior, Reduction, Targets,
};
use crate::refuse::{Refusal, check};
use crate::sum::{Sum, sum};

/// The answer to a case, good to a few units in the last place of f64.
///
/// # Errors
///
/// Why the case must be refused: the refusals of S2 to S6, and arrays of the wrong length.
pub fn evaluate(case: &Case) -> Result<Answer, Refusal> {
    Ok(answer(case, &rows(case)?))
}

/// A kept row with all that is worked out on the way. Vectors have one element a class.
pub(crate) struct Row {
    /// t (S2).
    pub(crate) before: Vec<f64>,
    /// U(t) as restricted by S7, without ε.
    pub(crate) prior: Vec<f64>,
    /// y' (S4.2, S4.3).
    pub(crate) target: Vec<f64>,
    /// z (S1).
    pub(crate) logits: Vec<f64>,
    /// dz/dlogit (S1).
    pub(crate) slope: Vec<f64>,
    /// Classes that the mask forbids.
    pub(crate) forbidden: Vec<bool>,
    pub(crate) softmax: Softmax,
    /// ε.
    pub(crate) epsilon: f64,
    /// w̄ (S4.2).
    pub(crate) mean_weight: f64,
    /// What multiplies each class's term (S4.2).
    pub(crate) term_weights: Vec<f64>,
    /// What multiplies the row's sums (S4.2).
    pub(crate) whole_weight: f64,
    /// r (S4.6).
    pub(crate) row_weight: f64,
    /// λ of S4.5, times D over the denominator of z-loss for a mean (S6).
    pub(crate) z_weight: f64,
    /// Without the row weight.
    pub(crate) parts: Parts,
}

/// What S1 says of a row's transformed logits.
pub(crate) struct Softmax {
    /// No logit is NaN or +∞ and at least one is finite (S8). If false, all below is NaN.
    pub(crate) valid: bool,
    /// m.
    pub(crate) max: f64,
    /// lse − m, which is −ln p of the likeliest class.
    pub(crate) rest: f64,
    pub(crate) p: Vec<f64>,
    /// ℓ = −ln p.
    pub(crate) surprise: Vec<f64>,
}

/// The numbers that a row adds to the output.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parts {
    pub(crate) loss: f64,
    pub(crate) cross_entropy: f64,
    pub(crate) nll: f64,
    pub(crate) smoothing: f64,
    pub(crate) floor: f64,
    pub(crate) z_loss: f64,
    pub(crate) lse: f64,
}

/// Every row of the case, `None` where it is ignored.
pub(crate) fn rows(case: &Case) -> Result<Vec<Option<Row>>, Refusal> {
    check(case)?;
    let mut rows = (0..case.row_count())
        .map(|number| if is_ignored(case, number) { Ok(None) } else { row(case, number).map(Some) })
        .collect::<Result<Vec<_>, _>>()?;
    let z_weight = case.z_loss * z_loss_share(case, &rows);
    for row in rows.iter_mut().flatten() {
        row.z_weight = z_weight;
        (row.target, row.parts) = target_and_parts(case, row);
    }
    if case.reduction == Reduction::Mean
        && case.empty_mean == EmptyMean::Error
        && denominator(case, &rows) == 0.0
    {
        return Err(Refusal("the mean's denominator is 0".into()));
    }
    Ok(rows)
}

fn row(case: &Case, number: usize) -> Result<Row, Refusal> {
    let forbidden: Vec<bool> =
        (0..case.class_count()).map(|class| !case.allows(number, class)).collect();
    let (logits, slope) = transformed(case, &case.row(number), &forbidden);
    let before = target_before_smoothing(case, number)?;
    let prior = without_masked_classes(case, &before, prior_of_target(case, &before), &logits);
    let mean_weight = mean_weight(case, &before);
    let (term_weights, whole_weight) = term_and_row_weights(case, mean_weight);
    Ok(Row {
        epsilon: case.epsilon.of(number),
        mean_weight,
        term_weights,
        whole_weight,
        row_weight: case.row_weights.as_ref().map_or(1.0, |weights| weights[number]),
        softmax: softmax(&logits),
        z_weight: 0.0,
        target: Vec::new(),
        parts: Parts::default(),
        before,
        prior,
        logits,
        slope,
        forbidden,
    })
}

/// S1: z, and dz/dlogit.
fn transformed(case: &Case, given: &[f64], forbidden: &[bool]) -> (Vec<f64>, Vec<f64>) {
    let one = |(&logit, &forbidden): (&f64, &bool)| {
        let mut z = logit;
        let mut slope = 1.0;
        if let Some(temperature) = case.temperature {
            z /= temperature;
            slope /= temperature;
        }
        if let Some(cap) = case.softcap {
            let ratio = f64::tanh(z / cap);
            z = if z == f64::NEG_INFINITY { z } else { cap * ratio };
            slope *= 1.0 - ratio * ratio;
        }
        if forbidden {
            z = f64::NEG_INFINITY;
        }
        (z, slope)
    };
    given.iter().zip(forbidden).map(one).unzip()
}

/// S1 and S8. The sum leaves the largest term out, which is 1, so that the loss of a confident row
/// keeps its digits.
fn softmax(logits: &[f64]) -> Softmax {
    let likeliest = first_largest(logits);
    let max = logits[likeliest];
    if logits.iter().any(|z| z.is_nan()) || !max.is_finite() {
        let nan = vec![f64::NAN; logits.len()];
        return Softmax {
            valid: false,
            max: f64::NAN,
            rest: f64::NAN,
            p: nan.clone(),
            surprise: nan,
        };
    }
    let others = logits.iter().enumerate().filter(|&(class, _)| class != likeliest);
    let others = sum(others.map(|(_, z)| f64::exp(z - max)));
    let rest = f64::ln_1p(others);
    Softmax {
        valid: true,
        max,
        rest,
        p: logits.iter().map(|z| f64::exp(z - max) / (1.0 + others)).collect(),
        surprise: logits.iter().map(|z| (max - z) + rest).collect(),
    }
}

/// The index of the largest value that is not NaN, the first on ties; 0 if there is none.
pub(crate) fn first_largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value > values[best] || values[best].is_nan() {
            best = index;
        }
    }
    best
}

/// S2.
fn target_before_smoothing(case: &Case, row: usize) -> Result<Vec<f64>, Refusal> {
    let classes = case.class_count();
    let class = |label: i64| match usize::try_from(label) {
        Ok(class) if class < classes => Ok(class),
        _ => Err(Refusal(format!("row {row} has the label {label}, expected one in 0..{classes}"))),
    };
    let mut target = vec![0.0; classes];
    match &case.targets {
        Targets::Classes { labels, .. } => target[class(labels[row])?] = 1.0,
        Targets::TwoLabels { a, b, lambda, .. } => {
            let (a, b) = (class(a[row])?, class(b[row])?);
            target[a] += lambda.of(row);
            target[b] += 1.0 - lambda.of(row);
        }
        Targets::Probabilities { values, .. } => {
            target.copy_from_slice(&values[row * classes..][..classes]);
            if let Some(class) = target.iter().position(|q| !(q.is_finite() && *q >= 0.0)) {
                let q = target[class];
                return Err(Refusal(format!(
                    "row {row} has the probability {q} for class {class}, expected one ≥ 0"
                )));
            }
        }
    }
    Ok(target)
}

/// S3.1 to S3.6: `U(c)`.
fn prior_of_class(case: &Case, class: usize) -> Vec<f64> {
    let classes = case.class_count();
    match &case.prior {
        Prior::Uniform => vec![1.0 / classes as f64; classes],
        Prior::WrongClasses => uniform_without(classes, &[], class),
        Prior::Excluding(excluded) => uniform_without(classes, excluded, class),
        Prior::Fixed(prior) => prior.clone(),
        Prior::ByTrueClass(priors) => priors[class * classes..][..classes].to_vec(),
    }
}

/// Uniform over the classes that are neither excluded nor the true one; where there are none, all
/// of it on the true one (S3.6).
fn uniform_without(classes: usize, excluded: &[usize], true_class: usize) -> Vec<f64> {
    let mut prior = vec![1.0; classes];
    for &class in excluded {
        prior[class] = 0.0;
    }
    prior[true_class] = 0.0;
    let open = prior.iter().filter(|&&u| u > 0.0).count();
    if open == 0 {
        prior[true_class] = 1.0;
        return prior;
    }
    prior.into_iter().map(|u| u / open as f64).collect()
}

/// S3: `U(t)`.
fn prior_of_target(case: &Case, before: &[f64]) -> Vec<f64> {
    if matches!(case.prior, Prior::Uniform | Prior::Fixed(_)) {
        return prior_of_class(case, 0);
    }
    let mut prior = vec![Sum::default(); before.len()];
    for (class, share) in before.iter().enumerate().filter(|&(_, &share)| share > 0.0) {
        for (total, u) in prior.iter_mut().zip(prior_of_class(case, class)) {
            total.add(share * u);
        }
    }
    prior.into_iter().map(Sum::value).collect()
}

/// S7: what the masked classes leave of `U(t)`.
fn without_masked_classes(
    case: &Case,
    before: &[f64],
    prior: Vec<f64>,
    logits: &[f64],
) -> Vec<f64> {
    if case.masked == Masked::PyTorch {
        return prior;
    }
    let open = |class: usize| logits[class] != f64::NEG_INFINITY;
    let total = sum(prior.iter().copied());
    let left = sum(prior.iter().enumerate().filter(|&(class, _)| open(class)).map(|(_, &u)| u));
    if left == 0.0 {
        return before.to_vec();
    }
    let restricted = prior
        .iter()
        .enumerate()
        .map(|(class, &u)| if open(class) { u * total / left } else { 0.0 });
    restricted.collect()
}

/// S4.2: `w̄`.
fn mean_weight(case: &Case, before: &[f64]) -> f64 {
    match &case.class_weights {
        None => 1.0,
        Some(weights) => sum(weights.iter().zip(before).map(|(w, t)| w * t)),
    }
}

/// S4.2: the terms' weights under [`ClassWeighting::PerClass`], and the whole row's under
/// [`ClassWeighting::PerRow`].
fn term_and_row_weights(case: &Case, mean_weight: f64) -> (Vec<f64>, f64) {
    let ones = vec![1.0; case.class_count()];
    match (&case.class_weights, case.class_weighting) {
        (None, _) => (ones, 1.0),
        (Some(weights), ClassWeighting::PerClass) => (weights.clone(), 1.0),
        (Some(_), ClassWeighting::PerRow) => (ones, mean_weight),
    }
}

/// S3: y.
fn smoothed_target(row: &Row) -> Vec<f64> {
    if row.epsilon == 0.0 {
        return row.before.clone();
    }
    row.before
        .iter()
        .zip(&row.prior)
        .map(|(t, u)| (1.0 - row.epsilon) * t + row.epsilon * u)
        .collect()
}

/// `Σ a·b` with `0·∞ = 0` (S1).
fn product_sum(a: &[f64], b: &[f64]) -> f64 {
    sum(a.iter().zip(b).filter(|&(a, _)| *a != 0.0).map(|(a, b)| a * b))
}

/// S4: y', and the row's loss with its parts.
fn target_and_parts(case: &Case, row: &Row) -> (Vec<f64>, Parts) {
    let whole = row.whole_weight;
    let weighted = |share: &[f64]| -> Vec<f64> {
        share.iter().zip(&row.term_weights).map(|(s, w)| s * w).collect()
    };
    let smoothed = weighted(&smoothed_target(row));
    let target: Vec<f64> = smoothed.iter().map(|y| whole * y).collect();
    if !row.softmax.valid {
        let nan = f64::NAN;
        return (
            target,
            Parts {
                loss: nan,
                cross_entropy: nan,
                nll: nan,
                smoothing: nan,
                floor: nan,
                z_loss: nan,
                lse: nan,
            },
        );
    }

    // S4.1. A weight of 0 for the whole row is not the 0 of a missing term: it makes an infinite
    // sum NaN (S8).
    let surprise = &row.softmax.surprise;
    let cross_entropy = whole * product_sum(&smoothed, surprise);
    let nll = whole * product_sum(&weighted(&row.before), surprise);
    let smoothing = match row.epsilon {
        0.0 => 0.0,
        epsilon => epsilon * whole * product_sum(&weighted(&row.prior), surprise),
    };
    let lse = row.softmax.max + row.softmax.rest;
    let floor = floor(&target);
    let z_loss = row.z_weight * lse * lse;
    let loss = z_loss
        + match case.form {
            Form::CrossEntropy => cross_entropy,
            Form::KlDivergence => cross_entropy - floor,
        };
    (target, Parts { loss, cross_entropy, nll, smoothing, floor, z_loss, lse })
}

/// S4.3: `h(W) − Σ h(y')`.
fn floor(target: &[f64]) -> f64 {
    let h = |x: f64| if x == 0.0 { 0.0 } else { x * x.ln() };
    let whole = h(sum(target.iter().copied()));
    sum(std::iter::once(whole).chain(target.iter().map(|&y| -h(y))))
}

/// S5.
pub(crate) fn is_ignored(case: &Case, row: usize) -> bool {
    let listed = |label: i64| case.ignore_index.contains(&label);
    let by_label = match &case.targets {
        Targets::Classes { labels, .. } => listed(labels[row]),
        Targets::TwoLabels { a, b, .. } => listed(a[row]) || listed(b[row]),
        Targets::Probabilities { .. } => false,
    };
    by_label || case.ignored_rows.get(row).copied().unwrap_or(false)
}

/// S6: D.
pub(crate) fn denominator(case: &Case, rows: &[Option<Row>]) -> f64 {
    let kept = rows.iter().flatten();
    let by_weight = !matches!(case.targets, Targets::Probabilities { .. })
        || (case.class_weights.is_some() && case.class_weighting == ClassWeighting::PerRow);
    match case.denominator {
        Denominator::Given(denominator) => denominator,
        Denominator::Rows => rows.len() as f64,
        Denominator::PyTorch if by_weight => sum(kept.map(|row| row.mean_weight)),
        Denominator::PyTorch | Denominator::KeptRows => kept.count() as f64,
    }
}

/// S6: D over the denominator of z-loss, which class weights do not enter, for a mean; 1 otherwise.
fn z_loss_share(case: &Case, rows: &[Option<Row>]) -> f64 {
    let denominator = denominator(case, rows);
    match (case.reduction, case.denominator) {
        (Reduction::Mean, Denominator::PyTorch) if denominator != 0.0 => {
            denominator / rows.iter().flatten().count() as f64
        }
        _ => 1.0,
    }
}

/// S6: one part of all rows, reduced.
fn reduce(
    case: &Case,
    rows: &[Option<Row>],
    denominator: f64,
    part: fn(&Parts) -> f64,
) -> Vec<f64> {
    let values =
        rows.iter().map(|row| row.as_ref().map_or(0.0, |row| row.row_weight * part(&row.parts)));
    match case.reduction {
        Reduction::None => values.collect(),
        Reduction::Sum => vec![sum(values)],
        Reduction::Mean if denominator == 0.0 => match case.empty_mean {
            EmptyMean::Zero => vec![0.0],
            EmptyMean::Nan | EmptyMean::Error => vec![f64::NAN],
        },
        Reduction::Mean => vec![sum(values) / denominator],
    }
}

/// S9: what multiplies the gradient of row `number`'s loss.
pub(crate) fn outer_factor(case: &Case, number: usize, denominator: f64) -> f64 {
    let upstream = case.upstream.0.of(number);
    match (case.reduction, case.empty_mean) {
        (Reduction::None | Reduction::Sum, _) => upstream,
        (Reduction::Mean, EmptyMean::Zero) if denominator == 0.0 => 0.0,
        (Reduction::Mean, _) if denominator == 0.0 => f64::NAN,
        (Reduction::Mean, _) => upstream / denominator,
    }
}

/// S7, S8 and S9: the gradient of row `number` with respect to the logits as given.
fn gradient(case: &Case, number: usize, row: &Row, denominator: f64) -> Vec<f64> {
    let outer = outer_factor(case, number, denominator);
    let empty_mean_of_zero = case.reduction == Reduction::Mean
        && denominator == 0.0
        && case.empty_mean == EmptyMean::Zero;
    let total = sum(row.target.iter().copied());
    let lse = row.softmax.max + row.softmax.rest;
    let one = |class: usize| {
        let masked = row.logits[class] == f64::NEG_INFINITY;
        if row.forbidden[class] || empty_mean_of_zero {
            return 0.0;
        }
        if !row.softmax.valid {
            return f64::NAN;
        }
        if masked && case.masked == Masked::Renormalise {
            return 0.0;
        }
        let inner = (total + 2.0 * row.z_weight * lse) * row.softmax.p[class] - row.target[class];
        row.row_weight * inner * row.slope[class] * outer
    };
    (0..row.logits.len()).map(one).collect()
}

/// S10.
fn is_correct(case: &Case, number: usize, row: &Row) -> bool {
    let class = match &case.targets {
        Targets::Classes { labels, .. } => labels[number] as usize,
        Targets::TwoLabels { a, b, lambda, .. } => {
            (if lambda.of(number) >= 0.5 { a } else { b })[number] as usize
        }
        Targets::Probabilities { .. } => first_largest(&row.before),
    };
    row.softmax.valid && first_largest(&row.logits) == class
}

pub(crate) fn answer(case: &Case, rows: &[Option<Row>]) -> Answer {
    let denominator = denominator(case, rows);
    let reduced = |part| reduce(case, rows, denominator, part);
    let mut grad = vec![0.0; case.logits.len()];
    let (mut correct, mut non_finite, mut first_non_finite) = (0, 0, None);
    for (number, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        for (class, entry) in gradient(case, number, row, denominator).into_iter().enumerate() {
            grad[case.position(number, class)] = entry;
        }
        correct += usize::from(is_correct(case, number, row));
        if !(row.row_weight * row.parts.loss).is_finite() {
            non_finite += 1;
            first_non_finite = first_non_finite.or(Some(number));
        }
    }
    Answer {
        loss: reduced(|parts| parts.loss),
        nll: reduced(|parts| parts.nll),
        smoothing: reduced(|parts| parts.smoothing),
        floor: reduced(|parts| parts.floor),
        z_loss: reduced(|parts| parts.z_loss),
        lse: rows.iter().map(|row| row.as_ref().map_or(0.0, |row| row.parts.lse)).collect(),
        grad,
        correct,
        denominator,
        ignored: rows.iter().filter(|row| row.is_none()).count(),
        non_finite,
        first_non_finite,
    }
}
