//! A row before its logits are read.

use super::Plan;
use crate::targets::{Index, Lambda, with_indices};
use crate::{ClassWeighting, Targets};

/// What is known of a kept row before its logits are read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowPlan {
    /// The row.
    pub row: usize,
    /// ε.
    pub epsilon: f64,
    /// The row weight: multiplies everything.
    pub scale: f64,
    /// The class weight of the whole row: multiplies the target, and so the cross-entropy and its floor. 1 where weights act class by class.
    pub class_scale: f64,
    /// What v is multiplied by; `None` where the row has no term in v.
    pub prior_scale: Option<f64>,
    pub(super) hot: [Hot; 2],
    pub(super) hot_len: usize,
    /// Target probability on classes that `Excluding` leaves in, and on those it takes out; for dense targets only.
    pub(super) target_mass: [f64; 2],
}

/// A class on which the target, or a correction to the prior, puts mass of its own.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Hot {
    /// The class.
    pub class: usize,
    /// Its share of the target.
    pub share: f64,
    /// Its class weight.
    pub weight: f64,
    /// What the prior puts on it beyond `prior_scale`·v, before the class weight: −1/(K−1) where the prior is on the wrong classes only.
    pub prior: f64,
}

impl RowPlan {
    /// The hot classes, none twice: one for a class index, up to two for a mix, none for dense targets.
    #[inline]
    pub fn hot(&self) -> &[Hot] {
        &self.hot[..self.hot_len]
    }

    /// [`hot`](Self::hot), of which there are `HOT`.
    #[inline(always)]
    pub(super) fn hots<const HOT: usize>(&self) -> &[Hot; HOT] {
        self.hot.first_chunk().unwrap_or(&[Hot::NONE; HOT])
    }
}

impl Hot {
    const NONE: Self = Self { class: 0, share: 0.0, weight: 0.0, prior: 0.0 };
}

