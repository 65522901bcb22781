//! One row: its statistics, then (where asked for) its gradient, block by block.

use super::kernels::{self, BLOCK, BlockKernels};
use super::memory::{Sink, Source};
use crate::plan::{FloorMemo, Folded, Functional, Plan, RowParts, RowPlan, RowStats, Transform};
use crate::reduction::Sum;
use crate::{Element, Real};

/// A thread's scratch memory, and what it works on.
pub(super) struct RowWorker<'a, T: Element> {
    plan: &'a Plan<'a>,
    source: &'a Source<'a, T>,
    transform: Transform,
    z: Vec<T::Real>,
    prior: Vec<T::Real>,
    target: Vec<T::Real>,
    wide: Vec<f64>,
    /// Transformed logits beside their gradient, and a block of the smoothed target; empty until a row needs them.
    saved: Vec<T::Real>,
    smoothed: Vec<f64>,
    floors: FloorMemo,
}

/// A row's statistics while they grow.
struct Running {
    max: f64,
    argmax: usize,
    rest: Sum,
    prior: RunningFunctional,
    target: RunningFunctional,
    open_prior: f64,
    closed_prior: f64,
    target_max: f64,
    target_argmax: usize,
}

#[derive(Default)]
struct RunningFunctional {
    shifted: Sum,
    mass: Sum,
    masked_mass: f64,
    masked: usize,
}

impl<'a, T: Element> RowWorker<'a, T> {
    pub(super) fn new(plan: &'a Plan<'a>, source: &'a Source<'a, T>) -> Self {
        let len = plan.classes().min(BLOCK);
        let block = || vec![T::Real::ZERO; len];
        Self {
            plan,
            source,
            transform: plan.transform(),
            z: block(),
            prior: block(),
            target: block(),
            wide: vec![0.0; len],
            saved: Vec::new(),
            smoothed: Vec::new(),
            floors: plan.floor_memo(),
        }
    }

    pub(super) fn forward(&mut self, row: usize) -> Option<RowParts> {
        let mut plan = RowPlan::default();
        if !self.plan.row_into(row, &mut plan) {
            return None;
        }
        let (folded, _) = self.fold(&plan);
        let floor = folded.floor.unwrap_or_else(|| self.floor(&plan, &folded));
        Some(folded.parts(floor))
    }

    /// `factor` is upstream over the denominator; `None` for a gradient of 0.
    pub(super) fn forward_backward(&mut self, row: usize, factor: Option<f64>, sink: &Sink<'_, T>) -> Option<RowParts> {
        let mut plan = RowPlan::default();
        if !self.plan.row_into(row, &mut plan) {
            self.fill(row, T::Real::ZERO, None, sink);
            return None;
        }
        let (folded, stats) = self.fold(&plan);
        let floor = folded.floor.unwrap_or_else(|| self.floor(&plan, &folded));
        match factor {
            None => self.fill(row, T::Real::ZERO, None, sink),
            Some(_) if folded.is_nan() => self.fill(row, T::Real::from_f64(f64::NAN), self.plan.allowed(row), sink),
            Some(factor) => self.gradient(&plan, &folded, &stats, factor * folded.scale(), sink),
        }
        Some(folded.parts(floor))
    }

    fn fold(&mut self, plan: &RowPlan) -> (Folded, RowStats) {
        let stats = self.stats(plan);
        (self.plan.fold(plan, &stats, &mut self.floors), stats)
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let classes = self.plan.classes();
        (0..classes).step_by(BLOCK).map(move |start| (start, BLOCK.min(classes - start)))
    }

    /// Transformed logits of a block into `z`.
    fn load(&mut self, row: usize, start: usize, len: usize) {
        let z = &mut self.z[..len];
        // SAFETY: `row` and the block are inside the plan's rows and classes, which are the source's; the row is this task's alone.
        unsafe { self.source.read(row, start, z) };
        transform(z, &self.transform);
        forbid(z, self.plan.allowed(row), start, T::Real::NEG_INFINITY);
    }

