//! Kernels over one block of a row: `z[0..len)` with len ≤ [`BLOCK`], contiguous, widened, in the
//! first-level cache.
//!
//! # What there is
//!
//! ```text
//! extremes        max z, min z
//! exponentials    e_k = e^(z_k − reference); Σ e_k but for the peak's, Σ (reference − z_k) and the
//!                 number of open classes
//! against         Σ v_k (reference − z_k), Σ v_k over the open and over the masked classes
//! entropy         Σ −y_k ln(y_k/Y) of y = a·x + b
//! scaled          g = a·e + b
//! add_scaled, multiply, softcap_slope, clear_masked, transform    what else gradients and logits need
//! ```
//!
//! # How a block is cut
//!
//! ```text
//! |<--------------------------- z[0..len) --------------------------->|
//! | segment: 8 vectors | segment: 8 vectors | … | up to 8 vectors | r |
//!                                                        | vector | r      exponentials' last, from the block's end
//! ```
//!
//! A vector is 16 f32 or 8 f64. Over a segment each lane adds up in its own type, 8 additions at
//! most, and is then added to a sum in f64. That bounds the error of a sum whatever its length, at
//! hardly any cost.
//!
//! The logits z may be the caller's own memory, behind which nothing may be read. What is left over
//! after the last whole vector, r above, is therefore read as the end of a vector that overlaps the
//! one before; the lanes that they have in common are not counted again. A block shorter than a
//! vector is copied to an array first. All other slices are buffers of whole chunks of [`PAD`]
//! elements, and their kernels have no loop for a rest.
//!
//! # The peak
//!
//! The class of the largest logit has e^0 = 1, and the row's sum is 1 + rest. The 1 is added at the
//! very end, in log1p, so it must not be in `rest`: the segment that has the peak goes through a
//! slower loop that leaves it out. So does a vector at a block's end. Every other segment is one of
//! two kinds, with and without masked classes.

use fearless_simd::{Select, Simd, SimdBase, SimdFloat, SimdMask};

use super::lanes::{ExpConstants, Lane, Lanes, Total};
use crate::rules::Functional;

/// Elements of a row that are worked on at a time.
pub(in crate::cpu) const BLOCK: usize = 8192;
/// The chunks that buffers are made of: two vectors of f32, four of f64.
pub(in crate::cpu) const PAD: usize = 32;
/// Vectors that are added up in lanes of their own type.
const DEPTH: usize = 8;
/// The most elements that these hold.
const SEGMENT: usize = DEPTH * 16;

/// The length of a buffer for `len` elements.
pub(in crate::cpu) const fn padded(len: usize) -> usize {
    len.next_multiple_of(PAD)
}

/// What [`exponentials`] adds up.
pub(in crate::cpu) struct ExpSums {
    /// Σ e^(z − reference), without the peak's.
    pub(in crate::cpu) rest: f64,
    /// Σ (reference − z) over the classes that are not masked.
    pub(in crate::cpu) shifted: f64,
    /// How many are not masked.
    pub(in crate::cpu) open: usize,
}

type V<S, R> = <R as Lane>::Lanes<S>;

/// The largest and the smallest value; where there is a NaN, any value.
#[inline(always)]
pub(in crate::cpu) fn extremes<S: Simd, R: Lane>(simd: S, z: &[R]) -> (R, R) {
    simd.vectorize(
        #[inline(always)]
        || {
            let lanes = V::<S, R>::LEN;
            let first = V::<S, R>::splat(simd, z[0]);
            // Four of each to hide what one waits for another; two where sixteen registers hold no
            // more, since a vector takes several.
            let kept = if simd.level().as_avx512().is_some() { 4 } else { 2 };
            let (mut max, mut min) = ([first; 4], [first; 4]);
            let mut take = |i: usize, z: &[R]| {
                let (z, i) = (V::<S, R>::from_slice(simd, z), i % kept);
                (max[i], min[i]) = (z.max(max[i]), z.min(min[i]));
            };
            let chunks = z.chunks_exact(4 * lanes);
            let rest = chunks.remainder();
            for z in chunks {
                take(0, &z[..lanes]);
                take(1, &z[lanes..2 * lanes]);
                take(2, &z[2 * lanes..3 * lanes]);
                take(3, &z[3 * lanes..]);
            }
            rest.chunks_exact(lanes).for_each(|z| take(0, z));
            // The last vector from the end, overlapping the one before: max and min are idempotent,
            // so counting an element twice is harmless.
            if let Some(start) = z.len().checked_sub(lanes) {
                take(1, &z[start..]);
            }
            let [a, b, c, d] = max;
            let mut max = a.max(b).max(c.max(d)).reduce_max();
            let [a, b, c, d] = min;
            let mut min = a.min(b).min(c.min(d)).reduce_min();
            if z.len() < lanes {
                for &z in z {
                    (max, min) = (if z > max { z } else { max }, if z < min { z } else { min });
                }
            }
            (max, min)
        },
    )
}

