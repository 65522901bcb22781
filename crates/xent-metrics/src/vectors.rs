//! The kernels that touch every logit, in f64 vectors of eight lanes.
//!
//! Products and sums are never fused, and sums have one order, so every instruction set computes
//! the same bits: partial results of different machines add up to the result of one machine.

use fearless_simd::{
    ExtractToken, Level, Select, Simd, SimdBase, SimdFloat, SimdMask, dispatch, f64x8,
};

/// Rows are padded to multiples of this.
const LANES: usize = 8;

/// What [`prepare`] finds in a row.
#[derive(Debug, Clone, Copy)]
pub struct Extremes {
    /// The largest logit.
    pub max: f64,
    /// Whether there is a NaN or +∞.
    pub bad: bool,
    /// Whether there is a −∞.
    pub masked: bool,
}

/// The sums of [`exponentials`] over the classes that are not masked, with d = top − z.
#[derive(Debug, Clone, Copy)]
pub struct Sums {
    /// Σ e^−βd.
    pub mass: f64,
    /// Σ e^−2βd.
    pub squares: f64,
    /// Σ d.
    pub below: f64,
    /// Σ d·e^−βd.
    pub first: f64,
    /// Σ d²·e^−βd.
    pub second: f64,
}

/// The instruction set of this processor.
#[derive(Debug, Clone, Copy)]
pub struct Vectors(Level);

impl Default for Vectors {
    fn default() -> Self {
        Self(Level::new())
    }
}

impl Vectors {
    /// Copies a row into `into`, padded with −∞.
    pub fn prepare<T: Copy + Into<f64>>(self, row: &[T], into: &mut Vec<f64>) -> Extremes {
        into.resize(row.len().next_multiple_of(LANES), f64::NEG_INFINITY);
        into[row.len()..].fill(f64::NEG_INFINITY);
        dispatch!(self.0, simd => prepare(simd, row, into))
    }

    /// Writes e^(β·(z − top)) to `e` and returns the sums. The caller has set z to −∞ for classes
    /// that are to be left out. The difference is taken before it is scaled, so that rows with
    /// equal differences have equal exponentials at every β.
    pub fn exponentials(self, z: &[f64], top: f64, beta: f64, e: &mut Vec<f64>) -> Sums {
        e.resize(z.len(), 0.0);
        dispatch!(self.0, simd => exponentials(simd, z, top, beta, e))
    }

    /// Adds e·scale, rounded to a multiple of 2^−40, to `sums`; returns whether any e reaches
    /// `threshold`.
    pub fn spread(self, e: &[f64], scale: f64, threshold: f64, sums: &mut [f64]) -> bool {
        dispatch!(self.0, simd => spread(simd, e, scale, threshold, sums))
    }

    /// The number of logits above `value` plus those equal to it before `place`.
    pub fn ahead(self, z: &[f64], value: f64, place: usize) -> usize {
        let above: usize = dispatch!(self.0, simd => above(simd, z, value));
        above + z[..place].iter().filter(|z| **z == value).count()
    }
}

#[inline(always)]
fn prepare<S: Simd, T: Copy + Into<f64>>(simd: S, row: &[T], into: &mut [f64]) -> Extremes {
    simd.vectorize(
        #[inline(always)]
        || {
            into.iter_mut().zip(row).for_each(|(z, x)| *z = (*x).into());
            let least = f64x8::splat(simd, f64::NEG_INFINITY);
            let most = f64x8::splat(simd, f64::MAX);
            let mut max = [least; 2];
            // NaN and ∞ fail the comparison with the largest finite number.
            let mut finite = most.simd_le(most);
            let mut open = finite;
            for pair in into.chunks(2 * LANES) {
                for (max, z) in max.iter_mut().zip(pair.chunks_exact(LANES)) {
                    let z = f64x8::from_slice(simd, z);
                    finite &= z.simd_le(most);
                    open &= z.simd_gt(least);
                    *max = z.max(*max);
                }
            }
            let max = max[0].max(max[1]).to_array().into_iter().fold(f64::NEG_INFINITY, f64::max);
            // The padding counts as masked, so a padded row is searched again.
            let masked = if row.len().is_multiple_of(LANES) && open.all_true() {
                false
            } else {
                into[..row.len()].contains(&f64::NEG_INFINITY)
            };
            Extremes { max, bad: !finite.all_true(), masked }
        },
    )
}

