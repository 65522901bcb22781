//! Rows along the lanes: a tile of rows at a time, class by class.
//!
//! For few classes, where a row would not fill a vector, and for class axes that are not the last,
//! where neighbouring rows are neighbours in memory, as in `[N, K, H, W]`. A tile is `width` rows
//! of all K classes, in the first-level cache, transposed if it has to be: class k of the i-th row
//! is at k·width + i (the picture is in `kernels/columns.rs`).
//!
//! A tile's trip:
//!
//! 1. `load`: logits are widened, put in that order, transformed and masked.
//! 2. `columns::statistics`: each row's statistics, and e^(z − m) for all classes. Meanwhile the
//!    next tile is fetched.
//! 3. The rules make coefficients of the statistics. Where only their classes and statistics tell
//!    rows apart, that is done for all rows of the tile at once (`fold_plain`); where it is not
//!    so, or something is masked or extreme, row by row (`fold`).
//! 4. `gradient`: a column at a time from the exponentials, then what is not of that form:
//!    softcap's slope, masks, ignored rows and rows of NaN, hot classes that were not asked for.
//!
//! Rows beyond the last of a tile that is not full hold zeros, and what comes of them is dropped.

use std::ops::Range;

use fearless_simd::Simd;

use super::call::{Call, PriorVector};
use super::kernels::block;
use super::kernels::columns::{self, COLUMN, TileStatistics};
use super::kernels::lanes::Lane;
use super::logit::Logit;
use super::memory::{ClaimedRows, ClaimedTile};
use super::plain::PlainRows;
use crate::buffer::Buffer;
use crate::columns::Columns;
use crate::element::sealed::Sealed;
use crate::rules::{FloorMemo, PartsMut, RowGradient, RowPlan, RowStats};
use crate::view::Layout;
use crate::{Element, Real};

/// Rows that lie one after another are taken in tiles up to this many classes.
const FEW_CLASSES: usize = 192;
/// Elements of a tile, so that logits, exponentials and what is on its way stay in the first-level
/// cache.
const TILE_LEN: usize = 4096;
/// The most rows of a tile. More are no faster.
const MAX_WIDTH: usize = 256;

/// Classes are counted in the lanes' type, and f32 holds all integers up to this one.
const EXACT_IN_F32: usize = 1 << 24;

/// What a thread computes tiles with: its scratch memory for the tile that it works on.
pub(super) struct TileWorker<'a, S: Simd, T: Logit> {
    simd: S,
    call: &'a Call<'a, T>,
    width: usize,
    /// Transformed logits.
    z: Buffer<T::Real>,
    /// Exponentials, and then the gradient.
    e: Buffer<T::Real>,
    /// The tile row by row, as it may lie in memory.
    flat: Buffer<T::Real>,
    /// The gradient on its way past the cache.
    rounded: Buffer<T>,
    statistics: TileStatistics<T::Real>,
    /// The tile's rows, where nothing but their classes and statistics tells them apart.
    plain: Option<PlainRows<T::Real>>,
    /// Where in the tile each of these rows has its class.
    entries: Vec<u32>,
    /// What makes a row's gradient where rows are folded one by one, on exponentials and on v.
    factors: Columns<T::Real, 2>,
    /// Entries of the gradient at hot classes: the place in the tile, and the value.
    hot_entries: Vec<(usize, T::Real)>,
    /// Rows whose gradient has one value everywhere.
    constant: Vec<(usize, T::Real)>,
}

/// Whether tiles take the call: its layout is one for them, and no row has a vector of its own.
pub(super) fn suits<T: Logit>(call: &Call<'_, T>, layout: &Layout) -> bool {
    let shape =
        call.classes() <= FEW_CLASSES || (layout.class_stride != 1 && layout.run(0).stride == 1);
    let prior = match &call.prior {
        PriorVector::Uniform => true,
        PriorVector::Shared { .. } => !call.plan.table().renormalises(),
        PriorVector::PerRow => false,
    };
    shape && prior && !call.plan.dense_targets() && call.classes() <= EXACT_IN_F32
}