/// The first index of `value`.
#[inline(always)]
pub(in crate::cpu) fn position<S: Simd, R: Lane>(simd: S, z: &[R], value: R) -> Option<usize> {
    let lanes = V::<S, R>::LEN;
    let chunk = simd.vectorize(
        #[inline(always)]
        || {
            let value = V::<S, R>::splat(simd, value);
            z.chunks_exact(lanes)
                .position(|z| V::<S, R>::from_slice(simd, z).simd_eq(value).any_true())
        },
    );
    let start = chunk.map_or(z.len() / lanes * lanes, |chunk| chunk * lanes);
    z[start..].iter().position(|z| *z == value).map(|k| start + k)
}

/// e^(z − reference), where `reference` is the largest z or larger, into `e`.
///
/// The class at `peak`, whose logit is the reference, is left out of `rest`. `masked` says whether
/// there may be −∞. `ahead` is told which elements are being worked on.
#[inline(always)]
pub(in crate::cpu) fn exponentials<S: Simd, R: Lane>(
    simd: S,
    z: &[R],
    reference: R,
    e: &mut [R],
    peak: Option<usize>,
    masked: bool,
    ahead: impl Fn(usize, usize),
) -> ExpSums {
    // Two kernels, each with what it needs in registers.
    if masked {
        exp_block::<S, R, true>(simd, z, reference, e, peak, ahead)
    } else {
        exp_block::<S, R, false>(simd, z, reference, e, peak, ahead)
    }
}

#[inline(always)]
fn exp_block<S: Simd, R: Lane, const MASKED: bool>(
    simd: S,
    z: &[R],
    reference: R,
    e: &mut [R],
    peak: Option<usize>,
    ahead: impl Fn(usize, usize),
) -> ExpSums {
    simd.vectorize(
        #[inline(always)]
        || {
            let lanes = V::<S, R>::LEN;
            let segment = DEPTH * lanes;
            let reference = V::<S, R>::splat(simd, reference);
            let constants = ExpConstants::new(simd);
            let constants = constants.for_loops(simd);
            let whole = z.len() / lanes * lanes;
            let mut sums = ExpLanes {
                rest: Total::zero(simd),
                shifted: Total::zero(simd),
                open: Total::zero(simd),
            };
            let mut open = 0;
            for (i, (z, e)) in z[..whole].chunks(segment).zip(e.chunks_mut(segment)).enumerate() {
                let start = i * segment;
                ahead(start, segment);
                let peak =
                    peak.and_then(|peak| peak.checked_sub(start)).filter(|&peak| peak < z.len());
                match peak {
                    Some(peak) => exp_segment::<S, R, MASKED, true>(
                        simd, z, reference, e, peak, constants, &mut sums,
                    ),
                    None => exp_segment::<S, R, MASKED, false>(
                        simd, z, reference, e, 0, constants, &mut sums,
                    ),
                }
                if !MASKED {
                    open += z.len();
                }
            }
            if whole < z.len() {
                let start = z.len().saturating_sub(lanes);
                let peak = peak.and_then(|peak| peak.checked_sub(start));
                if let Some(z) = z.get(start..start + lanes) {
                    exp_special(
                        simd,
                        z,
                        reference,
                        &mut e[start..],
                        peak,
                        whole - start,
                        constants,
                        &mut sums,
                    );
                } else {
                    let mut own = [R::NEG_INFINITY; 16];
                    own[..z.len()].copy_from_slice(z);
                    exp_special(simd, &own[..lanes], reference, e, peak, 0, constants, &mut sums);
                }
            }
            ExpSums {
                rest: sums.rest.total(),
                shifted: sums.shifted.total(),
                open: open + sums.open.total() as usize,
            }
        },
    )
}

struct ExpLanes<S: Simd> {
    rest: Total<S>,
    shifted: Total<S>,
    /// How many are open, of vectors that may have masked classes.
    open: Total<S>,
}

