//! The coefficients of a row before its logits are read: its line of the table, and its per-row
//! options.

use super::labels::RowLabels;
use super::table::ClassTable;
use crate::Prior;

/// What is known of a kept row before its logits are read. [`ClassTable`] has the formulas.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct RowPlan {
    /// The row.
    pub row: usize,
    /// ε.
    pub epsilon: f64,
    /// r, the row weight, which multiplies everything.
    pub scale: f64,
    /// W, the class weight of the whole row. It multiplies the target, and so the cross-entropy and
    /// its floor. 1 if weights act on terms.
    pub class_scale: f64,
    /// σ, the factor of v; `None` if the row has no term in v.
    pub prior_scale: Option<f64>,
    pub(super) hot: [Hot; 2],
    pub(super) hot_len: usize,
    /// The target probability on the classes that `Excluding` keeps, and on those that it excludes;
    /// for dense targets only.
    pub(super) target_mass: [f64; 2],
}

/// A hot class: one that the target names. There the target, and a correction of the prior, put
/// mass.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Hot {
    /// The class.
    pub class: usize,
    /// Its share s of the target.
    pub share: f64,
    /// Its class weight ([`ClassTable::term`]).
    pub weight: f64,
    /// The correction of the prior there, before the class weight: s·[`pi`](ClassTable::pi).
    pub prior: f64,
}

impl RowPlan {
    /// The hot classes, each once: one for a class index, up to two for a mix, none for dense
    /// targets.
    #[inline]
    pub fn hot(&self) -> &[Hot] {
        &self.hot[..self.hot_len]
    }

    /// [`hot`](Self::hot), if there are `HOT` of them.
    #[inline(always)]
    pub(super) fn hots<const HOT: usize>(&self) -> &[Hot; HOT] {
        self.hot.first_chunk().unwrap_or(&[Hot::NONE; HOT])
    }

    /// Reads the table at the hot classes, for ε > 0.
    fn put_prior(&mut self, table: &ClassTable<'_>, labels: &RowLabels<'_>) {
        if self.hot_len == 0 {
            self.prior_scale = Some(table.shared_sigma().unwrap_or(1.0));
            if matches!(table.config().prior, Prior::WrongClasses | Prior::Excluding(_)) {
                self.target_mass = target_mass(table, labels, self.row);
            }
            return;
        }
        let mut scale = 0.0;
        for hot in &mut self.hot[..self.hot_len] {
            let spread = table.spread(hot.class);
            scale += hot.share * spread.sigma;
            hot.prior = hot.share * spread.pi;
        }
        let scale = table.shared_sigma().unwrap_or(scale);
        self.prior_scale = (scale > 0.0).then_some(scale);
    }
}

impl Hot {
    const NONE: Self = Self { class: 0, share: 0.0, weight: 0.0, prior: 0.0 };
}

/// What all rows have in common, from which the coefficients of each row start.
#[derive(Debug)]
pub(super) struct RowTemplate {
    plan: RowPlan,
    /// Whether rows of the same class can differ.
    rows_differ: bool,
}

impl RowTemplate {
    pub(super) fn new(table: &ClassTable<'_>, labels: &RowLabels<'_>) -> Self {
        let config = table.config();
        let mut plan = RowPlan {
            epsilon: config.label_smoothing,
            scale: 1.0,
            class_scale: 1.0,
            ..RowPlan::default()
        };
        if labels.single.is_some() {
            plan.hot[0] = Hot { class: 0, share: 1.0, weight: 1.0, prior: 0.0 };
            plan.hot_len = 1;
            if config.label_smoothing > 0.0 && table.excluded().is_empty() {
                plan.put_prior(table, labels);
            }
        }
        let given = labels.epsilons.is_some() || labels.row_weights.is_some();
        let rows_differ = given
            || config.class_weights.is_some()
            || !table.excluded().is_empty()
            || !labels.keeps_every_class();
        Self { plan, rows_differ }
    }

