//! Kernels over a tile: K classes of `width` rows each, a row per lane.
//!
//! ```text
//!            rows →
//!            |<-- column -->|
//! class 0    z z z z z z z z z z z z … width     column: as many rows as a vector has lanes
//! class 1    z z z z z z z z z z z z             width:  a multiple of 16, so whole columns
//!   ⋮
//! class K−1  z z z z z z z z z z z z
//! ```
//!
//! A column is swept twice, class by class: `peak` finds each row's largest logit and its class,
//! `sums` takes exponentials against it and adds up. The statistics end as numbers per row in
//! [`TileStatistics`], from which rows are folded many at a time or one by one; `gradient` then goes over
//! the exponentials once more.
//!
//! What is asked of a row at its label is gathered afterwards: a register less for two sweeps.
//!
//! Classes are counted up by `width`: iterators over chunks of that length would divide by it once for
//! each column, which takes as long as a class.
//!
//! Lanes know nothing of each other, so a row has the same bits wherever in a tile it stands. As in
//! `block.rs`, a lane adds up 8 classes at most before it is added up in f64, and the largest term
//! stays out of `rest`.

use fearless_simd::{Select, Simd, SimdBase, SimdFloat, SimdMask};

use super::lanes::{ExpConstants, Lane, Lanes, Wide, ln_1p_of};
use crate::columns::Columns;
use crate::rules::{ClassFoldRows, Functional};

/// A tile's width is a multiple of this.
pub(in crate::cpu) const COLUMN: usize = 16;
/// Classes that are added up in lanes of the logits' own type before they are added up in f64.
const DEPTH: usize = 8;

type V<S, R> = <R as Lane>::Lanes<S>;

/// Statistics of a tile, a number per row.
pub(in crate::cpu) struct TileStatistics<R> {
    /// The largest logit, and its class; the logit at the row's class, and e^(z − max) there.
    logits: Columns<R, 4>,
    /// Σ e^(z − max) without the largest; ln(1 + that); sums against v: shifted, mass, masked mass,
    /// masked.
    sums: Columns<f64, 6>,
}

impl<R: Lane> TileStatistics<R> {
    pub(in crate::cpu) fn new(width: usize) -> Self {
        Self { logits: Columns::new(width, R::ZERO), sums: Columns::new(width, 0.0) }
    }

    /// What plain rows are folded from, into `rows`. `z` and `e` are the tile, `entries` where each
    /// row's class is in it.
    #[inline(always)]
    pub(in crate::cpu) fn copy_to(
        &mut self,
        z: &[R],
        e: &[R],
        entries: &[u32],
        rows: &mut ClassFoldRows<'_>,
    ) {
        assert_eq!(z.len(), e.len());
        let [max, argmax, z_at_class, e_at_class] = self.logits.all_mut();
        let [rest, log1p_rest, shifted, ..] = self.sums.all();
        for ((z_at_class, e_at_class), entry) in
            z_at_class.iter_mut().zip(&mut *e_at_class).zip(entries)
        {
            (*z_at_class, *e_at_class) = (z[*entry as usize], e[*entry as usize]);
        }
        let widen = |out: &mut [f64], values: &[R]| {
            out.iter_mut().zip(values).for_each(|(out, value)| *out = value.to_f64());
        };
        widen(rows.max, max);
        widen(rows.argmax, argmax);
        widen(rows.exp_at_class, e_at_class);
        for (below, (max, z)) in rows.below.iter_mut().zip(max.iter().zip(&*z_at_class)) {
            *below = max.to_f64() - z.to_f64();
        }
        rows.rest.copy_from_slice(rest);
        rows.log1p_rest.copy_from_slice(log1p_rest);
        rows.shifted.copy_from_slice(shifted);
    }

    /// The largest logit of a row and the first class that has it.
    #[inline(always)]
    pub(in crate::cpu) fn peak(&self, row: usize) -> (f64, usize) {
        let [max, argmax, ..] = self.logits.all();
        (max[row].to_f64(), argmax[row].to_f64() as usize)
    }

