//! The rules: what a loss is, said once for every backend, in terms of targets and row statistics.
//!
//! A loss here is a function of a few statistics of each row, and its gradient is `α·p − γ·v − τ·t − Σ β_j δ_j` with coefficients
//! that follow from them. So a backend computes [`RowStats`], asks [`Plan::fold`] for the coefficients, and forms the gradient by one
//! formula ([`RowGradient`]); it never meets ε, a prior, a weight, a reduction or a label convention.
//!
//! ```text
//! ClassTable::new(criterion, K)          what the criterion says of a class: a line of four numbers, and the prior's v
//! Plan::new(criterion, batch, N, K)      a batch under it: everything is checked; nothing of the logits is read
//!   .row(i)            -> RowPlan        a row's coefficients; None for an ignored row. Engines reuse one: row_into
//!   the backend        -> RowStats       max, Σ e^(z−max), z at the hot classes, sums against t and v; pieces merge
//!   .fold(row, stats)  -> Folded         the row's parts and its gradient's coefficients; a task has one FloorMemo
//!   RowGradient        -> entries        one formula and its exceptions
//!   .parts()           -> Parts          takes the parts in, row by row, from as many tasks as there are
//!   .finish(parts)     -> Output         reduced
//! ```
//!
//! `examples/backend.rs` is a whole backend in a hundred lines. A backend whose numbers stay on a device uploads the [`ClassTable`]
//! and says the formulas of [`RowPlan`] and [`Plan::fold`] in its own operations, on columns of one number per row.
//!
//! # Glossary
//!
//! | | |
//! |---|---|
//! | z, m, p | transformed logits (SEMANTICS.md S1), their maximum, softmax(z) |
//! | t, u, y | a row's target before smoothing, the prior, and `y = (1−ε)·t + ε·U(t)` |
//! | v | the part of the prior that rows share, before class weights: 1 on every class for a uniform one |
//! | hot class | a class on which the target, or a correction to the prior, puts mass of its own: a label |
//! | term, whole, sigma, pi | the columns of [`ClassTable`] |
//! | rest, R | Σ e^(z−m) without the largest term; R = ln(1 + rest) = lse − m |
//! | S | Σ v_k (m − z_k): the shifted sum of a [`Functional`] |
//! | W, Y | class weight of a whole row; mass Σ y of its weighted target |
//! | α, β, γ, τ | coefficients on p, on the hot classes, on v and on a dense target: [`Coefficients`] |
//!
//! This module is exempt from the promise of stability that the rest of the crate makes: it grows with the backends.

mod check;
mod check_rows;
mod class_fold;
mod floor;
mod fold;
mod gradient;
mod labels;
mod parts;
mod probabilities;
mod reduce;
mod row;
mod row_prior;
mod stats;
pub(crate) mod sum;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use class_fold::{ClassFold, ClassFoldRows};
pub use floor::FloorMemo;
pub(crate) use floor::relative_entropy_term;
pub use fold::{Coefficients, Folded, RowParts};
pub use gradient::{ClassEntry, GradientFactors, RowGradient};
pub use parts::{Parts, PartsMut};
pub use row::{Hot, RowPlan};
pub use stats::{Functional, RowStats};
pub use table::{ClassTable, Column, SharedPrior, TargetKind};

use std::ops::Range;

use crate::targets::Probabilities;
use crate::{Batch, Criterion, EmptyMean, InputError, Reduction};
use labels::RowLabels;
use reduce::Denominators;
use row::{RowSource, RowTemplate};

/// A batch under a criterion: checked, with everything that is shared between rows worked out.
#[derive(Debug)]
pub struct Plan<'a> {
    table: ClassTable<'a>,
    labels: RowLabels<'a>,
    template: RowTemplate,
    denominators: Denominators,
    /// λ of z-loss, by its denominator.
    z_loss: f64,
}

impl<'a> Plan<'a> {
    /// Checks a batch against a criterion and logits of `rows` rows and `classes` ≥ 1 classes.
    ///
    /// # Errors
    /// [`InputError`]: the first thing found, by kind and then by row, that does not fit.
    pub fn new(criterion: &'a Criterion, batch: &'a Batch<'a>, rows: usize, classes: usize) -> Result<Self, InputError> {
        let config = &criterion.config;
        let mut labels = RowLabels::new(config, batch, rows, classes);
        let kind = labels.probabilities().map_or(TargetKind::Labels, |_| TargetKind::Probabilities);
        let table = ClassTable::new(criterion, classes, kind)?;
        labels.check_lengths()?;
        labels.check_rows()?;
        let template = RowTemplate::new(&table, &labels);
        let denominators = Denominators::new(&table, &labels);
        if config.reduction == Reduction::Mean && denominators.loss == 0.0 && config.empty_mean == EmptyMean::Error {
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

    /// Number of ignored rows.
    pub fn ignored(&self) -> usize {
        self.labels.ignored
    }

    /// What a mean divides by.
    pub fn denominator(&self) -> f64 {
        self.denominators.loss
    }

    /// What the criterion says of each class.
    pub fn table(&self) -> &ClassTable<'a> {
        &self.table
    }

    /// Whether the targets are probabilities: a dense vector t for each row, see [`fill_target`](Self::fill_target).
    pub fn dense_targets(&self) -> bool {
        self.labels.probabilities().is_some()
    }

    /// The targets, where they are probabilities.
    pub(crate) fn probabilities(&self) -> Option<&'a Probabilities<'a>> {
        self.labels.probabilities()
    }

    /// The logits' transformation (SEMANTICS.md S1).
    pub fn transform(&self) -> Transform {
        let config = self.table.config();
        Transform { temperature: config.temperature, softcap: config.softcap }
    }

    /// The allowed classes of a row, one entry per class; `None` where all are.
    pub fn allowed(&self, row: usize) -> Option<&'a [bool]> {
        self.labels.allowed(row)
    }

    /// Whether the allowed mask forbids a class in a row.
    #[inline(always)]
    pub(crate) fn forbids(&self, row: usize, class: usize) -> bool {
        self.allowed(row).is_some_and(|allowed| !allowed[class])
    }

    /// The plan of a row, `None` if it is ignored. `row` is less than [`rows`](Self::rows).
    #[inline]
    pub fn row(&self, row: usize) -> Option<RowPlan> {
        let mut plan = RowPlan::default();
        self.row_into(row, &mut plan).then_some(plan)
    }

    /// [`row`](Self::row) written over `plan`: moving one costs more than making it. `false` if the row is ignored; `plan` means nothing then.
    #[inline]
    pub fn row_into(&self, row: usize, plan: &mut RowPlan) -> bool {
        self.source().row_into(row, plan)
    }

    #[inline(always)]
    fn source(&self) -> RowSource<'_, 'a> {
        RowSource { table: &self.table, labels: &self.labels, template: &self.template }
    }

    /// The classes of rows that [`class_fold`](Self::class_fold) says are told apart by nothing else; −1 for ignored ones.
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

/// The logits' transformation: `z ← cap·tanh(z/(T·cap))`, or `z/T` without a cap. −∞ stays −∞.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Transform {
    /// T.
    pub temperature: f64,
    /// The softcap c.
    pub softcap: Option<f64>,
}

impl Transform {
    /// Whether logits stay as they are.
    pub fn is_identity(&self) -> bool {
        self.temperature == 1.0 && self.softcap.is_none()
    }

    /// The transformed logit.
    pub fn apply(&self, logit: f64) -> f64 {
        match self.softcap {
            Some(cap) if logit != f64::NEG_INFINITY => cap * (logit / self.temperature / cap).tanh(),
            _ => logit / self.temperature,
        }
    }
}
