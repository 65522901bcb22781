//! Checks of a batch as a whole: lengths, shapes and combinations of options.

use super::labels::RowLabels;
use crate::targets::{Lambda, with_probabilities};
use crate::{AllowedClasses, InputError, Targets};

impl RowLabels<'_> {
    /// Checks lengths, shapes, and that the options are compatible.
    pub(super) fn check_lengths(&self) -> Result<(), InputError> {
        // Masks come with the logits, so that those of a shard are of its classes.
        let (rows, classes) = (self.rows, self.here.len());
        let a_row = |name, len: usize| length(name, len, rows, "one per row");
        let a_class = |name, len: usize| length(name, len, classes, "one per class");

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
                let shape =
                    with_probabilities!(probabilities, rows => (rows.rows(), rows.classes()));
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
                if !self.ignore.is_empty() {
                    return Err(InputError::Combination(
                        "probability targets have no index to ignore: expected no ignore index, or a mask of ignored rows instead",
                    ));
                }
            }
        }
        if let Some(epsilon) = self.epsilons {
            a_row("ε", epsilon.len())?;
        }
        if let Some(weights) = self.row_weights {
            a_row("row weights", weights.len())?;
        }
        if let Some(ignored) = self.batch.ignored {
            a_row("the mask of ignored rows", ignored.len())?;
        }
        match self.batch.allowed {
            Some(AllowedClasses::Shared(allowed)) => {
                a_class("the mask of allowed classes", allowed.len())?
            }
            Some(AllowedClasses::PerRow(allowed)) => {
                // Rows and classes are those of a view that exists, but a broadcast one may have
                // more positions than there are elements.
                length(
                    "the mask of allowed classes",
                    allowed.len(),
                    rows.saturating_mul(classes),
                    "one per row and class",
                )?;
            }
            None => {}
        }
        match self.batch.denominator {
            Some(given) if !(given.is_finite() && given > 0.0) => Err(InputError::Number {
                name: "the given denominator",
                value: given,
                expected: "a finite number > 0",
            }),
            _ => Ok(()),
        }
    }
}

fn length(
    name: &'static str,
    len: usize,
    expected: usize,
    what: &'static str,
) -> Result<(), InputError> {
    if len == expected { Ok(()) } else { Err(InputError::Length { name, len, expected, what }) }
}
