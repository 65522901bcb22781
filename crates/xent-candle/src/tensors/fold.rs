//! From statistics to the loss of each row, its parts and the coefficients of its gradient, as
//! columns. The formulas are those of [`xent::rules`]. SEMANTICS.md S4, S7 and S8.

use candle_core::Tensor;

use super::ops::{PerRow, fill_where, is_positive, is_zero, select, sum, zero_unless};
use super::rows::{RowCoefficients, RowPrior, Target};
use super::statistics::Statistics;
use super::table::{Setting, Vector};
use crate::error::Result;

/// Rows, before their weights. Those of rows that are ignored or NaN hold anything.
pub(super) struct Folded {
    pub(super) cross_entropy: PerRow,
    pub(super) nll: PerRow,
    pub(super) smoothing: PerRow,
    /// Y.
    pub(super) mass: PerRow,
    pub(super) target: SmoothedTarget,
}

/// The smoothed target `γ·v + τ·t + Σ β_j δ_j`, after class weights.
#[derive(Debug, Clone)]
pub(super) struct SmoothedTarget {
    gamma: PerRow,
    v: Option<Vector>,
    tau: PerRow,
    t: Option<Vector>,
    beta: PerRow,
    hot: Option<Tensor>,
}

/// The prior of a row: cross-entropy to it and its mass, after class weights, and what it puts
/// where.
struct FoldedPrior {
    cross_entropy: PerRow,
    mass: PerRow,
    /// On v.
    gamma: PerRow,
    /// On the hot classes, beside v and before class weights.
    pi: PerRow,
    /// The mask of rows that are not smoothed since masks leave their prior no class.
    nowhere: Option<Tensor>,
}

impl Folded {
    pub(super) fn new(
        rows: &RowCoefficients,
        statistics: &Statistics,
        setting: &Setting,
    ) -> Result<Self> {
        let r = PerRow::Each(statistics.r.clone());
        let (hard, shifted) = match &rows.target {
            Target::Labels(hot) => {
                let hard = hot.hard()?;
                let shifted = hard.times_or_zero(&statistics.hot)?.sum()?;
                (hard, shifted)
            }
            Target::Dense(..) => (PerRow::Same(0.0), statistics.target.clone()),
        };
        let cross_entropy = rows.target_mass.times(&r)?.plus(&shifted)?;
        let nll = rows.whole.times(&cross_entropy)?;
        let Some(prior) = &rows.prior else {
            let mass = rows.whole.times(&rows.target_mass)?;
            let target = SmoothedTarget::new(
                rows,
                PerRow::Same(0.0),
                rows.whole.clone(),
                rows.whole.times(&hard)?,
            );
            return Ok(Self {
                cross_entropy: nll.clone(),
                nll,
                smoothing: PerRow::Same(0.0),
                mass,
                target,
            });
        };
        let prior = FoldedPrior::new(prior, rows, statistics, &r, setting)?;
        let epsilon = match &prior.nowhere {
            Some(nowhere) => rows.epsilon.fill_where(nowhere, 0.0, setting.wide)?,
            None => rows.epsilon.clone(),
        };
        let left = epsilon.complement()?;
        let mixed =
            |t: &PerRow, u: &PerRow| rows.whole.times(&left.times(t)?.plus(&epsilon.times(u)?)?);
        let smoothing = rows.whole.times(&epsilon.times_or_zero(&prior.cross_entropy)?)?;
        let term = match &rows.target {
            Target::Labels(hot) => hot.term.clone(),
            Target::Dense(..) => PerRow::ONE,
        };
        Ok(Self {
            cross_entropy: left.times_or_zero(&nll)?.plus(&smoothing)?,
            // A row that is not smoothed is smoothed with its own target.
            smoothing: match (&prior.nowhere, smoothing) {
                (Some(nowhere), PerRow::Each(smoothing)) => {
                    let own =
                        rows.epsilon.times_or_zero(&nll)?.tensor(setting.wide, &setting.device)?;
                    PerRow::Each(select(nowhere, &own, &smoothing)?)
                }
                (_, smoothing) => smoothing,
            },
            mass: mixed(&rows.target_mass, &prior.mass)?,
            target: SmoothedTarget::new(
                rows,
                rows.whole.times(&epsilon.times(&prior.gamma)?)?,
                rows.whole.times(&left)?,
                mixed(&hard, &prior.pi.times(&term)?)?,
            ),
            nll,
        })
    }

