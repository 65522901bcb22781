//! How far from the textbook a backend may be.
//!
//! `u` is 2⁻²⁴ where arithmetic is f32 (f32, f16 and bf16 logits), and for f64 the number that makes `8u = 1e-14`. The bars for plain
//! cross-entropy are fixed:
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
//! They scale with the row's target mass `W`, the row weight and the outer factor (upstream over denominator). No bar on a gradient
//! entry is wider than a few `u` of the entry's own two terms, so a gradient of zeros does not pass.
//!
//! Options add what their arithmetic cannot avoid:
//!
//! - *Temperature, softcap*: z itself is rounded, by `dz = u·max abs(z)·(2 for the temperature + 8 for the softcap)`: quotient and
//!   product, and a tanh good to a few u, whose relative condition number is ≤ 1. `∂L/∂z = W·p − y` sums to at most 2W in size, so the loss moves by
//!   `2W·dz`; p moves by `2p·dz`. The factor `1 − tanh²` is good to `8u` absolutely, not relatively.
//! - *z-loss*: `d(λ·lse²) = 2λ·lse·d(lse)`, and its part of the gradient is a multiple of p.
//! - *KL divergence*: a difference of two numbers, with the bars of both.
//! - *Priors that leave the true class out*: a backend may take `v·(m − z_y)` off a sum over all classes, so that what was taken off counts
//!   to the size of the sum. The loss notices only where ε is so large that the label's coefficient is negative.
//! - *Target mass on the likeliest class alone* (an ε < .01 in all but name): as ε < .01.

use std::fmt;

use thiserror::Error;

use crate::case::{Answer, Case, Form, Masked, Prior, Reduction, Targets};
use crate::dtype::Dtype;
use crate::refuse::Refusal;
use crate::sum::sum;
use crate::textbook::{self, Row};

/// Where a backend's answer is too far from the textbook's.
#[derive(Clone, Debug, PartialEq, Error)]
pub struct Mismatch {
    /// The case's name.
    pub case: String,
    /// Which of the answer's fields.
    pub what: String,
    /// In which row; `None` for what is one number a batch.
    pub row: Option<usize>,
    /// On which class, for a gradient entry.
    pub class: Option<usize>,
    /// What came.
    pub got: f64,
    /// What the textbook says.
    pub expected: f64,
    /// How far apart they may be.
    pub bar: f64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "case {:?}: {}", self.case, self.what)?;
        if let Some(row) = self.row {
            write!(out, ", row {row}")?;
        }
        if let Some(class) = self.class {
            write!(out, ", class {class}")?;
        }
        let Mismatch { got, expected, bar, .. } = self;
        write!(out, ": got {got:e}, expected {expected:e}, off by {:.3e}, bar {bar:.3e}", (got - expected).abs())
    }
}

/// How often a half-precision gradient is rounded on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// Once (S11).
    #[default]
    Once,
    /// Once, and again by a framework that multiplies the stored gradient by the upstream gradient, unless that is 1.
    AgainByUpstream,
}

/// Judges `got` against `expected`, the textbook's answer to `case`. NaN and ±∞ have to be met exactly.
///
/// # Errors
///
/// The first number that is out of its bar.
pub fn compare(case: &Case, expected: &Answer, got: &Answer) -> Result<(), Mismatch> {
    compare_rounding(case, expected, got, Rounding::Once)
}

/// [`compare`] for a gradient that may have been rounded again.
///
/// # Errors
///
/// The first number that is out of its bar.
pub fn compare_rounding(case: &Case, expected: &Answer, got: &Answer, rounding: Rounding) -> Result<(), Mismatch> {
    let rows = textbook::rows(case).map_err(|Refusal(why)| Mismatch {
        case: case.name.clone(),
        what: format!("an answer to a case to be refused ({why})"),
        row: None,
        class: None,
        got: f64::NAN,
        expected: f64::NAN,
        bar: 0.0,
    })?;
    compare_rows(case, rows, expected, got, rounding)
}

/// The same, with the case's rows already worked out.
pub(crate) fn compare_rows(case: &Case, rows: Vec<Option<Row>>, expected: &Answer, got: &Answer, rounding: Rounding) -> Result<(), Mismatch> {
    let bars = rows.iter().map(|row| row.as_ref().map(|row| RowBars::new(case, row))).collect();
    let judge = Judge { case, expected, got, rounding, rows, bars };
    judge.counts()?;
    judge.losses()?;
    judge.gradients()
}

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
struct RowBars {
    loss: f64,
    nll: f64,
    smoothing: f64,
    floor: f64,
    z_loss: f64,
    lse: f64,
    /// Error of a transformed logit.
    dz: f64,
    /// `W + 2λ·lse`, in size.
    softmax_factor: f64,
    /// What one class of the prior gets, where the prior leaves the true class out; else 0.
    shared_prior: f64,
}