    fn load_one(&self, row: usize, class: usize) -> f64 {
        let mut z = [T::Real::ZERO];
        if self.plan.allowed(row).is_some_and(|allowed| !allowed[class]) {
            return f64::NEG_INFINITY;
        }
        // SAFETY: as in `load`.
        unsafe { self.source.read(row, class, &mut z) };
        transform(&mut z, &self.transform);
        z[0].to_f64()
    }

    /// The dense target of a block, weighted, into `target`; `wide` holds it unweighted.
    fn load_target(&mut self, plan: &RowPlan, start: usize, len: usize) {
        self.plan.fill_target(plan.row, start, &mut self.wide[..len]);
        weigh(self.plan.class_weights(), start, &self.wide[..len], &mut self.target);
    }

    /// The prior's v of a block, weighted and without the masked classes of `z` where masks renormalise, into `prior`. Returns v's sum on open and on masked classes.
    fn load_prior(&mut self, plan: &RowPlan, start: usize, len: usize) -> (f64, f64) {
        let wide = &mut self.wide[..len];
        self.plan.fill_prior(plan, start, wide);
        let (mut open, mut closed) = (0.0, 0.0);
        if self.plan.renormalises() {
            for (v, z) in wide.iter_mut().zip(&self.z) {
                if *z == T::Real::NEG_INFINITY {
                    closed += *v;
                    *v = 0.0;
                } else {
                    open += *v;
                }
            }
        }
        weigh(self.plan.class_weights(), start, wide, &mut self.prior);
        (open, closed)
    }

    fn stats(&mut self, plan: &RowPlan) -> RowStats {
        let mut running = Running::new();
        for (start, len) in self.blocks() {
            self.load(plan.row, start, len);
            let (max, argmax) = kernels::max(&self.z[..len]);
            // All masked, or NaN: any finite reference serves, and NaN still reaches the sum.
            let reference = if max == T::Real::NEG_INFINITY { T::Real::ZERO } else { max };
            if plan.prior_scale.is_some() {
                let (block, open, closed) = if self.plan.uniform_prior() {
                    let mut block = kernels::shifted(&self.z[..len], reference);
                    let (open, closed) = (block.mass, block.masked_mass);
                    if self.plan.renormalises() {
                        (block.masked_mass, block.masked) = (0.0, 0);
                    }
                    (block, open, closed)
                } else {
                    let (open, closed) = self.load_prior(plan, start, len);
                    (kernels::shifted_against(&self.z[..len], &self.prior[..len], reference), open, closed)
                };
                running.prior.merge(block, running.max, max.to_f64());
                running.open_prior += open;
                running.closed_prior += closed;
            }
            if self.plan.dense_targets() {
                self.load_target(plan, start, len);
                let block = kernels::shifted_against(&self.z[..len], &self.target[..len], reference);
                running.target.merge(block, running.max, max.to_f64());
                running.target_peak(start, &self.wide[..len]);
            }
            self.z[argmax] = if self.z[argmax].to_f64().is_nan() { self.z[argmax] } else { T::Real::NEG_INFINITY };
            let rest = kernels::sum_exp(&self.z[..len], reference);
            running.merge_exp(max.to_f64(), start + argmax, rest);
        }
        let mut hot = [0.0; 2];
        for (z, class) in hot.iter_mut().zip(plan.hot()) {
            *z = self.load_one(plan.row, class.class);
        }
        running.stats(hot)
    }

    /// Σ −y ln(y/Y) over the smoothed target's entries, in f64.
    fn floor(&mut self, plan: &RowPlan, folded: &Folded) -> f64 {
        let (target, total) = (folded.gradient, folded.target_mass());
        let mut sum = Sum::default();
        for (start, len) in self.blocks() {
            self.smoothed.clear();
            self.smoothed.resize(len, 0.0);
            if target.gamma > 0.0 {
                if self.plan.renormalises() {
                    self.load(plan.row, start, len);
                }
                self.load_prior(plan, start, len);
                self.smoothed.iter_mut().zip(&self.prior).for_each(|(y, v)| *y += target.gamma * v.to_f64());
            }
            if self.plan.dense_targets() {
                self.load_target(plan, start, len);
                self.smoothed.iter_mut().zip(&self.target).for_each(|(y, t)| *y += target.tau * t.to_f64());
            }
            for (hot, beta) in plan.hot().iter().zip(target.beta) {
                if let Some(y) = hot.class.checked_sub(start).and_then(|k| self.smoothed.get_mut(k)) {
                    *y += beta;
                }
            }
            self.smoothed.iter().for_each(|&y| sum.add(-crate::plan::relative_entropy_term(y, total)));
        }
        sum.total()
    }

