//! From a kernel's sums to a row's statistics.

use super::kernels::block::ExpSums;
use crate::rules::{Functional, RowStats};

/// Adds a block of `len` classes against v ≡ 1, from what the exponentials' kernel counted. Masked
/// classes count, unless masks renormalise the prior.
#[inline(always)]
pub(super) fn add_uniform(stats: &mut RowStats, sums: &ExpSums, len: usize, renormalises: bool) {
    let (open, masked) = (sums.open as f64, len - sums.open);
    let (masked_mass, counted) = if renormalises { (0.0, 0) } else { (masked as f64, masked) };
    stats.prior.add(Functional { shifted: sums.shifted, mass: open, masked_mass, masked: counted });
    stats.open_prior += open;
    stats.closed_prior += masked as f64;
}
