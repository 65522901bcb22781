//! Plain rows of one block each, some at a time, so that they are folded together: what a row costs
//! beside its classes is most of the work where these are some hundred.

use fearless_simd::Simd;

use super::load::load;
use super::scratch::RowWorker;
use crate::Real;
use crate::buffer::Buffer;
use crate::cpu::call::{Call, PriorVector};
use crate::cpu::kernels::block::{self, BLOCK, padded};
use crate::cpu::kernels::lanes::{self, Lane};
use crate::cpu::logit::Logit;
use crate::cpu::memory::{ClaimedTile, ScaledRow};
use crate::cpu::plain::PlainRows;
use crate::rules::PartsMut;

/// Elements of some rows, whose exponentials are to stay in the first-level cache, and the fewest
/// and the most of these rows.
const ELEMENTS: usize = 8192;
const FEWEST: usize = 8;
const MOST: usize = 64;

/// Some rows, and their exponentials.
pub(in crate::cpu) struct ManyRows<R> {
    plain: PlainRows<R>,
    e: Buffer<R>,
    /// From one row's to the next's.
    stride: usize,
    len: usize,
}

impl<R: Lane> ManyRows<R> {
    /// `None` where a call's rows are longer, or not that plain.
    pub(in crate::cpu) fn new<T: Logit<Real = R>>(call: &Call<'_, T>) -> Option<Self> {
        let classes = call.classes();
        if classes > BLOCK || !matches!(call.prior, PriorVector::Uniform) {
            return None;
        }
        let len = (ELEMENTS / classes / FEWEST * FEWEST).clamp(FEWEST, MOST);
        let plain = PlainRows::new(call, classes as f64, len)?;
        let stride = padded(classes);
        Some(Self { plain, e: Buffer::new(len * stride, R::ZERO), stride, len })
    }

    /// How many rows are taken at a time.
    pub(in crate::cpu) fn len(&self) -> usize {
        self.len
    }
}

impl<S: Simd, T: Logit> RowWorker<'_, S, T> {
    /// The parts of some rows, up to as many as `many` takes, and their gradients; `false`, and
    /// nothing is written, where one of them has to be computed by itself.
    #[inline(always)]
    pub(in crate::cpu) fn many(
        &mut self,
        tile: &mut ClaimedTile<'_, T>,
        many: &mut ManyRows<T::Real>,
        parts: &mut PartsMut<'_, T::Real>,
    ) -> bool {
        let (simd, call, classes, n) =
            (self.simd, self.call, self.call.classes(), tile.rows().len());
        let (labels, rows) = many.plain.rows();
        call.plan.kept_classes(tile.rows(), &mut labels[..n]);
        for (i, e) in many.e.chunks_exact_mut(many.stride).take(n).enumerate() {
            let row = tile.row(i);
            let z = match row.logits(0, classes).filter(|_| call.transform.is_identity()) {
                Some(z) => z,
                None => {
                    load(simd, call, &row, 0, classes, &mut self.z);
                    &self.z[..classes]
                }
            };
            let (max, min) = block::extremes(simd, z);
            let peak = block::position(simd, z, max);
            let Some(peak) = peak.filter(|_| min > T::Real::NEG_INFINITY) else { return false };
            let next = row.ahead(row.row() + 1, 0, classes);
            let sums = block::exponentials(simd, z, max, e, Some(peak), false, |from, len| {
                next.fetch(from, len);
            });
            let label = labels[i].max(0) as usize;
            (rows.max[i], rows.argmax[i]) = (max.to_f64(), peak as f64);
            (rows.rest[i], rows.shifted[i]) = (sums.rest, sums.shifted);
            rows.below[i] = max.to_f64() - z[label].to_f64();
        }
        lanes::ln_1p_of(simd, rows.rest, rows.log1p_rest);
        lanes::exp_of_minus(simd, rows.below, rows.exp_at_class);
        if !many.plain.fold(n, call, parts) {
            return false;
        }
        if !call.has_gradient {
            return true;
        }
        let [on_exp, on_prior, at_class] = many.plain.factors();
        for (i, e) in many.e.chunks_exact(many.stride).take(n).enumerate() {
            let mut row = tile.row(i);
            let entries = ScaledRow {
                e,
                a: on_exp[i],
                b: -on_prior[i],
                hot: [Some((many.plain.class(i), at_class[i])), None],
            };
            let next = row.ahead(row.row() + n, 0, classes);
            let ahead = |from, len| next.fetch(from, len);
            if !row.write_scaled(simd, 0, classes, entries, ahead) {
                block::scaled(simd, e, entries.a, entries.b, &mut self.g[..e.len()], ahead);
                entries.hot.into_iter().flatten().for_each(|(class, value)| self.g[class] = value);
                row.write(simd, 0, &self.g[..classes], &mut self.rounded);
            }
        }
        true
    }
}
