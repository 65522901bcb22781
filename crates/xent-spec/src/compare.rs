//! A backend's answer against the textbook's, number by number.

use std::collections::HashSet;
use std::fmt;

use thiserror::Error;

use crate::answer::Answer;
use crate::budget::{RowBars, gap, unit};
use crate::case::{Case, Reduction};
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
        write!(
            out,
            ": got {got:e}, expected {expected:e}, off by {:.3e}, bar {bar:.3e}",
            (got - expected).abs()
        )
    }
}

/// Judges `got` against `expected`, the textbook's answer to `case`. NaN and ±∞ have to be met
/// exactly.
///
/// # Errors
///
/// The first number that is out of its bar.
pub fn compare(case: &Case, expected: &Answer, got: &Answer) -> Result<(), Mismatch> {
    let rows = textbook::rows(case).map_err(|Refusal(why)| Mismatch {
        case: case.name.clone(),
        what: format!("an answer to a case to be refused ({why})"),
        row: None,
        class: None,
        got: f64::NAN,
        expected: f64::NAN,
        bar: 0.0,
    })?;
    compare_rows(case, rows, expected, got)
}

/// The same, with the case's rows already worked out.
pub(crate) fn compare_rows(
    case: &Case,
    rows: Vec<Option<Row>>,
    expected: &Answer,
    got: &Answer,
) -> Result<(), Mismatch> {
    let u = unit(case.dtype);
    let bars = rows.iter().map(|row| row.as_ref().map(|row| RowBars::new(case, row))).collect();
    let judge = Judge { case, expected, got, u, rows, bars };
    judge.counts()?;
    judge.losses()?;
    judge.gradients()
}

struct Judge<'a> {
    case: &'a Case,
    expected: &'a Answer,
    got: &'a Answer,
    u: f64,
    rows: Vec<Option<Row>>,
    bars: Vec<Option<RowBars>>,
}

