//! Classes along the lanes: one row at a time, block by block.
//!
//! A row's trip: each block is widened and transformed into first-level cache, its exponentials against the largest logit so far are added up and kept, and when the whole
//! row is known a second sweep over what was kept, still in second-level cache, makes the gradient. One exponential a class; the logits are read from memory once.
//!
//! Rows are cut into pieces of [`PIECE`] classes that know nothing of each other until their statistics merge. The tree of blocks and pieces depends on K alone, so that a
//! row has the same bits alone or in a batch, on one thread or shared by many.

use std::hint::select_unpredictable;

use fearless_simd::Simd;

use super::buffer::Buffer;
use super::call::{Call, PriorVector, ReadTarget};
use super::kernels::Lane;
use super::kernels::block::{self, BLOCK, padded};
use super::statistics::add_uniform;
use crate::rules::sum::Sum;
use crate::rules::{FloorMemo, Folded, Functional, RowGradient, RowParts, RowPlan, RowStats, relative_entropy_term};
use crate::{Element, Real};

/// Classes of a piece.
pub(super) const PIECE: usize = 32 * BLOCK;

/// A thread's memory for the block it works on.
pub(super) struct Blocks<'a, S: Simd, T: Element> {
    simd: S,
    call: &'a Call<'a, T>,
    z: Buffer<T::Real>,
    g: Buffer<T::Real>,
    /// Exponentials of a row too long to keep them.
    e: Buffer<T::Real>,
    /// The prior's v where rows do not share it, and without class weights.
    v: Buffer<T::Real>,
    plain_v: Buffer<T::Real>,
    /// A dense target.
    t: Buffer<T::Real>,
    wide: Buffer<f64>,
    rounded: Buffer<T>,
}

/// Exponentials are kept of rows up to this length, for which they stay in second-level cache; those of longer rows are taken again.
const LONGEST_KEPT: usize = 1 << 19;

/// What is kept of a row between its two sweeps: e^(z − reference), each block's reference, and z where the gradient asks for it.
pub(super) struct Kept<R> {
    e: Buffer<R>,
    z: Buffer<R>,
    references: Vec<R>,
}

/// What is kept of a piece.
pub(super) struct KeptPiece<'k, R> {
    /// Its first class.
    pub(super) start: usize,
    e: &'k mut [R],
    z: &'k mut [R],
    references: &'k mut [R],
}

impl<R: Real> Kept<R> {
    pub(super) fn new<T: Element<Real = R>>(call: &Call<'_, T>) -> Self {
        let classes = call.classes();
        let kept = |needed: bool| Buffer::new(if needed && classes <= LONGEST_KEPT { padded(classes) } else { 0 }, R::ZERO);
        Self { e: kept(true), z: kept(call.gradient_asks_for_logits()), references: vec![R::ZERO; classes.div_ceil(BLOCK)] }
    }

    pub(super) fn pieces(&mut self) -> impl Iterator<Item = KeptPiece<'_, R>> {
        let (mut e, mut z) = (self.e.chunks_mut(PIECE), self.z.chunks_mut(PIECE));
        let references = self.references.chunks_mut(PIECE / BLOCK).enumerate();
        references.map(move |(i, references)| KeptPiece { start: i * PIECE, e: e.next().unwrap_or_default(), z: z.next().unwrap_or_default(), references })
    }
}

impl<'a, S: Simd, T: Element> Blocks<'a, S, T> {
    pub(super) fn new(simd: S, call: &'a Call<'a, T>) -> Self {
        let len = padded(call.classes().min(BLOCK));
        let some = |needed: bool| Buffer::new(if needed { len } else { 0 }, T::Real::ZERO);
        let own_prior = matches!(call.prior, PriorVector::PerRow);
        Self {
            simd,
            call,
            z: some(true),
            g: some(true),
            e: Buffer::default(),
            v: some(own_prior),
            plain_v: some(own_prior && call.plan.table().renormalises() && call.plan.table().class_weights().is_some()),
            t: some(call.plan.dense_targets()),
            wide: Buffer::new(len, 0.0),
            rounded: Buffer::new(len, T::from_f64(0.0)),
        }
    }

