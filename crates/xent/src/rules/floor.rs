//! The entropy floor of a row from scalars (SEMANTICS.md S4.3), and a cache of floors, because many
//! rows share a floor and logarithms are expensive.

use super::row::Hot;
use super::stats::RowStats;
use super::table::{ClassTable, SharedPrior};

/// The number of entries of a memo if rows of different classes have different floors.
const SLOTS: usize = 64;

/// A cache of the floors that [`Plan::fold`](super::Plan::fold) has computed, by their inputs to
/// the last bit. It does not change any result. One per worker.
#[derive(Debug, Clone)]
pub struct FloorMemo {
    /// A power of two.
    slots: Vec<(Inputs, f64)>,
}

/// The inputs of a floor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs {
    /// γ, and the smoothed target on the hot classes: γ·v and β.
    gamma: f64,
    prior: [f64; 2],
    beta: [f64; 2],
    /// Its sum.
    total: f64,
    /// Σ v and Σ v ln v.
    mass: f64,
    xlogx: f64,
}

impl Inputs {
    #[inline]
    fn differ(&self, other: &Self) -> bool {
        let differ = |a: f64, b: f64| a.to_bits() ^ b.to_bits();
        let first = differ(self.gamma, other.gamma)
            | differ(self.total, other.total)
            | differ(self.mass, other.mass)
            | differ(self.xlogx, other.xlogx);
        let hot =
            |j: usize| differ(self.prior[j], other.prior[j]) | differ(self.beta[j], other.beta[j]);
        first | hot(0) | hot(1) != 0
    }

    /// The sum over v in closed form, then corrected at the hot classes.
    fn floor(&self) -> f64 {
        if self.total == 0.0 {
            return 0.0;
        }
        let term = |y: f64| relative_entropy_term(y, self.total);
        let of_gamma = term(self.gamma);
        let mut sum = self.gamma * self.xlogx + self.mass * of_gamma;
        for (v, beta) in self.prior.into_iter().zip(self.beta) {
            let of_v = if v.to_bits() == self.gamma.to_bits() { of_gamma } else { term(v) };
            sum += term(v + beta) - of_v;
        }
        // Not −sum: that would be −0 where there is nothing to sum.
        0.0 - sum
    }
}

impl FloorMemo {
    pub(super) fn of(table: &ClassTable<'_>) -> Self {
        let same =
            table.config().class_weights.is_none() && matches!(table.prior(), SharedPrior::Uniform);
        Self::new(if same { 1 } else { SLOTS })
    }

    pub(super) fn new(slots: usize) -> Self {
        // No row has NaN for a mass.
        let nothing = Inputs {
            gamma: f64::NAN,
            prior: [f64::NAN; 2],
            beta: [f64::NAN; 2],
            total: f64::NAN,
            mass: f64::NAN,
            xlogx: f64::NAN,
        };
        Self { slots: vec![(nothing, f64::NAN); slots] }
    }

    #[inline]
    fn floor(&mut self, class: usize, inputs: Inputs) -> f64 {
        let slot = class & (self.slots.len() - 1);
        let (known, floor) = &mut self.slots[slot];
        if known.differ(&inputs) { renew(known, floor, inputs) } else { *floor }
    }
}

#[inline(never)]
fn renew(known: &mut Inputs, floor: &mut f64, inputs: Inputs) -> f64 {
    (*known, *floor) = (inputs, inputs.floor());
    *floor
}

/// The smoothed target `γ·v + Σ β_j δ_j` and its mass Y.
#[derive(Clone, Copy)]
pub(super) struct FloorOf {
    pub(super) gamma: f64,
    pub(super) beta: [f64; 2],
    pub(super) total: f64,
}

/// `None` where the floor is not a function of scalars.
#[inline(always)]
pub(super) fn closed_floor<const HOT: usize>(
    table: &ClassTable<'_>,
    hots: &[Hot; HOT],
    stats: &RowStats,
    target: FloorOf,
    memo: &mut FloorMemo,
) -> Option<f64> {
    let FloorOf { gamma, beta, total } = target;
    if HOT == 0 || (gamma > 0.0 && !table.has_closed_floors()) {
        return None;
    }
    // The count of open classes where masks renormalise, of all classes where they do not.
    let uniform = table.is_uniform();
    let (shared_mass, xlogx) = table.prior_sums();
    let mass = if uniform { stats.prior.mass + stats.prior.masked_mass } else { shared_mass };
    let mut prior = [0.0; 2];
    for ((prior, hot), z) in prior.iter_mut().zip(hots).zip(stats.hot) {
        if !(table.renormalises() && z == f64::NEG_INFINITY) {
            *prior = gamma * if uniform { 1.0 } else { table.prior_at(hot.class) };
        }
    }
    let class = hots.first().map_or(0, |hot| hot.class);
    Some(memo.floor(class, Inputs { gamma, prior, beta, total, mass, xlogx }))
}

/// The floor of a row with labels from the sums of its own prior: Σ v and Σ v ln v, after class
/// weights, over the classes that keep their mass. `prior` is γ·v at the hot classes.
pub(super) fn floor_of_sums(target: FloorOf, prior: [f64; 2], [mass, xlogx]: [f64; 2]) -> f64 {
    let FloorOf { gamma, beta, total } = target;
    Inputs { gamma, prior, beta, total, mass, xlogx }.floor()
}

/// y ln(y/total), 0 for y = 0 (and for what rounding leaves below it).
pub fn relative_entropy_term(y: f64, total: f64) -> f64 {
    if y > 0.0 { y * (y / total).ln() } else { 0.0 }
}
