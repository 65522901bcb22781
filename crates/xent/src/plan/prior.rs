//! The prior as rows see it: v, which they share, and what is particular to a row.

use super::{Plan, RowPlan};
use crate::Prior;
use crate::reduction::Sum;

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

impl Plan<'_> {
    pub(super) fn bind_prior(&mut self) {
        let dense = self.dense;
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
        self.uniform = matches!(self.prior, SharedPrior::Uniform) && self.class_weights().is_none();
        self.closed_floors = self.uniform || !(self.renormalises || matches!(self.prior, SharedPrior::PerRow));
        if self.uniform {
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
    #[inline]
    pub(super) fn shared_prior_at(&self, class: usize) -> f64 {
        let v = match &self.prior {
            SharedPrior::Uniform => 1.0,
            SharedPrior::Vector(v) => v[class],
            SharedPrior::PerRow => 0.0,
        };
        v * self.class_weights().map_or(1.0, |weights| weights[class])
    }

    /// Writes v of classes `start..` of a kept row, before class weights.
    pub fn fill_prior(&self, row: &RowPlan, start: usize, out: &mut [f64]) {
        match &self.prior {
            SharedPrior::Uniform => out.fill(1.0),
            SharedPrior::Vector(v) => out.copy_from_slice(&v[start..start + out.len()]),
            SharedPrior::PerRow => self.fill_row_prior(row, start, out),
        }
    }

    /// What the prior puts on the classes, for ε > 0.
    pub(super) fn put_prior(&self, plan: &mut RowPlan, is_excluded: impl Fn(usize) -> bool) {
        match &self.criterion.config.prior {
            Prior::Uniform => plan.prior_scale = Some(1.0 / self.classes as f64),
            Prior::Fixed(_) | Prior::ByTrueClass(_) => plan.prior_scale = Some(1.0),
            Prior::WrongClasses | Prior::Excluding(_) if self.dense => {
                plan.prior_scale = Some(1.0);
                self.for_each_probability(plan.row, |class, probability| plan.target_mass[usize::from(is_excluded(class))] += probability);
            }
            Prior::WrongClasses | Prior::Excluding(_) => {
                let mut scale = 0.0;
                for hot in &mut plan.hot[..plan.hot_len] {
                    let excluded = is_excluded(hot.class);
                    match self.wrong_classes(excluded) {
                        0 => hot.prior = hot.share,
                        wrong => {
                            let each = hot.share / wrong as f64;
                            scale += each;
                            hot.prior = if excluded { 0.0 } else { -each };
                        }
                    }
                }
                plan.prior_scale = (scale > 0.0).then_some(scale);
            }
        }
    }

    /// How many classes `WrongClasses` or `Excluding` spreads over, for a true class that is itself excluded or not.
    fn wrong_classes(&self, excluded: bool) -> usize {
        let open = self.classes - self.excluded.len();
        if excluded { open } else { open.saturating_sub(1) }
    }

    /// v of a row whose prior is its own: by true class, or over the wrong classes of a dense target.
    pub(super) fn fill_row_prior(&self, plan: &RowPlan, start: usize, out: &mut [f64]) {
        debug_assert!(matches!(self.prior, SharedPrior::PerRow));
        if let Prior::ByTrueClass(matrix) = &self.criterion.config.prior {
            out.fill(0.0);
            let mut add = |class: usize, share: f64| {
                if share > 0.0 {
                    out.iter_mut().zip(&matrix.row(class)[start..]).for_each(|(v, u)| *v += share * u);
                }
            };
            plan.hot().iter().for_each(|hot| add(hot.class, hot.share));
            self.for_each_probability(plan.row, add);
            return;
        }
        self.fill_target(plan.row, start, out);
        let [open, excluded] = plan.target_mass;
        let (for_open, for_excluded) = (self.wrong_classes(false), self.wrong_classes(true));
        for (k, v) in out.iter_mut().enumerate() {
            let target = *v;
            *v = match (self.is_excluded(start + k), for_excluded) {
                (true, 0) => target,
                (true, _) => 0.0,
                (false, _) => {
                    let from_open = if for_open > 0 { (open - target).max(0.0) / for_open as f64 } else { target };
                    from_open + if excluded > 0.0 { excluded / for_excluded as f64 } else { 0.0 }
                }
            };
        }
    }

    /// Whether `Excluding` names the class. Where rows share v, that knows.
    #[inline]
    pub(super) fn is_excluded(&self, class: usize) -> bool {
        !self.excluded.is_empty()
            && match &self.prior {
                SharedPrior::Vector(open) => open[class] == 0.0,
                SharedPrior::Uniform | SharedPrior::PerRow => self.excluded.binary_search(&class).is_ok(),
            }
    }
}
