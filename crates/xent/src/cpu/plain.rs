//! Rows that nothing but their classes and statistics tells apart, folded many at a time: see
//! [`ClassFold`].

use super::call::Call;
use super::kernels::lanes::Lane;
use super::logit::Logit;
use crate::columns::Columns;
use crate::rules::{ClassFold, ClassFoldColumns, ClassFoldRows, PartsMut};

/// Some rows of such a call.
pub(super) struct PlainRows<R> {
    class_fold: ClassFold,
    /// Of all gradients.
    factor: f64,
    /// Each row's class; negative for an ignored row.
    classes: Vec<i32>,
    columns: ClassFoldColumns,
    factors: Columns<R, 3>,
}

impl<R: Lane> PlainRows<R> {
    /// Room for `len` rows of a call; `None` where more than that tells its rows apart. `v_mass` is
    /// the mass of v as kernels sum it.
    pub(super) fn new<T: Logit<Real = R>>(
        call: &Call<'_, T>,
        v_mass: f64,
        len: usize,
    ) -> Option<Self> {
        let factor = if call.has_gradient { call.factors.shared()? } else { 0.0 };
        if call.transform.softcap.is_some() {
            return None;
        }
        let class_fold = call.plan.class_fold(v_mass)?;
        Some(Self {
            factor: factor / call.transform.temperature,
            classes: vec![-1; len],
            columns: class_fold.rows(len),
            factors: Columns::new(len, R::ZERO),
            class_fold,
        })
    }

    /// The next rows' classes, and the columns for their statistics.
    #[inline(always)]
    pub(super) fn rows(&mut self) -> (&mut [i32], ClassFoldRows<'_>) {
        (&mut self.classes, ClassFoldRows::of(&mut self.columns))
    }

    /// Each row's class, and any for an ignored row.
    #[inline(always)]
    pub(super) fn class(&self, row: usize) -> usize {
        self.classes[row].max(0) as usize
    }

    /// What makes each row's gradient: the factors of exponentials and of v, and the entry at its
    /// class; 0 for an ignored row.
    #[inline(always)]
    pub(super) fn factors(&self) -> [&[R]; 3] {
        self.factors.all()
    }

    /// Adds the first `n` rows to `parts` and makes their factors; `false`, and nothing is done,
    /// where statistics are too extreme for that.
    #[inline(always)]
    pub(super) fn fold<T: Logit<Real = R>>(
        &mut self,
        n: usize,
        call: &Call<'_, T>,
        parts: &mut PartsMut<'_, R>,
    ) -> bool {
        let (classes, rows) = (&self.classes, &mut ClassFoldRows::of(&mut self.columns));
        if !rows.are_tame(n) {
            return false;
        }
        self.class_fold.fold(classes, rows);
        let any_ignored = classes[..n].iter().fold(0, |signs, class| signs | class) < 0;
        if any_ignored {
            (0..n).filter(|&row| classes[row] < 0).for_each(|row| rows.ignore(row));
        }
        parts.push_class_fold(rows, &classes[..n]);
        if !call.has_gradient {
            return true;
        }
        let (factor, len) = (self.factor, classes.len());
        let [on_exp, on_prior, at_class] =
            self.factors.all_mut().map(|numbers| &mut numbers[..len]);
        let (rest, exp_at_class) = (&rows.rest[..len], &rows.exp_at_class[..len]);
        let (alpha, gamma) = (&rows.alpha[..len], &rows.gamma[..len]);
        let (gamma_v, beta) = (&rows.gamma_v[..len], &rows.beta[..len]);
        for i in 0..len {
            let total = 1.0 + rest[i];
            on_exp[i] = R::from_f64(alpha[i] * factor / total);
            on_prior[i] = R::from_f64(gamma[i] * factor);
            let p = exp_at_class[i] / total;
            at_class[i] = T::to_be_rounded((alpha[i] * p - gamma_v[i] - beta[i]) * factor);
        }
        if any_ignored {
            for row in (0..n).filter(|&row| classes[row] < 0) {
                (on_exp[row], on_prior[row], at_class[row]) = (R::ZERO, R::ZERO, R::ZERO);
            }
        }
        true
    }
}
