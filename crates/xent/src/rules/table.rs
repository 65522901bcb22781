//! The table by class: all that a criterion says of a class before any logits or labels are seen.
//!
//! A row's label selects a line of it, and the row's coefficients follow by gathers and sums of one
//! number per row. So a backend whose numbers stay on a device uploads these columns once for each
//! criterion and number of classes, and meets neither ε's prior by name nor a weighting rule.

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
    /// Nothing is shared: the prior by true class, or one over the wrong classes of a dense target.
    /// [`Plan::fill_prior`](super::Plan::fill_prior) gives it row by row.
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

/// What the rows' targets are: it decides how a prior over the wrong classes is expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// One or two class indices per row.
    Labels,
    /// A distribution per row.
    Probabilities,
}

/// What a criterion says of each of K classes. See SEMANTICS.md S3 and S4.2.
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
    /// `Excluding`'s classes, once each, in order.
    excluded: Vec<usize>,
    prior: SharedPrior<'c>,
    /// Whether v is 1 on every class, after class weights too.
    uniform: bool,
    /// For a true class that the prior leaves in, and for one that it excludes.
    spread: [Spread; 2],
    /// Σ v and Σ v ln v after class weights; not summed where v is 1.
    mass: f64,
    xlogx: f64,
}

/// What a label's share is multiplied by: on v, and on the label's own class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) sigma: f64,
    pub(super) pi: f64,
}

impl<'c> ClassTable<'c> {
    /// The table of a criterion for logits of `classes` ≥ 1 classes.
    ///
    /// # Errors
    /// [`InputError`] if the criterion's class weights or prior are of another number of classes.
    pub fn new(criterion: &'c Criterion, classes: usize, kind: TargetKind) -> Result<Self, InputError> {
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
        table.uniform = matches!(table.prior, SharedPrior::Uniform) && table.class_weights().is_none();
        if !table.uniform {
            table.sum_prior();
        }
        Ok(table)
    }

    fn bind_prior(&mut self) {
        let wrong = [self.spreads_over(false), self.spreads_over(true)];
        let dense = self.kind == TargetKind::Probabilities;
        match &self.config.prior {
            Prior::Uniform => self.spread = [Spread { sigma: 1.0 / self.classes as f64, pi: 0.0 }; 2],
            Prior::Fixed(u) => self.prior = SharedPrior::Vector(u.as_slice().into()),
            Prior::ByTrueClass(_) => self.prior = SharedPrior::PerRow,
            Prior::WrongClasses | Prior::Excluding(_) if dense => self.prior = SharedPrior::PerRow,
            Prior::WrongClasses => self.spread = [Spread::over_wrong_classes(wrong[0], false); 2],
            Prior::Excluding(_) => {
                let mut open = vec![1.0; self.classes];
                self.excluded.iter().for_each(|&class| open[class] = 0.0);
                self.prior = SharedPrior::Vector(open.into());
                self.spread = [Spread::over_wrong_classes(wrong[0], false), Spread::over_wrong_classes(wrong[1], true)];
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

    /// What a class weight multiplies its own terms with; 1 where weights act on whole rows.
    pub fn term(&self) -> Column<'c> {
        self.class_weights().map_or(Column::Same(1.0), |weights| Column::Each(weights.into()))
    }

    /// What a class weight multiplies the whole of a row of its class with; 1 where weights act on terms.
    pub fn whole(&self) -> Column<'c> {
        self.row_class_weights().map_or(Column::Same(1.0), |weights| Column::Each(weights.into()))
    }

    /// The share of v that a row of each true class gets.
    pub fn sigma(&self) -> Column<'static> {
        self.column(|spread| spread.sigma)
    }

    /// What a row of each true class gets on that class beside v, before [`term`](Self::term):
    /// −1/(K−1) takes off again what v puts there; 1 where the prior has nowhere else to go.
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

    /// Whether v is 1 on every class, after class weights too, and needs no memory.
    #[inline]
    pub fn is_uniform(&self) -> bool {
        self.uniform
    }

    /// Σ v over all classes, after class weights; 0 where rows share no v.
    pub fn prior_mass(&self) -> f64 {
        if self.is_uniform() { self.classes as f64 } else { self.mass }
    }

    /// v of a class, after class weights; 0 where rows share no v. `class` is less than K.
    #[inline]
    pub fn prior_at(&self, class: usize) -> f64 {
        let v = match &self.prior {
            SharedPrior::Uniform => 1.0,
            SharedPrior::Vector(v) => v[class],
            SharedPrior::PerRow => 0.0,
        };
        v * self.class_weights().map_or(1.0, |weights| weights[class])
    }

    /// The weights of terms, class by class; `None` where there are none or they act on whole rows.
    pub fn class_weights(&self) -> Option<&'c [f64]> {
        self.config.class_weights.as_deref().filter(|_| self.config.class_weighting == ClassWeighting::PerClass)
    }

    /// The weights of whole rows, by their class; `None` where there are none or they act on terms.
    pub fn row_class_weights(&self) -> Option<&'c [f64]> {
        self.config.class_weights.as_deref().filter(|_| self.config.class_weighting == ClassWeighting::PerRow)
    }

    /// The classes that [`Prior::Excluding`] names, once each, in order.
    pub fn excluded(&self) -> &[usize] {
        &self.excluded
    }

    /// How many classes a prior over the wrong classes spreads its mass over, for a true class that
    /// is itself excluded or not; 0 means that there is nowhere to go (SEMANTICS.md S3.6).
    pub fn spreads_over(&self, excluded: bool) -> usize {
        let open = self.classes - self.excluded.len();
        if excluded { open } else { open.saturating_sub(1) }
    }

    /// Whether masked classes are taken out of the prior and have gradients of exactly 0.
    pub fn renormalises(&self) -> bool {
        self.config.masked == Masked::Renormalise
    }

    /// Whether [`Prior::Excluding`] names the class. Where rows share v, that knows.
    #[inline]
    pub(super) fn is_excluded(&self, class: usize) -> bool {
        !self.excluded.is_empty()
            && match &self.prior {
                SharedPrior::Vector(open) => open[class] == 0.0,
                SharedPrior::Uniform | SharedPrior::PerRow => self.excluded.binary_search(&class).is_ok(),
            }
    }

    /// A true class's line of [`sigma`](Self::sigma) and [`pi`](Self::pi).
    #[inline]
    pub(super) fn spread(&self, class: usize) -> Spread {
        self.spread[usize::from(self.is_excluded(class))]
    }

    /// σ where it does not depend on the label.
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

    /// Σ v and Σ v ln v, after class weights, where v is not 1 on every class.
    #[inline]
    pub(super) fn prior_sums(&self) -> (f64, f64) {
        (self.mass, self.xlogx)
    }

    /// Whether the floor of a row that v has a share in follows from scalars.
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

/// The criterion against the number of classes: the classes that its prior excludes.
fn check(config: &Config, classes: usize) -> Result<Vec<usize>, InputError> {
    let per_class = |name, len: usize| {
        if len == classes { Ok(()) } else { Err(InputError::Length { name, len, expected: classes, what: "one per class" }) }
    };
    if let Some(weights) = &config.class_weights {
        per_class("class weights", weights.len())?;
    }
    match &config.prior {
        Prior::Fixed(u) => per_class("the prior", u.len())?,
        Prior::ByTrueClass(matrix) => per_class("the prior matrix's side", matrix.classes())?,
        Prior::Excluding(excluded) => {
            if let Some(&class) = excluded.iter().find(|&&class| class >= classes) {
                return Err(InputError::NoSuchClass { name: "the prior's list of excluded classes", class, classes });
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
