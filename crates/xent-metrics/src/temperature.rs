//! The temperature at which a model's probabilities fit the labels best.
//!
//! In β = 1/T the mean negative log-likelihood is convex, with derivative `mean(E_p[z] − z_y)` and
//! second derivative `mean(Var_p[z])`. The derivative rises from `mean(mean z − z_y)` at β = 0 to
//! `mean(max z − z_y) ≥ 0` for β → ∞. So there is a minimum, and only one, unless
//!
//! - the derivative is 0 or more at β = 0: the labels' logits are on average no higher than the
//!   rest of their rows, and flat probabilities are the best;
//! - it stays below 0: every label has the largest logit of its row, and no β is too large.
//!
//! The search keeps a bracket [low, high] around the minimum. It takes a Newton step whenever that
//! stays inside; otherwise it halves the bracket, or divides or multiplies by 16 while the bracket
//! is open on that side.

use rayon::prelude::*;
use serde::Serialize;

use crate::bins::Bins;
use crate::input::{LabelledRows, Logits, Settings};
use crate::row::Reader;
use crate::sample::Sample;
use crate::sum::ExactSum;
use crate::tally::Tally;

/// How far β moves while nothing is known beyond it.
const STRIDE: f64 = 16.0;
/// A Newton step that is shorter than this share of β is the last: the error that it leaves is
/// about its square.
const LAST: f64 = 3e-6;
/// More steps than the range of f64 and its digits can ask for.
const MOST_STEPS: usize = 600;
/// The number of rows that a thread takes at a time.
const PIECE: usize = 256;

/// A temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Temperature {
    /// T; logits are divided by it. 1 if there is no optimum.
    pub value: f64,
    /// Why no temperature is the best one; none if `value` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_optimum: Option<NoOptimum>,
    /// The standard error of a fitted temperature: how far other rows from the same source would
    /// move it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// The number of rows that it was fitted to; none if it was known beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// Why no temperature is the best one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoOptimum {
    /// Every label has the largest logit of its row: the smaller the temperature, the better.
    Separable,
    /// The labels' logits are on average no higher than the rest of their rows: the larger the
    /// temperature, the better.
    WorseThanChance,
}

impl Temperature {
    /// A temperature that was known beforehand.
    pub(crate) fn known(value: f64) -> Self {
        Self { value, no_optimum: None, error: None, rows: None }
    }
}