    /// The loss of a row; `None` if it is ignored.
    #[inline(always)]
    pub(super) fn forward(&mut self, row: usize, plan: &mut RowPlan, memo: &mut FloorMemo) -> Option<RowParts> {
        self.call.plan.row_into(row, plan).then_some(())?;
        let mut running = RowStats::EMPTY;
        for start in (0..self.call.classes()).step_by(PIECE) {
            running = running.merge(self.statistics(plan, start, None));
        }
        let folded = self.call.plan.fold(plan, &running, memo);
        Some(folded.parts(self.floor(plan, &folded)))
    }

    /// The loss of a row and its gradient.
    #[inline(always)]
    pub(super) fn forward_backward(&mut self, row: usize, plan: &mut RowPlan, kept: &mut Kept<T::Real>, memo: &mut FloorMemo) -> Option<RowParts> {
        if !self.call.plan.row_into(row, plan) {
            self.fill(row, 0.0, None);
            return None;
        }
        let mut running = RowStats::EMPTY;
        for mut piece in kept.pieces() {
            running = running.merge(self.statistics(plan, piece.start, Some(&mut piece)));
        }
        let stats = running;
        let folded = self.call.plan.fold(plan, &stats, memo);
        let parts = folded.parts(self.floor(plan, &folded));
        match RowGradient::new(plan, &stats, &folded, self.call.factors.of(row), self.call.transform) {
            Ok(gradient) => kept.pieces().for_each(|piece| self.gradient(&gradient, &piece)),
            Err(value) => self.fill(row, value, self.call.plan.allowed(row).filter(|_| value.is_nan())),
        }
        Some(parts)
    }

    /// [`statistics`](Self::statistics) for a task of its own.
    pub(super) fn statistics_of_piece(&mut self, plan: &RowPlan, start: usize, kept: Option<&mut KeptPiece<'_, T::Real>>) -> RowStats {
        self.simd.vectorize(
            #[inline(always)]
            || self.statistics(plan, start, kept),
        )
    }

    /// [`gradient`](Self::gradient) for a task of its own.
    pub(super) fn gradient_of_piece(&mut self, row: &RowGradient<'_>, kept: &KeptPiece<'_, T::Real>) {
        self.simd.vectorize(
            #[inline(always)]
            || self.gradient(row, kept),
        );
    }

    /// The statistics of the piece that starts at class `start`; keeps what its gradient needs.
    #[inline(always)]
    fn statistics(&mut self, plan: &RowPlan, start: usize, mut kept: Option<&mut KeptPiece<'_, T::Real>>) -> RowStats {
        let (simd, call) = (self.simd, self.call);
        let mut running = RowStats::EMPTY;
        let uniform = matches!(call.prior, PriorVector::Uniform);
        let in_place = call.transform.is_identity() && call.plan.allowed(plan.row).is_none();
        let mut own = std::mem::take(&mut self.z);
        for (block, (start, len)) in self.blocks(start).enumerate() {
            let (e, z, reference_of_block) = match &mut kept {
                Some(kept) => {
                    (kept.e.get_mut(block * BLOCK..).unwrap_or_default(), kept.z.get_mut(block * BLOCK..).unwrap_or_default(), kept.references.get_mut(block))
                }
                None => (&mut [][..], &mut [][..], None),
            };
            let z = match call.logits(plan.row, start, len).filter(|_| in_place && z.is_empty()) {
                Some(z) => z,
                None => {
                    let z = if z.is_empty() { &mut own[..] } else { z };
                    load(simd, call, plan.row, start, len, z);
                    &z[..len]
                }
            };
            let (max, min) = block::extremes(simd, z);
            let masked = min == T::Real::NEG_INFINITY;
            for (j, hot) in plan.hot().iter().enumerate() {
                if let Some(z) = hot.class.checked_sub(start).and_then(|k| z.get(k)) {
                    running.put_hot(j, z.to_f64());
                }
            }
            let mut hole = None;
            if max.to_f64() > running.max {
                hole = block::position(simd, z, max);
                running.raise(max.to_f64(), start + hole.unwrap_or(0));
            }
            // All masked so far, or NaN: any finite reference serves, and NaN still reaches the sums.
            let reference = if running.max == f64::NEG_INFINITY { T::Real::ZERO } else { T::Real::from_f64(running.max) };
            if plan.prior_scale.is_some() && !uniform {
                self.add_prior(plan, z, start, reference, masked, &mut running);
            }
            if call.plan.dense_targets() {
                let t = target(simd, call, plan.row, start, len, &mut self.t, &mut self.wide, Some(&mut running));
                running.target.add(block::against(simd, z, t, reference, masked));
            }
            if let Some(kept) = reference_of_block {
                *kept = reference;
            }
            let e = if e.is_empty() { &mut self.g[..padded(len)] } else { &mut e[..padded(len)] };
            let next = call.source.ahead(plan.row, start + len, BLOCK);
            let next_target = call.target_ahead(plan.row, start + len, BLOCK);
            let mut sums = block::exponentials(simd, z, reference, e, hole, masked, |from, len| {
                next.fetch(from, len);
                next_target.fetch(from, len);
            });
            running.rest += sums.rest;
            if plan.prior_scale.is_some() && uniform {
                if !sums.shifted.is_finite() {
                    sums.shifted = block::shifted_wide(z, |_| 1.0, reference);
                }
                add_uniform(&mut running, &sums, len, call.plan.table().renormalises());
            }
        }
        self.z = own;
        running
    }

