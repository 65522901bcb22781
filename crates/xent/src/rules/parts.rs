//! What rows contribute to a batch, collected by several tasks in one order.

use std::mem::take;
use std::ops::Range;

use super::class_fold::ClassFoldRows;
use super::fold::RowParts;
use crate::{Real, Reduction};

/// Loss, nll, smoothing, z-loss, floor.
pub(super) const COLUMNS: usize = 5;
/// The number of rows that are summed together: few enough for a plain sum to be as good as exact.
/// A task gets whole groups.
const GROUP: usize = 16;
/// From this number of classes on, each row is a group, so that a task may be a single row.
const LONG: usize = 2048;

/// What the rows of a batch contribute, for [`Plan::finish`](super::Plan::finish) to reduce. Made
/// by [`Plan::parts`](super::Plan::parts) with every row ignored, and filled through [`PartsMut`].
///
/// Under sum and mean only the lse of a row is stored, and its other parts are added to the sum of
/// a group of rows. Where a group begins follows from the shape of the batch, so the bits of sums
/// do not depend on how rows are assigned to tasks.
#[derive(Debug, Clone)]
pub struct Parts<F> {
    pub(super) lse: Vec<F>,
    pub(super) predictions: Predictions<Vec<i64>, Vec<bool>>,
    /// One per row if nothing is reduced, otherwise empty.
    pub(super) columns: [Vec<F>; COLUMNS],
    pub(super) groups: Vec<Group>,
    group: usize,
}

/// What rows predict, −1 where nothing is, and whether that is correct; empty if nobody asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Predictions<P, C> {
    pub(super) predicted: P,
    pub(super) correct: C,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Group {
    pub(super) sums: [f64; COLUMNS],
    pub(super) correct: u32,
    pub(super) non_finite: u32,
    pub(super) first_non_finite: usize,
}

/// A range of rows of [`Parts`], to be filled in order.
#[derive(Debug)]
pub struct PartsMut<'a, F> {
    /// The row that comes next, and the one after the last.
    next: usize,
    end: usize,
    /// The first row of `lse`, `columns` and `groups`.
    first: usize,
    lse: &'a mut [F],
    predictions: Predictions<&'a mut [i64], &'a mut [bool]>,
    columns: [&'a mut [F]; COLUMNS],
    groups: &'a mut [Group],
    shift: u32,
}

impl<F: Real> Parts<F> {
    pub(super) fn new(
        rows: usize,
        classes: usize,
        reduction: Reduction,
        predictions: bool,
    ) -> Self {
        let group = if classes < LONG { GROUP } else { 1 };
        let column = || vec![F::ZERO; if reduction == Reduction::None { rows } else { 0 }];
        Self {
            lse: vec![F::ZERO; rows],
            predictions: match predictions {
                true => Predictions { predicted: vec![-1; rows], correct: vec![false; rows] },
                false => Predictions::default(),
            },
            columns: std::array::from_fn(|_| column()),
            groups: vec![Group::default(); rows.div_ceil(group)],
            group,
        }
    }

    /// All rows, to be filled in order.
    pub fn all(&mut self) -> PartsMut<'_, F> {
        PartsMut {
            next: 0,
            end: self.lse.len(),
            first: 0,
            lse: &mut self.lse,
            predictions: Predictions {
                predicted: &mut self.predictions.predicted,
                correct: &mut self.predictions.correct,
            },
            columns: self.columns.each_mut().map(Vec::as_mut_slice),
            groups: &mut self.groups,
            shift: self.group.trailing_zeros(),
        }
    }

    /// Splits the rows into chunks, one per task, of `rows` rows or a few more, because a group is
    /// never split. The last may be shorter.
    pub fn chunks_mut(&mut self, rows: usize) -> Vec<PartsMut<'_, F>> {
        let (all, groups) = (self.lse.len(), rows.div_ceil(self.group).max(1));
        let rows = groups.saturating_mul(self.group);
        let mut chunks = Vec::with_capacity(all.div_ceil(rows));
        let mut left = self.all();
        while left.lse.len() > rows {
            chunks.push(left.split_front(rows, groups));
        }
        if all > 0 {
            chunks.push(left);
        }
        chunks
    }
}

