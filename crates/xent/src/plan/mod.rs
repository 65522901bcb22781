//! The semantics, folded: what a backend needs to know of a batch, and nothing of why.
//!
//! A loss here is a function of a few statistics of each row, and its gradient is `α·softmax(z) − τ·t − γ·v − Σ β_j δ_j` with scalars that follow from them. So a
//! backend computes [`RowStats`], asks [`Plan::fold`] for the scalars, and writes the gradient; it never meets ε, a prior, a weight, a reduction or a label convention.
//!
//! ```text
//! Plan::new(criterion, batch, N, K)      everything is checked; nothing of the logits is read
//!   .row(i)            -> RowPlan        hot classes, ε, scales; None for an ignored row
//!   the backend        -> RowStats       max, Σ e^(z−max), z at the hot classes, sums against t and v
//!   .fold(row, stats)  -> Folded         the row's parts and its gradient's scalars
//!   .finish(rows)      -> Output         reduced
//! ```

mod check;
mod fold;
mod row;

pub(crate) use fold::relative_entropy_term;
pub use fold::{Folded, RowGradient, RowParts};
pub use row::{Hot, RowPlan};

use crate::output::Reduced;
use crate::reduction::Sum;
use crate::targets::with_probabilities;
use crate::{
    AllowedClasses, Batch, ClassWeighting, Criterion, Denominator, Element, EmptyMean, InputError, Masked, Output, Prior, Real, Reduction, Targets, Upstream,
};

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
}

/// v, the part of the prior that all rows share, before class weights.
#[derive(Debug, Clone)]
pub enum SharedPrior<'a> {
    /// 1 on every class.
    Uniform,
    /// One number a class.
    Vector(std::borrow::Cow<'a, [f64]>),
    /// Nothing is shared: ask [`Plan::fill_prior`] row by row.
    PerRow,
}

/// Sums over a row against a vector v (the prior or a dense target, weighted): all ≥ 0, so that nothing cancels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Functional {
    /// Σ v_k·(max − z_k) over the classes that are not masked.
    pub shifted: f64,
    /// Σ v_k over the classes that are not masked.
    pub mass: f64,
    /// Σ v_k over the masked classes; left out where masks renormalise the prior.
    pub masked_mass: f64,
    /// How many masked classes have v_k > 0; 0 where masks renormalise the prior.
    pub masked: usize,
}

/// What a backend reads off a row of transformed logits z.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowStats {
    /// max z.
    pub max: f64,
    /// The first class that reaches it.
    pub argmax: usize,
    /// Σ e^(z_k − max) over all classes but `argmax`. NaN if there is a NaN in the row.
    pub rest: f64,
    /// z at [`RowPlan::hot`]'s classes.
    pub hot: [f64; 2],
    /// Against the prior's v.
    pub prior: Functional,
    /// Σ of v before class weights over the classes that are not masked, and over those that are; only looked at where masks renormalise the prior.
    pub open_prior: f64,
    /// See `open_prior`.
    pub closed_prior: f64,
    /// Against a dense target, weighted.
    pub target: Functional,
    /// The first class at which a dense target is largest.
    pub target_argmax: usize,
}