    /// Σ e^(z − max) without the largest, and ln(1 + that).
    #[inline(always)]
    pub(in crate::cpu) fn rest(&self, row: usize) -> (f64, f64) {
        let [rest, log1p_rest, ..] = self.sums.all();
        (rest[row], log1p_rest[row])
    }

    /// The sums against v.
    #[inline(always)]
    pub(in crate::cpu) fn functional(&self, row: usize) -> Functional {
        let [_, _, shifted, mass, masked_mass, masked] = self.sums.all().map(|sums| sums[row]);
        Functional { shifted, mass, masked_mass, masked: masked as usize }
    }
}

/// The statistics of a tile against v (without one, 1 everywhere) into `columns`, and e^(z − max)
/// into `e`. `ahead` is asked for what to do beside each column, and that is done once per class.
/// Returns whether any logit is −∞.
#[inline(always)]
pub(in crate::cpu) fn statistics<S: Simd, R: Lane, A: FnMut()>(
    simd: S,
    z: &[R],
    width: usize,
    v: Option<&[R]>,
    e: &mut [R],
    columns: &mut TileStatistics<R>,
    ahead: impl Fn(usize) -> A,
) -> bool {
    simd.vectorize(
        #[inline(always)]
        || {
            let mut any_masked = false;
            let constants = ExpConstants::new(simd);
            let constants = constants.for_loops(simd);
            let mass = v.map_or((z.len() / width) as f64, mass);
            for column in (0..width).step_by(V::<S, R>::LEN) {
                let masked = peak(simd, z, width, column, columns, ahead(column));
                any_masked |= masked;
                match (v, masked) {
                    (None, false) => sums::<S, R, false>(
                        simd, z, width, column, None, mass, constants, e, columns,
                    ),
                    (_, false) => {
                        sums::<S, R, false>(simd, z, width, column, v, mass, constants, e, columns)
                    }
                    (_, true) => {
                        sums::<S, R, true>(simd, z, width, column, v, mass, constants, e, columns)
                    }
                }
            }
            let [rest, log1p_rest, ..] = columns.sums.all_mut();
            ln_1p_of(simd, rest, log1p_rest);
            any_masked
        },
    )
}

