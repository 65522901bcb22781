//! The table by class: what a criterion means for each class, before any logits or labels are
//! known.
//!
//! A row's label selects a line of it, and the row's coefficients follow by gathers and sums of one
//! number per row. So a backend whose numbers stay on a device uploads these columns once per
//! criterion and number of classes, and depends neither on the kind of prior nor on the weighting
//! rule. SEMANTICS.md S13.1.

use std::borrow::Cow;

use super::sum::Sum;
use crate::{ClassWeighting, Config, Criterion, InputError, Masked, Prior};

/// v, the part of the prior that rows share, before class weights.
#[derive(Debug, Clone, PartialEq)]
pub enum SharedPrior<'a> {
    /// 1 on every class.
    Uniform,
    /// One number per class.
    Vector(Cow<'a, [f64]>),
    /// Rows share no v: the prior by true class, or a prior over the wrong classes of a dense
    /// target. [`Plan::fill_prior`](super::Plan::fill_prior) computes it row by row.
    PerRow,
}

/// A column of the [`ClassTable`].
#[derive(Debug, Clone, PartialEq)]
pub enum Column<'t> {
    /// The same number for every class.
    Same(f64),
    /// One number per class.
    Each(Cow<'t, [f64]>),
}

impl Column<'_> {
    /// The number of one class. `class` is less than K.
    pub fn at(&self, class: usize) -> f64 {
        match self {
            Self::Same(number) => *number,
            Self::Each(numbers) => numbers[class],
        }
    }
}

/// The kind of targets, which decides how a prior over the wrong classes is expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// One or two class indices per row.
    Labels,
    /// A distribution per row.
    Probabilities,
}

/// What a criterion means for each of K classes. See [S3](crate::semantics#s3-smoothing), S4.2 and
/// S13.
///
/// A row with shares s_j on the classes c_j, smoothing ε and row weight r has
///
/// ```text
/// W = Σ s_j·whole[c_j]      hard_j = s_j·term[c_j]      σ = Σ s_j·sigma[c_j]      π_j = s_j·pi[c_j]·term[c_j]
/// ```
///
/// and its smoothed target is `W·[(1−ε)·Σ hard_j δ_j + ε·(σ·v·term + Σ π_j δ_j)]`. Where
/// [`sigma`](Self::sigma) is [`Column::Same`] the prior does not depend on the label: σ is that
/// number, also for a dense target that does not sum to 1.
///
/// ```
/// use xent::rules::{ClassTable, Column, TargetKind};
/// use xent::{Config, Prior};
/// let criterion = Config::new().label_smoothing(0.1).prior(Prior::WrongClasses).build()?;
/// let table = ClassTable::new(&criterion, 5, TargetKind::Labels)?;
/// // A quarter of the prior on each wrong class: 1/4 of v = (1, 1, 1, 1, 1), and 1/4 taken off the true class.
/// assert_eq!((table.sigma(), table.pi()), (Column::Same(0.25), Column::Same(-0.25)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClassTable<'c> {
    config: &'c Config,
    classes: usize,
    kind: TargetKind,
    /// The classes of `Excluding`, each once, in order.
    excluded: Vec<usize>,
    prior: SharedPrior<'c>,
    /// Whether v is 1 on every class, also after class weights.
    uniform: bool,
    /// For a true class that the prior keeps, and for one that it excludes.
    spread: [Spread; 2],
    /// Σ v and Σ v ln v after class weights; not summed where v is 1.
    mass: f64,
    xlogx: f64,
}

/// The factors of a label's share: on v, and at the class of the label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) sigma: f64,
    pub(super) pi: f64,
}

impl<'c> ClassTable<'c> {
    /// The table of a criterion for logits of `classes` ≥ 1 classes.
    ///
    /// # Errors
    /// [`InputError`] if the class weights or the prior of the criterion have another number of
    /// classes.
    pub fn new(
        criterion: &'c Criterion,
        classes: usize,
        kind: TargetKind,
    ) -> Result<Self, InputError> {
        let config = &criterion.config;
        let excluded = check(config, classes)?;
        let mut table = Self {
            config,
            classes,
            kind,
            excluded,
            prior: SharedPrior::Uniform,
            uniform: false,
            spread: [Spread { sigma: 1.0, pi: 0.0 }; 2],
            mass: 0.0,
            xlogx: 0.0,
        };
        table.bind_prior();
        table.uniform =
            matches!(table.prior, SharedPrior::Uniform) && table.class_weights().is_none();
        if !table.uniform {
            table.sum_prior();
        }
        Ok(table)
    }

