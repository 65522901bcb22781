//! Checks that each target probability is a finite number ≥ 0. There are as many as logits, so the
//! check must run at memory speed.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::labels::RowLabels;
use crate::targets::{Probabilities, with_probabilities};
use crate::threads::{Stop, on_threads, threads};
use crate::{Element, InputError, Rows};

/// The number of elements that are worth a task.
const GRAIN: usize = 1 << 15;

impl RowLabels<'_> {
    pub(super) fn check_probabilities(
        &self,
        probabilities: &Probabilities<'_>,
    ) -> Result<(), InputError> {
        let good = with_probabilities!(probabilities, rows => self.are_probabilities(rows));
        if good { Ok(()) } else { self.find_bad_probability() }
    }

    /// Whether all probabilities of kept rows are certainly valid.
    fn are_probabilities<P: Element>(&self, rows: &Rows<'_, P>) -> bool {
        let (data, layout) = (rows.data(), rows.layout());
        // Most views cover their whole buffer, in some order. If the buffer has an invalid element,
        // it may lie outside the view or in an ignored row: that is not decided here.
        if self.batch.ignored.is_none() && data.len() == self.rows.saturating_mul(self.classes) {
            return all(data.len(), GRAIN, |elements| all_good(&data[elements]));
        }
        all(self.rows, (GRAIN / self.classes).max(1), |range| {
            range.into_iter().filter(|&row| !self.is_ignored(row)).all(|row| {
                let start = layout.row_start(row);
                match layout.class_stride {
                    1 => all_good(&data[start as usize..][..self.classes]),
                    stride => (0..self.classes as isize).fold(true, |good, k| {
                        good & data[(start + k * stride) as usize].is_probability()
                    }),
                }
            })
        })
    }

    /// The first invalid class of the first row that has one.
    fn find_bad_probability(&self) -> Result<(), InputError> {
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
}

/// Checks piece by piece. A piece has no branch, so it is vectorised, and an invalid element still
/// ends the check early.
fn all_good<P: Element>(values: &[P]) -> bool {
    values
        .chunks(1024)
        .all(|values| values.iter().fold(true, |good, value| good & value.is_probability()))
}

/// Whether `check` holds for ranges of `grain` that cover `0..len`.
fn all(len: usize, grain: usize, check: impl Fn(Range<usize>) -> bool + Sync) -> bool {
    let pieces = len.div_ceil(grain);
    let (next, good) = (AtomicUsize::new(0), AtomicBool::new(true));
    let stop = Stop::of_this_call();
    on_threads(threads().min(pieces), &|| {
        while good.load(Relaxed) && !stop.is_set() {
            let first = next.fetch_add(1, Relaxed) * grain;
            if first >= len {
                break;
            }
            if !check(first..len.min(first + grain)) {
                good.store(false, Relaxed);
            }
        }
    });
    good.into_inner()
}
