//! Folds many rows at once, if they differ only in class and statistics: one class per row, one ε,
//! nothing masked.
//!
//! It performs the operations of [`Plan::fold`] on arrays, one by one, so both give the same bits.
//! What a class contributes is read from a table: the [`ClassTable`](super::ClassTable)'s columns
//! and what follows from them and the criterion's ε.

use super::floor::FloorMemo;
use super::plan::Plan;
use super::stats::RowStats;
use crate::Form;
use crate::columns::Columns;

/// The number of rows per class from which on it pays to compute the terms of every class.
const ROWS_PER_CLASS: usize = 4;

/// What the rows of such a batch have in common.
pub(crate) struct ClassFold {
    epsilon: f64,
    z_loss: f64,
    form: Form,
    /// On v.
    prior_scale: f64,
    /// The mass of v.
    mass: f64,
    /// One per class, or one for all.
    terms: Vec<Terms>,
}

/// What follows from the class of a row.
#[derive(Clone, Copy, Default)]
struct Terms {
    /// The class weight on terms, and the one on whole rows.
    weight: f64,
    class_scale: f64,
    /// The correction of the prior at the class.
    prior: f64,
    floor: f64,
    /// Coefficients of the gradient: of softmax without z-loss, of v, and what is subtracted at the
    /// class.
    alpha: f64,
    gamma: f64,
    gamma_v: f64,
    beta: f64,
}

/// The memory of [`ClassFoldRows`].
pub(crate) type ClassFoldColumns = Columns<f64, 21>;

/// Statistics of some rows, and their parts; see [`RowStats`] and [`RowParts`](super::RowParts).
pub(crate) struct ClassFoldRows<'r> {
    pub(crate) max: &'r mut [f64],
    pub(crate) argmax: &'r mut [f64],
    pub(crate) rest: &'r mut [f64],
    pub(crate) log1p_rest: &'r mut [f64],
    /// max − z at the class.
    pub(crate) below: &'r mut [f64],
    /// e^(z − max) there.
    pub(crate) exp_at_class: &'r mut [f64],
    pub(crate) shifted: &'r mut [f64],
    weight: &'r mut [f64],
    class_scale: &'r mut [f64],
    prior: &'r mut [f64],
    pub(crate) floor: &'r mut [f64],
    alpha_without_z_loss: &'r mut [f64],
    pub(crate) gamma: &'r mut [f64],
    pub(crate) gamma_v: &'r mut [f64],
    pub(crate) beta: &'r mut [f64],
    pub(crate) loss: &'r mut [f64],
    pub(crate) nll: &'r mut [f64],
    pub(crate) smoothing: &'r mut [f64],
    pub(crate) z_loss: &'r mut [f64],
    pub(crate) lse: &'r mut [f64],
    /// α.
    pub(crate) alpha: &'r mut [f64],
}

impl<'r> ClassFoldRows<'r> {
    #[inline(always)]
    pub(crate) fn of(columns: &'r mut ClassFoldColumns) -> Self {
        let [
            max,
            argmax,
            rest,
            log1p_rest,
            below,
            exp_at_class,
            shifted,
            weight,
            class_scale,
            prior,
            floor,
            alpha_without_z_loss,
            gamma,
            gamma_v,
            beta,
            loss,
            nll,
            smoothing,
            z_loss,
            lse,
            alpha,
        ] = columns.all_mut();
        Self {
            max,
            argmax,
            rest,
            log1p_rest,
            below,
            exp_at_class,
            shifted,
            weight,
            class_scale,
            prior,
            floor,
            alpha_without_z_loss,
            gamma,
            gamma_v,
            beta,
            loss,
            nll,
            smoothing,
            z_loss,
            lse,
            alpha,
        }
    }

    /// Whether the first `n` are far enough from the limits of f64 for all parts to be finite.
    #[inline(always)]
    pub(crate) fn are_tame(&self, n: usize) -> bool {
        const TAME: f64 = 1e100;
        let tame = |values: &[f64]| {
            values[..n].iter().fold(true, |tame, value| tame & (value.abs() < TAME))
        };
        tame(self.max) & tame(self.log1p_rest) & tame(self.below) & tame(self.shifted)
    }

    /// Clears an ignored row.
    pub(crate) fn ignore(&mut self, row: usize) {
        for part in [
            &mut *self.loss,
            &mut *self.nll,
            &mut *self.smoothing,
            &mut *self.z_loss,
            &mut *self.floor,
            &mut *self.lse,
        ] {
            part[row] = 0.0;
        }
    }
}