impl<'a, S: Simd, T: Logit> TileWorker<'a, S, T> {
    pub(super) fn new(simd: S, call: &'a Call<'a, T>) -> Self {
        let classes = call.classes();
        let rows = call.plan.rows().next_multiple_of(COLUMN).clamp(COLUMN, MAX_WIDTH);
        let width = (TILE_LEN / classes).next_multiple_of(COLUMN).clamp(COLUMN, rows);
        let tile = || Buffer::new(width * classes, T::Real::ZERO);
        let v_mass = prior(call).map_or(classes as f64, columns::mass);
        Self {
            simd,
            call,
            width,
            z: tile(),
            e: tile(),
            flat: Buffer::default(),
            rounded: Buffer::default(),
            statistics: TileStatistics::new(width),
            plain: PlainRows::new(call, v_mass, width),
            entries: vec![0; width],
            factors: Columns::new(width, T::Real::ZERO),
            hot_entries: Vec::new(),
            constant: Vec::new(),
        }
    }

    /// The parts of some rows, which `parts` waits for, and their gradients, if there are to be
    /// any.
    #[inline(always)]
    pub(super) fn run(
        &mut self,
        claim: &mut ClaimedRows<'_, T>,
        parts: &mut PartsMut<'_, T::Real>,
        memo: &mut FloorMemo,
    ) {
        while let Some(mut tile) = claim.next_tile(self.width) {
            let rows = tile.rows();
            self.load(&tile);
            let v = prior(self.call);
            let next = tile.next_ahead(self.width);
            let masked = columns::statistics(
                self.simd,
                &self.z,
                self.width,
                v,
                &mut self.e,
                &mut self.statistics,
                |column| next.column(column),
            );
            self.hot_entries.clear();
            self.constant.clear();
            let folded = !masked && self.fold_plain(rows.clone(), parts);
            if !folded {
                for row in rows.clone() {
                    self.fold(row, row - rows.start, parts, memo);
                }
            }
            if self.call.has_gradient {
                self.gradient(&mut tile, folded);
            }
        }
    }

    #[inline(always)]
    fn load(&mut self, tile: &ClaimedTile<'_, T>) {
        let (call, start, len) = (self.call, tile.rows().start, tile.rows().len());
        tile.read(self.simd, self.width, &mut self.flat, &mut self.z);
        if len < self.width {
            self.z.chunks_exact_mut(self.width).for_each(|z| z[len..].fill(T::Real::ZERO));
        }
        if !call.transform.is_identity() {
            block::transform(
                self.simd,
                &mut self.z,
                call.transform.temperature,
                call.transform.softcap,
            );
        }
        overwrite_masked(call, &mut self.z, self.width, start, len, T::Real::NEG_INFINITY);
    }

    /// As [`fold`](Self::fold) for all rows of the tile at once, where the rules offer that;
    /// `false` where it has to be row by row.
    #[inline(always)]
    fn fold_plain(&mut self, rows: Range<usize>, parts: &mut PartsMut<'_, T::Real>) -> bool {
        let Some(plain) = &mut self.plain else { return false };
        let (n, (classes, mut columns)) = (rows.len(), plain.rows());
        self.call.plan.kept_classes(rows, &mut classes[..n]);
        let width = self.width as u32;
        for ((entry, class), lane) in self.entries.iter_mut().zip(&*classes).zip(0..) {
            // A tile has fewer than 2³² entries. An ignored row's are all 0.
            *entry = (*class).max(0) as u32 * width + lane;
        }
        self.statistics.copy_to(&self.z, &self.e, &self.entries, &mut columns);
        plain.fold(n, self.call, parts)
    }

    /// A row's parts from its statistics, and what its gradient needs.
    #[inline(always)]
    fn fold(
        &mut self,
        row: usize,
        lane: usize,
        parts: &mut PartsMut<'_, T::Real>,
        memo: &mut FloorMemo,
    ) {
        let call = self.call;
        self.put_factors(lane, 0.0, 0.0);
        let Some(plan) = call.plan.row(row) else {
            self.constant.push((lane, T::Real::ZERO));
            return parts.push(None);
        };
        let (stats, log1p_rest) = self.stats(&plan, lane);
        let folded = call.plan.fold_with(&plan, &stats, log1p_rest, memo);
        parts.push(Some(folded.parts(folded.floor.unwrap_or(f64::NAN))));
        if !call.has_gradient {
            return;
        }
        match RowGradient::new(&plan, &stats, &folded, call.factors.of(row), call.transform) {
            Ok(gradient) => {
                self.put_factors(lane, gradient.on_exp(), gradient.on_prior());
                for (j, hot) in plan.hot().iter().enumerate() {
                    let entry = hot.class * self.width + lane;
                    let p = self.e[entry].to_f64() / (1.0 + stats.rest);
                    if let Some(value) = gradient.hot_entry(call.plan, j, p) {
                        self.hot_entries.push((entry, T::to_be_rounded(value)));
                    }
                }
            }
            Err(value) => self.constant.push((lane, T::Real::from_f64(value))),
        }
    }