/// The T that minimises the mean of −ln softmax(z/T)\[label\] over `rows` rows; none without rows.
/// Rows whose label has the logit −∞, which no temperature changes, are left out.
pub fn fit_temperature<'a>(
    rows: usize,
    row: &(dyn Fn(usize) -> (Logits<'a>, usize) + Sync),
) -> Option<Temperature> {
    if rows == 0 {
        return None;
    }
    let mut search = TemperatureSearch::default();
    loop {
        let temperature = search.temperature();
        let piece = |piece: usize| {
            let mut slopes = Slopes::new(temperature);
            let mut reader = Reader::default();
            for place in piece * PIECE..rows.min((piece + 1) * PIECE) {
                let (logits, label) = row(place);
                slopes.add(&mut reader, logits, label);
            }
            slopes
        };
        let merge = |mut slopes: Slopes, other: Slopes| {
            slopes.merge(&other);
            slopes
        };
        let slopes = (0..rows.div_ceil(PIECE))
            .into_par_iter()
            .map(piece)
            .reduce(|| Slopes::new(temperature), merge);
        if let Some(found) = search.step(&slopes) {
            return Some(found);
        }
    }
}

/// The search for the temperature, one pass over all rows at a time: compute the [`Slopes`] of all
/// rows at [`temperature`](Self::temperature) and take a [`step`](Self::step), until it returns the
/// result.
#[derive(Debug, Clone)]
pub struct TemperatureSearch {
    low: f64,
    high: f64,
    beta: f64,
    steps: usize,
}

impl Default for TemperatureSearch {
    fn default() -> Self {
        Self::from(1.0)
    }
}

impl TemperatureSearch {
    /// Starts at a temperature that is near the result, such as that of a part of the rows.
    pub fn from(temperature: f64) -> Self {
        Self { low: 0.0, high: f64::INFINITY, beta: 1.0 / temperature, steps: 0 }
    }

    /// The temperature at which the slopes are needed.
    pub fn temperature(&self) -> f64 {
        1.0 / self.beta
    }

    /// Takes the slopes of all rows at [`temperature`](Self::temperature); returns the result if
    /// they are enough.
    pub fn step(&mut self, slopes: &Slopes) -> Option<Temperature> {
        let rows = slopes.rows as f64;
        let none = |why| Temperature {
            value: 1.0,
            no_optimum: Some(why),
            error: None,
            rows: Some(slopes.all_rows),
        };
        if slopes.rows == 0 || slopes.at_zero.value() >= 0.0 {
            return Some(none(NoOptimum::WorseThanChance));
        }
        if slopes.behind == 0 {
            return Some(none(NoOptimum::Separable));
        }
        let (slope, curvature) = (slopes.first.value() / rows, slopes.second.value() / rows);
        if slope > 0.0 {
            self.high = self.beta;
        } else {
            self.low = self.beta;
        }
        let newton = self.beta - slope / curvature;
        let inside = newton >= self.low && newton <= self.high;
        // Far from the minimum a Newton step may be long beyond all measure.
        let next = match (self.low == 0.0, self.high == f64::INFINITY) {
            _ if inside && newton >= self.beta / STRIDE && newton <= self.beta * STRIDE => newton,
            (true, _) => self.beta / STRIDE,
            (_, true) => self.beta * STRIDE,
            _ => 0.5 * (self.low + self.high),
        };
        let moved = (next - self.beta).abs() / self.beta;
        self.beta = next;
        self.steps += 1;
        if moved > if inside { LAST } else { f64::EPSILON } && self.steps < MOST_STEPS {
            return None;
        }
        let spread = (slopes.squares.value() / rows - slope * slope).max(0.0).sqrt();
        let error = spread / (curvature * rows.sqrt()) / (next * next);
        Some(Temperature {
            value: 1.0 / next,
            no_optimum: None,
            error: error.is_finite().then_some(error),
            rows: Some(slopes.all_rows),
        })
    }
}

/// What a step of a [`TemperatureSearch`] needs of all rows, at one temperature. The sums are
/// exact, so they have the same bits in any order and on any number of threads.
#[derive(Debug, Clone)]
pub struct Slopes {
    beta: f64,
    all_rows: u64,
    /// Rows whose label has a finite logit; all sums are over these.
    rows: u64,
    first: ExactSum,
    second: ExactSum,
    /// Of the squares of the first derivatives.
    squares: ExactSum,
    at_zero: ExactSum,
    /// The number of rows whose label has not the largest logit.
    behind: u64,
}

impl Slopes {
    /// Of no rows.
    pub fn new(temperature: f64) -> Self {
        Self {
            beta: 1.0 / temperature,
            all_rows: 0,
            rows: 0,
            first: ExactSum::default(),
            second: ExactSum::default(),
            squares: ExactSum::default(),
            at_zero: ExactSum::default(),
            behind: 0,
        }
    }

    /// Adds a row; one that is not finite is left out.
    pub(crate) fn add(&mut self, reader: &mut Reader, logits: Logits<'_>, label: usize) {
        let Ok(row) = reader.slopes(logits, label, self.beta) else { return };
        self.all_rows += 1;
        if row.behind.is_finite() {
            self.rows += 1;
            self.first.add(row.first);
            self.second.add(row.second);
            self.squares.add(row.first * row.first);
            self.at_zero.add(row.at_zero);
            self.behind += u64::from(row.behind > 0.0);
        }
    }

    /// Adds rows, leaving out those that an [`Evaluation`](crate::Evaluation) with these settings
    /// leaves out.
    pub fn add_rows(&mut self, reader: &mut Reader, rows: &LabelledRows<'_>, settings: &Settings) {
        rows.evaluated(settings).for_each(|(_, logits, label)| self.add(reader, logits, label));
    }

    /// Adds the sums of other rows, at the same temperature.
    pub fn merge(&mut self, other: &Self) {
        self.all_rows += other.all_rows;
        self.rows += other.rows;
        self.first.merge(&other.first);
        self.second.merge(&other.second);
        self.squares.merge(&other.squares);
        self.at_zero.merge(&other.at_zero);
        self.behind += other.behind;
    }
}

impl Sample {
    /// The sums of all retained rows at a temperature. Mistakes are left out, because the rows'
    /// numbers are not known here.
    pub(crate) fn tally(&self, temperature: f64, bins: Bins) -> Tally {
        let empty = || (Tally::new(self.classes(), bins), Reader::default());
        let add = |(mut tally, mut reader): (Tally, Reader), place: usize| {
            let (logits, label) = self.row(place);
            if let Ok(row) = reader.read(logits, label, temperature) {
                tally.add_unnamed(&reader, &row, label);
            }
            (tally, reader)
        };
        let pieces = self.len().div_ceil(rayon::current_num_threads().max(1)).max(1);
        let tallies = (0..self.len())
            .into_par_iter()
            .with_min_len(pieces)
            .fold(empty, add)
            .map(|(tally, _)| tally);
        tallies.reduce(
            || Tally::new(self.classes(), bins),
            |mut tally, other| {
                tally.merge(&other);
                tally
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fit(logits: &[f64], classes: usize, labels: &[usize]) -> Temperature {
        fit_temperature(labels.len(), &|row| {
            (Logits::F64(&logits[row * classes..(row + 1) * classes]), labels[row])
        })
        .unwrap()
    }

    fn nll(logits: &[f64], classes: usize, labels: &[usize], temperature: f64) -> f64 {
        let mut reader = Reader::default();
        let rows = logits.chunks(classes).zip(labels);
        rows.map(|(row, label)| reader.read(Logits::F64(row), *label, temperature).unwrap().nll)
            .sum::<f64>()
            / labels.len() as f64
    }

    /// Rows (0, z) of two classes of which a share is right: the best β makes sigmoid(βz) that
    /// share.
    #[test]
    fn by_hand() {
        let fitted = fit(&[0.0, 2.0].repeat(4), 2, &[1, 1, 1, 0]);
        assert!((fitted.value - 2.0 / 3f64.ln()).abs() < 1e-11, "{fitted:?}");
        // The derivative of a row is 2σ − 2·right, with σ = ¾: its sd is 2·√(¾·¼), and the second
        // derivative 4·¾·¼.
        let error = (0.75f64 * 0.25).sqrt() * 2.0 / (4.0 * 0.75 * 0.25) / 2.0;
        let error = error * fitted.value * fitted.value;
        assert!((fitted.error.unwrap() / error - 1.0).abs() < 1e-6, "{fitted:?} {error}");
    }

    #[test]
    fn the_search_goes_as_far_as_the_minimum() {
        for scale in [1e-200, 1e-30, 0.003, 1.0, 400.0, 1e30, 1e200] {
            let rows = [0.0, 2.0 * scale].repeat(4);
            let fitted = fit(&rows, 2, &[1, 1, 1, 0]);
            assert_eq!(fitted.no_optimum, None);
            assert!((fitted.value / scale * 3f64.ln() / 2.0 - 1.0).abs() < 1e-11, "{fitted:?}");
        }
    }

    #[test]
    fn where_there_is_no_minimum_the_reason_is_given() {
        let fitted = |labels: [usize; 4]| fit(&[0.0, 2.0].repeat(4), 2, &labels);
        let found = |labels| (fitted(labels).value, fitted(labels).no_optimum);
        assert_eq!(found([1; 4]), (1.0, Some(NoOptimum::Separable)));
        assert_eq!(found([0; 4]), (1.0, Some(NoOptimum::WorseThanChance)));
        assert_eq!(found([0, 0, 1, 1]), (1.0, Some(NoOptimum::WorseThanChance)));
        // Some labels have the largest logit, but most of the others are far behind.
        assert_eq!(found([0, 0, 0, 1]), (1.0, Some(NoOptimum::WorseThanChance)));
        // Masked classes are not among the rest of a row; a label that ties has the largest logit.
        let masked = [f64::NEG_INFINITY, 1.0, 0.0, f64::NEG_INFINITY, 0.0, 0.0];
        assert_eq!(fit(&masked, 3, &[1, 2]).no_optimum, Some(NoOptimum::Separable));
        assert_eq!(fit(&masked, 3, &[0, 2]).no_optimum, Some(NoOptimum::WorseThanChance));
        assert_eq!(fit_temperature(0, &|_| (Logits::F64(&[]), 0)), None);
    }

    proptest! {
        #[test]
        fn scaling_the_logits_scales_the_temperature(values in prop::collection::vec(-3.0..3.0f64, 60), labels in prop::collection::vec(0..3usize, 20), scale in -9.0..9.0f64) {
            let scale = scale.exp();
            let scaled: Vec<f64> = values.iter().map(|z| z / scale).collect();
            let (one, other) = (fit(&values, 3, &labels), fit(&scaled, 3, &labels));
            prop_assert_eq!(one.no_optimum, other.no_optimum);
            if one.no_optimum.is_none() {
                prop_assert!((one.value / scale / other.value - 1.0).abs() < 1e-8, "{one:?} {other:?}");
            }
        }

        #[test]
        fn no_other_temperature_is_better(values in prop::collection::vec(-3.0..3.0f64, 60), labels in prop::collection::vec(0..3usize, 20), other in 0.01..100.0f64) {
            let fitted = fit(&values, 3, &labels);
            let best = nll(&values, 3, &labels, match fitted.no_optimum {
                None => fitted.value,
                Some(NoOptimum::Separable) => 1e-9,
                Some(NoOptimum::WorseThanChance) => 1e9,
            });
            prop_assert!(best <= nll(&values, 3, &labels, other) + 1e-8);
        }
    }
}