impl Plan<'_> {
    /// The plan of a row, `None` if it is ignored. `row` is less than [`rows`](Self::rows).
    #[inline]
    pub fn row(&self, row: usize) -> Option<RowPlan> {
        let mut plan = RowPlan::default();
        self.row_into(row, &mut plan).then_some(plan)
    }

    /// [`row`](Self::row) written over `plan`: moving one costs more than making it. `false` if the row is ignored; `plan` means nothing then.
    #[inline]
    pub fn row_into(&self, row: usize, plan: &mut RowPlan) -> bool {
        let Some(labels) = &self.labels else { return self.put_shares(row, plan) };
        // Outside the classes, an index of a checked batch can only be one to ignore.
        let Some(class) = labels.class(row, self.classes) else { return false };
        *plan = RowPlan { row, ..self.template };
        plan.hot[0].class = class;
        !self.rows_differ || self.put_options(plan, class)
    }

    /// What is particular to a row of one class. Whether it is kept.
    #[inline]
    pub(super) fn put_options(&self, plan: &mut RowPlan, class: usize) -> bool {
        if !self.keeps(plan.row, class) {
            return false;
        }
        if let Some(weights) = &self.criterion.config.class_weights {
            match self.criterion.config.class_weighting {
                ClassWeighting::PerClass => plan.hot[0].weight = weights[class],
                ClassWeighting::PerRow => plan.class_scale = weights[class],
            }
        }
        if self.is_excluded(class) {
            (plan.prior_scale, plan.hot[0].prior) = self.of_excluded;
        }
        self.put_row_options(plan);
        if plan.epsilon == 0.0 {
            (plan.prior_scale, plan.hot[0].prior) = (None, 0.0);
        }
        true
    }

    #[inline]
    fn put_row_options(&self, plan: &mut RowPlan) {
        if let Some(epsilon) = self.epsilons {
            plan.epsilon = epsilon[plan.row];
        }
        if let Some(weights) = self.row_weights {
            plan.scale = weights[plan.row];
        }
    }

    /// Whether a row with a class for its index is kept.
    #[inline]
    fn keeps(&self, row: usize, class: usize) -> bool {
        !self.batch.ignored.is_some_and(|ignored| ignored[row]) && (self.ignored_classes.is_empty() || !self.ignored_classes.contains(&class))
    }

    /// The classes of rows that [`alike`](Self::alike) says are told apart by nothing else; −1 for ignored ones. There are no more classes than i32 holds.
    #[inline]
    pub(crate) fn kept_classes(&self, rows: std::ops::Range<usize>, out: &mut [i32]) {
        if let Some(labels) = &self.labels {
            with_indices!(labels, labels => out.iter_mut().zip(&labels[rows]).for_each(|(out, label)| *out = label.class(self.classes).map_or(-1, |class| class as i32)));
        }
    }

    /// The class of a row with a class index; `None` if it is ignored.
    #[inline]
    pub(super) fn kept_class(&self, row: usize) -> Option<usize> {
        self.labels.as_ref()?.class(row, self.classes).filter(|&class| self.keeps(row, class))
    }

    /// [`row_into`](Self::row_into) where not every target is one class.
    #[inline(never)]
    fn put_shares(&self, row: usize, plan: &mut RowPlan) -> bool {
        if self.ignored > 0 && self.is_ignored(row) {
            return false;
        }
        *plan = RowPlan { row, ..self.template };
        self.put_row_options(plan);
        if self.criterion.config.class_weighting == ClassWeighting::PerRow {
            plan.class_scale = self.row_class_weight(row);
        }
        for (class, share) in self.labels(row).into_iter().flatten() {
            let weight = self.class_weights().map_or(1.0, |weights| weights[class]);
            plan.hot[plan.hot_len] = Hot { class, share, weight, prior: 0.0 };
            plan.hot_len += 1;
        }
        if plan.epsilon > 0.0 {
            self.put_prior(plan, |class| self.is_excluded(class));
        }
        true
    }

    /// Works out what rows have in common.
    pub(super) fn prepare_rows(&mut self) {
        let config = &self.criterion.config;
        let mut plan = RowPlan { epsilon: config.label_smoothing, scale: 1.0, class_scale: 1.0, ..RowPlan::default() };
        if let Targets::Classes(labels) = self.batch.targets {
            plan.hot[0] = Hot { class: 0, share: 1.0, weight: 1.0, prior: 0.0 };
            plan.hot_len = 1;
            if config.label_smoothing > 0.0 || self.epsilons.is_some() {
                let mut of_excluded = plan;
                self.put_prior(&mut of_excluded, |_| true);
                self.put_prior(&mut plan, |_| false);
                self.of_excluded = (of_excluded.prior_scale, of_excluded.hot[0].prior);
            }
            self.labels = Some(labels);
        }
        self.template = plan;
        let given = self.epsilons.is_some() || self.row_weights.is_some() || self.batch.ignored.is_some();
        self.rows_differ = given || config.class_weights.is_some() || !(self.excluded.is_empty() && self.ignored_classes.is_empty());
    }

    /// The labels of a kept row with class indices, those with a share of 0 left out.
    fn labels(&self, row: usize) -> [Option<(usize, f64)>; 2] {
        match &self.batch.targets {
            Targets::Classes(indices) => [Some((indices.get(row) as usize, 1.0)), None],
            Targets::Mix { a, b, lambda } => {
                let (a, b) = (a.get(row) as usize, b.get(row) as usize);
                let lambda = match lambda {
                    Lambda::Scalar(lambda) => *lambda,
                    Lambda::Rows(rows) => rows[row],
                };
                match lambda {
                    1.0 => [Some((a, 1.0)), None],
                    0.0 => [Some((b, 1.0)), None],
                    _ if a == b => [Some((a, 1.0)), None],
                    _ => [Some((a, lambda)), Some((b, 1.0 - lambda))],
                }
            }
            Targets::Probabilities(_) => [None; 2],
        }
    }

    /// w̄ of a kept row: its class weight, the target's average of them for several; 1 without weights.
    pub(super) fn row_class_weight(&self, row: usize) -> f64 {
        let Some(weights) = &self.criterion.config.class_weights else { return 1.0 };
        let mut sum: f64 = self.labels(row).iter().flatten().map(|&(class, share)| share * weights[class]).sum();
        if self.criterion.config.class_weighting == ClassWeighting::PerRow {
            self.for_each_probability(row, |class, probability| sum += probability * weights[class]);
        }
        sum
    }

    /// Calls with each class and probability of a kept row of dense targets.
    pub(super) fn for_each_probability(&self, row: usize, mut call: impl FnMut(usize, f64)) {
        let mut block = [0.0; 256];
        let classes = if self.dense { self.classes } else { 0 };
        for start in (0..classes).step_by(block.len()) {
            let block = &mut block[..(classes - start).min(256)];
            self.fill_target(row, start, block);
            block.iter().enumerate().for_each(|(k, &probability)| call(start + k, probability));
        }
    }
}
