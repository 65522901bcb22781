//! F: from a row's statistics to its loss, its parts and the scalars of its gradient. All semantics of a row are here.

use super::{Plan, RowPlan, RowStats, SharedPrior};
use crate::Form;

/// A row's contribution to the batch, row weight included.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// ln Σ e^z; without the row weight.
    pub lse: f64,
    /// Whether the largest logit is the target's largest class.
    pub correct: bool,
}

/// The gradient with respect to the transformed logits, before the row weight: `α·p_k − y_k` with `y_k = τ·t_k + γ·v_k + Σ_j β_j·[k = hot_j]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowGradient {
    /// On softmax(z).
    pub alpha: f64,
    /// On a dense target (after class weights).
    pub tau: f64,
    /// On the prior's v (after class weights).
    pub gamma: f64,
    /// On [`RowPlan::hot`]'s classes.
    pub beta: [f64; 2],
}

/// What [`Plan::fold`] makes of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Folded {
    /// The gradient's scalars; all NaN for a row that holds NaN or +∞, or only masked classes.
    pub gradient: RowGradient,
    /// The floor, where it follows from scalars. Where it does not, it is Σ −y_k ln(y_k/Y) with y of [`RowGradient`] and Y from [`target_mass`](Self::target_mass).
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

    /// The row's parts, given its floor.
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

/// A prior after its masks: cross-entropy to it, its (weighted) mass, and what the gradient subtracts.
struct FoldedPrior {
    cross_entropy: f64,
    mass: f64,
    gamma: f64,
    hot: [f64; 2],
}