    /// The entropy floor of each row. SEMANTICS.md S4.3.
    pub(super) fn floor(
        &self,
        rows: &RowCoefficients,
        statistics: &Statistics,
        setting: &Setting,
    ) -> Result<PerRow> {
        let none = PerRow::Same(0.0);
        let closed = match (&rows.target, &rows.prior, &statistics.masked) {
            (Target::Labels(hot), None, _) => Some((hot, 0.0, &none, &none)),
            (Target::Labels(hot), Some(prior), None) => {
                prior.xlogx.map(|xlogx| (hot, xlogx, &prior.mass, &prior.at_hot))
            }
            _ => None,
        };
        let Some((hot, xlogx, mass, at_hot)) = closed else {
            return self.summed_floor(rows, statistics, setting);
        };
        let total = self.mass.tensor(setting.wide, &setting.device)?;
        let entropy = |y: &PerRow| {
            let y = y.tensor(setting.wide, &setting.device)?;
            let term = y.broadcast_mul(&y.broadcast_div(&total)?.log()?)?;
            Ok::<_, crate::Error>(PerRow::Each(zero_unless(&is_positive(&y)?, &term)?))
        };
        let minus = |value: &PerRow| value.times(&PerRow::Same(-1.0));
        // Σ over v in closed form, then the hot classes exchanged for what they are.
        let gamma = &self.target.gamma;
        let v = gamma.times(&at_hot.times(&hot.term)?)?;
        let mut sum = entropy(&v.plus(&self.target.beta)?)?;
        if self.target.v.is_some() {
            let shared = gamma.times(&PerRow::Same(xlogx))?.plus(&mass.times(&entropy(gamma)?)?)?;
            sum = shared.plus(&sum.plus(&minus(&entropy(&v)?)?)?.sum()?)?;
        } else {
            sum = sum.sum()?;
        }
        minus(&sum)
    }

    /// [`floor`](Self::floor) as a sum over the classes. ln(y/Y) of a Y that is nearly all on one
    /// class needs more than f32, which is all that a dense target has.
    fn summed_floor(
        &self,
        rows: &RowCoefficients,
        statistics: &Statistics,
        setting: &Setting,
    ) -> Result<PerRow> {
        let dtype =
            if matches!(rows.target, Target::Dense(..)) { setting.dtype } else { setting.wide };
        let nothing = Tensor::zeros(statistics.exp.shape(), dtype, &setting.device)?;
        let y = self.target.taken_from(nothing, statistics.masked.as_ref())?.neg()?.relu()?;
        let logarithm = y.broadcast_div(&sum(&y)?)?.log()?;
        let terms = zero_unless(&is_positive(&y)?, &(&y * logarithm)?)?;
        Ok(PerRow::Each(sum(&terms)?.to_dtype(setting.wide)?.neg()?))
    }
}

impl SmoothedTarget {
    fn new(rows: &RowCoefficients, gamma: PerRow, tau: PerRow, beta: PerRow) -> Self {
        let v = rows
            .prior
            .as_ref()
            .filter(|_| !matches!(gamma, PerRow::Same(0.0)))
            .map(|prior| prior.v.clone());
        let (t, hot) = match &rows.target {
            Target::Labels(hot) => (None, Some(hot.class.clone())),
            Target::Dense(_, t) => (Some(t.clone()), None),
        };
        Self { gamma, v, tau, t, beta, hot }
    }

    /// All of it times a factor.
    pub(super) fn times(&self, factor: &PerRow) -> Result<Self> {
        let Self { gamma, tau, beta, .. } = self;
        Ok(Self {
            gamma: gamma.times(factor)?,
            tau: tau.times(factor)?,
            beta: beta.times(factor)?,
            ..self.clone()
        })
    }