impl<'a> Plan<'a> {
    /// Checks a batch against a criterion and logits of `rows` rows and `classes` ≥ 1 classes.
    ///
    /// # Errors
    /// [`InputError`]: the first thing found, by kind and then by row, that does not fit.
    pub fn new(criterion: &'a Criterion, batch: &'a Batch<'a>, rows: usize, classes: usize) -> Result<Self, InputError> {
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
        };
        plan.check_lengths()?;
        plan.bind_prior();
        plan.check_rows()?;
        plan.denominator = plan.count_denominator();
        let empty = criterion.config.reduction == Reduction::Mean && plan.denominator == 0.0;
        if empty && criterion.config.empty_mean == EmptyMean::Error {
            return Err(InputError::EmptyMean { rows, ignored: plan.ignored });
        }
        Ok(plan)
    }

    fn bind_prior(&mut self) {
        let dense = self.dense_targets();
        self.prior = match &self.criterion.config.prior {
            Prior::Uniform => SharedPrior::Uniform,
            Prior::Fixed(u) => SharedPrior::Vector(u.as_slice().into()),
            Prior::ByTrueClass(_) => SharedPrior::PerRow,
            Prior::WrongClasses | Prior::Excluding(_) if dense => SharedPrior::PerRow,
            Prior::WrongClasses => SharedPrior::Uniform,
            Prior::Excluding(_) => {
                let mut indicator = vec![1.0; self.classes];
                self.excluded.iter().for_each(|&class| indicator[class] = 0.0);
                SharedPrior::Vector(indicator.into())
            }
        };
        if self.uniform_prior() {
            return;
        }
        let v = (0..self.classes).map(|class| self.shared_prior_at(class));
        let (mass, xlogx) = v.fold((Sum::default(), Sum::default()), |(mut mass, mut xlogx), v| {
            mass.add(v);
            xlogx.add(if v > 0.0 { v * v.ln() } else { 0.0 });
            (mass, xlogx)
        });
        (self.shared_mass, self.shared_xlogx) = (mass.total(), xlogx.total());
    }

    /// v of a class, after class weights, where rows share it.
    fn shared_prior_at(&self, class: usize) -> f64 {
        let v = match &self.prior {
            SharedPrior::Uniform => 1.0,
            SharedPrior::Vector(v) => v[class],
            SharedPrior::PerRow => 0.0,
        };
        v * self.class_weights().map_or(1.0, |weights| weights[class])
    }

    fn count_denominator(&mut self) -> f64 {
        let mut sum = Sum::default();
        let mut kept = 0usize;
        for row in (0..self.rows).filter(|&row| !self.is_ignored(row)) {
            kept += 1;
            sum.add(self.row_class_weight(row));
        }
        self.ignored = self.rows - kept;
        let config = &self.criterion.config;
        let weighted = config.class_weights.is_some() && (!self.dense_targets() || config.class_weighting == ClassWeighting::PerRow);
        match (self.batch.denominator, config.denominator) {
            (Some(given), _) => given,
            (None, Denominator::Rows) => self.rows as f64,
            (None, Denominator::PyTorch) if weighted => sum.total(),
            (None, Denominator::PyTorch | Denominator::KeptRows) => kept as f64,
        }
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
        matches!(self.batch.targets, Targets::Probabilities(_))
    }

    /// The part of the prior that rows share, before class weights.
    pub fn shared_prior(&self) -> &SharedPrior<'a> {
        &self.prior
    }

    /// Whether v is 1 on every class, after class weights too, and needs no memory.
    pub fn uniform_prior(&self) -> bool {
        matches!(self.prior, SharedPrior::Uniform) && self.class_weights().is_none()
    }

    /// Whether masked classes are taken out of the prior (before [`RowStats`] are summed) and their gradients are exactly 0.
    pub fn renormalises(&self) -> bool {
        self.criterion.config.masked == Masked::Renormalise
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

    /// Writes v of classes `start..` of a kept row, before class weights.
    pub fn fill_prior(&self, row: &RowPlan, start: usize, out: &mut [f64]) {
        match &self.prior {
            SharedPrior::Uniform => out.fill(1.0),
            SharedPrior::Vector(v) => out.copy_from_slice(&v[start..start + out.len()]),
            SharedPrior::PerRow => self.fill_row_prior(row, start, out),
        }
    }

    /// The factor that turns a row's gradient into the batch's: upstream, over the denominator for a mean. `None` where the gradient is 0 whatever the row.
    ///
    /// # Errors
    /// [`InputError`] if there is not one upstream number a row, or several for a reduced loss.
    pub fn gradient_factors(&self, upstream: Upstream<'a>) -> Result<impl Fn(usize) -> Option<f64> + Sync + use<'a>, InputError> {
        let mean = self.criterion.config.reduction == Reduction::Mean;
        if let Upstream::Rows(rows) = upstream {
            if self.criterion.config.reduction != Reduction::None {
                return Err(InputError::Combination("upstream gradients a row need reduction none, expected one number for a reduced loss"));
            }
            if rows.len() != self.rows {
                return Err(InputError::Length { name: "upstream", len: rows.len(), expected: self.rows, what: "one a row" });
            }
        }
        let empty = mean && self.denominator == 0.0;
        let denominator = match (mean, empty) {
            (false, _) => 1.0,
            (true, true) => f64::NAN,
            (true, false) => self.denominator,
        };
        let zero = empty && self.criterion.config.empty_mean == EmptyMean::Zero;
        Ok(move |row: usize| {
            let upstream = match upstream {
                Upstream::Scalar(upstream) => upstream,
                Upstream::Rows(rows) => rows[row],
            };
            if zero { None } else { Some(upstream / denominator) }
        })
    }

    /// Reduces the rows' parts, given in the rows' order with `None` for ignored ones. The order of summation is fixed.
    pub fn finish<F: Real>(&self, rows: &[Option<RowParts>]) -> Output<F> {
        let config = &self.criterion.config;
        let reduce = |part: fn(&RowParts) -> f64| match config.reduction {
            Reduction::None => Reduced::Rows(rows.iter().map(|row| F::from_f64(row.as_ref().map_or(0.0, part))).collect()),
            Reduction::Sum | Reduction::Mean => {
                let sum = rows.iter().flatten().map(part).collect::<Sum>().total();
                Reduced::Scalar(F::from_f64(match (config.reduction, self.denominator == 0.0, config.empty_mean) {
                    (Reduction::Mean, true, EmptyMean::Zero) => 0.0,
                    (Reduction::Mean, true, _) => f64::NAN,
                    (Reduction::Mean, false, _) => sum / self.denominator,
                    _ => sum,
                }))
            }
        };
        let mut non_finite = rows.iter().enumerate().filter(|(_, row)| row.is_some_and(|row| !row.loss.is_finite())).map(|(i, _)| i);
        let first_non_finite = non_finite.next();
        Output {
            loss: reduce(|row| row.loss),
            nll: reduce(|row| row.nll),
            smoothing: reduce(|row| row.smoothing),
            z_loss: reduce(|row| row.z_loss),
            floor: reduce(|row| row.floor),
            lse: rows.iter().map(|row| F::from_f64(row.map_or(0.0, |row| row.lse))).collect(),
            correct: rows.iter().flatten().filter(|row| row.correct).count(),
            denominator: self.denominator,
            ignored: self.ignored,
            non_finite: first_non_finite.map_or(0, |_| 1 + non_finite.count()),
            first_non_finite,
        }
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