    /// Blocks of the piece that starts at class `start`.
    fn blocks(&self, start: usize) -> impl Iterator<Item = (usize, usize)> + use<S, T> {
        let end = self.call.classes().min(start + PIECE);
        (start..end).step_by(BLOCK).map(move |start| (start, BLOCK.min(end - start)))
    }

    /// Sums a block against the prior's v.
    fn add_prior(&mut self, plan: &RowPlan, z: &[T::Real], start: usize, reference: T::Real, masked: bool, running: &mut RowStats) {
        if matches!(self.call.prior, PriorVector::PerRow) {
            self.load_own_prior(plan, start, z.len());
        }
        let len = padded(z.len());
        let against = |v: &[T::Real]| block::against(self.simd, z, v, reference, masked);
        let (mut part, plain) = match &self.call.prior {
            PriorVector::Shared { weighted, plain } => (against(&weighted[start..][..len]), plain.as_ref().map(|plain| against(&plain[start..][..len]))),
            _ => (against(&self.v[..len]), self.plain_v.get(..len).map(against)),
        };
        // Masks share out the prior before class weights.
        let Functional { mass: open, masked_mass: closed, .. } = plain.unwrap_or(part);
        if self.call.plan.table().renormalises() {
            (part.masked_mass, part.masked) = (0.0, 0);
        }
        running.prior.add(part);
        running.open_prior += open;
        running.closed_prior += closed;
    }

    /// A block of a prior that rows do not share, into `v` weighted and, where class weights must not enter, into `plain_v`.
    fn load_own_prior(&mut self, plan: &RowPlan, start: usize, len: usize) {
        let wide = &mut self.wide[..len];
        self.call.plan.fill_prior(plan, start, wide);
        let narrow = |out: &mut [T::Real], v: &dyn Fn(usize) -> f64| {
            out[..len].iter_mut().enumerate().for_each(|(k, out)| *out = T::Real::from_f64(v(k)));
            out[len..padded(len)].fill(T::Real::ZERO);
        };
        match self.call.plan.table().class_weights() {
            Some(weights) => narrow(&mut self.v, &|k| wide[k] * weights[start + k]),
            None => narrow(&mut self.v, &|k| wide[k]),
        }
        if !self.plain_v.is_empty() {
            narrow(&mut self.plain_v, &|k| wide[k]);
        }
    }

