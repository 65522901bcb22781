//! Rows to [`RowStats`], and target entropies, on the device.

use candle_core::{Tensor, WithDType};
use xent::Real;
use xent::rules::{Functional, RowStats};

use super::gradient::Coefficients;
use super::vectors::{Vector, Vectors, constant, masked, select};
use crate::Result;
use crate::host::numbers;

/// Columns of what is downloaded as floats: max, rest, two hot logits, and a functional and its sums over open and masked classes for the prior, a functional for a target.
const COLUMNS: usize = 14;

impl Vectors {
    /// The statistics of each row of transformed logits; those of ignored rows mean nothing.
    pub(super) fn statistics<F: Real + WithDType>(&self, z: &Tensor) -> Result<Vec<RowStats>> {
        let rows = z.dim(0)?;
        if rows == 0 {
            return Ok(Vec::new());
        }
        let max = z.max_keepdim(1)?;
        let below = z.broadcast_sub(&max)?;
        let masked = masked(z)?;
        let (first, at_first) = first_of(z, &max)?;
        let rest = select(&at_first, &constant(0.0, z)?, &below.exp()?)?;
        let rest = sum(&rest)?;
        let none = |columns: usize| Tensor::zeros((rows, columns), F::DTYPE, z.device());
        let hot = match &self.hot {
            Some(hot) => z.contiguous()?.gather(hot, 1)?,
            None => none(2)?,
        };
        let (prior, sums) = match &self.prior {
            Some(prior) => (functional(prior, &below, &masked, self.renormalises)?, self.open_and_masked(prior, &masked)?),
            None => (none(4)?, none(2)?),
        };
        let (target, peak) = match &self.target {
            Some(target) => {
                let plain = &target.plain;
                (functional(target, &below, &masked, false)?, first_of(plain, &plain.max_keepdim(1)?)?.0)
            }
            None => (none(4)?, first.zeros_like()?),
        };
        let numbers: Vec<Vec<F>> = Tensor::cat(&[&max, &rest, &hot, &prior, &sums, &target], 1)?.to_vec2()?;
        let classes: Vec<Vec<u32>> = Tensor::cat(&[&first, &peak], 1)?.to_vec2()?;
        Ok(numbers.into_iter().zip(classes).map(|(numbers, classes)| row_stats(&numbers, &classes)).collect())
    }

    fn open_and_masked(&self, prior: &Vector, masked: &Tensor) -> Result<Tensor> {
        let zero = constant(0.0, &prior.plain)?;
        let open = sum(&select(masked, &zero, &prior.plain)?)?;
        let closed = sum(&select(masked, &prior.plain, &zero)?)?;
        Ok(Tensor::cat(&[&open, &closed], 1)?)
    }

    /// Σ −y ln(y/Y) of each row's smoothed target y, whose mass is Y. In the coefficients' dtype: where nearly all of Y is on one class, ln(y/Y) needs more than f32.
    pub(super) fn floors(&self, z: &Tensor, target: &Coefficients) -> Result<Vec<f64>> {
        let y = self.target_entries(z, target)?;
        let zero = constant(0.0, &y)?;
        let y = y.maximum(&zero.broadcast_as(y.shape())?)?;
        let logarithm = y.broadcast_div(&sum(&y)?)?.log()?;
        let terms = select(&y.gt(0f64)?, &(&y * logarithm)?, &zero)?;
        Ok(numbers(&sum(&terms)?)?.into_iter().map(|sum| -sum).collect())
    }
}

/// The first class at which each row reaches `max`, `[N, 1]`, and a mask of that entry.
fn first_of(values: &Tensor, max: &Tensor) -> Result<(Tensor, Tensor)> {
    let classes = values.dim(1)? as u32;
    let numbers = Tensor::arange(0, classes, values.device())?.unsqueeze(0)?;
    let first = select(&values.broadcast_eq(max)?, &numbers, &Tensor::new(classes, values.device())?)?.min_keepdim(1)?;
    let at_first = numbers.broadcast_eq(&first)?;
    Ok((first, at_first))
}

/// [`Functional`]'s fields as columns. `below` is z − max.
fn functional(vector: &Vector, below: &Tensor, masked: &Tensor, leave_out_masked: bool) -> Result<Tensor> {
    let v = &vector.weighted;
    let zero = constant(0.0, v)?;
    let shifted = select(masked, &zero, &below.neg()?)?.broadcast_mul(v)?;
    let shifted = sum(&shifted)?;
    let open = sum(&select(masked, &zero, v)?)?;
    let (masked_mass, count) = match leave_out_masked {
        true => (open.zeros_like()?, open.zeros_like()?),
        false => {
            let positive = v.gt(0f64)?.to_dtype(v.dtype())?;
            (sum(&select(masked, v, &zero)?)?, sum(&select(masked, &positive, &zero)?)?)
        }
    };
    Ok(Tensor::cat(&[&shifted, &open, &masked_mass, &count], 1)?)
}

/// Each row's sum, `[N, 1]`: of blocks first, so that rounding errors do not grow with K on devices that add up one by one.
fn sum(values: &Tensor) -> Result<Tensor> {
    const BLOCK: usize = 64;
    let (rows, classes) = values.dims2()?;
    let blocks = classes / BLOCK;
    if blocks < 2 {
        return Ok(values.sum_keepdim(1)?);
    }
    let whole = values.narrow(1, 0, blocks * BLOCK)?.contiguous()?.reshape((rows, blocks, BLOCK))?.sum(2)?;
    match classes % BLOCK {
        0 => sum(&whole),
        left => sum(&Tensor::cat(&[&whole, &values.narrow(1, classes - left, left)?.contiguous()?.sum_keepdim(1)?], 1)?),
    }
}

fn row_stats<F: Real>(numbers: &[F], classes: &[u32]) -> RowStats {
    let mut wide = [0.0; COLUMNS];
    wide.iter_mut().zip(numbers).for_each(|(wide, number)| *wide = number.to_f64());
    let [max, rest, hot_a, hot_b, prior @ .., open_prior, closed_prior, t0, t1, t2, t3] = wide;
    let functional = |[shifted, mass, masked_mass, masked]: [f64; 4]| Functional { shifted, mass, masked_mass, masked: masked as usize };
    RowStats {
        hot: [hot_a, hot_b],
        prior: functional(prior),
        open_prior,
        closed_prior,
        target: functional([t0, t1, t2, t3]),
        target_argmax: classes[1] as usize,
        ..RowStats::new(max, classes[0] as usize, rest)
    }
}