    /// The template as the plan of a row, without what is particular to the row.
    #[inline]
    fn start(&self, row: usize) -> RowPlan {
        RowPlan { row, ..self.plan }
    }
}

/// The sources of a row's plan.
#[derive(Clone, Copy)]
pub(super) struct RowSource<'p, 'a> {
    pub(super) table: &'p ClassTable<'a>,
    pub(super) labels: &'p RowLabels<'a>,
    pub(super) template: &'p RowTemplate,
}

impl RowSource<'_, '_> {
    /// Writes the plan of a row to `plan`. Returns `false` if the row is ignored; `plan` is then
    /// meaningless.
    #[inline]
    pub(super) fn row_into(self, row: usize, plan: &mut RowPlan) -> bool {
        let Some(labels) = &self.labels.single else { return self.put_shares(row, plan) };
        // In a checked batch, an index outside the classes is an ignore index.
        let Some(class) = labels.class(row, self.labels.classes) else { return false };
        *plan = self.template.start(row);
        plan.hot[0].class = class;
        !self.template.rows_differ
            || (self.labels.keeps(row, class) && self.put_options(plan, class))
    }

    /// The plan of a row that differs from others in its class only.
    pub(super) fn of_class(self, class: usize) -> RowPlan {
        let mut plan = self.template.start(0);
        plan.hot[0].class = class;
        self.put_options(&mut plan, class);
        plan
    }

    /// Writes what is particular to a kept row of one class. Returns `true`.
    #[inline]
    fn put_options(self, plan: &mut RowPlan, class: usize) -> bool {
        if let Some(weights) = self.table.class_weights() {
            plan.hot[0].weight = weights[class];
        } else if let Some(weights) = self.table.row_class_weights() {
            plan.class_scale = weights[class];
        }
        self.put_row_options(plan);
        if plan.epsilon == 0.0 {
            (plan.prior_scale, plan.hot[0].prior) = (None, 0.0);
        } else {
            plan.put_prior(self.table, self.labels);
        }
        true
    }

    #[inline]
    fn put_row_options(self, plan: &mut RowPlan) {
        if let Some(epsilon) = self.labels.epsilons {
            plan.epsilon = epsilon[plan.row];
        }
        if let Some(weights) = self.labels.row_weights {
            plan.scale = weights[plan.row];
        }
    }

    /// [`row_into`](Self::row_into) if targets are not one class per row.
    #[inline(never)]
    fn put_shares(self, row: usize, plan: &mut RowPlan) -> bool {
        if self.labels.ignored > 0 && self.labels.is_ignored(row) {
            return false;
        }
        *plan = self.template.start(row);
        self.put_row_options(plan);
        plan.class_scale = self.class_scale(row);
        for (class, share) in self.labels.shares(row).into_iter().flatten() {
            let weight = self.table.class_weights().map_or(1.0, |weights| weights[class]);
            plan.hot[plan.hot_len] = Hot { class, share, weight, prior: 0.0 };
            plan.hot_len += 1;
        }
        if plan.epsilon > 0.0 {
            plan.put_prior(self.table, self.labels);
        }
        true
    }

    /// W of a kept row: the mean of the class weights under its target, if they act on whole rows.
    fn class_scale(self, row: usize) -> f64 {
        self.table.row_class_weights().map_or(1.0, |weights| mean_weight(self.labels, row, weights))
    }
}

/// w̄ of a kept row: the mean of the class weights under its target.
pub(super) fn mean_weight(labels: &RowLabels<'_>, row: usize, weights: &[f64]) -> f64 {
    let mut sum = labels.mean_of(row, weights);
    labels.for_each_probability(row, |class, probability| sum += probability * weights[class]);
    sum
}

/// The mass of a dense target on the classes that the prior keeps, and on those that it excludes.
fn target_mass(table: &ClassTable<'_>, labels: &RowLabels<'_>, row: usize) -> [f64; 2] {
    let mut mass = [0.0; 2];
    labels.for_each_probability(row, |class, probability| {
        mass[usize::from(table.is_excluded(class))] += probability
    });
    mass
}
