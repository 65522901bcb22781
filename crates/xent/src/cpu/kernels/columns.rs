//! Kernels over a tile: K classes of `width` rows each, a row to a lane. Lanes know nothing of each other, so a row has the same bits wherever in a tile it stands.

use fearless_simd::{Select, Simd, SimdBase, SimdFloat, SimdMask, f64x8};

use super::lanes::{Lane, Lanes, Wide};
use crate::Real;
use crate::plan::{AlikeRows, Functional};

/// A tile's width is a multiple of this.
pub(in crate::cpu) const COLUMN: usize = 16;
/// Classes that are added up in lanes of their own type before they are added up in f64.
const DEPTH: usize = 8;

type V<S, R> = <R as Lane>::Lanes<S>;

/// What is read off each row of a tile.
pub(in crate::cpu) struct Columns<R> {
    max: Vec<R>,
    argmax: Vec<R>,
    rest: Vec<f64>,
    log1p_rest: Vec<f64>,
    functional: [Vec<f64>; 4],
}

impl<R: Real> Columns<R> {
    pub(in crate::cpu) fn new(width: usize) -> Self {
        let (own, wide) = (|| vec![R::ZERO; width], || vec![0.0; width]);
        Self { max: own(), argmax: own(), rest: wide(), log1p_rest: wide(), functional: std::array::from_fn(|_| wide()) }
    }

    /// What rows that are alike are folded from.
    #[inline(always)]
    pub(in crate::cpu) fn copy_to(&self, rows: &mut AlikeRows) {
        rows.max.iter_mut().zip(&self.max).for_each(|(out, max)| *out = max.to_f64());
        rows.log1p_rest.copy_from_slice(&self.log1p_rest);
        rows.shifted.copy_from_slice(&self.functional[0]);
    }

    /// The largest logit of a row and the first class that has it.
    #[inline(always)]
    pub(in crate::cpu) fn peak(&self, row: usize) -> (f64, usize) {
        (self.max[row].to_f64(), self.argmax[row].to_f64() as usize)
    }

    /// Σ e^(z − max) without the largest, and ln(1 + that).
    #[inline(always)]
    pub(in crate::cpu) fn rest(&self, row: usize) -> (f64, f64) {
        (self.rest[row], self.log1p_rest[row])
    }

    /// [`peak`](Self::peak)'s class of all rows.
    #[inline(always)]
    pub(in crate::cpu) fn argmax(&self) -> &[R] {
        &self.argmax
    }

    /// [`rest`](Self::rest)'s sum of all rows.
    #[inline(always)]
    pub(in crate::cpu) fn rests(&self) -> &[f64] {
        &self.rest
    }

    /// The sums against v.
    #[inline(always)]
    pub(in crate::cpu) fn functional(&self, row: usize) -> Functional {
        let [shifted, mass, masked_mass, masked] = [0, 1, 2, 3].map(|i| self.functional[i][row]);
        Functional { shifted, mass, masked_mass, masked: masked as usize }
    }
}

/// Reads a tile: `columns` of each row against v (≡ 1 without one), and e^(z − max) into `e`. `ahead` is told how far it has come. Returns whether any logit is −∞.
#[inline(always)]
pub(in crate::cpu) fn statistics<S: Simd, R: Real>(
    simd: S,
    z: &[R],
    width: usize,
    v: Option<&[R]>,
    e: &mut [R],
    columns: &mut Columns<R>,
    ahead: impl Fn(usize, usize),
) -> bool {
    simd.vectorize(
        #[inline(always)]
        || {
            let mut any_masked = false;
            for column in (0..width).step_by(V::<S, R>::LEN) {
                let masked = peak(simd, z, width, column, columns, &ahead);
                any_masked |= masked;
                match (v, masked) {
                    (None, false) => sums::<S, R, false>(simd, z, width, column, None, e, columns),
                    (_, false) => sums::<S, R, false>(simd, z, width, column, v, e, columns),
                    (_, true) => sums::<S, R, true>(simd, z, width, column, v, e, columns),
                }
            }
            for (log, rest) in columns.log1p_rest.chunks_exact_mut(8).zip(columns.rest.chunks_exact(8)) {
                f64x8::from_slice(simd, rest).ln_1p().store_slice(log);
            }
            any_masked
        },
    )
}