    fn gradient(&mut self, plan: &RowPlan, folded: &Folded, stats: &RowStats, factor: f64, sink: &Sink<'_, T>) {
        let gradient = folded.gradient;
        let factor = factor / self.transform.temperature;
        let on_exp = gradient.alpha * factor / (1.0 + stats.rest);
        let narrow = |value: f64| T::Real::from_f64(value);
        let (max, allowed, renormalises) = (narrow(stats.max), self.plan.allowed(plan.row), self.plan.renormalises());
        let saves = self.transform.softcap.is_some() || renormalises;
        for (start, len) in self.blocks() {
            self.load(plan.row, start, len);
            if saves {
                self.saved.clear();
                self.saved.extend_from_slice(&self.z[..len]);
            }
            // Before the exponentials: it looks at the masks of `z`.
            if gradient.gamma != 0.0 && !self.plan.uniform_prior() {
                self.load_prior(plan, start, len);
            }
            kernels::scaled_exp(&mut self.z[..len], max, narrow(on_exp));
            if gradient.gamma != 0.0 {
                if self.plan.uniform_prior() {
                    let each = narrow(gradient.gamma * factor);
                    self.z[..len].iter_mut().for_each(|g| *g = *g - each);
                } else {
                    kernels::subtract(&mut self.z[..len], &self.prior[..len], narrow(gradient.gamma * factor));
                }
            }
            if self.plan.dense_targets() {
                self.load_target(plan, start, len);
                kernels::subtract(&mut self.z[..len], &self.target[..len], narrow(gradient.tau * factor));
            }
            let g = &mut self.z[..len];
            if let Some(cap) = self.transform.softcap {
                g.iter_mut().zip(&self.saved).for_each(|(g, z)| *g = *g * narrow(softcap_slope(z.to_f64(), cap)));
            }
            if renormalises {
                g.iter_mut().zip(&self.saved).filter(|(_, z)| **z == T::Real::NEG_INFINITY).for_each(|(g, _)| *g = T::Real::ZERO);
            }
            forbid(g, allowed, start, T::Real::ZERO);
            // SAFETY: the row and block are the sink's, whose shape is the source's, and the row is this task's alone.
            unsafe { sink.write(plan.row, start, g) };
        }
        // The target's entries, where p and y nearly cancel: formed in f64 and rounded once.
        for ((hot, &z), &beta) in plan.hot().iter().zip(&stats.hot).zip(&gradient.beta) {
            let masked = allowed.is_some_and(|allowed| !allowed[hot.class]) || (renormalises && z == f64::NEG_INFINITY);
            if masked {
                continue;
            }
            let mut prior = 0.0;
            if gradient.gamma != 0.0 {
                let mut v = [0.0];
                self.plan.fill_prior(plan, hot.class, &mut v);
                prior = gradient.gamma * v[0] * hot.weight;
            }
            let slope = self.transform.softcap.map_or(1.0, |cap| softcap_slope(z, cap));
            let p = (z - stats.max).exp() / (1.0 + stats.rest);
            // SAFETY: as above.
            unsafe { sink.put(plan.row, hot.class, (gradient.alpha * p - prior - beta) * factor * slope) };
        }
    }

    /// One value for every class of a row, 0 for those that are not allowed.
    fn fill(&mut self, row: usize, value: T::Real, allowed: Option<&[bool]>, sink: &Sink<'_, T>) {
        for (start, len) in self.blocks() {
            let g = &mut self.z[..len];
            g.fill(value);
            forbid(g, allowed, start, T::Real::ZERO);
            // SAFETY: as in `gradient`.
            unsafe { sink.write(row, start, g) };
        }
    }
}

