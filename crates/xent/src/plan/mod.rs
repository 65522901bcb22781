//! The semantics, folded: what a backend needs to know of a batch, and nothing of why.
//!
//! A loss here is a function of a few statistics of each row, and its gradient is `α·softmax(z) − τ·t − γ·v − Σ β_j δ_j` with scalars that follow from them. So a
//! backend computes [`RowStats`], asks [`Plan::fold`] for the scalars, and writes the gradient; it never meets ε, a prior, a weight, a reduction or a label convention.
//!
//! ```text
//! Plan::new(criterion, batch, N, K)      everything is checked; nothing of the logits is read
//!   .row(i)            -> RowPlan        hot classes, ε, scales; None for an ignored row. Engines reuse one: row_into
//!   the backend        -> RowStats       max, Σ e^(z−max), z at the hot classes, sums against t and v
//!   .fold(row, stats)  -> Folded         the row's parts and its gradient's scalars; a task has one FloorMemo
//!   .parts()           -> Parts          takes them in, row by row, from as many tasks as there are
//!   .finish(parts)     -> Output         reduced
//! ```

mod alike;
mod check;
mod check_rows;
mod floor;
mod fold;
mod parts;
mod prior;
mod probabilities;
mod row;
mod stats;
#[cfg(test)]
mod tests;

pub(crate) use alike::{Alike, AlikeRows};
pub use floor::FloorMemo;
pub(crate) use floor::relative_entropy_term;
pub use fold::{Folded, RowGradient, RowParts};
pub use parts::{Parts, PartsMut};
pub use prior::SharedPrior;
pub use row::{Hot, RowPlan};
pub use stats::{Functional, RowStats};

use crate::targets::{Lambda, Probabilities, with_probabilities};
use crate::{AllowedClasses, Batch, ClassIndices, ClassWeighting, Criterion, Element, EmptyMean, InputError, Masked, Real, Reduction, Targets, Upstream};

/// A batch under a criterion: checked, with everything that is shared between rows worked out.
#[derive(Debug)]
pub struct Plan<'a> {
    criterion: &'a Criterion,
    batch: &'a Batch<'a>,
    rows: usize,
    classes: usize,
    /// `Excluding`'s classes, once each, in order.
    excluded: Vec<usize>,
    prior: SharedPrior<'a>,
    /// Σ v and Σ v ln v of the shared prior after class weights; not summed where v is 1.
    shared_mass: f64,
    shared_xlogx: f64,
    denominator: f64,
    ignored: usize,
    /// Ignore indices that are classes.
    ignored_classes: Vec<usize>,
    /// The batch's, if they are class indices.
    labels: Option<ClassIndices<'a>>,
    /// What the batch gives per row, as slices: ε, weights, λ.
    epsilons: Option<&'a [f64]>,
    row_weights: Option<&'a [f64]>,
    lambdas: Option<&'a [f64]>,
    /// What rows have in common; and for those whose class the prior excludes, its scale and what it puts on that class.
    template: RowPlan,
    of_excluded: (Option<f64>, f64),
    /// Whether anything but the class is particular to a row of class indices.
    rows_differ: bool,
    // What follows from the configuration, and is asked for in every row.
    dense: bool,
    uniform: bool,
    renormalises: bool,
    /// Whether floors follow from scalars in rows that v has a share in.
    closed_floors: bool,
}

impl<'a> Plan<'a> {
    /// Checks a batch against a criterion and logits of `rows` rows and `classes` ≥ 1 classes.
    ///
    /// # Errors
    /// [`InputError`]: the first thing found, by kind and then by row, that does not fit.
    pub fn new(criterion: &'a Criterion, batch: &'a Batch<'a>, rows: usize, classes: usize) -> Result<Self, InputError> {
        let config = &criterion.config;
        let mut plan = Self {
            criterion,
            batch,
            rows,
            classes,
            excluded: Vec::new(),
            prior: SharedPrior::Uniform,
            shared_mass: 0.0,
            shared_xlogx: 0.0,
            denominator: 0.0,
            ignored: 0,
            ignored_classes: config.ignore_indices.iter().filter_map(|&index| usize::try_from(index).ok().filter(|&class| class < classes)).collect(),
            labels: None,
            epsilons: batch.epsilon.as_deref(),
            row_weights: batch.row_weights.as_deref(),
            lambdas: match &batch.targets {
                Targets::Mix { lambda: Lambda::Rows(lambda), .. } => Some(lambda),
                _ => None,
            },
            template: RowPlan::default(),
            of_excluded: (None, 0.0),
            rows_differ: true,
            dense: matches!(batch.targets, Targets::Probabilities(_)),
            uniform: false,
            renormalises: config.masked == Masked::Renormalise,
            closed_floors: false,
        };
        plan.check_lengths()?;
        plan.bind_prior();
        plan.check_rows()?;
        plan.prepare_rows();
        plan.denominator = plan.count_denominator();
        let empty = config.reduction == Reduction::Mean && plan.denominator == 0.0;
        if empty && config.empty_mean == EmptyMean::Error {
            return Err(InputError::EmptyMean { rows, ignored: plan.ignored });
        }
        Ok(plan)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of ignored rows.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// What a mean divides by.
    pub fn denominator(&self) -> f64 {
        self.denominator
    }

    /// Whether the targets are probabilities: a dense vector t for each row, see [`fill_target`](Self::fill_target).
    pub fn dense_targets(&self) -> bool {
        self.dense
    }

    /// The targets, where they are probabilities.
    pub(crate) fn probabilities(&self) -> Option<&'a Probabilities<'a>> {
        match &self.batch.targets {
            Targets::Probabilities(probabilities) => Some(probabilities),
            _ => None,
        }
    }

    /// The part of the prior that rows share, before class weights.
    pub fn shared_prior(&self) -> &SharedPrior<'a> {
        &self.prior
    }