    fn bind_prior(&mut self) {
        let wrong = [self.spreads_over(false), self.spreads_over(true)];
        let dense = self.kind == TargetKind::Probabilities;
        match &self.config.prior {
            Prior::Uniform => {
                self.spread = [Spread { sigma: 1.0 / self.classes as f64, pi: 0.0 }; 2]
            }
            Prior::Fixed(u) => self.prior = SharedPrior::Vector(u.as_slice().into()),
            Prior::ByTrueClass(_) => self.prior = SharedPrior::PerRow,
            Prior::WrongClasses | Prior::Excluding(_) if dense => self.prior = SharedPrior::PerRow,
            Prior::WrongClasses => self.spread = [Spread::over_wrong_classes(wrong[0], false); 2],
            Prior::Excluding(_) => {
                let mut open = vec![1.0; self.classes];
                self.excluded.iter().for_each(|&class| open[class] = 0.0);
                self.prior = SharedPrior::Vector(open.into());
                self.spread = [
                    Spread::over_wrong_classes(wrong[0], false),
                    Spread::over_wrong_classes(wrong[1], true),
                ];
            }
        }
    }

    fn sum_prior(&mut self) {
        if matches!(self.prior, SharedPrior::PerRow) {
            return;
        }
        let (mut mass, mut xlogx) = (Sum::default(), Sum::default());
        for v in (0..self.classes).map(|class| self.prior_at(class)) {
            mass.add(v);
            xlogx.add(if v > 0.0 { v * v.ln() } else { 0.0 });
        }
        (self.mass, self.xlogx) = (mass.total(), xlogx.total());
    }

