//! How far from the textbook a backend may be.
//!
//! `u` is 2⁻²⁴ where arithmetic is f32 (f32, f16 and bf16 logits), and for f64 the number that
//! makes `8u = 1e-14`. The bars for plain cross-entropy are fixed:
//!
//! | quantity | bar |
//! |---|---|
//! | loss of a row, ε ≥ .01 | `8u·L` |
//! | loss of a row, ε < .01 | `(8 + gap)·u·L`, gap = largest − second largest logit |
//! | gradient entry | `(8 + abs(m − z_k))·u·max(p_k, y_k)` |
//! | sum of a row's gradient | `16u` |
//! | sum or mean | the rows' bars, and `2u` of the sum of their sizes |
//! | gradient stored in f16 or bf16 | one rounding: half an ulp more, and ≥ 99.9 % of the entries are the nearest value |
//!
//! They scale with the row's target mass `W`, the row weight and the outer factor (upstream over
//! denominator). No bar on a gradient entry is wider than a few `u` of the entry's own two terms,
//! so a gradient of zeros does not pass.
//!
//! Options add what their arithmetic cannot avoid:
//!
//! - *Temperature, softcap*: z itself is rounded, by `dz = u·max abs(z)·(2 for the temperature + 8
//!   for the softcap)`: quotient and product, and a tanh good to a few u, whose relative condition
//!   number is ≤ 1. `∂L/∂z = W·p − y` sums to at most 2W in size, so the loss moves by `2W·dz`; p
//!   moves by `2p·dz`. The factor `1 − tanh²` is good to `8u` absolutely, not relatively.
//! - *z-loss*: `d(λ·lse²) = 2λ·lse·d(lse)`, and its part of the gradient is a multiple of p.
//! - *KL divergence*: a difference of two numbers, with the bars of both.
//! - *Priors that leave the true class out*: a backend may take `v·(m − z_y)` off a sum over all
//!   classes, so that what was taken off counts to the size of the sum. The loss notices only where
//!   ε is so large that the label's coefficient is negative.
//! - *Target mass on the likeliest class alone* (an ε < .01 in all but name): as ε < .01.

use crate::case::{Case, Form, Masked, Prior, Targets};
use crate::dtype::Dtype;
use crate::sum::sum;
use crate::textbook::{self, Row};

/// `u`: see the module.
pub fn unit(dtype: Dtype) -> f64 {
    match dtype.compute() {
        Dtype::F64 => 1e-14 / 8.0,
        _ => dtype.unit(),
    }
}

/// The least ε under which smoothing mass off the likeliest class carries the loss.
const SMOOTHED: f64 = 0.01;

/// The bars of one row's numbers, without its row weight.
pub(crate) struct RowBars {
    pub(crate) loss: f64,
    pub(crate) nll: f64,
    pub(crate) smoothing: f64,
    pub(crate) floor: f64,
    pub(crate) z_loss: f64,
    pub(crate) lse: f64,
    /// Error of a transformed logit.
    pub(crate) dz: f64,
    u: f64,
    /// `W + 2λ·lse`, in size.
    softmax_factor: f64,
    /// What z-loss adds to the factor's error.
    z_loss_slope: f64,
    /// What one class of the prior gets, where the prior leaves the true class out; else 0.
    shared_prior: f64,
}

impl RowBars {
    pub(crate) fn new(case: &Case, row: &Row) -> RowBars {
        let u = unit(case.dtype);
        let (parts, softmax) = (&row.parts, &row.softmax);
        let finite: Vec<f64> = row.logits.iter().copied().filter(|z| z.is_finite()).collect();
        let largest = finite.iter().fold(0.0, |largest: f64, z| largest.max(z.abs()));
        let roundings = if case.temperature.is_some() { 2.0 } else { 0.0 }
            + if case.softcap.is_some() { 8.0 } else { 0.0 };
        let dz = u * largest * roundings;
        let gap = gap(&finite);
        let mass = sum(row.target.iter().copied());

        let shared_prior = shared_prior(case, row);
        // A term that is taken off: its coefficient is w·ε·t·v, and in the loss w·(1−ε)·t covers
        // it.
        let taken_off = |covered: f64| {
            let terms = row
                .before
                .iter()
                .zip(&row.term_weights)
                .zip(&row.logits)
                .filter(|(_, z)| z.is_finite());
            row.whole_weight
                * sum(terms.map(|((t, w), z)| {
                    w * t * (row.epsilon * shared_prior - covered).max(0.0) * (softmax.max - z)
                }))
        };

        let relative =
            if row.epsilon >= SMOOTHED && mass_off_likeliest(row) >= 0.49 * SMOOTHED * mass {
                8.0
            } else {
                8.0 + gap
            };
        let cross_entropy = relative * u * parts.cross_entropy
            + 2.0 * mass * dz
            + 8.0 * u * taken_off(1.0 - row.epsilon);
        let part = |value: f64, mass: f64| (8.0 + gap) * u * value + 2.0 * mass * dz;
        let weighted_mass = |share: &[f64]| {
            row.whole_weight * sum(share.iter().zip(&row.term_weights).map(|(s, w)| s * w))
        };
        let floor = floor_bar(case, row, u);
        let lse_error = (8.0 + gap) * u * softmax.rest + dz;
        let lse = lse_error + 2.0 * u * parts.lse.abs();
        let z_loss = 2.0 * row.z_weight * parts.lse.abs() * lse_error + 4.0 * u * parts.z_loss;
        let excess = if case.form == Form::KlDivergence { floor } else { 0.0 };
        RowBars {
            loss: cross_entropy + z_loss + excess,
            nll: part(parts.nll, weighted_mass(&row.before)),
            smoothing: part(parts.smoothing, row.epsilon * weighted_mass(&row.prior))
                + 8.0 * u * taken_off(0.0),
            floor,
            z_loss,
            lse,
            dz,
            u,
            softmax_factor: mass + 2.0 * row.z_weight * parts.lse.abs(),
            z_loss_slope: 2.0 * row.z_weight * lse,
            shared_prior,
        }
    }