/// Puts `value` on the classes from `start` on that the mask does not allow.
fn forbid<R: Real>(values: &mut [R], allowed: Option<&[bool]>, start: usize, value: R) {
    let Some(allowed) = allowed else { return };
    values.iter_mut().zip(&allowed[start..]).filter(|(_, allowed)| !**allowed).for_each(|(entry, _)| *entry = value);
}

/// Temperature and softcap; −∞ stays −∞. In f64, so that each logit is rounded once.
fn transform<R: Real>(z: &mut [R], transform: &Transform) {
    if transform.is_identity() {
        return;
    }
    for z in z.iter_mut().filter(|z| **z != R::NEG_INFINITY) {
        let divided = z.to_f64() / transform.temperature;
        *z = R::from_f64(transform.softcap.map_or(divided, |cap| cap * (divided / cap).tanh()));
    }
}

/// The derivative of c·tanh(·/c), from its value; 0 at −∞, where it is flat.
fn softcap_slope(z: f64, cap: f64) -> f64 {
    if z == f64::NEG_INFINITY { 0.0 } else { (1.0 - z / cap) * (1.0 + z / cap) }
}

fn weigh<R: Real>(weights: Option<&[f64]>, start: usize, v: &[f64], out: &mut [R]) {
    match weights {
        Some(weights) => out.iter_mut().zip(v.iter().zip(&weights[start..])).for_each(|(out, (v, w))| *out = R::from_f64(v * w)),
        None => out.iter_mut().zip(v).for_each(|(out, v)| *out = R::from_f64(*v)),
    }
}

impl Running {
    fn new() -> Self {
        Self {
            max: f64::NEG_INFINITY,
            argmax: 0,
            rest: Sum::default(),
            prior: RunningFunctional::default(),
            target: RunningFunctional::default(),
            open_prior: 0.0,
            closed_prior: 0.0,
            target_max: f64::NEG_INFINITY,
            target_argmax: 0,
        }
    }

    /// Takes in a block's maximum and its Σ e^(z − maximum) without the maximum itself. Comes after the functionals, which still need the old maximum.
    fn merge_exp(&mut self, max: f64, argmax: usize, rest: f64) {
        if max > self.max {
            if self.max > f64::NEG_INFINITY {
                self.rest.add(1.0);
                self.rest.scale((self.max - max).exp());
            }
            (self.max, self.argmax) = (max, argmax);
            self.rest.add(rest);
        } else if max > f64::NEG_INFINITY {
            let scale = (max - self.max).exp();
            self.rest.add(scale);
            self.rest.add(rest * scale);
        } else {
            // A block of masked classes adds 0, one with NaN adds that.
            self.rest.add(rest);
        }
    }

    fn target_peak(&mut self, start: usize, target: &[f64]) {
        for (k, &t) in target.iter().enumerate() {
            if t > self.target_max {
                (self.target_max, self.target_argmax) = (t, start + k);
            }
        }
    }

    fn stats(self, hot: [f64; 2]) -> RowStats {
        RowStats {
            hot,
            prior: self.prior.total(),
            open_prior: self.open_prior,
            closed_prior: self.closed_prior,
            target: self.target.total(),
            target_argmax: self.target_argmax,
            ..RowStats::new(self.max, self.argmax, self.rest.total())
        }
    }
}

impl RunningFunctional {
    /// Takes in a block summed against its own maximum; the higher of both maxima is the new reference.
    fn merge(&mut self, block: Functional, max: f64, block_max: f64) {
        if block_max > max && max > f64::NEG_INFINITY {
            self.shifted.add(self.mass.total() * (block_max - max));
        }
        if block.mass > 0.0 {
            self.shifted.add(block.shifted);
            if max > block_max {
                self.shifted.add(block.mass * (max - block_max));
            }
            self.mass.add(block.mass);
        }
        self.masked_mass += block.masked_mass;
        self.masked += block.masked;
    }

    fn total(self) -> Functional {
        Functional { shifted: self.shifted.total(), mass: self.mass.total(), masked_mass: self.masked_mass, masked: self.masked }
    }
}
