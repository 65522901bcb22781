//! A batch under a criterion, on which the other modules of the rules work.

use std::ops::Range;

use super::denominator::Denominators;
use super::floor::FloorMemo;
use super::labels::RowLabels;
use super::row::{RowPlan, RowSource, RowTemplate};
use super::row_prior;
use super::table::{ClassTable, SharedPrior, TargetKind};
use super::transform::Transform;
use crate::targets::Probabilities;
use crate::{Batch, Criterion, EmptyMean, InputError, Instructions, Reduction, Targets};

/// A batch under a criterion: checked, with everything computed that rows share.
#[derive(Debug)]
pub struct Plan<'a> {
    pub(super) table: ClassTable<'a>,
    pub(super) labels: RowLabels<'a>,
    template: RowTemplate,
    pub(crate) denominators: Denominators,
    /// λ of the z-loss, scaled by D/D_z for a mean.
    pub(super) z_loss: f64,
}

impl<'a> Plan<'a> {
    /// Checks a batch against a criterion and logits of `rows` rows and `classes` ≥ 1 classes.
    ///
    /// # Errors
    /// [`InputError`]: the first one found, by kind and then by row.
    pub fn new(
        criterion: &'a Criterion,
        batch: &'a Batch<'a>,
        rows: usize,
        classes: usize,
    ) -> Result<Self, InputError> {
        Self::of_classes(criterion, batch, rows, classes, 0..classes)
    }

    /// The plan of a shard: of logits that have the classes `here` only, of `classes` ≥ 1 in all.
    /// Targets and everything else are those of all classes, except for the mask of allowed
    /// classes, which is of `here`. `here` is within `0..classes`.
    ///
    /// # Errors
    /// As [`new`](Self::new); and for targets that are probabilities.
    pub fn of_shard(
        criterion: &'a Criterion,
        batch: &'a Batch<'a>,
        rows: usize,
        classes: usize,
        here: Range<usize>,
    ) -> Result<Self, InputError> {
        if matches!(batch.targets, Targets::Probabilities(_)) {
            return Err(InputError::Combination(
                "targets that are probabilities of a vocabulary in shards are not supported, expected class indices or two labels",
            ));
        }
        Self::of_classes(criterion, batch, rows, classes, here)
    }

    fn of_classes(
        criterion: &'a Criterion,
        batch: &'a Batch<'a>,
        rows: usize,
        classes: usize,
        here: Range<usize>,
    ) -> Result<Self, InputError> {
        let config = &criterion.config;
        let mut labels = RowLabels::new(config, batch, rows, classes, here);
        let kind = labels.probabilities().map_or(TargetKind::Labels, |_| TargetKind::Probabilities);
        let table = ClassTable::new(criterion, classes, kind)?;
        labels.check_lengths()?;
        labels.check_rows()?;
        let template = RowTemplate::new(&table, &labels);
        let denominators = Denominators::new(&table, &labels);
        if config.reduction == Reduction::Mean
            && denominators.loss == 0.0
            && config.empty_mean == EmptyMean::Error
        {
            return Err(InputError::EmptyMean { rows, ignored: labels.ignored });
        }
        let z_loss = denominators.z_loss(config.z_loss, config.reduction);
        Ok(Self { table, labels, template, denominators, z_loss })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.labels.rows
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.labels.classes
    }

    /// The classes that the logits have: all of them, or those of a shard.
    pub fn here(&self) -> Range<usize> {
        self.labels.here.clone()
    }

    /// Number of ignored rows.
    pub fn ignored(&self) -> usize {
        self.labels.ignored
    }

    /// D, the denominator of a mean.
    pub fn denominator(&self) -> f64 {
        self.denominators.loss
    }

    /// The instruction set to compute with: that of the criterion, or else the best.
    pub(crate) fn instructions(&self) -> Instructions {
        self.table.config().instructions.unwrap_or_else(Instructions::best)
    }

    /// The table by class.
    pub fn table(&self) -> &ClassTable<'a> {
        &self.table
    }

    /// Whether the targets are probabilities: a dense vector t for each row, see
    /// [`fill_target`](Self::fill_target).
    pub fn dense_targets(&self) -> bool {
        self.labels.probabilities().is_some()
    }

    /// The targets, if they are probabilities.
    pub(crate) fn probabilities(&self) -> Option<&'a Probabilities<'a>> {
        self.labels.probabilities()
    }

    /// The transformation of the logits ([S1](crate::semantics#s1-the-transformed-logits)).
    pub fn transform(&self) -> Transform {
        let config = self.table.config();
        Transform { temperature: config.temperature, softcap: config.softcap }
    }

    /// The allowed classes of a row, one entry per class of [`here`](Self::here); `None` if all are
    /// allowed.
    pub fn allowed(&self, row: usize) -> Option<&'a [bool]> {
        self.labels.allowed(row)
    }

    /// Whether the allowed-class mask forbids a class in a row. The class is in
    /// [`here`](Self::here), the row less than [`rows`](Self::rows).
    #[inline(always)]
    pub fn forbids(&self, row: usize, class: usize) -> bool {
        self.allowed(row).is_some_and(|allowed| !allowed[class - self.labels.here.start])
    }

    /// The plan of a row, `None` if it is ignored. `row` is less than [`rows`](Self::rows).
    #[inline]
    pub fn row(&self, row: usize) -> Option<RowPlan> {
        let mut plan = RowPlan::default();
        self.row_into(row, &mut plan).then_some(plan)
    }

    /// [`row`](Self::row) written in place, because moving a plan costs more than making it.
    /// Returns `false` if the row is ignored; `plan` is then meaningless.
    #[inline]
    pub fn row_into(&self, row: usize, plan: &mut RowPlan) -> bool {
        self.source().row_into(row, plan)
    }

    #[inline(always)]
    pub(super) fn source(&self) -> RowSource<'_, 'a> {
        RowSource { table: &self.table, labels: &self.labels, template: &self.template }
    }

    /// An empty memo of the size that this batch can use.
    pub fn floor_memo(&self) -> FloorMemo {
        FloorMemo::of(&self.table)
    }

    /// The classes of rows that differ in nothing else, as [`class_fold`](Self::class_fold)
    /// reports; −1 for ignored ones.
    #[inline]
    pub(crate) fn kept_classes(&self, rows: Range<usize>, out: &mut [i32]) {
        self.labels.classes_of(rows, out);
    }

    /// Writes v of classes `start..` of a kept row, before class weights.
    pub fn fill_prior(&self, row: &RowPlan, start: usize, out: &mut [f64]) {
        match self.table.prior() {
            SharedPrior::Uniform => out.fill(1.0),
            SharedPrior::Vector(v) => out.copy_from_slice(&v[start..start + out.len()]),
            SharedPrior::PerRow => row_prior::fill(&self.table, &self.labels, row, start, out),
        }
    }

    /// Writes t of classes `start..` of a kept row with probability targets, before class weights.
    pub fn fill_target(&self, row: usize, start: usize, out: &mut [f64]) {
        self.labels.fill_target(row, start, out);
    }
}