impl Judge<'_> {
    fn mismatch(
        &self,
        what: &str,
        row: Option<usize>,
        class: Option<usize>,
        numbers: [f64; 3],
    ) -> Mismatch {
        let [got, expected, bar] = numbers;
        Mismatch { case: self.case.name.clone(), what: what.into(), row, class, got, expected, bar }
    }

    fn within(
        &self,
        what: &str,
        row: Option<usize>,
        got: f64,
        expected: f64,
        bar: f64,
    ) -> Result<(), Mismatch> {
        let near = if expected.is_finite() {
            (got - expected).abs() <= bar
        } else {
            same_non_finite(got, expected)
        };
        if near { Ok(()) } else { Err(self.mismatch(what, row, None, [got, expected, bar])) }
    }

    fn same_count(&self, what: &str, got: usize, expected: usize) -> Result<(), Mismatch> {
        self.within(what, None, got as f64, expected as f64, 0.0)
    }

    fn counts(&self) -> Result<(), Mismatch> {
        let Judge { got, expected, .. } = self;
        self.same_count("number of losses", got.loss.len(), expected.loss.len())?;
        self.same_count("number of nlls", got.nll.len(), expected.nll.len())?;
        self.same_count(
            "number of smoothing parts",
            got.smoothing.len(),
            expected.smoothing.len(),
        )?;
        self.same_count("number of floors", got.floor.len(), expected.floor.len())?;
        self.same_count("number of z-losses", got.z_loss.len(), expected.z_loss.len())?;
        self.same_count("number of lses", got.lse.len(), expected.lse.len())?;
        self.same_count("number of gradient entries", got.grad.len(), expected.grad.len())?;
        self.same_count("ignored rows", got.ignored, expected.ignored)?;
        self.same_count("rows that are not finite", got.non_finite, expected.non_finite)?;
        let first = |answer: &Answer| answer.first_non_finite.map_or(-1.0, |row| row as f64);
        self.within(
            "first row that is not finite (−1: none)",
            None,
            first(got),
            first(expected),
            0.0,
        )?;
        // Rounding of z may tie what is not tied, or the other way round.
        let open = self
            .rows
            .iter()
            .zip(&self.bars)
            .flat_map(|(row, bars)| row.as_ref().zip(bars.as_ref()));
        let open =
            open.filter(|(row, bars)| bars.dz > 0.0 && gap(&row.logits) <= 2.0 * bars.dz).count();
        self.within(
            "correct rows",
            None,
            got.correct as f64,
            expected.correct as f64,
            open as f64,
        )?;
        self.within(
            "denominator",
            None,
            got.denominator,
            expected.denominator,
            8.0 * self.u * expected.denominator,
        )
    }

    fn losses(&self) -> Result<(), Mismatch> {
        let Judge { got, expected, .. } = self;
        self.reduced("loss", &got.loss, &expected.loss, |row| row.parts.loss, |bars| bars.loss)?;
        self.reduced("nll", &got.nll, &expected.nll, |row| row.parts.nll, |bars| bars.nll)?;
        self.reduced(
            "smoothing",
            &got.smoothing,
            &expected.smoothing,
            |row| row.parts.smoothing,
            |bars| bars.smoothing,
        )?;
        self.reduced(
            "floor",
            &got.floor,
            &expected.floor,
            |row| row.parts.floor,
            |bars| bars.floor,
        )?;
        self.reduced(
            "z-loss",
            &got.z_loss,
            &expected.z_loss,
            |row| row.parts.z_loss,
            |bars| bars.z_loss,
        )?;
        for (number, bars) in self.bars.iter().enumerate() {
            let bar = bars.as_ref().map_or(0.0, |bars| bars.lse);
            self.within("lse", Some(number), got.lse[number], expected.lse[number], bar)?;
        }
        Ok(())
    }

    fn reduced(
        &self,
        what: &str,
        got: &[f64],
        expected: &[f64],
        size: fn(&Row) -> f64,
        bar: fn(&RowBars) -> f64,
    ) -> Result<(), Mismatch> {
        let smallest = self.case.dtype.compute().ulp(0.0);
        let kept =
            || self.rows.iter().zip(&self.bars).map(|(row, bars)| row.as_ref().zip(bars.as_ref()));
        let bar_of = |kept: Option<(&Row, &RowBars)>| {
            kept.map_or(0.0, |(row, bars)| row.row_weight * bar(bars) + smallest)
        };
        if self.case.reduction == Reduction::None {
            for (number, kept) in kept().enumerate() {
                self.within(what, Some(number), got[number], expected[number], bar_of(kept))?;
            }
            return Ok(());
        }
        let sizes = sum(kept().flatten().map(|(row, _)| row.row_weight * size(row).abs()));
        let mut total = sum(kept().map(bar_of)) + 2.0 * self.u * sizes;
        if self.case.reduction == Reduction::Mean {
            if self.expected.denominator == 0.0 {
                return self.within(what, None, got[0], expected[0], 0.0);
            }
            total /= self.expected.denominator;
        }
        self.within(what, None, got[0], expected[0], total + smallest)
    }

    fn gradients(&self) -> Result<(), Mismatch> {
        let mut exactness = Exactness::default();
        for (number, (row, bars)) in self.rows.iter().zip(&self.bars).enumerate() {
            let positions =
                (0..self.case.class_count()).map(|class| self.case.position(number, class));
            let (Some(row), Some(bars)) = (row, bars) else {
                for (class, position) in positions.enumerate() {
                    if self.got.grad[position] != 0.0 {
                        let numbers = [self.got.grad[position], 0.0, 0.0];
                        return Err(self.mismatch(
                            "gradient of an ignored row",
                            Some(number),
                            Some(class),
                            numbers,
                        ));
                    }
                }
                continue;
            };
            let scale = (row.row_weight
                * textbook::outer_factor(self.case, number, self.expected.denominator))
            .abs();
            for (class, position) in positions.enumerate() {
                let (got, expected) = (self.got.grad[position], self.expected.grad[position]);
                let computed = bars.entry(self.case, row, class, scale, expected);
                let stored = if self.case.dtype.is_half() {
                    0.5 * self.case.dtype.ulp(expected.abs() + computed)
                } else {
                    0.0
                };
                if !self.entry_is_near(got, expected, computed + stored) {
                    return Err(self.mismatch(
                        "gradient",
                        Some(number),
                        Some(class),
                        [got, expected, computed + stored],
                    ));
                }
                if self.case.dtype.is_half() && expected.is_finite() {
                    let noise =
                        2.0 * self.u * scale * row.slope[class] * bars.larger_term(row, class);
                    exactness.count(self.case, got, expected, noise);
                }
            }
            self.row_sum(number, row, bars, scale)?;
        }
        self.mostly_exact(&exactness)
    }

    fn entry_is_near(&self, got: f64, expected: f64, bar: f64) -> bool {
        let rounded = self.case.dtype.round(expected);
        if !expected.is_finite() {
            same_non_finite(got, expected)
        } else {
            (got - expected).abs() <= bar || (rounded.is_infinite() && got == rounded)
        }
    }

    /// Only where no narrower format rounds more than this bar asks for.
    fn row_sum(
        &self,
        number: usize,
        row: &Row,
        bars: &RowBars,
        scale: f64,
    ) -> Result<(), Mismatch> {
        let case = self.case;
        if case.dtype.is_half() || case.softcap.is_some() || !row.softmax.valid {
            return Ok(());
        }
        let total = |grad: &[f64]| {
            sum((0..case.class_count()).map(|class| grad[case.position(number, class)]))
        };
        let (got, expected) = (total(&self.got.grad), total(&self.expected.grad));
        self.within("sum of the gradient", Some(number), got, expected, bars.row_sum(case, scale))
    }

    /// Halves: ≥ 99.9 % of the entries are the nearest value, where no option adds an error of its
    /// own. Two may be off in a small case.
    fn mostly_exact(&self, exactness: &Exactness) -> Result<(), Mismatch> {
        let case = self.case;
        let plain = case.upstream.is_unit()
            && case.z_loss == 0.0
            && case.softcap.is_none()
            && case.temperature.is_none();
        let (inexact, allowed) = (exactness.inexact.len(), 2 + exactness.entries / 1000);
        if plain && inexact > allowed {
            let what = format!(
                "different gradient values, of {} entries, that are not the nearest ones",
                exactness.entries
            );
            return Err(self.mismatch(&what, None, None, [inexact as f64, 0.0, allowed as f64]));
        }
        Ok(())
    }
}