    /// The entropy floor: where scalars do not say it, Σ −y ln(y/Y) over the smoothed target's entries.
    pub(super) fn floor(&mut self, plan: &RowPlan, folded: &Folded) -> f64 {
        folded.floor.unwrap_or_else(|| {
            let mut sum = Sum::default();
            for start in (0..self.call.classes()).step_by(BLOCK) {
                let len = BLOCK.min(self.call.classes() - start);
                sum.add(if self.call.plan.dense_targets() { self.dense_floor(plan, folded, start, len) } else { self.sparse_floor(plan, folded, start, len) });
            }
            sum.total()
        })
    }

    /// A block's part of the floor where the target itself is K numbers a row.
    fn dense_floor(&mut self, plan: &RowPlan, folded: &Folded, start: usize, len: usize) -> f64 {
        let (on, total) = (folded.coefficients, folded.target_mass());
        let (simd, whole, narrow) = (self.simd, padded(len), T::Real::from_f64);
        let t = target(simd, self.call, plan.row, start, len, &mut self.t, &mut self.wide, None);
        let renormalises = self.call.plan.table().renormalises();
        let uniform = matches!(self.call.prior, PriorVector::Uniform);
        let everywhere = if uniform && !renormalises { on.gamma } else { 0.0 };
        // Where quotients stay among f32's normal numbers.
        let tame = (1e-20..1e20).contains(&total);
        let scalars = on.gamma == 0.0 || (uniform && !renormalises);
        if tame && scalars && len == whole {
            return block::entropy(simd, t, narrow(on.tau), narrow(everywhere), total);
        }
        block::scaled(simd, t, narrow(on.tau), narrow(everywhere), &mut self.g[..whole], |_, _| ());
        if !scalars {
            if renormalises {
                load(self.simd, self.call, plan.row, start, len, &mut self.z);
            }
            if matches!(self.call.prior, PriorVector::PerRow) {
                self.load_own_prior(plan, start, len);
            }
            let gamma = T::Real::from_f64(on.gamma);
            for k in (0..len).filter(|&k| !renormalises || self.z[k] != T::Real::NEG_INFINITY) {
                let v = match &self.call.prior {
                    PriorVector::Uniform => T::Real::ONE,
                    PriorVector::Shared { weighted, .. } => weighted[start + k],
                    PriorVector::PerRow => self.v[k],
                };
                self.g[k] += gamma * v;
            }
        }
        self.g[len..whole].fill(T::Real::ZERO);
        if tame {
            block::entropy(simd, &self.g[..whole], T::Real::ONE, T::Real::ZERO, total)
        } else {
            self.g[..len].iter().map(|y| -relative_entropy_term(y.to_f64(), total)).collect::<Sum>().total()
        }
    }

    /// A block's part of the floor where only the prior is K numbers a row: in f64.
    fn sparse_floor(&mut self, plan: &RowPlan, folded: &Folded, start: usize, len: usize) -> f64 {
        let (target, total) = (folded.coefficients, folded.target_mass());
        let whole = padded(len);
        self.wide[..whole].fill(0.0);
        if target.gamma > 0.0 {
            let renormalises = self.call.plan.table().renormalises();
            if renormalises {
                load(self.simd, self.call, plan.row, start, len, &mut self.z);
            }
            self.call.plan.fill_prior(plan, start, &mut self.wide[..len]);
            let weights = self.call.plan.table().class_weights();
            for (k, (y, z)) in self.wide[..len].iter_mut().zip(&*self.z).enumerate() {
                let out = renormalises && *z == T::Real::NEG_INFINITY;
                *y *= if out { 0.0 } else { target.gamma * weights.map_or(1.0, |weights| weights[start + k]) };
            }
        }
        for (hot, beta) in plan.hot().iter().zip(target.beta) {
            if let Some(y) = hot.class.checked_sub(start).and_then(|k| self.wide[..len].get_mut(k)) {
                *y += beta;
            }
        }
        if (1e-200..1e200).contains(&total) {
            block::entropy(self.simd, &self.wide[..whole], 1.0, 0.0, total)
        } else {
            self.wide[..len].iter().map(|&y| -relative_entropy_term(y, total)).collect::<Sum>().total()
        }
    }

