//! Checks of per-row options. Fast passes over one slice at a time find that nothing is wrong. If
//! something may be wrong, a slow walk by rows finds out what.

use super::labels::RowLabels;
use crate::targets::{ClassIndices, Lambda};
use crate::{InputError, RowOption, Targets};

/// The number of rows whose labels are checked together.
const BLOCK: usize = 256;

impl RowLabels<'_> {
    /// Checks the per-row options of the kept rows, and counts the ignored rows.
    pub(super) fn check_rows(&mut self) -> Result<(), InputError> {
        let labels = self.check_labels();
        let within = |values: Option<&[f64]>, max: f64| {
            values.is_none_or(|values| {
                values.iter().fold(true, |good, &v| good & (v >= 0.0) & (v <= max))
            })
        };
        if !(labels
            && within(self.epsilons, 1.0)
            && within(self.row_weights, f64::MAX)
            && within(self.lambdas, 1.0))
        {
            (0..self.rows).try_for_each(|row| self.check_row(row))?;
        }
        match &self.batch.targets {
            Targets::Mix { lambda: Lambda::Scalar(lambda), .. }
                if !(0.0..=1.0).contains(lambda) =>
            {
                Err(InputError::Number { name: "λ", value: *lambda, expected: "0 ≤ λ ≤ 1" })
            }
            Targets::Probabilities(probabilities) => self.check_probabilities(probabilities),
            _ => Ok(()),
        }
    }

    /// Whether every label that is read is certainly a class or an ignore index. Counts the ignored
    /// rows.
    fn check_labels(&mut self) -> bool {
        let (ignore, mask) = (self.ignore, self.batch.ignored);
        let labels: [Option<&ClassIndices<'_>>; 2] = match &self.batch.targets {
            Targets::Classes(indices) => [Some(indices), None],
            Targets::Mix { a, b, .. } => [Some(a), Some(b)],
            Targets::Probabilities(_) => {
                self.ignored = mask.map_or(0, count);
                return true;
            }
        };
        let labels = labels.into_iter().flatten();
        let (good, ignored) = match (ignore, mask) {
            ([], None) => (labels.clone().all(|indices| indices.all_below(self.classes)), 0),
            ([one], _) => self.check_blocks(labels, |label| label == *one),
            _ => self.check_blocks(labels, |label| ignore.contains(&label)),
        };
        self.ignored = ignored;
        good
    }

    /// [`check_labels`](Self::check_labels) with masks and ignore indices: whether all labels are
    /// valid, and how many rows are ignored.
    #[inline]
    fn check_blocks<'l>(
        &self,
        labels: impl Iterator<Item = &'l ClassIndices<'l>> + Clone,
        ignore: impl Fn(i64) -> bool,
    ) -> (bool, usize) {
        let (mut unknown, mut ignored) = (false, 0);
        let mut label = [0; BLOCK];
        for start in (0..self.rows).step_by(BLOCK) {
            let rows = start..self.rows.min(start + BLOCK);
            let label = &mut label[..rows.len()];
            let (mut masked, mut out) = ([false; BLOCK], [false; BLOCK]);
            if let Some(mask) = self.batch.ignored {
                masked[..label.len()].copy_from_slice(&mask[rows]);
                out = masked;
            }
            for indices in labels.clone() {
                indices.widen(start, label);
                for ((&label, &masked), out) in label.iter().zip(&masked).zip(&mut out) {
                    let ignore = ignore(label);
                    // A negative label is a huge number here.
                    unknown |= (label as u64 >= self.classes as u64) & !ignore & !masked;
                    *out |= ignore;
                }
            }
            ignored += count(&out[..label.len()]);
        }
        (!unknown, ignored)
    }

    /// Checks all per-row options of one row.
    fn check_row(&self, row: usize) -> Result<(), InputError> {
        self.check_row_labels(row)?;
        if self.is_ignored(row) {
            return Ok(());
        }
        let value = |option, value: f64, good: bool, expected| {
            if good { Ok(()) } else { Err(InputError::RowValue { option, row, value, expected }) }
        };
        if let Some(epsilon) = self.epsilons.map(|epsilon| epsilon[row]) {
            value(RowOption::LabelSmoothing, epsilon, (0.0..=1.0).contains(&epsilon), "0 ≤ ε ≤ 1")?;
        }
        if let Some(weight) = self.row_weights.map(|weights| weights[row]) {
            value(
                RowOption::Weight,
                weight,
                weight.is_finite() && weight >= 0.0,
                "a finite number ≥ 0",
            )?;
        }
        if let Some(lambda) = self.lambdas {
            value(RowOption::Lambda, lambda[row], (0.0..=1.0).contains(&lambda[row]), "0 ≤ λ ≤ 1")?;
        }
        Ok(())
    }

    fn check_row_labels(&self, row: usize) -> Result<(), InputError> {
        if self.batch.ignored.is_some_and(|ignored| ignored[row]) {
            return Ok(());
        }
        let check = |indices: &ClassIndices<'_>| {
            let value = indices.get(row);
            let known = usize::try_from(value).is_ok_and(|class| class < self.classes)
                || self.ignore.contains(&value);
            if known {
                Ok(())
            } else {
                Err(InputError::Class { row, value, classes: self.classes })
            }
        };
        match &self.batch.targets {
            Targets::Classes(indices) => check(indices),
            Targets::Mix { a, b, .. } => check(a).and_then(|()| check(b)),
            Targets::Probabilities(_) => Ok(()),
        }
    }
}

/// The number of `true` entries, summed as bytes.
fn count(flags: &[bool]) -> usize {
    flags
        .chunks(255)
        .map(|flags| usize::from(flags.iter().fold(0u8, |count, &flag| count + u8::from(flag))))
        .sum()
}