/// How many entries of a half-precision gradient are the nearest value.
#[derive(Default)]
struct Exactness {
    entries: usize,
    /// Entries of the same logit err together: each value counts once.
    inexact: HashSet<u64>,
}

impl Exactness {
    /// Counts an entry. Arithmetic that is off by `noise`, a last place of f32 of the larger of p
    /// and y, cannot tell what is nearest where targets have few digits, or where p and y cancel:
    /// any nearest value of what it can reach counts as exact.
    fn count(&mut self, case: &Case, got: f64, expected: f64, noise: f64) {
        self.entries += 1;
        let reachable = case.dtype.round(expected - noise)..=case.dtype.round(expected + noise);
        if !reachable.contains(&got) {
            self.inexact.insert(expected.to_bits());
        }
    }
}

fn same_non_finite(got: f64, expected: f64) -> bool {
    (got.is_nan() && expected.is_nan()) || got == expected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::families::{CLASSES, Family, sweep_case};

    fn judged(case: &Case, change: impl Fn(&mut Answer)) -> Result<(), Mismatch> {
        let expected = textbook::evaluate(case).unwrap();
        let mut got = expected.clone().reported(case.dtype);
        change(&mut got);
        compare(case, &expected, &got)
    }

    /// However small 1/K is.
    #[test]
    fn a_gradient_of_zeros_never_passes() {
        for dtype in Dtype::ALL {
            for classes in CLASSES.into_iter().filter(|&classes| classes > 1) {
                let case = sweep_case(dtype, classes, Family::Constant, 0.0);
                assert_eq!(judged(&case, |_| {}), Ok(()));
                let mismatch = judged(&case, |got| got.grad.fill(0.0)).unwrap_err();
                assert_eq!((mismatch.what.as_str(), mismatch.row), ("gradient", Some(0)));
                // And off the target alone, where an entry is p = 1/K, unless the format cannot
                // tell that from 0.
                if dtype.round(1.0 / classes as f64) != 0.0 {
                    let only_target = |got: &mut Answer| {
                        got.grad
                            .iter_mut()
                            .filter(|entry| **entry > 0.0)
                            .for_each(|entry| *entry = 0.0)
                    };
                    assert!(judged(&case, only_target).is_err(), "{}", case.name);
                }
            }
        }
    }

    #[test]
    fn non_finite_numbers_are_met_exactly() {
        let case = Case {
            reduction: Reduction::None,
            ..Case::rows(&[&[0.0, f64::NAN], &[0.0, f64::NEG_INFINITY], &[0.0, 1.0]], &[0, 1, 1])
        };
        assert_eq!(judged(&case, |_| {}), Ok(()));
        assert!(judged(&case, |got| got.loss[0] = 0.0).is_err());
        assert!(judged(&case, |got| got.grad[1] = 0.0).is_err());
        assert!(judged(&case, |got| got.loss[1] = f64::MAX).is_err());
        assert!(judged(&case, |got| got.loss[2] = f64::NAN).is_err());
        assert!(judged(&case, |got| got.grad[5] = f64::INFINITY).is_err());
    }

    #[test]
    fn a_mismatch_says_where() {
        let case = Case { name: "mine".into(), ..Case::rows(&[&[0.0, 1.0], &[0.0, 1.0]], &[0, 1]) };
        let message = judged(&case, |got| got.grad[3] = 0.5).unwrap_err().to_string();
        assert!(
            message
                .starts_with("case \"mine\": gradient, row 1, class 1: got 5e-1, expected -1.344"),
            "{message}"
        );
    }
}