impl Plan<'_> {
    /// Folds a row's statistics. See SEMANTICS.md S3 to S9; every sum here has terms ≥ 0 only (but for the corrections of priors on the wrong classes).
    pub fn fold(&self, row: &RowPlan, stats: &RowStats) -> Folded {
        if !stats.max.is_finite() || stats.rest.is_nan() {
            return self.fold_nan(row);
        }
        let r = stats.rest.ln_1p();
        let lse = stats.max + r;
        let epsilon = row.epsilon;

        let (mut target_mass, mut target_shifted) = (stats.target.mass + stats.target.masked_mass, stats.target.shifted);
        if stats.target.masked > 0 {
            target_shifted = f64::INFINITY;
        }
        for (hot, z) in row.hot().iter().zip(stats.hot) {
            let mass = hot.share * hot.weight;
            target_mass += mass;
            target_shifted += times(mass, stats.max - z);
        }
        let nll = target_mass * r + target_shifted;

        let (tau, prior) = match self.fold_prior(row, stats, r) {
            Some(prior) => (1.0 - epsilon, prior),
            None => (1.0, FoldedPrior { cross_entropy: nll, mass: target_mass, gamma: 0.0, hot: [0.0; 2] }),
        };
        let class_scale = row.class_scale;
        let mut beta = [0.0; 2];
        for (beta, (hot, prior)) in beta.iter_mut().zip(row.hot().iter().zip(prior.hot)) {
            *beta = class_scale * (tau * hot.share * hot.weight + epsilon * prior);
        }
        let mass = class_scale * ((1.0 - epsilon) * target_mass + epsilon * prior.mass);
        let nll = class_scale * nll;
        let smoothing = class_scale * times(epsilon, prior.cross_entropy);
        let z_weight = self.criterion.config.z_loss;
        let z_loss = z_weight * lse * lse;

        let gradient = RowGradient {
            alpha: mass + 2.0 * z_weight * lse,
            tau: if self.dense_targets() { class_scale * tau } else { 0.0 },
            gamma: class_scale * epsilon * prior.gamma,
            beta,
        };
        let largest = row.hot().iter().reduce(|a, b| if b.share > a.share { b } else { a });
        Folded {
            gradient,
            floor: self.closed_floor(row, stats, &gradient, mass),
            parts: RowParts {
                loss: times(1.0 - epsilon, nll) + smoothing + z_loss,
                nll,
                smoothing,
                z_loss,
                floor: f64::NAN,
                lse,
                correct: stats.argmax == largest.map_or(stats.target_argmax, |hot| hot.class),
            },
            form: self.criterion.config.form,
            scale: row.scale,
            target_mass: mass,
        }
    }

    /// `None` where the prior is the target itself: ε = 0, or nowhere to go.
    fn fold_prior(&self, row: &RowPlan, stats: &RowStats, r: f64) -> Option<FoldedPrior> {
        if row.epsilon == 0.0 {
            return None;
        }
        let renormalises = self.renormalises();
        let scale = row.prior_scale.unwrap_or(0.0);
        let mut mass = scale * (stats.prior.mass + stats.prior.masked_mass);
        let mut shifted = scale * stats.prior.shifted;
        let (mut open, mut all) = (scale * stats.open_prior, scale * (stats.open_prior + stats.closed_prior));
        let mut infinite = stats.prior.masked;
        let mut hots = [0.0; 2];
        for (j, (hot, &z)) in row.hot().iter().zip(&stats.hot).enumerate() {
            let masked = z == f64::NEG_INFINITY;
            let prior = hot.prior * hot.weight;
            all += hot.prior;
            if masked && renormalises {
                continue;
            }
            open += hot.prior;
            mass += prior;
            hots[j] = prior;
            if !masked {
                shifted += prior * (stats.max - z);
                continue;
            }
            // What v puts on a masked class, the correction may take off again; what it adds without v is its own.
            let v = self.shared_prior_at(hot.class);
            if v > 0.0 && scale * v + prior == 0.0 {
                // Saturating: a weight too small for f32 was not counted.
                infinite = infinite.saturating_sub(1);
            } else if prior > 0.0 {
                infinite += 1;
            }
        }
        let mut factor = 1.0;
        if renormalises {
            if open <= 0.0 {
                return None;
            }
            factor = all / open;
        }
        if infinite > 0 {
            shifted = f64::INFINITY;
        }
        Some(FoldedPrior { cross_entropy: factor * (mass * r + shifted), mass: factor * mass, gamma: factor * scale, hot: hots.map(|prior| factor * prior) })
    }

    /// The floor from scalars: Σ over v in closed form, then the hot classes exchanged for what they really are.
    fn closed_floor(&self, row: &RowPlan, stats: &RowStats, target: &RowGradient, total: f64) -> Option<f64> {
        let uniform = self.uniform_prior();
        let shared = uniform || !(self.renormalises() || matches!(self.prior, SharedPrior::PerRow));
        if self.dense_targets() || (target.gamma > 0.0 && !shared) {
            return None;
        }
        if total == 0.0 {
            return Some(0.0);
        }
        // The count of open classes where masks renormalise, of all classes where they do not.
        let mass = if uniform { stats.prior.mass + stats.prior.masked_mass } else { self.shared_mass };
        let mut sum = target.gamma * self.shared_xlogx + mass * relative_entropy_term(target.gamma, total);
        for ((hot, &beta), z) in row.hot().iter().zip(&target.beta).zip(stats.hot) {
            let out = self.renormalises() && z == f64::NEG_INFINITY;
            let v = if out { 0.0 } else { target.gamma * self.shared_prior_at(hot.class) };
            sum += relative_entropy_term(v + beta, total) - relative_entropy_term(v, total);
        }
        // Not −sum: that would be −0 where there is nothing to sum.
        Some(0.0 - sum)
    }

    fn fold_nan(&self, row: &RowPlan) -> Folded {
        let nan = f64::NAN;
        Folded {
            gradient: RowGradient { alpha: nan, tau: nan, gamma: nan, beta: [nan; 2] },
            floor: Some(nan),
            parts: RowParts { loss: nan, nll: nan, smoothing: nan, z_loss: nan, floor: nan, lse: nan, correct: false },
            form: self.criterion.config.form,
            scale: row.scale,
            target_mass: nan,
        }
    }
}

/// a·b with 0·∞ = 0.
fn times(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a * b }
}

/// y ln(y/total), 0 for y = 0 (and for what rounding leaves below it).
pub(crate) fn relative_entropy_term(y: f64, total: f64) -> f64 {
    if y > 0.0 { y * (y / total).ln() } else { 0.0 }
}