/// A segment in which every class counts, but for the masked ones, which `MASKED` says there may
/// be, and, if `PEAK`, the one at `peak`.
#[inline(always)]
fn exp_segment<S: Simd, R: Lane, const MASKED: bool, const PEAK: bool>(
    simd: S,
    z: &[R],
    reference: V<S, R>,
    e: &mut [R],
    peak: usize,
    constants: &ExpConstants<V<S, R>>,
    sums: &mut ExpLanes<S>,
) {
    let of = |value| V::<S, R>::splat(simd, value);
    let (zero, one) = (of(R::ZERO), of(R::ONE));
    let (mut exps, mut below, mut open) = (zero, zero, zero);
    // How far the peak is from each lane: it is where that is 0.
    let peak = of(R::from_class(peak as i32));
    let mut away = peak - V::<S, R>::from_fn(simd, |lane| R::from_class(lane as i32));
    for (z, e) in z.chunks_exact(V::<S, R>::LEN).zip(e.chunks_exact_mut(V::<S, R>::LEN)) {
        let z = V::<S, R>::from_slice(simd, z);
        let x = z - reference;
        let exp = x.exp_with(constants);
        exp.store_slice(e);
        if PEAK {
            exps += away.simd_eq(zero).select(zero, exp);
            away -= R::from_class(V::<S, R>::LEN as i32);
        } else {
            exps += exp;
        }
        if MASKED {
            let masked = z.simd_eq(R::NEG_INFINITY);
            open += masked.select(zero, one);
            below -= masked.select(zero, x);
        } else {
            below -= x;
        }
    }
    exps.total_to(&mut sums.rest);
    below.total_to(&mut sums.shifted);
    if MASKED {
        open.total_to(&mut sums.open);
    }
}

/// A vector of which the first `counted` lanes count elsewhere. It may have the peak and masked
/// classes.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn exp_special<S: Simd, R: Lane>(
    simd: S,
    z: &[R],
    reference: V<S, R>,
    e: &mut [R],
    peak: Option<usize>,
    counted: usize,
    constants: &ExpConstants<V<S, R>>,
    sums: &mut ExpLanes<S>,
) {
    let of = |value| V::<S, R>::splat(simd, value);
    let (zero, one) = (of(R::ZERO), of(R::ONE));
    let lanes = V::<S, R>::LEN;
    let lane = V::<S, R>::from_fn(simd, |lane| R::from_f64(lane as f64));
    let counts = lane.simd_ge(R::from_f64(counted as f64)).select(one, zero);
    let (mut exps, mut below, mut open) = (zero, zero, zero);
    for (i, (z, e)) in z.chunks_exact(lanes).zip(e.chunks_exact_mut(lanes)).enumerate() {
        let z = V::<S, R>::from_slice(simd, z);
        let x = z - reference;
        let exp = x.exp_with(constants);
        exp.store_slice(e);
        let here = z.simd_eq(R::NEG_INFINITY).select(zero, counts);
        open += here;
        below += here.simd_eq(zero).select(zero, -x);
        let peak = peak.and_then(|peak| peak.checked_sub(i * lanes)).filter(|&peak| peak < lanes);
        let exp = counts.simd_eq(zero).select(zero, exp);
        exps += match peak {
            Some(peak) => lane.simd_eq(R::from_f64(peak as f64)).select(zero, exp),
            None => exp,
        };
    }
    exps.total_to(&mut sums.rest);
    below.total_to(&mut sums.shifted);
    open.total_to(&mut sums.open);
}

/// Sums against v ≥ 0, one entry per class, of which masked classes count in `masked_mass` and
/// `masked` only. `v` goes on with zeros to the end of its last chunk. `masked` says whether there
/// may be −∞ in z.
#[inline(always)]
pub(in crate::cpu) fn against<S: Simd, R: Lane>(
    simd: S,
    z: &[R],
    v: &[R],
    reference: R,
    masked: bool,
) -> Functional {
    let [mut shifted, mass, masked_mass, closed] = simd.vectorize(
        #[inline(always)]
        || {
            if masked {
                against_lanes::<S, R, true>(simd, z, v, reference)
            } else {
                against_lanes::<S, R, false>(simd, z, v, reference)
            }
        },
    );
    if !shifted.is_finite() {
        shifted = shifted_wide(z, |i| v[i].to_f64(), reference);
    }
    Functional { shifted, mass, masked_mass, masked: closed as usize }
}