impl Plan<'_> {
    /// What rows have in common, if they differ only in class and statistics. `v_mass` is the mass
    /// of v as backends sum it.
    pub(crate) fn class_fold(&self, v_mass: f64) -> Option<ClassFold> {
        let config = self.table.config();
        let given = self.labels.epsilons.is_some()
            || self.labels.row_weights.is_some()
            || self.labels.batch.allowed.is_some();
        let by_label = self.labels.single.is_some() && self.labels.keeps_every_class();
        if !by_label || given || self.table.renormalises() || !self.table.excluded().is_empty() {
            return None;
        }
        let classes = if config.class_weights.is_none() && self.table.is_uniform() {
            1
        } else {
            self.classes()
        };
        if classes > 1 && self.rows() / ROWS_PER_CLASS < classes {
            return None;
        }
        let terms = (0..classes).map(|class| self.terms(class, v_mass)).collect::<Option<_>>()?;
        let prior_scale = self.source().of_class(0).prior_scale.unwrap_or(0.0);
        Some(ClassFold {
            epsilon: config.label_smoothing,
            z_loss: self.z_loss,
            form: config.form,
            prior_scale,
            mass: v_mass,
            terms,
        })
    }

    /// The fold of any row of a class contains what all rows of the class share.
    fn terms(&self, class: usize, v_mass: f64) -> Option<Terms> {
        let plan = self.source().of_class(class);
        let mut stats = RowStats::new(0.0, 0, 0.0).with_hot(0, 0.0);
        if plan.prior_scale.is_some() {
            stats.prior.mass = v_mass;
        }
        let folded = self.fold(&plan, &stats, &mut FloorMemo::new(1));
        let (coefficients, hot, mut v) = (folded.coefficients, plan.hot()[0], [0.0]);
        self.fill_prior(&plan, class, &mut v);
        Some(Terms {
            weight: hot.weight,
            class_scale: plan.class_scale,
            prior: hot.prior * hot.weight,
            floor: folded.floor?,
            // At lse = 0 the z-loss contributes nothing.
            alpha: coefficients.alpha,
            gamma: coefficients.gamma,
            gamma_v: coefficients.gamma * v[0] * hot.weight,
            beta: coefficients.beta[0],
        })
    }
}

impl ClassFold {
    /// Room for so many rows.
    pub(crate) fn rows(&self, rows: usize) -> ClassFoldColumns {
        let mut columns = Columns::new(rows, 0.0);
        let all = ClassFoldRows::of(&mut columns);
        if let [terms] = self.terms[..] {
            all.weight.fill(terms.weight);
            all.class_scale.fill(terms.class_scale);
            all.prior.fill(terms.prior);
            all.alpha_without_z_loss.fill(terms.alpha);
            all.gamma.fill(terms.gamma);
            all.gamma_v.fill(terms.gamma_v);
            all.beta.fill(terms.beta);
        }
        columns
    }

    /// The parts of rows of these classes from their statistics. A negative class is an ignored
    /// row, whose parts are meaningless.
    #[inline(always)]
    pub(crate) fn fold(&self, classes: &[i32], rows: &mut ClassFoldRows<'_>) {
        if let [terms] = self.terms[..] {
            rows.floor.fill(terms.floor);
        } else {
            self.put_terms(classes, rows);
        }
        let n = rows.max.len();
        let (max, log1p_rest, below, shifted) =
            (&rows.max[..n], &rows.log1p_rest[..n], &rows.below[..n], &rows.shifted[..n]);
        let (weight, class_scale, prior, floor) =
            (&rows.weight[..n], &rows.class_scale[..n], &rows.prior[..n], &rows.floor[..n]);
        let (loss, nll, smoothing, z_loss) = (
            &mut rows.loss[..n],
            &mut rows.nll[..n],
            &mut rows.smoothing[..n],
            &mut rows.z_loss[..n],
        );
        let (lse, alpha, alpha_without) =
            (&mut rows.lse[..n], &mut rows.alpha[..n], &rows.alpha_without_z_loss[..n]);
        let mass = self.prior_scale * self.mass;
        let smooth = if self.epsilon == 0.0 { 0.0 } else { 1.0 };
        let hard = if self.epsilon == 1.0 { 0.0 } else { 1.0 - self.epsilon };
        let floors = if self.form == Form::KlDivergence { 1.0 } else { 0.0 };
        for i in 0..n {
            let r = log1p_rest[i];
            lse[i] = max[i] + r;
            nll[i] = class_scale[i] * (weight[i] * r + weight[i] * below[i]);
            let cross_entropy =
                (mass + prior[i]) * r + (self.prior_scale * shifted[i] + prior[i] * below[i]);
            smoothing[i] = smooth * (class_scale[i] * (self.epsilon * cross_entropy));
            z_loss[i] = self.z_loss * lse[i] * lse[i];
            loss[i] = (hard * nll[i] + smoothing[i] + z_loss[i]) - floors * floor[i];
            alpha[i] = alpha_without[i] + 2.0 * self.z_loss * lse[i];
        }
    }

    /// Where classes differ, each row's terms.
    #[inline(always)]
    fn put_terms(&self, classes: &[i32], rows: &mut ClassFoldRows<'_>) {
        let first = rows
            .weight
            .iter_mut()
            .zip(&mut *rows.class_scale)
            .zip(&mut *rows.prior)
            .zip(&mut *rows.floor);
        let second = rows
            .alpha_without_z_loss
            .iter_mut()
            .zip(&mut *rows.gamma)
            .zip(&mut *rows.gamma_v)
            .zip(&mut *rows.beta);
        for ((class, (((weight, class_scale), prior), floor)), (((alpha, gamma), gamma_v), beta)) in
            classes.iter().zip(first).zip(second)
        {
            let terms = self.terms[(*class).max(0) as usize];
            (*weight, *class_scale, *prior, *floor) =
                (terms.weight, terms.class_scale, terms.prior, terms.floor);
            (*alpha, *gamma, *gamma_v, *beta) =
                (terms.alpha, terms.gamma, terms.gamma_v, terms.beta);
        }
    }
}
