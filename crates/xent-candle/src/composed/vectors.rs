//! What a plan says of a batch, as tensors on the logits' device; and the logits as the plan wants them.

use candle_core::{DType, Device, Tensor, WithDType};
use xent::Real;
use xent::rules::{Plan, RowPlan, SharedPrior, Transform};

use crate::Result;
use crate::host::HostBatch;
use crate::shape::LogitsShape;

/// Masks, hot classes, prior and dense targets. Those that are `None` have nothing to say.
pub(crate) struct Vectors {
    pub(super) shape: LogitsShape,
    pub(super) transform: Transform,
    pub(super) renormalises: bool,
    /// `[1, K]` or `[N, K]`, 0 for masked classes.
    pub(super) allowed: Option<Tensor>,
    /// `[N, 2]`, classes; 0 where a row has fewer.
    pub(super) hot: Option<Tensor>,
    pub(super) prior: Option<Vector>,
    pub(super) target: Option<Vector>,
    dtype: DType,
}

/// A vector over the classes, `[1, K]` or `[N, K]`, before and after class weights.
pub(super) struct Vector {
    pub(super) plain: Tensor,
    pub(super) weighted: Tensor,
}

impl Vectors {
    pub(super) fn new<F: Real + WithDType>(plan: &Plan<'_>, rows: &[Option<RowPlan>], shape: &LogitsShape, batch: &HostBatch, device: &Device) -> Result<Self> {
        let classes = plan.classes();
        if u32::try_from(classes).is_err() {
            return Err(candle_core::Error::msg(format!("{classes} classes, expected at most {} where candle's own operations compute", u32::MAX)).into());
        }
        let weights = plan.class_weights().map(|weights| floats::<F>(weights, (1, classes), device)).transpose()?;
        let vector = |plain: Tensor| -> Result<Vector> {
            let weighted = match &weights {
                Some(weights) => plain.broadcast_mul(weights)?,
                None => plain.clone(),
            };
            Ok(Vector { plain, weighted })
        };
        let target = match batch.probabilities() {
            // Converted first: not every device has f64.
            Some(probabilities) => Some(vector(shape.rows_of(&probabilities.to_dtype(F::DTYPE)?.to_device(device)?)?)?),
            None => None,
        };
        let hot = match rows.iter().flatten().all(|row| row.hot().is_empty()) {
            true => None,
            false => {
                let class = |row: &Option<RowPlan>, j: usize| row.as_ref().and_then(|row| row.hot().get(j)).map_or(0, |hot| hot.class as u32);
                Some(Tensor::from_iter(rows.iter().flat_map(|row| [class(row, 0), class(row, 1)]), device)?.reshape((rows.len(), 2))?)
            }
        };
        let prior = match rows.iter().flatten().all(|row| row.prior_scale.is_none()) {
            true => None,
            false => Some(vector(prior::<F>(plan, rows, device)?)?),
        };
        Ok(Self {
            shape: shape.clone(),
            transform: plan.transform(),
            renormalises: plan.renormalises(),
            allowed: batch.allowed().map(|mask| allowed(mask, classes, device)).transpose()?,
            hot,
            prior,
            target,
            dtype: F::DTYPE,
        })
    }

    pub(super) fn temperature(&self) -> f64 {
        self.transform.temperature
    }

    /// The transformed logits, `[N, K]` in the dtype that computes.
    pub(super) fn transformed(&self, logits: &Tensor) -> Result<Tensor> {
        let mut z = self.shape.rows_of(logits)?.to_dtype(self.dtype)?;
        if !self.transform.is_identity() {
            let divided = (&z / self.transform.temperature)?;
            z = match self.transform.softcap {
                Some(cap) => select(&masked(&z)?, &z, &((divided / cap)?.tanh()? * cap)?)?,
                None => divided,
            };
        }
        match &self.allowed {
            Some(allowed) => select(allowed, &z, &constant(f64::NEG_INFINITY, &z)?),
            None => Ok(z),
        }
    }
}

/// v, before class weights.
fn prior<F: Real + WithDType>(plan: &Plan<'_>, rows: &[Option<RowPlan>], device: &Device) -> Result<Tensor> {
    let classes = plan.classes();
    match plan.shared_prior() {
        SharedPrior::Uniform => Ok(Tensor::ones((1, classes), F::DTYPE, device)?),
        SharedPrior::Vector(v) => floats::<F>(v, (1, classes), device),
        SharedPrior::PerRow => {
            let mut v = vec![<F as WithDType>::from_f64(0.0); rows.len() * classes];
            let mut wide = vec![0.0; classes];
            for (row, v) in rows.iter().zip(v.chunks_exact_mut(classes)) {
                let Some(row) = row.as_ref().filter(|row| row.prior_scale.is_some()) else { continue };
                plan.fill_prior(row, 0, &mut wide);
                v.iter_mut().zip(&wide).for_each(|(v, wide)| *v = <F as WithDType>::from_f64(*wide));
            }
            Ok(Tensor::from_vec(v, (rows.len(), classes), device)?)
        }
    }
}

/// `[1, K]` where rows share the mask, else `[N, K]`.
fn allowed(mask: &[bool], classes: usize, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_iter(mask.iter().map(|&allowed| u8::from(allowed)), device)?.reshape(((), classes))?)
}

/// A tensor of host numbers, each rounded once.
pub(super) fn floats<F: Real + WithDType>(numbers: &[f64], shape: (usize, usize), device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_iter(numbers.iter().map(|&number| <F as WithDType>::from_f64(number)), device)?.reshape(shape)?)
}

/// 1 where a transformed logit is −∞.
pub(super) fn masked(z: &Tensor) -> Result<Tensor> {
    Ok(z.eq(f64::NEG_INFINITY)?)
}

/// A number that goes with a tensor: a scalar of its dtype, to be broadcast.
pub(super) fn constant(value: f64, like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::new(value, &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())?)
}

/// `yes` where `mask` is not 0, else `no`, all broadcast to their common shape. Not a product with the mask: what is not selected may be NaN.
pub(super) fn select(mask: &Tensor, yes: &Tensor, no: &Tensor) -> Result<Tensor> {
    let shape = mask.shape().broadcast_shape_binary_op(yes.shape(), "select")?.broadcast_shape_binary_op(no.shape(), "select")?;
    Ok(mask.broadcast_as(&shape)?.where_cond(&yes.broadcast_as(&shape)?, &no.broadcast_as(&shape)?)?)
}
