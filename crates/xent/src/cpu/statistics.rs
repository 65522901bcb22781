//! A row's statistics while they grow, block by block and piece by piece. Two parts of a row merge into one, whoever worked on them.
//!
//! Sums are plain f64: of terms ≥ 0, a few dozen blocks and then a few pieces.

use super::kernels::block::ExpSums;
use crate::plan::{Functional, RowStats};

/// Of the classes seen so far.
#[derive(Default)]
pub(super) struct Running {
    /// The largest logit and the first class that has it; `None` while all were masked.
    peak: Option<(f64, usize)>,
    rest: f64,
    pub(super) prior: Functional,
    pub(super) open_prior: f64,
    pub(super) closed_prior: f64,
    pub(super) target: Functional,
    /// The largest entry of a dense target and the first class that has it.
    target_peak: Option<(f64, usize)>,
    /// Transformed logits at the hot classes.
    pub(super) hot: [f64; 2],
}

impl Running {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { hot: [f64::NAN; 2], ..Self::default() }
    }

    /// The largest logit so far; −∞ if there was none.
    #[inline(always)]
    pub(super) fn max(&self) -> f64 {
        self.peak.map_or(f64::NEG_INFINITY, |(max, _)| max)
    }

    /// A new largest logit. Comes before the sums of its block, which are taken against it.
    #[inline(always)]
    pub(super) fn rise(&mut self, max: f64, argmax: usize) {
        if let Some((old, _)) = self.peak {
            let by = max - old;
            self.rest = (self.rest + 1.0) * (-by).exp();
            rise(&mut self.prior, by);
            rise(&mut self.target, by);
        }
        self.peak = Some((max, argmax));
    }

    /// Σ e^(z − max) of a block, without the 1 of the class that is the peak.
    #[inline(always)]
    pub(super) fn add_exponentials(&mut self, rest: f64) {
        self.rest += rest;
    }

    /// Against v ≡ 1, from what the exponentials' kernel counted; masks either count or, where they renormalise, do not.
    #[inline(always)]
    pub(super) fn add_uniform(&mut self, sums: &ExpSums, len: usize, renormalises: bool) {
        let (open, masked) = (sums.open as f64, len - sums.open);
        let (masked_mass, counted) = if renormalises { (0.0, 0) } else { (masked as f64, masked) };
        add(&mut self.prior, Functional { shifted: sums.shifted, mass: open, masked_mass, masked: counted });
        self.open_prior += open;
        self.closed_prior += masked as f64;
    }

    #[inline(always)]
    pub(super) fn target_peak(&mut self, value: f64, class: impl Fn() -> usize) {
        if self.target_peak.is_none_or(|(peak, _)| value > peak) {
            self.target_peak = Some((value, class()));
        }
    }

    /// With the classes that follow.
    #[inline(always)]
    pub(super) fn merged(mut self, mut next: Self) -> Self {
        match next.peak {
            Some((max, argmax)) if max > self.max() => self.rise(max, argmax),
            Some(_) => next.rise(self.max(), 0),
            None => {}
        }
        self.rest += next.rest;
        add(&mut self.prior, next.prior);
        add(&mut self.target, next.target);
        self.open_prior += next.open_prior;
        self.closed_prior += next.closed_prior;
        if let Some((value, class)) = next.target_peak {
            self.target_peak(value, || class);
        }
        for (hot, next) in self.hot.iter_mut().zip(next.hot) {
            if !next.is_nan() {
                *hot = next;
            }
        }
        self
    }

    #[inline(always)]
    pub(super) fn stats(self) -> RowStats {
        let (max, argmax) = self.peak.unwrap_or((f64::NEG_INFINITY, 0));
        let target_argmax = self.target_peak.map_or(0, |(_, class)| class);
        RowStats {
            hot: self.hot,
            prior: self.prior,
            open_prior: self.open_prior,
            closed_prior: self.closed_prior,
            target: self.target,
            target_argmax,
            ..RowStats::new(max, argmax, self.rest)
        }
    }
}

/// The reference of a functional's `shifted` rises.
fn rise(functional: &mut Functional, by: f64) {
    if functional.mass > 0.0 {
        functional.shifted += functional.mass * by;
    }
}

pub(super) fn add(functional: &mut Functional, part: Functional) {
    functional.shifted += part.shifted;
    functional.mass += part.mass;
    functional.masked_mass += part.masked_mass;
    functional.masked += part.masked;
}