    /// `tensor` less the target, in the dtype of `tensor`, `[N, K]`, which is written to. v is left
    /// out on the `masked` classes.
    pub(super) fn taken_from(&self, mut tensor: Tensor, masked: Option<&Tensor>) -> Result<Tensor> {
        let (dtype, device) = (tensor.dtype(), tensor.device().clone());
        let column =
            |value: &PerRow| Ok::<_, crate::Error>(value.tensor(dtype, &device)?.to_dtype(dtype)?);
        if let Some(v) = &self.v {
            tensor = tensor.broadcast_sub(&v.scaled(&column(&self.gamma)?)?)?;
            if let Some(masked) = masked {
                tensor = fill_where(masked, 0.0, &tensor)?;
            }
        }
        if let Some(t) = &self.t {
            tensor = tensor.broadcast_sub(&t.scaled(&column(&self.tau)?)?)?;
        }
        if let Some(class) = &self.hot {
            tensor.scatter_add_set(
                class,
                &column(&self.beta)?.neg()?.broadcast_as(class.shape())?.contiguous()?,
                1,
            )?;
        }
        Ok(tensor)
    }
}

impl FoldedPrior {
    fn new(
        prior: &RowPrior,
        rows: &RowCoefficients,
        statistics: &Statistics,
        r: &PerRow,
        setting: &Setting,
    ) -> Result<Self> {
        let (term, hot) = match &rows.target {
            Target::Labels(hot) => (hot.term.clone(), &statistics.hot),
            Target::Dense(..) => (PerRow::ONE, &PerRow::Same(0.0)),
        };
        let sigma = &prior.sigma;
        // All of the prior on the hot classes: never a difference that infinity could spoil.
        let on_hot = sigma.times(&prior.at_hot)?.plus(&prior.pi)?.at_least_zero()?;
        let shifted = |on_hot: &PerRow| {
            sigma
                .times_or_zero(&statistics.prior.shifted)?
                .plus(&on_hot.times(&term)?.times_or_zero(hot)?.sum()?)
        };
        let Some((plain, weighted)) = &statistics.prior.open else {
            let mass = sigma.times(&prior.mass)?.plus(&prior.pi.times(&term)?.sum()?)?;
            let cross_entropy = mass.times(r)?.plus(&shifted(&on_hot)?)?;
            return Ok(Self {
                cross_entropy,
                mass,
                gamma: sigma.clone(),
                pi: prior.pi.clone(),
                nowhere: None,
            });
        };
        // What is left beside the masked classes has the mass that all had.
        let masked = match hot {
            PerRow::Each(below) => Some(below.broadcast_eq(
                &PerRow::Same(f64::INFINITY).tensor(setting.wide, &setting.device)?,
            )?),
            PerRow::Same(_) => None,
        };
        let open = |value: &PerRow| {
            masked
                .as_ref()
                .map_or(Ok(value.clone()), |masked| value.fill_where(masked, 0.0, setting.wide))
        };
        let (on_hot, pi) = (open(&on_hot)?, open(&prior.pi)?);
        let left =
            sigma.times(plain)?.plus(&on_hot.sum()?)?.tensor(setting.wide, &setting.device)?;
        let all = sigma.times(&prior.plain_mass)?.plus(&prior.pi.sum()?)?;
        let nowhere = is_zero(&left)?;
        let factor = all.over(&PerRow::Each(left))?.fill_where(&nowhere, 0.0, setting.wide)?;
        let mass = factor.times(&sigma.times(weighted)?.plus(&on_hot.times(&term)?.sum()?)?)?;
        let cross_entropy = mass.times(r)?.plus(&factor.times(&shifted(&on_hot)?)?)?;
        Ok(Self {
            cross_entropy,
            mass,
            gamma: factor.times(sigma)?,
            pi: factor.times(&pi)?,
            nowhere: Some(nowhere),
        })
    }
}
