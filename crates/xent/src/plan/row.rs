//! A row before its logits are read.

use super::{Plan, SharedPrior};
use crate::targets::Lambda;
use crate::{ClassWeighting, Prior, Targets};

/// What is known of a kept row before its logits are read.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    hot: [Hot; 2],
    hot_len: usize,
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
    pub fn hot(&self) -> &[Hot] {
        &self.hot[..self.hot_len]
    }
}

impl Plan<'_> {
    /// The plan of a row, `None` if it is ignored. `row` is less than [`rows`](Self::rows).
    pub fn row(&self, row: usize) -> Option<RowPlan> {
        if self.is_ignored(row) {
            return None;
        }
        let mut plan = RowPlan {
            row,
            epsilon: self.epsilon(row),
            scale: self.batch.row_weights.map_or(1.0, |weights| weights[row]),
            class_scale: if self.criterion.config.class_weighting == ClassWeighting::PerRow { self.row_class_weight(row) } else { 1.0 },
            prior_scale: None,
            hot: [Hot::default(); 2],
            hot_len: 0,
            target_mass: [0.0; 2],
        };
        let labels = self.labels(row);
        for (class, share) in labels.into_iter().flatten() {
            let weight = self.class_weights().map_or(1.0, |weights| weights[class]);
            plan.hot[plan.hot_len] = Hot { class, share, weight, prior: 0.0 };
            plan.hot_len += 1;
        }
        if plan.epsilon > 0.0 {
            self.put_prior(&mut plan);
        }
        Some(plan)
    }

    fn put_prior(&self, plan: &mut RowPlan) {
        match &self.criterion.config.prior {
            Prior::Uniform => plan.prior_scale = Some(1.0 / self.classes as f64),
            Prior::Fixed(_) | Prior::ByTrueClass(_) => plan.prior_scale = Some(1.0),
            Prior::WrongClasses | Prior::Excluding(_) if self.dense_targets() => {
                plan.prior_scale = Some(1.0);
                self.for_each_probability(plan.row, |class, probability| plan.target_mass[usize::from(self.is_excluded(class))] += probability);
            }
            Prior::WrongClasses | Prior::Excluding(_) => {
                let mut scale = 0.0;
                for hot in &mut plan.hot[..plan.hot_len] {
                    let excluded = self.is_excluded(hot.class);
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

    pub(super) fn is_excluded(&self, class: usize) -> bool {
        self.excluded.binary_search(&class).is_ok()
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

    fn epsilon(&self, row: usize) -> f64 {
        self.batch.epsilon.map_or(self.criterion.config.epsilon, |epsilon| epsilon[row])
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
        let classes = if self.dense_targets() { self.classes } else { 0 };
        for start in (0..classes).step_by(block.len()) {
            let block = &mut block[..(classes - start).min(256)];
            self.fill_target(row, start, block);
            block.iter().enumerate().for_each(|(k, &probability)| call(start + k, probability));
        }
    }
}
