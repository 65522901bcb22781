//! The statistics of rows of transformed logits. SEMANTICS.md S1 and S4.

use candle_core::Tensor;
use xent::host::LogitsShape;
use xent::{Config, Masked};

use super::ops::{PerRow, either, fill_where, is_finite, is_zero, log1p, number, select, sum};
use super::rows::{Hot, RowCoefficients, RowPrior, Target};
use super::table::{Setting, Vector};
use crate::batch::rows_of;
use crate::error::Result;

/// The logits as softmax sees them, `[N, K]`.
pub(super) struct Transformed {
    pub(super) z: Tensor,
    /// z/cap under a softcap; −1 where z is −∞.
    pub(super) tanh: Option<Tensor>,
}

impl Transformed {
    /// `allowed` is the mask of allowed classes, `[1, K]` or `[N, K]`.
    pub(super) fn new(
        logits: &Tensor,
        allowed: Option<&Tensor>,
        config: &Config,
        shape: &LogitsShape,
        setting: &Setting,
    ) -> Result<Self> {
        let logits = rows_of(shape, &logits.detach())?.to_dtype(setting.dtype)?;
        let (mut z, mut tanh) = (logits.clone(), None);
        if let Some(cap) = config.softcap {
            let capped = (&logits / (config.temperature * cap))?.tanh()?;
            z = select(&is_masked(&logits)?, &logits, &(&capped * cap)?)?;
            tanh = Some(capped);
        } else if config.temperature != 1.0 {
            z = (z / config.temperature)?;
        }
        if let Some(allowed) = allowed {
            z = select(allowed, &z, &number(f64::NEG_INFINITY, setting.dtype, &setting.device)?)?;
        }
        Ok(Self { z, tanh })
    }
}

/// Where a logit is −∞.
fn is_masked(z: &Tensor) -> Result<Tensor> {
    Ok(z.broadcast_eq(&number(f64::NEG_INFINITY, z.dtype(), z.device())?)?)
}

/// What the loss needs of each row, as columns.
pub(super) struct Statistics {
    /// ln Σ e^z, and R = lse − m.
    pub(super) lse: Tensor,
    pub(super) r: Tensor,
    /// The mask of rows that are NaN: for their logits, or because they cannot be used.
    pub(super) nan: Tensor,
    /// e^(z − m), `[N, K]`, and its sum.
    pub(super) exp: Tensor,
    pub(super) exp_sum: Tensor,
    /// m − z at the hot classes.
    pub(super) hot: PerRow,
    /// Masked classes, `[N, K]`, where masks renormalise the prior.
    pub(super) masked: Option<Tensor>,
    /// Against a dense target after class weights: Σ t (m − z).
    pub(super) target: PerRow,
    /// Against the prior.
    pub(super) prior: PriorSums,
}

/// Sums over the classes that are not hot, and if masks renormalise the prior not masked.
pub(super) struct PriorSums {
    /// Σ v (m − z), after class weights.
    pub(super) shifted: PerRow,
    /// Σ v before class weights, and after; only where masks renormalise the prior.
    pub(super) open: Option<(PerRow, PerRow)>,
}

impl Statistics {
    pub(super) fn new(
        z: &Tensor,
        rows: &RowCoefficients,
        config: &Config,
        setting: &Setting,
    ) -> Result<Self> {
        let largest = z.argmax_keepdim(1)?;
        let max = z.gather(&largest, 1)?;
        let below = z.broadcast_sub(&max)?;
        let exp = below.exp()?;
        // The largest term is 1; without it, small sums keep their digits.
        let column = max.zeros_like()?;
        exp.scatter_set(&largest, &column, 1)?;
        let rest = sum(&exp)?.to_dtype(setting.wide)?;
        exp.scatter_set(&largest, &column.ones_like()?, 1)?;
        let r = log1p(&rest)?;
        let lse = (max.to_dtype(setting.wide)? + &r)?;
        let nan = either(Some(&rows.unusable), &is_zero(&is_finite(&lse)?)?)?;
        let masked = if config.masked == Masked::Renormalise { Some(is_masked(z)?) } else { None };
        let (mut hot, mut target) = (PerRow::Same(0.0), PerRow::Same(0.0));
        match &rows.target {
            Target::Labels(labels) => {
                hot = PerRow::Each(below.gather(&labels.class, 1)?.to_dtype(setting.wide)?.neg()?)
            }
            Target::Dense(_, t) => target = shifted(below.clone(), t, setting)?,
        }
        let prior = match &rows.prior {
            Some(prior) if !matches!(prior.sigma, PerRow::Same(0.0)) => {
                PriorSums::new(below, masked.as_ref(), prior, &rows.target, setting)?
            }
            _ => PriorSums { shifted: PerRow::Same(0.0), open: None },
        };
        Ok(Self { lse, r, nan, exp, exp_sum: (rest + 1.0)?, hot, masked, target, prior })
    }
}

impl PriorSums {
    /// `below` is z − m, and is written to.
    fn new(
        below: Tensor,
        masked: Option<&Tensor>,
        prior: &RowPrior,
        target: &Target,
        setting: &Setting,
    ) -> Result<Self> {
        let hot = match target {
            Target::Labels(hot) => Some(hot),
            Target::Dense(..) => None,
        };
        // At a hot class the share of v and its correction may cancel, so they come together in the
        // fold.
        leave_out(&below, hot)?;
        let Some(masked) = masked else {
            return Ok(Self { shifted: shifted(below, &prior.v, setting)?, open: None });
        };
        let shifted = shifted(fill_where(masked, 0.0, &below)?, &prior.v, setting)?;
        let open = |vector: &Vector| {
            let entries = fill_where(masked, 0.0, &vector.entries(setting)?)?;
            leave_out(&entries, hot)?;
            Ok::<_, crate::Error>(PerRow::Each(sum(&entries)?.to_dtype(setting.wide)?))
        };
        let weighted = open(&prior.v)?;
        let plain = prior.plain.as_ref().map_or_else(|| Ok(weighted.clone()), open)?;
        Ok(Self { shifted, open: Some((plain, weighted)) })
    }
}

/// Σ v (m − z); ∞ if v is positive on a masked class.
fn shifted(below: Tensor, vector: &Vector, setting: &Setting) -> Result<PerRow> {
    Ok(PerRow::Each(sum(&vector.times(below)?)?.to_dtype(setting.wide)?.neg()?))
}

/// Writes 0 at the hot classes of a tensor `[N, K]` of this call's own.
fn leave_out(tensor: &Tensor, hot: Option<&Hot>) -> Result<()> {
    match hot {
        Some(hot) => Ok(tensor.scatter_set(
            &hot.class,
            &Tensor::zeros(hot.class.shape(), tensor.dtype(), tensor.device())?,
            1,
        )?),
        None => Ok(()),
    }
}
