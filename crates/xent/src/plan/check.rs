//! Everything of a batch that can be wrong, found before anything is written.

use super::Plan;
use crate::targets::{ClassIndices, Lambda, with_probabilities};
use crate::{AllowedClasses, InputError, Prior, RowOption, Targets};

impl Plan<'_> {
    /// Lengths, shapes and the options that go together.
    pub(super) fn check_lengths(&mut self) -> Result<(), InputError> {
        let (rows, classes) = (self.rows, self.classes);
        let config = &self.criterion.config;
        let a_row = |name, len: usize| length(name, len, rows, "one a row");
        let a_class = |name, len: usize| length(name, len, classes, "one a class");

        if let Some(weights) = &config.class_weights {
            a_class("class weights", weights.len())?;
        }
        match &config.prior {
            Prior::Fixed(u) => a_class("the prior", u.len())?,
            Prior::ByTrueClass(matrix) => a_class("the prior matrix's side", matrix.classes())?,
            Prior::Excluding(excluded) => {
                if let Some(&class) = excluded.iter().find(|&&class| class >= classes) {
                    return Err(InputError::NoSuchClass { name: "the prior's list of excluded classes", class, classes });
                }
                self.excluded = excluded.clone();
                self.excluded.sort_unstable();
                self.excluded.dedup();
            }
            Prior::Uniform | Prior::WrongClasses => {}
        }
        match &self.batch.targets {
            Targets::Classes(indices) => a_row("targets", indices.len())?,
            Targets::Mix { a, b, lambda } => {
                a_row("the first labels", a.len())?;
                a_row("the second labels", b.len())?;
                if let Lambda::Rows(lambda) = lambda {
                    a_row("λ", lambda.len())?;
                }
            }
            Targets::Probabilities(probabilities) => {
                let shape = with_probabilities!(probabilities, rows => (rows.rows(), rows.classes()));
                if shape != (rows, classes) {
                    let (rows, classes) = shape;
                    return Err(InputError::Shape {
                        name: "the target probabilities",
                        rows,
                        classes,
                        expected_rows: self.rows,
                        expected_classes: self.classes,
                    });
                }
                if !config.ignore.is_empty() {
                    return Err(InputError::Combination(
                        "probability targets have no index to ignore: expected no ignore index, or a mask of ignored rows instead",
                    ));
                }
            }
        }
        if let Some(epsilon) = self.batch.epsilon {
            a_row("ε", epsilon.len())?;
        }
        if let Some(weights) = self.batch.row_weights {
            a_row("row weights", weights.len())?;
        }
        if let Some(ignored) = self.batch.ignored {
            a_row("the mask of ignored rows", ignored.len())?;
        }
        match self.batch.allowed {
            Some(AllowedClasses::Shared(allowed)) => a_class("the mask of allowed classes", allowed.len())?,
            Some(AllowedClasses::PerRow(allowed)) => {
                // Rows and classes are those of a view that exists, but a broadcast one may have more positions than there are elements.
                length("the mask of allowed classes", allowed.len(), rows.saturating_mul(classes), "one a row and class")?;
            }
            None => {}
        }
        match self.batch.denominator {
            Some(given) if !(given.is_finite() && given > 0.0) => {
                Err(InputError::Number { name: "the given denominator", value: given, expected: "a finite number > 0" })
            }
            _ => Ok(()),
        }
    }

    /// What is given a row, for the rows that are kept.
    pub(super) fn check_rows(&self) -> Result<(), InputError> {
        for row in 0..self.rows {
            self.check_row_labels(row)?;
            if self.is_ignored(row) {
                continue;
            }
            let value = |option, value: f64, good: bool, expected| if good { Ok(()) } else { Err(InputError::RowValue { option, row, value, expected }) };
            if let Some(epsilon) = self.batch.epsilon.map(|epsilon| epsilon[row]) {
                value(RowOption::LabelSmoothing, epsilon, (0.0..=1.0).contains(&epsilon), "0 ≤ ε ≤ 1")?;
            }
            if let Some(weight) = self.batch.row_weights.map(|weights| weights[row]) {
                value(RowOption::Weight, weight, weight.is_finite() && weight >= 0.0, "a finite number ≥ 0")?;
            }
            if let Targets::Mix { lambda: Lambda::Rows(lambda), .. } = self.batch.targets {
                value(RowOption::Lambda, lambda[row], (0.0..=1.0).contains(&lambda[row]), "0 ≤ λ ≤ 1")?;
            }
        }
        match &self.batch.targets {
            Targets::Mix { lambda: Lambda::Scalar(lambda), .. } if !(0.0..=1.0).contains(lambda) => {
                Err(InputError::Number { name: "λ", value: *lambda, expected: "0 ≤ λ ≤ 1" })
            }
            Targets::Probabilities(_) => self.check_probabilities(),
            _ => Ok(()),
        }
    }

    fn check_row_labels(&self, row: usize) -> Result<(), InputError> {
        if self.batch.ignored.is_some_and(|ignored| ignored[row]) {
            return Ok(());
        }
        let check = |indices: &ClassIndices<'_>| {
            let value = indices.get(row);
            let known = usize::try_from(value).is_ok_and(|class| class < self.classes) || self.criterion.config.ignore.contains(&value);
            if known { Ok(()) } else { Err(InputError::Class { row, value, classes: self.classes }) }
        };
        match &self.batch.targets {
            Targets::Classes(indices) => check(indices),
            Targets::Mix { a, b, .. } => check(a).and_then(|()| check(b)),
            Targets::Probabilities(_) => Ok(()),
        }
    }

    fn check_probabilities(&self) -> Result<(), InputError> {
        for row in (0..self.rows).filter(|&row| !self.is_ignored(row)) {
            let mut bad = None;
            self.for_each_probability(row, |class, value| {
                if bad.is_none() && !(value.is_finite() && value >= 0.0) {
                    bad = Some(InputError::Probability { row, class, value });
                }
            });
            if let Some(error) = bad {
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn is_ignored(&self, row: usize) -> bool {
        let ignore = &self.criterion.config.ignore;
        let by_index = |indices: &ClassIndices<'_>| !ignore.is_empty() && ignore.contains(&indices.get(row));
        self.batch.ignored.is_some_and(|ignored| ignored[row])
            || match &self.batch.targets {
                Targets::Classes(indices) => by_index(indices),
                Targets::Mix { a, b, .. } => by_index(a) || by_index(b),
                Targets::Probabilities(_) => false,
            }
    }
}

fn length(name: &'static str, len: usize, expected: usize, what: &'static str) -> Result<(), InputError> {
    if len == expected { Ok(()) } else { Err(InputError::Length { name, len, expected, what }) }
}
