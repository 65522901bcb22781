//! Kernels over one block of a row: contiguous, widened, in cache. They know numbers and nothing else.
//!
//! Written once for f32 and f64 so that the compiler vectorises them: values in [`LANES`] independent lanes, folded into f64 every few steps, which bounds the error of a
//! sum whatever its length.

mod exp;

use exp::exp_f32;

use crate::Real;
use crate::plan::Functional;
use crate::reduction::Sum;

/// Elements of a row that are worked on at a time.
pub(super) const BLOCK: usize = 1024;
const LANES: usize = 16;
/// Elements that are summed in lanes before the lanes are folded into f64: 8 additions a lane.
const SEGMENT: usize = 8 * LANES;

/// What the kernels need of `f32` and `f64`.
#[doc(hidden)]
pub trait BlockKernels: Copy + std::ops::Add<Output = Self> + std::ops::Sub<Output = Self> {
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;
    /// e^x for x ≤ 0, 0 for −∞, NaN for NaN; to 1 ulp.
    fn exp_of_non_positive(self) -> Self;
}

impl BlockKernels for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    #[inline(always)]
    fn exp_of_non_positive(self) -> Self {
        exp_f32(self)
    }
}

impl BlockKernels for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    #[inline(always)]
    fn exp_of_non_positive(self) -> Self {
        self.exp()
    }
}

/// The largest value and the first index that has it; NaN is passed over. −∞ at 0 if there is nothing larger.
pub(super) fn max<R: Real>(z: &[R]) -> (R, usize) {
    let larger = |a: R, b: R| if b > a { b } else { a };
    let mut lanes = [R::NEG_INFINITY; LANES];
    let mut chunks = z.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &z) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, z);
        }
    }
    let max = lanes.iter().chain(chunks.remainder()).fold(R::NEG_INFINITY, |max, &z| larger(max, z));
    (max, z.iter().position(|&z| z == max).unwrap_or(0))
}

/// Σ term(z_i, v_i) in lanes, each segment folded into f64.
#[inline(always)]
fn sum<R: Real, V: Copy>(z: &[R], v: &[V], term: impl Fn(R, V) -> R) -> f64 {
    let mut total = Sum::default();
    for (z, v) in z.chunks(SEGMENT).zip(v.chunks(SEGMENT)) {
        let mut lanes = [R::ZERO; LANES];
        let (mut zs, mut vs) = (z.chunks_exact(LANES), v.chunks_exact(LANES));
        for (z, v) in (&mut zs).zip(&mut vs) {
            for i in 0..LANES {
                lanes[i] = lanes[i] + term(z[i], v[i]);
            }
        }
        for ((lane, &z), &v) in lanes.iter_mut().zip(zs.remainder()).zip(vs.remainder()) {
            *lane = *lane + term(z, v);
        }
        let mut width = LANES;
        let mut wide = lanes.map(R::to_f64);
        while width > 1 {
            width /= 2;
            for i in 0..width {
                wide[i] += wide[i + width];
            }
        }
        total.add(wide[0]);
    }
    total.total()
}

/// Σ e^(z_i − max), NaN if there is a NaN; 0 for −∞. `max` is finite.
pub(super) fn sum_exp<R: Real>(z: &[R], max: R) -> f64 {
    sum(z, z, |z, _| (z - max).exp_of_non_positive())
}

/// Sums against v ≡ 1. `max` is finite.
pub(super) fn shifted<R: Real>(z: &[R], max: R) -> Functional {
    let masked = z.iter().filter(|&&z| z == R::NEG_INFINITY).count();
    let mut shifted = sum(z, z, |z, _| if z == R::NEG_INFINITY { R::ZERO } else { max - z });
    if shifted == f64::INFINITY {
        shifted = sum_wide(z, |_| 1.0, max);
    }
    Functional { shifted, mass: (z.len() - masked) as f64, masked_mass: masked as f64, masked }
}

/// Sums against v ≥ 0. `max` is finite.
pub(super) fn shifted_against<R: Real>(z: &[R], v: &[R], max: R) -> Functional {
    let mut shifted = sum(z, v, |z, v| if z == R::NEG_INFINITY || v == R::ZERO { R::ZERO } else { v * (max - z) });
    if shifted == f64::INFINITY {
        shifted = sum_wide(z, |i| v[i].to_f64(), max);
    }
    let mass = sum(z, v, |z, v| if z == R::NEG_INFINITY { R::ZERO } else { v });
    let masked_mass = sum(z, v, |z, v| if z == R::NEG_INFINITY { v } else { R::ZERO });
    let masked = if masked_mass > 0.0 { z.iter().zip(v).filter(|&(&z, &v)| z == R::NEG_INFINITY && v > R::ZERO).count() } else { 0 };
    Functional { shifted, mass, masked_mass, masked }
}

/// The same sum in f64, for logits so far apart (−3e38 as a home-made mask) that differences or their sum leave f32.
fn sum_wide<R: Real>(z: &[R], v: impl Fn(usize) -> f64, max: R) -> f64 {
    z.iter().enumerate().filter(|(_, z)| **z != R::NEG_INFINITY).map(|(i, &z)| v(i) * (max.to_f64() - z.to_f64())).sum()
}

/// z_i ← c·e^(z_i − max).
pub(super) fn scaled_exp<R: Real>(z: &mut [R], max: R, c: R) {
    for z in z {
        *z = c * (*z - max).exp_of_non_positive();
    }
}

/// g_i ← g_i − c·v_i.
pub(super) fn subtract<R: Real>(g: &mut [R], v: &[R], c: R) {
    for (g, &v) in g.iter_mut().zip(v) {
        *g = *g - c * v;
    }
}