/// The largest logits of a column's rows and the first classes that have them; returns whether any
/// logit is −∞.
#[inline(always)]
fn peak<S: Simd, R: Lane>(
    simd: S,
    z: &[R],
    width: usize,
    column: usize,
    columns: &mut TileStatistics<R>,
    mut ahead: impl FnMut(),
) -> bool {
    let len = V::<S, R>::LEN;
    let first = V::<S, R>::from_slice(simd, &z[column..][..len]);
    let zero = V::<S, R>::splat(simd, R::ZERO);
    let (mut max, mut min, mut class, mut argmax) = (first, first, zero, zero);
    let mut start = column;
    while start < z.len() {
        ahead();
        let z = V::<S, R>::from_slice(simd, &z[start..][..len]);
        let larger = z.simd_gt(max);
        (max, argmax) = (larger.select(z, max), larger.select(class, argmax));
        min = z.min(min);
        class += V::<S, R>::ONE;
        start += width;
    }
    let [max_out, argmax_out, ..] = columns.logits.all_mut();
    max.store_slice(&mut max_out[column..][..len]);
    argmax.store_slice(&mut argmax_out[column..][..len]);
    // Lane by lane, since the minimum of all lanes may be one row's NaN.
    min.simd_eq(R::NEG_INFINITY).any_true()
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn sums<S: Simd, R: Lane, const MASKED: bool>(
    simd: S,
    z: &[R],
    width: usize,
    column: usize,
    v: Option<&[R]>,
    mass: f64,
    constants: &ExpConstants<V<S, R>>,
    e: &mut [R],
    columns: &mut TileStatistics<R>,
) {
    let len = V::<S, R>::LEN;
    let of = |value| V::<S, R>::splat(simd, value);
    let (zero, one) = (of(R::ZERO), of(R::ONE));
    let [max, argmax, ..] = columns.logits.all();
    let [max, argmax] =
        [max, argmax].map(|rows| V::<S, R>::from_slice(simd, &rows[column..][..len]));
    // Where a whole row is masked any finite reference serves.
    let reference = max.simd_eq(R::NEG_INFINITY).select(zero, max);
    let (mut rest, mut functional) = (Wide::zero(simd), [Wide::zero(simd); 4]);
    let (mut class, mut k, mut start) = (zero, 0, column);
    assert_eq!(z.len(), e.len());
    while start < z.len() {
        let (mut exps, mut lanes) = (zero, [zero; 4]);
        let end = z.len().min(start + DEPTH * width);
        while start < end {
            let z = V::<S, R>::from_slice(simd, &z[start..][..len]);
            let x = z - reference;
            let exp = x.exp_with(constants);
            exp.store_slice(&mut e[start..][..len]);
            exps += class.simd_eq(argmax).select(zero, exp);
            let weight = v.map_or(one, |v| of(v[k]));
            if MASKED {
                let masked = z.simd_eq(R::NEG_INFINITY);
                let open = masked.select(zero, weight);
                let closed = weight - open;
                lanes[0] = open.mul_add(masked.select(zero, -x), lanes[0]);
                lanes[1] += open;
                lanes[2] += closed;
                lanes[3] += closed.simd_gt(zero).select(one, zero);
            } else if v.is_some() {
                lanes[0] = weight.mul_add(-x, lanes[0]);
            } else {
                lanes[0] -= x;
            }
            class += V::<S, R>::ONE;
            (k, start) = (k + 1, start + width);
        }
        exps.add_to(&mut rest);
        lanes[0].add_to(&mut functional[0]);
        if MASKED {
            (1..4).for_each(|i| lanes[i].add_to(&mut functional[i]));
        }
    }
    let [rest_out, _, functional_out @ ..] = columns.sums.all_mut();
    rest.store(&mut rest_out[column..][..len]);
    for (i, (out, sums)) in functional_out.into_iter().zip(functional).enumerate() {
        let out = &mut out[column..][..len];
        if MASKED || i == 0 {
            sums.store(out);
        } else {
            out.fill(if i == 1 { mass } else { 0.0 });
        }
    }
}

/// e ← on_exp·e − on_prior·v; v is a number per class, without one 1 everywhere.
#[inline(always)]
pub(in crate::cpu) fn gradient<S: Simd, R: Lane>(
    simd: S,
    e: &mut [R],
    on_exp: &[R],
    on_prior: &[R],
    v: Option<&[R]>,
) {
    simd.vectorize(
        #[inline(always)]
        || {
            let (len, width) = (V::<S, R>::LEN, on_exp.len());
            for (k, e) in e.chunks_exact_mut(width).enumerate() {
                let v = v.map_or(R::ONE, |v| v[k]);
                let rows = on_exp.chunks_exact(len).zip(on_prior.chunks_exact(len));
                for (e, (on_exp, on_prior)) in e.chunks_exact_mut(len).zip(rows) {
                    let [on_exp, on_prior] =
                        [on_exp, on_prior].map(|values| V::<S, R>::from_slice(simd, values));
                    V::<S, R>::from_slice(simd, e).mul_add(on_exp, -(on_prior * v)).store_slice(e);
                }
            }
        },
    );
}

/// Σ v, in the order in which `sums` adds it up where a class is masked.
pub(in crate::cpu) fn mass<R: Lane>(v: &[R]) -> f64 {
    v.chunks(DEPTH).map(|v| v.iter().fold(R::ZERO, |sum, v| sum + *v).to_f64()).sum()
}