/// The largest logits of a column of rows; whether there is a −∞ among them all.
#[inline(always)]
fn peak<S: Simd, R: Real>(simd: S, z: &[R], width: usize, column: usize, columns: &mut Columns<R>, ahead: &impl Fn(usize, usize)) -> bool {
    let len = V::<S, R>::LEN;
    let first = V::<S, R>::from_slice(simd, &z[column..][..len]);
    let (mut max, mut min) = (first, first);
    for (k, z) in z.chunks_exact(width).enumerate() {
        ahead(k, column);
        let z = V::<S, R>::from_slice(simd, &z[column..][..len]);
        (max, min) = (z.max(max), z.min(min));
    }
    max.store_slice(&mut columns.max[column..][..len]);
    // Lane by lane: the minimum of all may be one row's NaN.
    min.simd_eq(R::NEG_INFINITY).any_true()
}

#[inline(always)]
fn sums<S: Simd, R: Real, const MASKED: bool>(simd: S, z: &[R], width: usize, column: usize, v: Option<&[R]>, e: &mut [R], columns: &mut Columns<R>) {
    let len = V::<S, R>::LEN;
    let of = |value| V::<S, R>::splat(simd, value);
    let (zero, one) = (of(R::ZERO), of(R::ONE));
    let max = V::<S, R>::from_slice(simd, &columns.max[column..][..len]);
    // All masked: any finite reference serves.
    let reference = max.simd_eq(R::NEG_INFINITY).select(zero, max);
    let (mut rest, mut functional) = (Wide::zero(simd), [Wide::zero(simd); 4]);
    let (mut class, mut argmax, mut peaks) = (zero, of(R::MAX), zero);
    // Summed as the lanes are, so that a row's bits do not depend on masks in its neighbours.
    let (mut mass, mut k) = (0.0, 0);
    for (z, e) in z.chunks(DEPTH * width).zip(e.chunks_mut(DEPTH * width)) {
        let (mut exps, mut lanes, mut part) = (zero, [zero; 4], R::ZERO);
        for (z, e) in z.chunks_exact(width).zip(e.chunks_exact_mut(width)) {
            let z = V::<S, R>::from_slice(simd, &z[column..][..len]);
            let x = z - reference;
            let exp = x.exp();
            exp.store_slice(&mut e[column..][..len]);
            let peak = z.simd_eq(max);
            exps += peak.select(zero, exp);
            peaks += peak.select(one, zero);
            argmax = argmax.min(peak.select(class, of(R::MAX)));
            let weight = v.map_or(R::ONE, |v| v[k]);
            if MASKED {
                let masked = z.simd_eq(R::NEG_INFINITY);
                let weight = of(weight);
                let open = masked.select(zero, weight);
                let closed = weight - open;
                lanes[0] = open.mul_add(masked.select(zero, -x), lanes[0]);
                lanes[1] += open;
                lanes[2] += closed;
                lanes[3] += closed.simd_gt(zero).select(one, zero);
            } else if v.is_some() {
                lanes[0] = of(weight).mul_add(-x, lanes[0]);
                part += weight;
            } else {
                lanes[0] -= x;
                part += weight;
            }
            class += V::<S, R>::ONE;
            k += 1;
        }
        exps.add_to(&mut rest);
        mass += part.to_f64();
        lanes[0].add_to(&mut functional[0]);
        if MASKED {
            (1..4).for_each(|i| lanes[i].add_to(&mut functional[i]));
        }
    }
    // All that share the largest logit but the first have e^0 = 1. (All masked: e^(−∞) = 0.)
    (peaks - V::<S, R>::ONE).add_to(&mut rest);
    rest.store(&mut columns.rest[column..][..len]);
    argmax.store_slice(&mut columns.argmax[column..][..len]);
    for (i, (out, sums)) in columns.functional.iter_mut().zip(functional).enumerate() {
        let out = &mut out[column..][..len];
        if MASKED || i == 0 {
            sums.store(out);
        } else {
            out.fill(if i == 1 { mass } else { 0.0 });
        }
    }
}

/// e ← a·e − b·v, a and b one a row, v one a class (≡ 1 without one).
#[inline(always)]
pub(in crate::cpu) fn gradient<S: Simd, R: Real>(simd: S, e: &mut [R], a: &[R], b: &[R], v: Option<&[R]>) {
    simd.vectorize(
        #[inline(always)]
        || {
            let len = V::<S, R>::LEN;
            for column in (0..a.len()).step_by(len) {
                let (on_exp, on_prior) = (V::<S, R>::from_slice(simd, &a[column..][..len]), V::<S, R>::from_slice(simd, &b[column..][..len]));
                for (k, e) in e.chunks_exact_mut(a.len()).enumerate() {
                    let e = &mut e[column..][..len];
                    let prior = v.map_or(on_prior, |v| on_prior * v[k]);
                    V::<S, R>::from_slice(simd, e).mul_add(on_exp, -prior).store_slice(e);
                }
            }
        },
    );
}