/// e^x for x ≤ 0 to 2 ulp, and 0 if that is below the normal numbers (Cody and Waite 1980; Taylor's
/// series to r¹³).
#[inline(always)]
fn exp<S: Simd>(x: f64x8<S>) -> f64x8<S> {
    const LEAST: f64 = -708.0;
    const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    /// Adding this number rounds the other to an integer; its low bits hold the exponent's bias.
    const ROUND: f64 = 6_755_399_441_055_744.0 + 1023.0;
    const SERIES: [f64; 12] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
    ];
    let within = x.simd_ge(LEAST);
    let x = within.select(x, f64x8::splat(x.token(), LEAST));
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let mut p = f64x8::splat(x.token(), SERIES[0]);
    for coefficient in &SERIES[1..] {
        p = p * r + *coefficient;
    }
    let power = f64x8::from_bits(shifted.to_bits() << 52);
    within.select((p * (r * r) + r + 1.0) * power, f64x8::splat(x.token(), 0.0))
}

#[inline(always)]
fn exponentials<S: Simd>(simd: S, z: &[f64], top: f64, beta: f64, e: &mut [f64]) -> Sums {
    simd.vectorize(
        #[inline(always)]
        || {
            let zero = f64x8::splat(simd, 0.0);
            let least = f64x8::splat(simd, f64::NEG_INFINITY);
            let top = f64x8::splat(simd, top);
            let mut sums = [zero; 5];
            for (z, e) in z.chunks_exact(LANES).zip(e.chunks_exact_mut(LANES)) {
                let z = f64x8::from_slice(simd, z);
                let open = z.simd_gt(least);
                let below = open.select(top - z, zero);
                let weight = open.select(exp(below * -beta), zero);
                weight.store_slice(e);
                let first = weight * below;
                sums[0] += weight;
                sums[1] += weight * weight;
                sums[2] += below;
                sums[3] += first;
                sums[4] += first * below;
            }
            let total = |sum: f64x8<S>| {
                let [a, b, c, d, e, f, g, h] = sum.to_array();
                ((a + e) + (c + g)) + ((b + f) + (d + h))
            };
            let [mass, squares, below, first, second] = sums.map(total);
            Sums { mass, squares, below, first, second }
        },
    )
}

#[inline(always)]
fn spread<S: Simd>(simd: S, e: &[f64], scale: f64, threshold: f64, sums: &mut [f64]) -> bool {
    /// Adding and subtracting this number rounds to multiples of 2^−40.
    const ROUND: f64 = 1.5 * (1u64 << 12) as f64;
    simd.vectorize(
        #[inline(always)]
        || {
            let threshold = f64x8::splat(simd, threshold);
            let mut any = threshold.simd_gt(threshold);
            for (e, sum) in e.chunks_exact(LANES).zip(sums.chunks_exact_mut(LANES)) {
                let e = f64x8::from_slice(simd, e);
                any |= e.simd_ge(threshold);
                let share = (e * scale + ROUND) - ROUND;
                (f64x8::from_slice(simd, sum) + share).store_slice(sum);
            }
            any.any_true()
        },
    )
}

#[inline(always)]
fn above<S: Simd>(simd: S, z: &[f64], value: f64) -> usize {
    simd.vectorize(
        #[inline(always)]
        || z.iter().map(|z| usize::from(*z > value)).sum(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_two_places() {
        let z: Vec<f64> = (0..80_000).map(|i| -f64::from(i) / 113.0).collect();
        let mut e = Vec::new();
        Vectors::default().exponentials(&z, 0.0, 1.0, &mut e);
        for (z, e) in z.iter().zip(&e) {
            let exact = libm::exp(*z);
            let expected = if *z < -708.0 { 0.0 } else { exact };
            assert!(
                (e - expected).abs() <= 2.0 * f64::EPSILON * expected,
                "e^{z}: {e:e}, expected {expected:e}"
            );
        }
    }

    #[test]
    fn every_instruction_set_has_the_same_bits() {
        let row: Vec<f32> = (0..1003).map(|i| ((i * 7919) % 1000) as f32 / 37.0 - 20.0).collect();
        let run = |vectors: Vectors| {
            let (mut z, mut e, mut sums) = (Vec::new(), Vec::new(), vec![0.0; 1008]);
            let extremes = vectors.prepare(&row, &mut z);
            let found = vectors.exponentials(&z, extremes.max, 1.0 / 1.7, &mut e);
            let any = vectors.spread(&e, 1.0 / found.mass, 0.5, &mut sums);
            let bits = [found.mass, found.squares, found.below, found.first, found.second]
                .map(f64::to_bits);
            (bits, any, e.iter().chain(&sums).map(|x| x.to_bits()).collect::<Vec<_>>())
        };
        assert!(run(Vectors::default()) == run(Vectors(Level::baseline())));
    }
}
