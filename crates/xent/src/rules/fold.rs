//! From a row's statistics to its loss, its parts and the coefficients of its gradient.
//!
//! With m = max z, R = ln(1 + rest) and the coefficients of [`RowPlan`], SEMANTICS.md S4 becomes
//! (S13.4, v after class weights)
//!
//! ```text
//! nll       = W·[Σ hard_j·R + Σ hard_j (m − z_j)]
//! smoothing = W·ε·[(σ·Σ v + Σ π_j)·R + σ·Σ v_k (m − z_k) + Σ π_j (m − z_j)]
//! loss      = (1−ε)·nll + smoothing + λ·lse²
//! ```
//!
//! Every sum has terms ≥ 0 only, except for the corrections π_j of priors over the wrong classes,
//! so nothing cancels. 0·∞ is 0 (S1).

use super::floor::{FloorMemo, FloorOf, closed_floor};
use super::plan::Plan;
use super::row::{Hot, RowPlan};
use super::stats::RowStats;
use super::table::ClassTable;
use crate::Form;

/// The contribution of a row to the batch, including the row weight.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowParts {
    /// L.
    pub loss: f64,
    /// Σ t ℓ.
    pub nll: f64,
    /// ε Σ u ℓ.
    pub smoothing: f64,
    /// λ·lse².
    pub z_loss: f64,
    /// The lowest cross-entropy.
    pub floor: f64,
    /// ln Σ e^z, without the row weight.
    pub lse: f64,
    /// Whether the largest logit is the target's largest class.
    pub correct: bool,
    /// The first class with the largest logit; `None` for a row of NaN.
    pub argmax: Option<usize>,
}

/// The gradient with respect to the transformed logits, before the row weight: `α·p_k − y_k` with
/// `y_k = τ·t_k + γ·v_k + Σ_j β_j·[k = hot_j]`. [`RowGradient`](super::RowGradient) is the whole
/// formula.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Coefficients {
    /// On softmax(z).
    pub alpha: f64,
    /// On a dense target (after class weights).
    pub tau: f64,
    /// On the prior's v (after class weights).
    pub gamma: f64,
    /// On [`RowPlan::hot`]'s classes.
    pub beta: [f64; 2],
}

/// The result of [`Plan::fold`] for a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Folded {
    /// The coefficients of the gradient. All are NaN for a row with NaN or +∞, or with only masked
    /// classes.
    pub coefficients: Coefficients,
    /// The floor, if it follows from scalars. Otherwise it is Σ −y_k ln(y_k/Y) with y of
    /// [`Coefficients`] and Y from [`target_mass`](Self::target_mass).
    pub floor: Option<f64>,
    parts: RowParts,
    form: Form,
    scale: f64,
    target_mass: f64,
}

impl Folded {
    /// Y = Σ y_k, the mass of the smoothed, weighted target.
    pub fn target_mass(&self) -> f64 {
        self.target_mass
    }

    /// The parts of the row, given its floor.
    #[inline]
    pub fn parts(&self, floor: f64) -> RowParts {
        let part = self.parts;
        let minus = if self.form == Form::KlDivergence { floor } else { 0.0 };
        RowParts {
            loss: self.scale * (part.loss - minus),
            nll: self.scale * part.nll,
            smoothing: self.scale * part.smoothing,
            z_loss: self.scale * part.z_loss,
            floor: self.scale * floor,
            ..part
        }
    }

    /// The row weight: multiplies the gradient.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Whether the row holds NaN or +∞, or only masked classes.
    pub fn is_nan(&self) -> bool {
        self.parts.lse.is_nan()
    }
}

/// A prior after its masks: cross-entropy to it, its (weighted) mass, and what the gradient
/// subtracts.
struct FoldedPrior {
    cross_entropy: f64,
    mass: f64,
    gamma: f64,
    hot: [f64; 2],
}