    /// The gradient of a piece, from what was kept of it.
    #[inline(always)]
    fn gradient(&mut self, row: &RowGradient<'_>, kept: &KeptPiece<'_, T::Real>) {
        let RowGradient { plan, stats, .. } = *row;
        let (simd, call) = (self.simd, self.call);
        let narrow = T::Real::from_f64;
        let (allowed, renormalises, softcap) = (call.plan.allowed(plan.row), call.plan.table().renormalises(), call.transform.softcap);
        let uniform = matches!(call.prior, PriorVector::Uniform) || row.on_prior() == 0.0;
        let plain = uniform && !renormalises && softcap.is_none() && allowed.is_none() && !call.plan.dense_targets();
        let on_exp = row.on_exp();
        let hot: [Option<(usize, T::Real)>; 2] = std::array::from_fn(|j| self.hot(row, j));
        for (block, (start, len)) in self.blocks(kept.start).enumerate() {
            let whole = padded(len);
            let below = kept.references[block].to_f64() - stats.max;
            let on_block = narrow(if below == 0.0 { on_exp } else { on_exp * below.exp() });
            let everywhere = narrow(if uniform { -row.on_prior() } else { 0.0 });
            let hot = hot.map(|hot| hot.and_then(|(class, value)| Some((class.checked_sub(start).filter(|&k| k < len)?, value))));
            let next = call.source.ahead(plan.row + 1, start, BLOCK);
            let ahead = |from, len| next.fetch(from, len);
            let e = match kept.e.get(block * BLOCK..).filter(|e| !e.is_empty()) {
                Some(e) => &e[..whole],
                None => {
                    self.exponentials_again(plan.row, start, len, kept.references[block]);
                    &self.e[..whole]
                }
            };
            if let Some(sink) = call.sink.as_ref().filter(|_| plain) {
                // SAFETY: as in `write`.
                let written = unsafe { sink.write_scaled(simd, plan.row, start..start + len, e, on_block, everywhere, hot, ahead) };
                if written {
                    continue;
                }
            }
            block::scaled(simd, e, on_block, everywhere, &mut self.g[..whole], ahead);
            if !uniform {
                if matches!(call.prior, PriorVector::PerRow) {
                    self.load_own_prior(plan, start, len);
                }
                let v = if let PriorVector::Shared { weighted, .. } = &call.prior { &weighted[start..][..whole] } else { &self.v[..whole] };
                block::add_scaled(simd, &mut self.g[..whole], v, narrow(-row.on_prior()));
            }
            if call.plan.dense_targets() {
                let t = target(simd, call, plan.row, start, len, &mut self.t, &mut self.wide, None);
                block::add_scaled(simd, &mut self.g[..whole], t, narrow(-row.on_target()));
            }
            if call.gradient_asks_for_logits() {
                let z = match kept.z.get(block * BLOCK..).filter(|z| !z.is_empty()) {
                    Some(z) => &z[..whole],
                    None => {
                        load(simd, call, plan.row, start, len, &mut self.z);
                        &self.z[..whole]
                    }
                };
                if let Some(cap) = softcap {
                    block::softcap_slope(simd, &mut self.g[..whole], z, narrow(1.0 / cap));
                }
                if renormalises {
                    block::clear_masked(simd, &mut self.g[..whole], z);
                }
            }
            if !renormalises {
                forbid(&mut self.g[..len], allowed, start, T::Real::ZERO);
            }
            hot.into_iter().flatten().for_each(|(entry, value)| self.g[entry] = value);
            self.write(plan.row, start, len);
        }
    }

    /// What was not kept of a long row, to the same bits: e^(z − reference) of a block into `e`.
    fn exponentials_again(&mut self, row: usize, start: usize, len: usize, reference: T::Real) {
        if self.e.is_empty() {
            self.e = Buffer::new(padded(BLOCK), T::Real::ZERO);
        }
        load(self.simd, self.call, row, start, len, &mut self.z);
        let next = self.call.source.ahead(row, start + len, BLOCK);
        block::exponentials(self.simd, &self.z[..len], reference, &mut self.e[..padded(len)], None, true, |from, len| next.fetch(from, len));
    }

