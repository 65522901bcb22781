//! The gradient of a row: one formula with its exceptions. SEMANTICS.md S7, S8, S9 and S13.5.

use super::fold::Folded;
use super::plan::Plan;
use super::row::RowPlan;
use super::stats::RowStats;
use super::transform::Transform;
use crate::{EmptyMean, InputError, Reduction, Upstream};

/// The factors from the gradients of row losses to that of the reduced loss.
#[derive(Debug, Clone, Copy)]
pub struct GradientFactors<'a> {
    /// Upstream: for all rows, or in their place one per row.
    scalar: f64,
    rows: Option<&'a [f64]>,
    denominator: f64,
    zero: bool,
}

impl GradientFactors<'_> {
    /// The upstream gradient, divided by the denominator of a mean; `None` if the gradient of every
    /// row is 0.
    #[inline]
    pub fn of(&self, row: usize) -> Option<f64> {
        let upstream = self.rows.map_or(self.scalar, |rows| rows[row]);
        if self.zero { None } else { Some(upstream / self.denominator) }
    }

    /// The factor of all rows; `None` if it differs between rows, or if there is none.
    pub(crate) fn shared(&self) -> Option<f64> {
        if self.rows.is_none() { self.of(0) } else { None }
    }
}

impl Plan<'_> {
    /// The factors of the gradients of the rows: upstream, divided by the denominator for a mean.
    ///
    /// # Errors
    /// [`InputError`] if the number of upstream gradients is not the number of rows, or if there is
    /// more than one for a reduced loss.
    pub fn gradient_factors<'u>(
        &self,
        upstream: &'u Upstream<'_>,
    ) -> Result<GradientFactors<'u>, InputError> {
        let config = self.table.config();
        let mean = config.reduction == Reduction::Mean;
        let (scalar, rows): (f64, Option<&[f64]>) = match upstream {
            Upstream::Scalar(scalar) => (*scalar, None),
            Upstream::Rows(rows) => (0.0, Some(rows)),
        };
        if let Some(rows) = rows {
            if config.reduction != Reduction::None {
                return Err(InputError::Combination(
                    "upstream gradients per row need reduction none, expected one number for a reduced loss",
                ));
            }
            if rows.len() != self.rows() {
                return Err(InputError::Length {
                    name: "upstream",
                    len: rows.len(),
                    expected: self.rows(),
                    what: "one per row",
                });
            }
        }
        let empty = mean && self.denominator() == 0.0;
        let denominator = match (mean, empty) {
            (false, _) => 1.0,
            (true, true) => f64::NAN,
            (true, false) => self.denominator(),
        };
        Ok(GradientFactors {
            scalar,
            rows,
            denominator,
            zero: empty && config.empty_mean == EmptyMean::Zero,
        })
    }
}

/// The gradient of a row with respect to its logits:
///
/// ```text
/// ∂/∂logit_k = (α·p_k − γ·v_k − τ·t_k − Σ_j β_j·[k = hot_j]) · factor · slope_k
/// p_k = e^(z_k − max)/(1 + rest)      factor = r·upstream/(D·T)      slope_k = 1, or 1 − (z_k/cap)² under a softcap
/// ```
///
/// v and t are after class weights. The exceptions, the first that applies:
///
/// 1. an ignored row, or an empty mean that is 0: every entry is 0;
/// 2. a class that the allowed-class mask forbids: 0;
/// 3. a row with NaN or +∞, or with only masked classes: NaN, also on masked classes;
/// 4. a masked class (z = −∞) if masks renormalise the prior: 0;
/// 5. under a softcap the slope at z = −∞ is 0.
///
/// [`entry`](Self::entry) is this formula. A kernel forms all entries except those of hot classes
/// itself, from [`on_exp`](Self::on_exp), [`on_prior`](Self::on_prior) and
/// [`on_target`](Self::on_target). At the hot classes p and y nearly cancel, so their entries are
/// formed in f64 ([`hot_entry`](Self::hot_entry)) and rounded once.
#[derive(Debug, Clone, Copy)]
pub struct RowGradient<'p> {
    pub(crate) plan: &'p RowPlan,
    pub(crate) stats: &'p RowStats,
    folded: &'p Folded,
    softcap: Option<f64>,
    /// upstream·r / (D·T).
    factor: f64,
}