    /// Whether v is 1 on every class, after class weights too, and needs no memory.
    pub fn uniform_prior(&self) -> bool {
        self.uniform
    }

    /// Whether masked classes are taken out of the prior (before [`RowStats`] are summed) and their gradients are exactly 0.
    pub fn renormalises(&self) -> bool {
        self.renormalises
    }

    /// The weights by which v and dense targets are multiplied, class by class.
    pub fn class_weights(&self) -> Option<&'a [f64]> {
        let config = &self.criterion.config;
        config.class_weights.as_deref().filter(|_| config.class_weighting == ClassWeighting::PerClass)
    }

    /// 1/T and the softcap of the logits' transformation (SEMANTICS.md S1).
    pub fn transform(&self) -> Transform {
        Transform { temperature: self.criterion.config.temperature, softcap: self.criterion.config.softcap }
    }

    /// The allowed classes of a row, one entry a class; `None` where all are.
    pub fn allowed(&self, row: usize) -> Option<&'a [bool]> {
        match self.batch.allowed? {
            AllowedClasses::Shared(allowed) => Some(allowed),
            AllowedClasses::PerRow(allowed) => Some(&allowed[row * self.classes..][..self.classes]),
        }
    }

    /// Writes t of classes `start..` of a kept row with probability targets, before class weights.
    pub fn fill_target(&self, row: usize, start: usize, out: &mut [f64]) {
        if let Targets::Probabilities(probabilities) = &self.batch.targets {
            with_probabilities!(probabilities, rows => fill_probabilities(rows, row, start, out));
        }
    }

    /// The factors of the rows' gradients: upstream, over the denominator for a mean.
    ///
    /// # Errors
    /// [`InputError`] if there is not one upstream number a row, or several for a reduced loss.
    pub fn gradient_factors<'u>(&self, upstream: &'u Upstream<'_>) -> Result<GradientFactors<'u>, InputError> {
        let mean = self.criterion.config.reduction == Reduction::Mean;
        let (scalar, rows): (f64, Option<&[f64]>) = match upstream {
            Upstream::Scalar(scalar) => (*scalar, None),
            Upstream::Rows(rows) => (0.0, Some(rows)),
        };
        if let Some(rows) = rows {
            if self.criterion.config.reduction != Reduction::None {
                return Err(InputError::Combination("upstream gradients a row need reduction none, expected one number for a reduced loss"));
            }
            if rows.len() != self.rows {
                return Err(InputError::Length { name: "upstream", len: rows.len(), expected: self.rows, what: "one per row" });
            }
        }
        let empty = mean && self.denominator == 0.0;
        let denominator = match (mean, empty) {
            (false, _) => 1.0,
            (true, true) => f64::NAN,
            (true, false) => self.denominator,
        };
        Ok(GradientFactors { scalar, rows, denominator, zero: empty && self.criterion.config.empty_mean == EmptyMean::Zero })
    }
}

/// What turns a row's gradient into the batch's.
#[derive(Debug, Clone, Copy)]
pub struct GradientFactors<'a> {
    /// Upstream: for all rows, or in their place one per row.
    scalar: f64,
    rows: Option<&'a [f64]>,
    denominator: f64,
    zero: bool,
}

impl GradientFactors<'_> {
    /// Upstream over the denominator of a mean; `None` where the gradient is 0 whatever the row.
    #[inline]
    pub fn of(&self, row: usize) -> Option<f64> {
        let upstream = match self.rows {
            None => self.scalar,
            Some(rows) => rows[row],
        };
        if self.zero { None } else { Some(upstream / self.denominator) }
    }

    /// The same for all rows; `None` where it is not, or where there is none.
    pub(crate) fn shared(&self) -> Option<f64> {
        if self.rows.is_none() { self.of(0) } else { None }
    }
}

/// The logits' transformation: `z ← cap·tanh(z/(T·cap))`, or `z/T` without a cap. −∞ stays −∞.
#[derive(Debug, Clone, Copy, PartialEq)]
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
}

fn fill_probabilities<P: Element>(rows: &crate::Rows<'_, P>, row: usize, start: usize, out: &mut [f64]) {
    let layout = rows.layout();
    let first = layout.row_start(row) + start as isize * layout.class_stride;
    for (k, out) in out.iter_mut().enumerate() {
        *out = rows.data()[(first + k as isize * layout.class_stride) as usize].to_real().to_f64();
    }
}