    /// The class and entry of a target.
    #[inline(always)]
    fn hot(&self, row: &RowGradient<'_>, j: usize) -> Option<(usize, T::Real)> {
        let class = row.plan.hot().get(j)?.class;
        let p = (row.stats.hot[j] - row.stats.max).exp() / (1.0 + row.stats.rest);
        row.hot_entry(self.call.plan, j, p).map(|value| (class, T::to_be_rounded(value)))
    }

    /// One value for every class of a row, 0 for those that are not allowed.
    pub(super) fn fill(&mut self, row: usize, value: f64, allowed: Option<&[bool]>) {
        for start in (0..self.call.classes()).step_by(BLOCK) {
            let len = BLOCK.min(self.call.classes() - start);
            self.g[..len].fill(T::Real::from_f64(value));
            forbid(&mut self.g[..len], allowed, start, T::Real::ZERO);
            self.write(row, start, len);
        }
    }

    #[inline(always)]
    fn write(&mut self, row: usize, start: usize, len: usize) {
        let Some(sink) = &self.call.sink else { return };
        // SAFETY: the row and block are the sink's, whose shape is the source's; this piece of the row is this task's alone, and whoever runs the task calls `finish`.
        unsafe { sink.write(self.simd, row, start, &self.g[..len], &mut self.rounded) };
    }
}

/// Transformed logits of a block into `z`; beyond them, anything.
#[inline(always)]
fn load<S: Simd, T: Element>(simd: S, call: &Call<'_, T>, row: usize, start: usize, len: usize, z: &mut [T::Real]) {
    // SAFETY: `row` and the block are inside the plan's rows and classes, which are the source's; this piece of the row is the calling task's alone.
    unsafe { call.source.read(simd, row, start, &mut z[..len]) };
    if !call.transform.is_identity() {
        block::transform(simd, &mut z[..padded(len)], call.transform.temperature, call.transform.softcap);
    }
    forbid(&mut z[..len], call.plan.allowed(row), start, T::Real::NEG_INFINITY);
}

/// A block of the dense target, weighted, with zeros to the end of its last chunk: where it lies, or in `room`. Its largest entry before weights counts in `running`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn target<'t, S: Simd, T: Element>(
    simd: S,
    call: &'t Call<'_, T>,
    row: usize,
    start: usize,
    len: usize,
    room: &'t mut [T::Real],
    wide: &mut [f64],
    running: Option<&mut RowStats>,
) -> &'t [T::Real] {
    if let Some(t) = call.target(row, start, len).filter(|t| t.len() == padded(len)) {
        running.into_iter().for_each(|running| target_peak(simd, t, start, running));
        return t;
    }
    let room = &mut room[..padded(len)];
    let (t, beyond) = room.split_at_mut(len);
    beyond.fill(T::Real::ZERO);
    if call.plan.probabilities().is_some_and(|probabilities| T::Real::read_target(simd, probabilities, row, start, t)) {
        running.into_iter().for_each(|running| target_peak(simd, t, start, running));
    } else {
        let wide = &mut wide[..len];
        call.plan.fill_target(row, start, wide);
        t.iter_mut().zip(&*wide).for_each(|(t, wide)| *t = T::Real::from_f64(*wide));
        running.into_iter().for_each(|running| target_peak(simd, wide, start, running));
    }
    if let Some(weights) = &call.weights {
        block::multiply(simd, room, &weights[start..][..room.len()]);
    }
    room
}

/// The largest entry of a block of a dense target, and the first place of that.
#[inline(always)]
fn target_peak<S: Simd, R: Real>(simd: S, t: &[R], start: usize, running: &mut RowStats) {
    let (max, _) = block::extremes(simd, t);
    running.raise_target(max.to_f64(), || start + block::position(simd, t, max).unwrap_or(0));
}

/// Puts `value` on the classes from `start` on that the mask does not allow.
#[inline(always)]
pub(super) fn forbid<R: Real>(values: &mut [R], allowed: Option<&[bool]>, start: usize, value: R) {
    let Some(allowed) = allowed else { return };
    values.iter_mut().zip(&allowed[start..]).for_each(|(entry, allowed)| *entry = select_unpredictable(*allowed, *entry, value));
}