impl Plan<'_> {
    /// Combines the coefficients of a kept row with the statistics of all its classes. `memo` is a
    /// cache of floors and does not change the result.
    #[inline]
    pub fn fold(&self, row: &RowPlan, stats: &RowStats, memo: &mut FloorMemo) -> Folded {
        self.fold_with(row, stats, stats.rest.ln_1p(), memo)
    }

    /// [`fold`](Self::fold) where ln(1 + rest) is known.
    #[inline]
    pub(crate) fn fold_with(
        &self,
        row: &RowPlan,
        stats: &RowStats,
        log1p_rest: f64,
        memo: &mut FloorMemo,
    ) -> Folded {
        let folder = self.folder();
        if row.hot().len() == 1 && stats.max.is_finite() && !stats.rest.is_nan() {
            return folder.fold_hot::<1>(row, stats, log1p_rest, memo);
        }
        // Taken apart and reassembled, so that a row of one class stays in registers.
        let Folded { coefficients, floor, parts, form, scale, target_mass } =
            folder.fold_other(row, stats, log1p_rest, memo);
        Folded { coefficients, floor, parts, form, scale, target_mass }
    }

    #[inline(always)]
    fn folder(&self) -> Folder<'_> {
        Folder { table: &self.table, z_loss: self.z_loss }
    }
}

/// What a fold needs of the criterion.
#[derive(Clone, Copy)]
struct Folder<'p> {
    table: &'p ClassTable<'p>,
    /// λ as scaled by [`Denominators::z_loss`](super::denominator::Denominators::z_loss).
    z_loss: f64,
}