impl RowBars {
    fn new(case: &Case, row: &Row) -> RowBars {
        let u = unit(case.dtype);
        let parts = &row.parts;
        let softmax = &row.softmax;
        let finite: Vec<f64> = row.logits.iter().copied().filter(|z| z.is_finite()).collect();
        let largest = finite.iter().fold(0.0, |largest: f64, z| largest.max(z.abs()));
        let roundings = if case.temperature.is_some() { 2.0 } else { 0.0 } + if case.softcap.is_some() { 8.0 } else { 0.0 };
        let dz = u * largest * roundings;
        let gap = gap(&finite);
        let mass = sum(row.target.iter().copied());

        let shared_prior = shared_prior(case, row);
        // A term that is taken off: its coefficient is `w·ε·t·v`, and `w·(1−ε)·t` covers it in the loss.
        let taken_off = |covered: f64| {
            let terms = row.before.iter().zip(&row.term_weights).zip(&row.logits).filter(|(_, z)| z.is_finite());
            row.whole_weight * sum(terms.map(|((t, w), z)| w * t * (row.epsilon * shared_prior - covered).max(0.0) * (softmax.max - z)))
        };

        let relative = if row.epsilon >= SMOOTHED && mass_off_likeliest(row) >= 0.49 * SMOOTHED * mass { 8.0 } else { 8.0 + gap };
        let cross_entropy = relative * u * parts.cross_entropy + 2.0 * mass * dz + 8.0 * u * taken_off(1.0 - row.epsilon);
        let part = |value: f64, mass: f64| (8.0 + gap) * u * value + 2.0 * mass * dz;
        let weighted_mass = |share: &[f64]| row.whole_weight * sum(share.iter().zip(&row.term_weights).map(|(s, w)| s * w));
        let floor = floor_bar(case, row);
        let lse_error = (8.0 + gap) * u * softmax.rest + dz;
        let z_loss = 2.0 * case.z_loss * parts.lse.abs() * lse_error + 4.0 * u * case.z_loss * parts.lse * parts.lse;
        let excess = if case.form == Form::KlDivergence { floor } else { 0.0 };
        RowBars {
            loss: cross_entropy + z_loss + excess,
            nll: part(parts.nll, weighted_mass(&row.before)),
            smoothing: part(parts.smoothing, row.epsilon * weighted_mass(&row.prior)) + 8.0 * u * taken_off(0.0),
            floor,
            z_loss,
            lse: lse_error + 2.0 * u * parts.lse.abs(),
            dz,
            softmax_factor: mass + 2.0 * case.z_loss * parts.lse.abs(),
            shared_prior,
        }
    }
}

/// Largest less second largest.
fn gap(logits: &[f64]) -> f64 {
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

/// The floor is a sum over targets, whose errors `h` carries on by its slope `1 + ln`. It is one number a row, hence f64, but for
/// targets that are K numbers a row.
fn floor_bar(case: &Case, row: &Row) -> f64 {
    let slope = |x: f64| if x == 0.0 { 0.0 } else { x * (1.0 + x.ln().abs()) };
    let terms = slope(sum(row.target.iter().copied())) + sum(row.target.iter().map(|&y| slope(y)));
    let computed = match case.targets {
        Targets::Probabilities { .. } => unit(case.dtype),
        _ => unit(Dtype::F64),
    };
    8.0 * computed * terms + 4.0 * unit(case.dtype) * row.parts.floor.abs()
}

struct Judge<'a> {
    case: &'a Case,
    expected: &'a Answer,
    got: &'a Answer,
    rounding: Rounding,
    rows: Vec<Option<Row>>,
    bars: Vec<Option<RowBars>>,
}

