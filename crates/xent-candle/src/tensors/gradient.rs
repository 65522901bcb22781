//! The gradient, formed on the device from coefficients that were kept there. The formula and its
//! exceptions are those of [`xent::rules::RowGradient`]. SEMANTICS.md S7 to S9.

use candle_core::Tensor;
use xent::host::LogitsShape;

use super::fold::SmoothedTarget;
use super::ops::{PerRow, is_zero, select, zero_unless};
use super::table::Setting;
use crate::attach::Backward;
use crate::batch::like_logits;
use crate::error::Result;

/// What forms the gradient once the upstream gradient is known.
pub(super) struct Gradient {
    pub(super) shape: LogitsShape,
    pub(super) setting: Setting,
    /// e^(z − m), `[N, K]`, and its coefficient, NaN in rows that are NaN.
    pub(super) exp: Tensor,
    pub(super) on_exp: PerRow,
    pub(super) target: SmoothedTarget,
    pub(super) slope: Option<Tensor>,
    /// Where masks renormalise the prior: the masked classes, and the entries there, 0 or NaN.
    pub(super) masked: Option<(Tensor, Tensor)>,
    /// The mask of allowed classes.
    pub(super) allowed: Option<Tensor>,
    /// The mask of rows whose gradient is 0.
    pub(super) dead: Option<Tensor>,
}

impl Backward for Gradient {
    /// The upstream gradient comes in before anything is rounded to the logits' dtype: in half
    /// precision a product afterwards could not save what had underflowed.
    fn backward(&self, logits: &Tensor, upstream: &Tensor) -> Result<Tensor> {
        let Setting { dtype, wide, .. } = self.setting;
        let upstream = PerRow::Each(upstream.detach().reshape(((), 1))?.to_dtype(wide)?);
        let on_exp =
            self.on_exp.times(&upstream)?.tensor(wide, logits.device())?.to_dtype(dtype)?;
        let mut gradient =
            self.target.times(&upstream)?.taken_from(self.exp.broadcast_mul(&on_exp)?, None)?;
        if let Some(slope) = &self.slope {
            gradient = (gradient * slope)?;
        }
        if let Some((masked, entries)) = &self.masked {
            gradient = select(masked, entries, &gradient)?;
        }
        let alive = self.dead.as_ref().map(is_zero).transpose()?;
        let live = match (&self.allowed, alive) {
            (Some(allowed), Some(alive)) => Some(allowed.broadcast_mul(&alive)?),
            (Some(allowed), None) => Some(allowed.clone()),
            (None, alive) => alive,
        };
        if let Some(live) = live {
            gradient = zero_unless(&live, &gradient)?;
        }
        like_logits(&self.shape, &gradient.to_dtype(logits.dtype())?)
    }
}