#[inline(always)]
fn against_lanes<S: Simd, R: Lane, const MASKED: bool>(
    simd: S,
    z: &[R],
    v: &[R],
    reference: R,
) -> [f64; 4] {
    let mut own = [reference; SEGMENT];
    let of = |value| V::<S, R>::splat(simd, value);
    let (zero, one, reference) = (of(R::ZERO), of(R::ONE), of(reference));
    let segment = DEPTH * V::<S, R>::LEN;
    let mut sums = [Total::zero(simd); 4];
    for (z, v) in z.chunks(segment).zip(v.chunks(segment)) {
        let z = if z.len() == segment {
            z
        } else {
            own[..z.len()].copy_from_slice(z);
            &own[..v.len()]
        };
        let mut lanes = [zero; 4];
        for (z, v) in z.chunks_exact(V::<S, R>::LEN).zip(v.chunks_exact(V::<S, R>::LEN)) {
            let (z, v) = (V::<S, R>::from_slice(simd, z), V::<S, R>::from_slice(simd, v));
            if MASKED {
                let masked = z.simd_eq(R::NEG_INFINITY);
                let open = masked.select(zero, v);
                lanes[0] = open.mul_add(masked.select(zero, reference - z), lanes[0]);
                lanes[1] += open;
                let closed = v - open;
                lanes[2] += closed;
                lanes[3] += closed.simd_gt(zero).select(one, zero);
            } else {
                lanes[0] = v.mul_add(reference - z, lanes[0]);
                lanes[1] += v;
            }
        }
        lanes
            .into_iter()
            .zip(&mut sums)
            .take(if MASKED { 4 } else { 2 })
            .for_each(|(lanes, sum)| lanes.total_to(sum));
    }
    sums.map(Total::total)
}

/// Σ v_k·(reference − z_k) in f64, for logits so far apart that differences or their sum leave f32:
/// some use −3e38 as a mask of their own.
#[cold]
pub(in crate::cpu) fn shifted_wide<R: Lane>(
    z: &[R],
    v: impl Fn(usize) -> f64,
    reference: R,
) -> f64 {
    let terms = z.iter().enumerate().filter(|&(i, z)| *z != R::NEG_INFINITY && v(i) != 0.0);
    terms.map(|(i, z)| v(i) * (reference.to_f64() - z.to_f64())).sum()
}

/// Σ −y ln(y/total) over y = a·x + b ≥ 0.
#[inline(always)]
pub(in crate::cpu) fn entropy<S: Simd, R: Lane>(simd: S, x: &[R], a: R, b: R, total: f64) -> f64 {
    simd.vectorize(
        #[inline(always)]
        || {
            let zero = V::<S, R>::splat(simd, R::ZERO);
            let one = V::<S, R>::splat(simd, R::ONE);
            // 1/total in two parts, and their products rounded once on every instruction set, so that
            // the share of the total itself is 1 to the last bit and its logarithm 0.
            let first = R::from_f64(1.0 / total);
            let second = R::from_f64((-total).mul_add(first.to_f64(), 1.0) / total);
            let [a, b, first, second] =
                [a, b, first, second].map(|scalar| V::<S, R>::splat(simd, scalar));
            let segment = DEPTH * V::<S, R>::LEN;
            let mut sum = Total::zero(simd);
            for x in x.chunks(segment) {
                let mut lanes = zero;
                for x in x.chunks_exact(V::<S, R>::LEN) {
                    let y = V::<S, R>::from_slice(simd, x).mul_add(a, b);
                    let share = y.mul_add_precise(first, y * second);
                    let share = y.simd_gt(R::SMALLEST_NORMAL).select(share, one);
                    lanes -= y * share.ln();
                }
                lanes.total_to(&mut sum);
            }
            sum.total()
        },
    )
}

/// out ← a·x + b.
#[inline(always)]
pub(in crate::cpu) fn scaled<S: Simd, R: Lane>(
    simd: S,
    x: &[R],
    a: R,
    b: R,
    out: &mut [R],
    ahead: impl Fn(usize, usize),
) {
    simd.vectorize(
        #[inline(always)]
        || {
            let lanes = V::<S, R>::LEN;
            let (a, b) = (V::<S, R>::splat(simd, a), V::<S, R>::splat(simd, b));
            for (i, (x, out)) in x.chunks_exact(lanes).zip(out.chunks_exact_mut(lanes)).enumerate()
            {
                ahead(i * lanes, lanes);
                V::<S, R>::from_slice(simd, x).mul_add(a, b).store_slice(out);
            }
        },
    );
}

