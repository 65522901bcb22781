//! From rows to a batch: none, sum or mean. See SEMANTICS.md S6.

use super::parts::{COLUMNS, Parts};
use super::plan::Plan;
use super::sum::Sum;
use crate::output::Reduced;
use crate::{EmptyMean, Output, Real, Reduction};

impl Plan<'_> {
    /// Empty parts, with room for all rows.
    pub fn parts<F: Real>(&self) -> Parts<F> {
        let predictions = self.labels.batch.predictions;
        Parts::new(self.rows(), self.classes(), self.table.config().reduction, predictions)
    }

    /// Reduces the parts of the rows. The order of summation follows from the shape of the batch
    /// only.
    pub fn finish<F: Real>(&self, parts: Parts<F>) -> Output<F> {
        let config = self.table.config();
        let mut sums = [Sum::default(); COLUMNS];
        for group in &parts.groups {
            sums.iter_mut().zip(group.sums).for_each(|(sum, group)| sum.add(group));
        }
        let scalar =
            |sum: Sum| match (config.reduction, self.denominators.loss == 0.0, config.empty_mean) {
                (Reduction::Mean, true, EmptyMean::Zero) => 0.0,
                (Reduction::Mean, true, _) => f64::NAN,
                (Reduction::Mean, false, _) => sum.total() / self.denominators.loss,
                _ => sum.total(),
            };
        let mut columns = parts.columns.into_iter().zip(sums);
        let mut reduce = || {
            let (rows, sum) = columns.next().unwrap_or_default();
            if config.reduction == Reduction::None {
                Reduced::Rows(rows)
            } else {
                Reduced::Scalar(F::from_f64(scalar(sum)))
            }
        };
        Output {
            loss: reduce(),
            nll: reduce(),
            smoothing: reduce(),
            z_loss: reduce(),
            floor: reduce(),
            lse: parts.lse,
            predicted: parts.predictions.predicted,
            correct_rows: parts.predictions.correct,
            correct: parts.groups.iter().map(|group| group.correct as usize).sum(),
            denominator: self.denominators.loss,
            rows: self.rows(),
            ignored: self.ignored(),
            non_finite: parts.groups.iter().map(|group| group.non_finite as usize).sum(),
            first_non_finite: parts
                .groups
                .iter()
                .find(|group| group.non_finite > 0)
                .map(|group| group.first_non_finite),
        }
    }
}