impl<'a, F: Real> PartsMut<'a, F> {
    fn split_front(&mut self, rows: usize, groups: usize) -> Self {
        fn front<'a, T>(slice: &mut &'a mut [T], len: usize) -> &'a mut [T] {
            let len = len.min(slice.len());
            let (front, back) = take(slice).split_at_mut(len);
            *slice = back;
            front
        }
        let front = Self {
            next: self.first,
            end: self.first + rows,
            first: self.first,
            lse: front(&mut self.lse, rows),
            predictions: Predictions {
                predicted: front(&mut self.predictions.predicted, rows),
                correct: front(&mut self.predictions.correct, rows),
            },
            columns: self.columns.each_mut().map(|column| front(column, rows)),
            groups: front(&mut self.groups, groups),
            shift: self.shift,
        };
        (self.next, self.first) = (front.end, front.end);
        front
    }

    /// The rows that remain, by their index in the batch.
    pub fn rows(&self) -> Range<usize> {
        self.next..self.end
    }

    /// Adds the next row, `None` if it is ignored. Call it at most once per remaining row
    /// ([`rows`](Self::rows)).
    #[inline]
    pub fn push(&mut self, row: Option<RowParts>) {
        let number = self.next;
        self.next += 1;
        let Some(row) = row else { return };
        let i = number - self.first;
        let values = [row.loss, row.nll, row.smoothing, row.z_loss, row.floor];
        let group = &mut self.groups[i >> self.shift];
        self.lse[i] = F::from_f64(row.lse);
        if self.columns[0].is_empty() {
            group.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        } else {
            self.columns
                .iter_mut()
                .zip(values)
                .for_each(|(column, value)| column[i] = F::from_f64(value));
        }
        group.correct += u32::from(row.correct);
        if let Some(predicted) = self.predictions.predicted.get_mut(i) {
            *predicted = row.argmax.map_or(-1, |class| class as i64);
            self.predictions.correct[i] = row.correct;
        }
        if !row.loss.is_finite() {
            if group.non_finite == 0 {
                group.first_non_finite = number;
            }
            group.non_finite += 1;
        }
    }
}

impl<F: Real> PartsMut<'_, F> {
    /// Adds the first of `rows`, one for each class of `classes`, which is negative for an ignored
    /// row. All of their losses are finite.
    #[inline(always)]
    pub(crate) fn push_class_fold(&mut self, rows: &ClassFoldRows<'_>, classes: &[i32]) {
        let len = classes.len();
        let peaks = rows.argmax.iter().zip(classes);
        let correct: u32 =
            peaks.clone().map(|(peak, class)| u32::from(*peak == f64::from(*class))).sum();
        let first = self.next - self.first;
        let Predictions { predicted, correct: correct_rows } = &mut self.predictions;
        if let Some(predicted) = predicted.get_mut(first..first + len) {
            let out = predicted.iter_mut().zip(&mut correct_rows[first..]);
            for ((predicted, correct), (peak, class)) in out.zip(peaks) {
                *predicted = if *class < 0 { -1 } else { *peak as i64 };
                *correct = *peak == f64::from(*class);
            }
        }
        let columns: [&[f64]; COLUMNS] =
            [rows.loss, rows.nll, rows.smoothing, rows.z_loss, rows.floor];
        self.next += len;
        let narrow = |out: &mut [F], values: &[f64]| {
            out[first..][..len]
                .iter_mut()
                .zip(values)
                .for_each(|(out, value)| *out = F::from_f64(*value))
        };
        narrow(self.lse, rows.lse);
        if self.columns[0].is_empty() {
            let mut done = 0;
            while done < len {
                let group = (first + done) >> self.shift;
                let end = (((group + 1) << self.shift) - first).min(len);
                // By name, so that they stay in registers.
                let [mut loss, mut nll, mut smoothing, mut z_loss, mut floor] =
                    self.groups[group].sums;
                let [losses, nlls, smoothings, z_losses, floors] =
                    columns.map(|column| &column[done..end]);
                for i in 0..losses.len() {
                    loss += losses[i];
                    nll += nlls[i];
                    smoothing += smoothings[i];
                    z_loss += z_losses[i];
                    floor += floors[i];
                }
                self.groups[group].sums = [loss, nll, smoothing, z_loss, floor];
                done = end;
            }
        } else {
            self.columns.iter_mut().zip(columns).for_each(|(out, values)| narrow(out, values));
        }
        if let Some(group) = self.groups.get_mut(first >> self.shift) {
            group.correct += correct;
        }
    }
}