impl Folder<'_> {
    #[inline(never)]
    fn fold_other(
        self,
        row: &RowPlan,
        stats: &RowStats,
        log1p_rest: f64,
        memo: &mut FloorMemo,
    ) -> Folded {
        if !stats.max.is_finite() || stats.rest.is_nan() {
            return self.fold_nan(row);
        }
        match row.hot().len() {
            0 => self.fold_hot::<0>(row, stats, log1p_rest, memo),
            1 => self.fold_hot::<1>(row, stats, log1p_rest, memo),
            _ => self.fold_hot::<2>(row, stats, log1p_rest, memo),
        }
    }

    /// Folds a row with `HOT` hot classes; dense targets have none.
    #[inline(always)]
    fn fold_hot<const HOT: usize>(
        self,
        row: &RowPlan,
        stats: &RowStats,
        r: f64,
        memo: &mut FloorMemo,
    ) -> Folded {
        let hots: &[Hot; HOT] = row.hots();
        let lse = stats.max + r;
        let epsilon = row.epsilon;

        let (mut target_mass, mut target_shifted) = (0.0, 0.0);
        if HOT == 0 {
            target_mass = stats.target.mass + stats.target.masked_mass;
            target_shifted =
                if stats.target.masked > 0 { f64::INFINITY } else { stats.target.shifted };
        }
        for (hot, z) in hots.iter().zip(stats.hot) {
            let mass = hot.share * hot.weight;
            target_mass += mass;
            target_shifted += times(mass, stats.max - z);
        }
        let nll = target_mass * r + target_shifted;

        let (tau, prior) = match self.fold_prior(row, hots, stats, r) {
            Some(prior) => (1.0 - epsilon, prior),
            None => (
                1.0,
                FoldedPrior { cross_entropy: nll, mass: target_mass, gamma: 0.0, hot: [0.0; 2] },
            ),
        };
        let class_scale = row.class_scale;
        let mut beta = [0.0; 2];
        for (beta, (hot, prior)) in beta.iter_mut().zip(hots.iter().zip(prior.hot)) {
            *beta = class_scale * (tau * hot.share * hot.weight + epsilon * prior);
        }
        let mass = class_scale * ((1.0 - epsilon) * target_mass + epsilon * prior.mass);
        let nll = class_scale * nll;
        let smoothing = class_scale * times(epsilon, prior.cross_entropy);
        let z_loss = self.z_loss * lse * lse;

        let coefficients = Coefficients {
            alpha: mass + 2.0 * self.z_loss * lse,
            tau: if HOT == 0 { class_scale * tau } else { 0.0 },
            gamma: class_scale * epsilon * prior.gamma,
            beta,
        };
        Folded {
            coefficients,
            floor: closed_floor(
                self.table,
                hots,
                stats,
                FloorOf { gamma: coefficients.gamma, beta, total: mass },
                memo,
            ),
            parts: RowParts {
                loss: times(1.0 - epsilon, nll) + smoothing + z_loss,
                nll,
                smoothing,
                z_loss,
                floor: f64::NAN,
                lse,
                correct: stats.argmax == largest(hots).unwrap_or(stats.target_argmax),
                argmax: Some(stats.argmax),
            },
            form: self.table.config().form,
            scale: row.scale,
            target_mass: mass,
        }
    }

    /// `None` if the prior is the target itself: ε = 0, or nowhere to go.
    #[inline(always)]
    fn fold_prior<const HOT: usize>(
        self,
        row: &RowPlan,
        hots: &[Hot; HOT],
        stats: &RowStats,
        r: f64,
    ) -> Option<FoldedPrior> {
        if row.epsilon == 0.0 {
            return None;
        }
        let scale = row.prior_scale.unwrap_or(0.0);
        let mut mass = scale * (stats.prior.mass + stats.prior.masked_mass);
        let mut shifted = scale * stats.prior.shifted;
        let mut infinite = stats.prior.masked;
        let mut on_hot = [0.0; 2];
        for ((on_hot, hot), z) in on_hot.iter_mut().zip(hots).zip(stats.hot) {
            let masked = z == f64::NEG_INFINITY;
            if masked && self.table.renormalises() {
                continue;
            }
            let prior = hot.prior * hot.weight;
            mass += prior;
            *on_hot = prior;
            if masked {
                infinite = self.masked_correction(scale, hot, infinite);
            } else {
                shifted += prior * (stats.max - z);
            }
        }
        let factor =
            if self.table.renormalises() { renormalisation(row, stats, scale)? } else { 1.0 };
        if infinite > 0 {
            shifted = f64::INFINITY;
        }
        let on_hot = on_hot.map(|prior| factor * prior);
        Some(FoldedPrior {
            cross_entropy: factor * (mass * r + shifted),
            mass: factor * mass,
            gamma: factor * scale,
            hot: on_hot,
        })
    }

    /// The number of masked classes with mass of the prior, after the correction at a hot class:
    /// that may cancel the mass of v there, or add mass where v has none.
    #[cold]
    fn masked_correction(self, scale: f64, hot: &Hot, infinite: usize) -> usize {
        let (v, prior) = (self.table.prior_at(hot.class), hot.prior * hot.weight);
        if v > 0.0 && scale * v + prior == 0.0 {
            // Saturating: a weight too small for f32 was not counted.
            infinite.saturating_sub(1)
        } else {
            infinite + usize::from(prior > 0.0)
        }
    }

    #[cold]
    fn fold_nan(self, row: &RowPlan) -> Folded {
        let nan = f64::NAN;
        Folded {
            coefficients: Coefficients { alpha: nan, tau: nan, gamma: nan, beta: [nan; 2] },
            floor: Some(nan),
            parts: RowParts {
                loss: nan,
                nll: nan,
                smoothing: nan,
                z_loss: nan,
                floor: nan,
                lse: nan,
                correct: false,
                argmax: None,
            },
            form: self.table.config().form,
            scale: row.scale,
            target_mass: nan,
        }
    }
}

/// The class with the largest share of the target, the first on ties.
#[inline]
fn largest(hots: &[Hot]) -> Option<usize> {
    hots.iter().reduce(|a, b| if b.share > a.share { b } else { a }).map(|hot| hot.class)
}

/// The mass of the prior divided by its mass on the classes that are not masked; `None` if that is
/// 0.
#[inline(never)]
fn renormalisation(row: &RowPlan, stats: &RowStats, scale: f64) -> Option<f64> {
    let (mut open, mut all) =
        (scale * stats.open_prior, scale * (stats.open_prior + stats.closed_prior));
    for (hot, z) in row.hot().iter().zip(stats.hot) {
        all += hot.prior;
        open += if z == f64::NEG_INFINITY { 0.0 } else { hot.prior };
    }
    (open > 0.0).then(|| all / open)
}

/// a·b with 0·∞ = 0.
#[inline]
fn times(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a * b }
}