    #[inline(always)]
    fn put_factors(&mut self, lane: usize, on_exp: f64, on_prior: f64) {
        let [exp, prior] = self.factors.all_mut();
        (exp[lane], prior[lane]) = (T::Real::from_f64(on_exp), T::Real::from_f64(on_prior));
    }

    #[inline(always)]
    fn stats(&self, plan: &RowPlan, lane: usize) -> (RowStats, f64) {
        let (max, argmax) = self.statistics.peak(lane);
        let (rest, log1p_rest) = self.statistics.rest(lane);
        let mut stats = RowStats::new(max, argmax, rest);
        for (j, hot) in plan.hot().iter().enumerate() {
            stats.put_hot(j, self.z[hot.class * self.width + lane].to_f64());
        }
        if plan.prior_scale.is_some() {
            stats.prior = self.statistics.functional(lane);
            if !stats.prior.shifted.is_finite() && max.is_finite() {
                stats.prior.shifted = self.shifted_wide(lane, max);
            }
            (stats.open_prior, stats.closed_prior) = (stats.prior.mass, stats.prior.masked_mass);
            if self.call.plan.table().renormalises() {
                (stats.prior.masked_mass, stats.prior.masked) = (0.0, 0);
            }
        }
        (stats, log1p_rest)
    }

    /// Σ v_k·(max − z_k) of a row in f64, for logits so far apart that f32 does not hold their
    /// differences.
    #[cold]
    fn shifted_wide(&self, lane: usize, max: f64) -> f64 {
        let v = prior(self.call);
        let terms = self
            .z
            .chunks_exact(self.width)
            .enumerate()
            .map(|(k, z)| (v.map_or(1.0, |v| v[k].to_f64()), z[lane]));
        terms
            .filter(|(v, z)| *v != 0.0 && *z != T::Real::NEG_INFINITY)
            .map(|(v, z)| v * (max - z.to_f64()))
            .sum()
    }

    #[inline(always)]
    fn gradient(&mut self, tile: &mut ClaimedTile<'_, T>, folded: bool) {
        let (simd, call, width) = (self.simd, self.call, self.width);
        match self.plain.as_ref().filter(|_| folded) {
            Some(plain) => {
                let [on_exp, on_prior, at_class] = plain.factors();
                columns::gradient(simd, &mut self.e, on_exp, on_prior, prior(call));
                let e = &mut self.e[..];
                for (entry, value) in self.entries.iter().zip(at_class) {
                    e[*entry as usize] = *value;
                }
            }
            None => {
                let [on_exp, on_prior] = self.factors.all();
                columns::gradient(simd, &mut self.e, on_exp, on_prior, prior(call));
            }
        }
        if let Some(cap) = call.transform.softcap {
            block::softcap_slope(simd, &mut self.e, &self.z, T::Real::from_f64(1.0 / cap));
        }
        if call.plan.table().renormalises() {
            block::clear_masked(simd, &mut self.e, &self.z);
        }
        for &(lane, value) in &self.constant {
            self.e.chunks_exact_mut(width).for_each(|e| e[lane] = value);
        }
        overwrite_masked(
            call,
            &mut self.e,
            width,
            tile.rows().start,
            tile.rows().len(),
            T::Real::ZERO,
        );
        for &(entry, value) in &self.hot_entries {
            self.e[entry] = value;
        }
        tile.write(simd, width, &self.e, &mut self.flat, &mut self.rounded);
    }
}

/// The prior's v, a number per class; `None` where it is 1 everywhere.
#[inline(always)]
fn prior<'c, T: Logit>(call: &'c Call<'_, T>) -> Option<&'c [T::Real]> {
    match &call.prior {
        PriorVector::Shared { weighted, .. } => Some(&weighted[..call.classes()]),
        _ => None,
    }
}

/// Puts `value` on the classes that the masks of `len` rows from `start` on do not allow.
#[inline(always)]
fn overwrite_masked<T: Logit>(
    call: &Call<'_, T>,
    tile: &mut [T::Real],
    width: usize,
    start: usize,
    len: usize,
    value: T::Real,
) {
    for lane in 0..len {
        let Some(allowed) = call.plan.allowed(start + lane) else { return };
        tile.chunks_exact_mut(width)
            .zip(allowed)
            .filter(|(_, allowed)| !**allowed)
            .for_each(|(tile, _)| tile[lane] = value);
    }
}