    /// K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The factor by which class weights multiply a term of each class; 1 if they act on whole
    /// rows.
    pub fn term(&self) -> Column<'c> {
        self.class_weights().map_or(Column::Same(1.0), |weights| Column::Each(weights.into()))
    }

    /// The factor by which class weights multiply a whole row of each true class; 1 if they act on
    /// terms.
    pub fn whole(&self) -> Column<'c> {
        self.row_class_weights().map_or(Column::Same(1.0), |weights| Column::Each(weights.into()))
    }

    /// The share of v that a row of each true class gets.
    pub fn sigma(&self) -> Column<'static> {
        self.column(|spread| spread.sigma)
    }

    /// The correction of the prior at the true class, before [`term`](Self::term): −1/(K−1) cancels
    /// what v puts there; 1 if the prior has nowhere else to go.
    pub fn pi(&self) -> Column<'static> {
        self.column(|spread| spread.pi)
    }

    fn column(&self, of: fn(&Spread) -> f64) -> Column<'static> {
        let [open, excluded] = self.spread.each_ref().map(of);
        if open.to_bits() == excluded.to_bits() || self.excluded.is_empty() {
            return Column::Same(open);
        }
        let mut column = vec![open; self.classes];
        self.excluded.iter().for_each(|&class| column[class] = excluded);
        Column::Each(column.into())
    }

    /// v, before class weights.
    pub fn prior(&self) -> &SharedPrior<'c> {
        &self.prior
    }

    /// Whether v is 1 on every class, also after class weights, and so needs no memory.
    #[inline]
    pub fn is_uniform(&self) -> bool {
        self.uniform
    }

    /// Σ v over all classes, after class weights; 0 if rows share no v.
    pub fn prior_mass(&self) -> f64 {
        if self.is_uniform() { self.classes as f64 } else { self.mass }
    }

    /// v of a class, after class weights; 0 if rows share no v. `class` is less than K.
    #[inline]
    pub fn prior_at(&self, class: usize) -> f64 {
        let v = match &self.prior {
            SharedPrior::Uniform => 1.0,
            SharedPrior::Vector(v) => v[class],
            SharedPrior::PerRow => 0.0,
        };
        v * self.class_weights().map_or(1.0, |weights| weights[class])
    }

    /// The class weights, if they act on terms.
    pub fn class_weights(&self) -> Option<&'c [f64]> {
        self.config
            .class_weights
            .as_deref()
            .filter(|_| self.config.class_weighting == ClassWeighting::PerClass)
    }

    /// The class weights, if they act on whole rows.
    pub fn row_class_weights(&self) -> Option<&'c [f64]> {
        self.config
            .class_weights
            .as_deref()
            .filter(|_| self.config.class_weighting == ClassWeighting::PerRow)
    }

    /// The classes that [`Prior::Excluding`] names, each once, in order.
    pub fn excluded(&self) -> &[usize] {
        &self.excluded
    }

    /// The number of classes over which a prior over the wrong classes spreads its mass, for a true
    /// class that is itself `excluded` or not. 0 means nowhere to go
    /// ([S3.6](crate::semantics#s3-smoothing)).
    pub fn spreads_over(&self, excluded: bool) -> usize {
        let open = self.classes - self.excluded.len();
        if excluded { open } else { open.saturating_sub(1) }
    }

    /// Whether masked classes are removed from the prior and have gradients of exactly 0.
    pub fn renormalises(&self) -> bool {
        self.config.masked == Masked::Renormalise
    }

    /// Whether [`Prior::Excluding`] names the class. If rows share v, v is 0 there.
    #[inline]
    pub(super) fn is_excluded(&self, class: usize) -> bool {
        !self.excluded.is_empty()
            && match &self.prior {
                SharedPrior::Vector(open) => open[class] == 0.0,
                SharedPrior::Uniform | SharedPrior::PerRow => {
                    self.excluded.binary_search(&class).is_ok()
                }
            }
    }

    /// The entries of [`sigma`](Self::sigma) and [`pi`](Self::pi) for a true class.
    #[inline]
    pub(super) fn spread(&self, class: usize) -> Spread {
        self.spread[usize::from(self.is_excluded(class))]
    }

    /// σ, if it does not depend on the label.
    #[inline]
    pub(super) fn shared_sigma(&self) -> Option<f64> {
        match self.config.prior {
            Prior::Uniform | Prior::Fixed(_) | Prior::ByTrueClass(_) => Some(self.spread[0].sigma),
            Prior::WrongClasses | Prior::Excluding(_) => None,
        }
    }

    #[inline]
    pub(super) fn config(&self) -> &'c Config {
        self.config
    }

    /// Σ v and Σ v ln v after class weights, if v is not 1 on every class.
    #[inline]
    pub(super) fn prior_sums(&self) -> (f64, f64) {
        (self.mass, self.xlogx)
    }

    /// Whether the floor of a row with a share of v follows from scalars.
    #[inline]
    pub(super) fn has_closed_floors(&self) -> bool {
        self.is_uniform() || !(self.renormalises() || matches!(self.prior, SharedPrior::PerRow))
    }
}

impl Spread {
    /// Evenly over `wrong` classes: v is 1 on them, and on the true class unless it is `excluded`.
    fn over_wrong_classes(wrong: usize, excluded: bool) -> Self {
        let each = 1.0 / wrong as f64;
        match (wrong, excluded) {
            (0, _) => Self { sigma: 0.0, pi: 1.0 },
            (_, false) => Self { sigma: each, pi: -each },
            (_, true) => Self { sigma: each, pi: 0.0 },
        }
    }
}

/// Checks the criterion against the number of classes, and returns the classes that its prior
/// excludes.
fn check(config: &Config, classes: usize) -> Result<Vec<usize>, InputError> {
    let per_class = |name, len: usize| {
        if len == classes {
            Ok(())
        } else {
            Err(InputError::Length { name, len, expected: classes, what: "one per class" })
        }
    };
    if let Some(weights) = &config.class_weights {
        per_class("class weights", weights.len())?;
    }
    match &config.prior {
        Prior::Fixed(u) => per_class("the prior", u.len())?,
        Prior::ByTrueClass(matrix) => per_class("the prior matrix's side", matrix.classes())?,
        Prior::Excluding(excluded) => {
            if let Some(&class) = excluded.iter().find(|&&class| class >= classes) {
                return Err(InputError::NoSuchClass {
                    name: "the prior's list of excluded classes",
                    class,
                    classes,
                });
            }
            let mut excluded = excluded.clone();
            excluded.sort_unstable();
            excluded.dedup();
            return Ok(excluded);
        }
        Prior::Uniform | Prior::WrongClasses => {}
    }
    Ok(Vec::new())
}