/// out ← f(out, x), vector by vector.
#[inline(always)]
fn combine<S: Simd, R: Lane>(
    simd: S,
    out: &mut [R],
    x: &[R],
    f: impl Fn(V<S, R>, V<S, R>) -> V<S, R>,
) {
    for (out, x) in out.chunks_exact_mut(V::<S, R>::LEN).zip(x.chunks_exact(V::<S, R>::LEN)) {
        f(V::<S, R>::from_slice(simd, out), V::<S, R>::from_slice(simd, x)).store_slice(out);
    }
}

/// out ← out·x.
#[inline(always)]
pub(in crate::cpu) fn multiply<S: Simd, R: Lane>(simd: S, out: &mut [R], x: &[R]) {
    simd.vectorize(
        #[inline(always)]
        || {
            combine(
                simd,
                out,
                x,
                #[inline(always)]
                |out, x| out * x,
            )
        },
    );
}

/// out ← out + c·x.
#[inline(always)]
pub(in crate::cpu) fn add_scaled<S: Simd, R: Lane>(simd: S, out: &mut [R], x: &[R], c: R) {
    simd.vectorize(
        #[inline(always)]
        || {
            let c = V::<S, R>::splat(simd, c);
            combine(
                simd,
                out,
                x,
                #[inline(always)]
                |out, x| x.mul_add(c, out),
            );
        },
    );
}

/// g ← g·(1 − (z/cap)²): the slope of z = cap·tanh(·/cap), by z. It is 0 where z is −∞.
#[inline(always)]
pub(in crate::cpu) fn softcap_slope<S: Simd, R: Lane>(simd: S, g: &mut [R], z: &[R], per_cap: R) {
    simd.vectorize(
        #[inline(always)]
        || {
            let zero = V::<S, R>::splat(simd, R::ZERO);
            let one = V::<S, R>::splat(simd, R::ONE);
            combine(
                simd,
                g,
                z,
                #[inline(always)]
                |g, z| {
                    let tanh = z * per_cap;
                    z.simd_eq(R::NEG_INFINITY).select(zero, g * ((one - tanh) * (one + tanh)))
                },
            );
        },
    );
}

/// g ← 0 where z is −∞.
#[inline(always)]
pub(in crate::cpu) fn clear_masked<S: Simd, R: Lane>(simd: S, g: &mut [R], z: &[R]) {
    simd.vectorize(
        #[inline(always)]
        || {
            let zero = V::<S, R>::splat(simd, R::ZERO);
            combine(
                simd,
                g,
                z,
                #[inline(always)]
                |g, z| z.simd_eq(R::NEG_INFINITY).select(zero, g),
            );
        },
    );
}

/// z ← cap·tanh(z/(temperature·cap)), or z/temperature without a cap; −∞ stays −∞.
#[inline(always)]
pub(in crate::cpu) fn transform<S: Simd, R: Lane>(
    simd: S,
    z: &mut [R],
    temperature: f64,
    cap: Option<f64>,
) {
    let factor = R::from_f64(cap.map_or(1.0, |cap| 2.0 / cap) / temperature);
    if !factor.is_normal() {
        return transform_wide(z, temperature, cap);
    }
    simd.vectorize(
        #[inline(always)]
        || {
            let factor = V::<S, R>::splat(simd, factor);
            let Some(cap) = cap else {
                return z
                    .chunks_exact_mut(V::<S, R>::LEN)
                    .for_each(|z| (V::<S, R>::from_slice(simd, z) * factor).store_slice(z));
            };
            let cap = V::<S, R>::splat(simd, R::from_f64(cap));
            for z in z.chunks_exact_mut(V::<S, R>::LEN) {
                let logits = V::<S, R>::from_slice(simd, z);
                let capped = (logits * factor).tanh_of_half() * cap;
                logits.simd_eq(R::NEG_INFINITY).select(logits, capped).store_slice(z);
            }
        },
    );
}

/// [`transform`] in f64, for factors that leave f32.
#[cold]
fn transform_wide<R: Lane>(z: &mut [R], temperature: f64, cap: Option<f64>) {
    for z in z.iter_mut().filter(|z| **z != R::NEG_INFINITY) {
        let divided = z.to_f64() / temperature;
        *z = R::from_f64(cap.map_or(divided, |cap| cap * (divided / cap).tanh()));
    }
}