    /// The bar of a gradient entry: `expected`, of the bracket of S9 times the slope of S1 times
    /// `scale`.
    pub(crate) fn entry(
        &self,
        case: &Case,
        row: &Row,
        class: usize,
        scale: f64,
        expected: f64,
    ) -> f64 {
        let masked = row.logits[class] == f64::NEG_INFINITY;
        if row.forbidden[class] || (masked && case.masked == Masked::Renormalise) {
            return 0.0;
        }
        let p = row.softmax.p[class];
        let subtraction = if masked { 0.0 } else { row.softmax.max - row.logits[class] };
        let larger = self.larger_term(row, class);
        let mut bracket = (8.0 + subtraction) * self.u * larger;
        bracket += (2.0 * self.dz * self.softmax_factor + self.z_loss_slope) * p;
        let mut bar = row.slope[class] * bracket;
        if case.softcap.is_some() {
            bar += 8.0 * self.u * larger / case.temperature.unwrap_or(1.0);
        }
        // Products in the subnormal range are rounded to its spacing.
        let smallest = case.dtype.compute().ulp(0.0)
            * 2.0
            * (1.0 + scale * row.slope[class] * (self.softmax_factor + 1.0));
        bar * scale + 4.0 * self.u * expected.abs() + smallest
    }

    /// The larger of the entry's terms, without slope and scale; and what a backend may have taken
    /// off its target.
    pub(crate) fn larger_term(&self, row: &Row, class: usize) -> f64 {
        let taken_off = row.whole_weight
            * row.term_weights[class]
            * row.epsilon
            * row.before[class]
            * self.shared_prior;
        (self.softmax_factor * row.softmax.p[class]).max(row.target[class]).max(taken_off)
    }

    /// The bar of the sum over a row's gradient, which is to be f32's or f64's and of no softcap.
    pub(crate) fn row_sum(&self, case: &Case, scale: f64) -> f64 {
        let slope = 1.0 / case.temperature.unwrap_or(1.0);
        let relative = 16.0 * self.u + 4.0 * self.dz;
        let smallest =
            case.dtype.compute().ulp(0.0) * 2.0 * case.class_count() as f64 * (1.0 + scale);
        scale * slope * (relative * self.softmax_factor + self.z_loss_slope) + smallest
    }
}

/// Largest less second largest.
pub(crate) fn gap(logits: &[f64]) -> f64 {
    let mut sorted = logits.to_vec();
    if sorted.len() < 2 {
        return 0.0;
    }
    let last = sorted.len() - 1;
    let (_, largest, _) = sorted.select_nth_unstable_by(last, f64::total_cmp);
    let largest = *largest;
    largest - sorted[..last].iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn mass_off_likeliest(row: &Row) -> f64 {
    let likeliest = textbook::first_largest(&row.logits);
    sum(row.target.iter().enumerate().filter(|&(class, _)| class != likeliest).map(|(_, y)| *y))
}

fn shared_prior(case: &Case, row: &Row) -> f64 {
    match case.prior {
        Prior::WrongClasses | Prior::Excluding(_) => row.prior.iter().copied().fold(0.0, f64::max),
        _ => 0.0,
    }
}

/// The floor is a sum over targets, whose errors `h` carries on by its slope `1 + ln`. It is one
/// number a row, hence f64, but for targets that are K numbers a row.
fn floor_bar(case: &Case, row: &Row, u: f64) -> f64 {
    let slope = |x: f64| if x == 0.0 { 0.0 } else { x * (1.0 + x.ln().abs()) };
    let terms = slope(sum(row.target.iter().copied())) + sum(row.target.iter().map(|&y| slope(y)));
    let computed = match case.targets {
        Targets::Probabilities { .. } => u,
        _ => unit(Dtype::F64),
    };
    8.0 * computed * terms + 4.0 * u * row.parts.floor.abs()
}