impl Judge<'_> {
    fn mismatch(&self, what: &str, row: Option<usize>, class: Option<usize>, numbers: [f64; 3]) -> Mismatch {
        let [got, expected, bar] = numbers;
        Mismatch { case: self.case.name.clone(), what: what.into(), row, class, got, expected, bar }
    }

    fn within(&self, what: &str, row: Option<usize>, got: f64, expected: f64, bar: f64) -> Result<(), Mismatch> {
        let near = if expected.is_finite() { (got - expected).abs() <= bar } else { same_non_finite(got, expected) };
        if near { Ok(()) } else { Err(self.mismatch(what, row, None, [got, expected, bar])) }
    }

    fn same_count(&self, what: &str, got: usize, expected: usize) -> Result<(), Mismatch> {
        self.within(what, None, got as f64, expected as f64, 0.0)
    }

    fn counts(&self) -> Result<(), Mismatch> {
        let Judge { case, got, expected, .. } = self;
        self.same_count("number of losses", got.loss.len(), expected.loss.len())?;
        self.same_count("number of nlls", got.nll.len(), expected.nll.len())?;
        self.same_count("number of smoothing parts", got.smoothing.len(), expected.smoothing.len())?;
        self.same_count("number of floors", got.floor.len(), expected.floor.len())?;
        self.same_count("number of z-losses", got.z_loss.len(), expected.z_loss.len())?;
        self.same_count("number of lses", got.lse.len(), expected.lse.len())?;
        self.same_count("number of gradient entries", got.grad.len(), expected.grad.len())?;
        self.same_count("ignored rows", got.ignored, expected.ignored)?;
        self.same_count("rows that are not finite", got.non_finite, expected.non_finite)?;
        let first = |answer: &Answer| answer.first_non_finite.map_or(-1.0, |row| row as f64);
        self.within("first row that is not finite (−1: none)", None, first(got), first(expected), 0.0)?;
        // Rounding of z may tie what is not tied, or the other way round.
        let open = self.rows.iter().zip(&self.bars).flat_map(|(row, bars)| row.as_ref().zip(bars.as_ref()));
        let open = open.filter(|(row, bars)| bars.dz > 0.0 && gap(&row.logits) <= 2.0 * bars.dz).count();
        self.within("correct rows", None, got.correct as f64, expected.correct as f64, open as f64)?;
        self.within("denominator", None, got.denominator, expected.denominator, 8.0 * unit(case.dtype) * expected.denominator)
    }

    fn losses(&self) -> Result<(), Mismatch> {
        let Judge { got, expected, .. } = self;
        self.reduced("loss", &got.loss, &expected.loss, |row| row.parts.loss, |bars| bars.loss)?;
        self.reduced("nll", &got.nll, &expected.nll, |row| row.parts.nll, |bars| bars.nll)?;
        self.reduced("smoothing", &got.smoothing, &expected.smoothing, |row| row.parts.smoothing, |bars| bars.smoothing)?;
        self.reduced("floor", &got.floor, &expected.floor, |row| row.parts.floor, |bars| bars.floor)?;
        self.reduced("z-loss", &got.z_loss, &expected.z_loss, |row| row.parts.z_loss, |bars| bars.z_loss)?;
        for (number, bars) in self.bars.iter().enumerate() {
            let bar = bars.as_ref().map_or(0.0, |bars| bars.lse);
            self.within("lse", Some(number), got.lse[number], expected.lse[number], bar)?;
        }
        Ok(())
    }

    fn reduced(&self, what: &str, got: &[f64], expected: &[f64], size: fn(&Row) -> f64, bar: fn(&RowBars) -> f64) -> Result<(), Mismatch> {
        let smallest = self.case.dtype.compute().ulp(0.0);
        let kept = || self.rows.iter().zip(&self.bars).map(|(row, bars)| row.as_ref().zip(bars.as_ref()));
        let bar_of = |kept: Option<(&Row, &RowBars)>| kept.map_or(0.0, |(row, bars)| row.row_weight * bar(bars) + smallest);
        if self.case.reduction == Reduction::None {
            for (number, kept) in kept().enumerate() {
                self.within(what, Some(number), got[number], expected[number], bar_of(kept))?;
            }
            return Ok(());
        }
        let sizes = sum(kept().flatten().map(|(row, _)| row.row_weight * size(row).abs()));
        let mut total = sum(kept().map(bar_of)) + 2.0 * unit(self.case.dtype) * sizes;
        if self.case.reduction == Reduction::Mean {
            if self.expected.denominator == 0.0 {
                return self.within(what, None, got[0], expected[0], 0.0);
            }
            total /= self.expected.denominator;
        }
        self.within(what, None, got[0], expected[0], total + smallest)
    }

    fn gradients(&self) -> Result<(), Mismatch> {
        let (mut entries, mut inexact) = (0, 0);
        for (number, (row, bars)) in self.rows.iter().zip(&self.bars).enumerate() {
            let positions = (0..self.case.class_count()).map(|class| self.case.position(number, class));
            let (Some(row), Some(bars)) = (row, bars) else {
                for (class, position) in positions.enumerate() {
                    if self.got.grad[position] != 0.0 {
                        let numbers = [self.got.grad[position], 0.0, 0.0];
                        return Err(self.mismatch("gradient of an ignored row", Some(number), Some(class), numbers));
                    }
                }
                continue;
            };
            for (class, position) in positions.enumerate() {
                let (got, expected) = (self.got.grad[position], self.expected.grad[position]);
                let bar = self.entry_bar(number, class, row, bars, expected);
                if !self.entry_is_near(got, expected, bar) {
                    return Err(self.mismatch("gradient", Some(number), Some(class), [got, expected, bar]));
                }
                entries += usize::from(expected.is_finite());
                inexact += usize::from(expected.is_finite() && got != self.case.dtype.round(expected));
            }
            self.row_sum(number, row, bars)?;
        }
        self.mostly_exact(entries, inexact)
    }

    /// What multiplies the bracket of S9, but for the slope of S1.
    fn scale(&self, number: usize, row: &Row) -> f64 {
        (row.row_weight * textbook::outer_factor(self.case, number, self.expected.denominator)).abs()
    }

    /// The bar of one entry of a kept row.
    fn entry_bar(&self, number: usize, class: usize, row: &Row, bars: &RowBars, expected: f64) -> f64 {
        let case = self.case;
        let masked = row.logits[class] == f64::NEG_INFINITY;
        if row.forbidden[class] || (masked && case.masked == Masked::Renormalise) {
            return 0.0;
        }
        let u = unit(case.dtype);
        let p = bars.softmax_factor * row.softmax.p[class];
        let y = row.target[class];
        let subtraction = if masked { 0.0 } else { row.softmax.max - row.logits[class] };
        let taken_off = row.whole_weight * row.term_weights[class] * row.epsilon * row.before[class] * bars.shared_prior;
        let mut inner = (8.0 + subtraction) * u * p.max(y).max(taken_off) + 2.0 * bars.dz * p;
        inner += 2.0 * case.z_loss * bars.lse * row.softmax.p[class];
        let mut bar = row.slope[class] * inner;
        if case.softcap.is_some() {
            bar += 8.0 * u * p.max(y) / case.temperature.unwrap_or(1.0);
        }
        let scale = self.scale(number, row);
        let smallest = case.dtype.compute().ulp(0.0) * 2.0 * (1.0 + scale * row.slope[class] * (bars.softmax_factor + 1.0));
        let bar = bar * scale + 4.0 * u * expected.abs() + smallest;
        bar + if case.dtype.is_half() { self.storage_bar(number, expected, bar) } else { 0.0 }
    }

    /// Half an ulp for each rounding into the stored format.
    fn storage_bar(&self, number: usize, expected: f64, bar: f64) -> f64 {
        let half_ulp = |value: f64| 0.5 * self.case.dtype.ulp(value.abs() + bar);
        let upstream = self.case.upstream.0.of(number).abs();
        match self.rounding {
            Rounding::AgainByUpstream if upstream != 1.0 && upstream != 0.0 => {
                let stored = half_ulp(expected / upstream) * upstream;
                stored + half_ulp(expected.abs() + stored)
            }
            _ => half_ulp(expected),
        }
    }

    fn entry_is_near(&self, got: f64, expected: f64, bar: f64) -> bool {
        let rounded = self.case.dtype.round(expected);
        if !expected.is_finite() { same_non_finite(got, expected) } else { (got - expected).abs() <= bar || (rounded.is_infinite() && got == rounded) }
    }

    /// Only where a narrower format does not round more than this bar asks for.
    fn row_sum(&self, number: usize, row: &Row, bars: &RowBars) -> Result<(), Mismatch> {
        let case = self.case;
        if case.dtype.is_half() || case.softcap.is_some() || !row.softmax.valid {
            return Ok(());
        }
        let total = |grad: &[f64]| sum((0..case.class_count()).map(|class| grad[case.position(number, class)]));
        let (got, expected) = (total(&self.got.grad), total(&self.expected.grad));
        let slope = 1.0 / case.temperature.unwrap_or(1.0);
        let relative = 16.0 * unit(case.dtype) + 4.0 * bars.dz;
        let z_loss = 2.0 * case.z_loss * bars.lse;
        let smallest = case.dtype.compute().ulp(0.0) * 2.0 * case.class_count() as f64 * (1.0 + self.scale(number, row));
        let bar = self.scale(number, row) * slope * (relative * bars.softmax_factor + z_loss) + smallest;
        self.within("sum of the gradient", Some(number), got, expected, bar)
    }

    /// Halves: ≥ 99.9 % of the entries are the nearest value, where no option adds an error of its own. Two may be off in a small case.
    fn mostly_exact(&self, entries: usize, inexact: usize) -> Result<(), Mismatch> {
        let case = self.case;
        let plain = case.upstream.is_unit() && case.z_loss == 0.0 && case.softcap.is_none() && case.temperature.is_none();
        let allowed = 2 + entries / 1000;
        if case.dtype.is_half() && plain && inexact > allowed {
            let numbers = [inexact as f64, 0.0, allowed as f64];
            return Err(self.mismatch(&format!("gradient entries of {entries} that are not the nearest value"), None, None, numbers));
        }
        Ok(())
    }
}

fn same_non_finite(got: f64, expected: f64) -> bool {
    (got.is_nan() && expected.is_nan()) || got == expected
}