/// What the formulas need of a class.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ClassEntry {
    /// The class.
    pub class: usize,
    /// Its transformed logit; −∞ where it is masked.
    pub z: f64,
    /// v at the class, and t for a dense target; before class weights.
    pub prior: f64,
    /// See `prior`.
    pub target: f64,
}

impl ClassEntry {
    /// A class, its transformed logit, and its entries of v and t (0 where there are none).
    pub fn new(class: usize, z: f64, prior: f64, target: f64) -> Self {
        Self { class, z, prior, target }
    }
}

impl Plan<'_> {
    /// y'_k, the smoothed and weighted target at the class: `γ·v_k + τ·t_k + Σ_j β_j·[k = hot_j]`.
    pub fn target_entry(&self, row: &RowPlan, folded: &Folded, at: &ClassEntry) -> f64 {
        let of = folded.coefficients;
        let weight = self.table.class_weights().map_or(1.0, |weights| weights[at.class]);
        let on_hot: f64 = row
            .hot()
            .iter()
            .zip(of.beta)
            .map(|(hot, beta)| if hot.class == at.class { beta } else { 0.0 })
            .sum();
        let gamma =
            if at.z == f64::NEG_INFINITY && self.table.renormalises() { 0.0 } else { of.gamma };
        gamma * at.prior * weight + of.tau * at.target * weight + on_hot
    }
}

impl<'p> RowGradient<'p> {
    /// `factor` is [`GradientFactors::of`] the row. `Err(value)` means that every entry has this
    /// value (exceptions 1 and 3; exception 2 still applies).
    ///
    /// # Errors
    /// None: `Err` is a result.
    #[inline(always)]
    pub fn new(
        plan: &'p RowPlan,
        stats: &'p RowStats,
        folded: &'p Folded,
        factor: Option<f64>,
        transform: Transform,
    ) -> Result<Self, f64> {
        match factor {
            None => Err(0.0),
            Some(_) if folded.is_nan() => Err(f64::NAN),
            Some(factor) => Ok(Self {
                plan,
                stats,
                folded,
                softcap: transform.softcap,
                factor: factor * folded.scale() / transform.temperature,
            }),
        }
    }

    /// The coefficient of e^(z − max).
    #[inline(always)]
    pub fn on_exp(&self) -> f64 {
        self.folded.coefficients.alpha * self.factor / (1.0 + self.stats.rest)
    }

    /// The coefficient of v, to be subtracted.
    #[inline(always)]
    pub fn on_prior(&self) -> f64 {
        self.folded.coefficients.gamma * self.factor
    }

    /// The coefficient of a dense target, to be subtracted.
    #[inline(always)]
    pub fn on_target(&self) -> f64 {
        self.folded.coefficients.tau * self.factor
    }

    /// The entry at the `j`-th hot class, whose softmax is `p`. `None` if masks make it 0.
    #[inline(always)]
    pub fn hot_entry(&self, plan: &Plan<'_>, j: usize, p: f64) -> Option<f64> {
        let (hot, z) = (&self.plan.hot()[j], self.stats.hot[j]);
        if plan.forbids(self.plan.row, hot.class)
            || (plan.table.renormalises() && z == f64::NEG_INFINITY)
        {
            return None;
        }
        let mut prior = 0.0;
        if self.folded.coefficients.gamma != 0.0 {
            let mut v = [0.0];
            plan.fill_prior(self.plan, hot.class, &mut v);
            prior = self.folded.coefficients.gamma * v[0] * hot.weight;
        }
        Some(
            (self.folded.coefficients.alpha * p - prior - self.folded.coefficients.beta[j])
                * self.factor
                * self.slope(z),
        )
    }

    /// The entry at any class, hot or not.
    pub fn entry(&self, plan: &Plan<'_>, at: &ClassEntry) -> f64 {
        let masked = at.z == f64::NEG_INFINITY;
        if plan.forbids(self.plan.row, at.class) || (masked && plan.table.renormalises()) {
            return 0.0;
        }
        let p = (at.z - self.stats.max).exp() / (1.0 + self.stats.rest);
        (self.folded.coefficients.alpha * p - plan.target_entry(self.plan, self.folded, at))
            * self.factor
            * self.slope(at.z)
    }

    #[inline(always)]
    fn slope(&self, z: f64) -> f64 {
        self.softcap.map_or(1.0, |cap| {
            if z == f64::NEG_INFINITY { 0.0 } else { (1.0 - z / cap) * (1.0 + z / cap) }
        })
    }
}
