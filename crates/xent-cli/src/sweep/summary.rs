//! Runs by prior and ε, and which differences are more than noise.

use serde::Serialize;

use super::store::Finished;
use crate::data::PartRows;
use crate::spread::Spread;
use crate::train::{PriorName, Run};

/// A p below this is called more than noise.
const LEVEL: f64 = 0.05;

/// One number of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Share of the test rows that are right.
    Accuracy,
    /// NLL after the temperature.
    ScaledNll,
    /// ECE, raw.
    Ece,
    /// ECE after the temperature.
    ScaledEce,
    /// Mean risk over coverages.
    Aurc,
    /// NLL, raw.
    Nll,
    /// The temperature.
    Temperature,
    /// Mean logit gap of the test rows.
    Gap,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 8] = [Self::Accuracy, Self::ScaledNll, Self::Ece, Self::ScaledEce, Self::Aurc, Self::Nll, Self::Temperature, Self::Gap];
    /// Those whose differences are tested: for the others no direction is better.
    pub const JUDGED: [Self; 6] = [Self::Accuracy, Self::ScaledNll, Self::Ece, Self::ScaledEce, Self::Aurc, Self::Nll];

    /// Its value.
    pub fn of(self, run: &Run) -> f64 {
        match self {
            Self::Accuracy => run.accuracy,
            Self::ScaledNll => run.scaled.nll,
            Self::Ece => run.raw.ece,
            Self::ScaledEce => run.scaled.ece,
            Self::Aurc => run.aurc,
            Self::Nll => run.raw.nll,
            Self::Temperature => run.temperature.value,
            Self::Gap => run.end().test_gap,
        }
    }

    /// In the report and, as the key, in JSON.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Accuracy => ("accuracy, %", "accuracy"),
            Self::ScaledNll => ("NLL after temperature", "nll_after_temperature"),
            Self::Ece => ("ECE", "ece"),
            Self::ScaledEce => ("ECE after temperature", "ece_after_temperature"),
            Self::Aurc => ("AURC", "aurc"),
            Self::Nll => ("NLL", "nll"),
            Self::Temperature => ("temperature", "temperature"),
            Self::Gap => ("logit gap", "logit_gap"),
        }
    }

    /// What the report multiplies it by, and its decimals there.
    pub fn shown(self) -> (f64, usize) {
        match self {
            Self::Accuracy => (100.0, 2),
            Self::Temperature | Self::Gap => (1.0, 2),
            _ => (1.0, 4),
        }
    }

    fn place(self) -> usize {
        self as usize
    }
}

/// All runs with one prior and ε.
pub struct Arm {
    /// Where smoothing puts its mass.
    pub prior: PriorName,
    /// ε.
    pub epsilon: f64,
    /// One for each measure, over the seeds.
    spreads: Vec<Spread>,
}

impl Arm {
    /// A measure over the seeds.
    pub fn spread(&self, measure: Measure) -> &Spread {
        &self.spreads[measure.place()]
    }
}

/// Everything.
pub struct Summary {
    /// In the order of the options.
    pub arms: Vec<Arm>,
    /// Number of seeds.
    pub seeds: usize,
    /// Rows in each part.
    pub rows: PartRows,
    /// Whether the test part came with the data; otherwise each seed draws its own.
    pub given_test: bool,
}

/// How an arm differs from the one it is held against.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The arm's ε.
    pub epsilon: f64,
    /// Its prior.
    pub prior: PriorName,
    /// Seed by seed.
    pub difference: Spread,
    /// Two-sided, by the test that the report names, before Holm's correction.
    pub p: Option<f64>,
    /// Whether it is below 5 % after it.
    pub more_than_noise: bool,
}

impl Summary {
    /// From runs in the order of the arms and, within them, of the seeds.
    pub fn new(arms: &[(PriorName, f64)], seeds: usize, given_test: bool, runs: &[Finished]) -> Self {
        let each = arms.iter().zip(runs.chunks(seeds));
        let spread = |runs: &[Finished], measure: Measure| Spread::new(runs.iter().map(|run| run.values[measure.place()]).collect());
        let arm = |(&(prior, epsilon), runs): (&(PriorName, f64), &[Finished])| Arm {
            prior,
            epsilon,
            spreads: Measure::ALL.iter().map(|measure| spread(runs, *measure)).collect(),
        };
        Self { arms: each.map(arm).collect(), seeds, rows: runs[0].rows, given_test }
    }

    /// The arm that the others are held against: that without smoothing, or the first.
    pub fn reference(&self) -> usize {
        self.arms.iter().position(|arm| arm.epsilon == 0.0).unwrap_or(0)
    }

    /// What splits that share rows add to the variance of a mean, by Nadeau and Bengio.
    fn overlap(&self) -> f64 {
        if self.given_test { 0.0 } else { self.rows.test as f64 / self.rows.train as f64 }
    }

    /// The test's name.
    pub fn test(&self) -> &'static str {
        if self.given_test {
            "the paired t-test over the seeds, with Holm's correction over the other amounts of smoothing"
        } else {
            "the corrected resampled t-test of Nadeau and Bengio (2003), paired by seed, with Holm's correction over the other amounts of smoothing"
        }
    }

    /// How each other arm differs from the reference.
    pub fn differences(&self, measure: Measure) -> Vec<Difference> {
        let reference = self.arms[self.reference()].spread(measure);
        let others = self.arms.iter().enumerate().filter(|(index, _)| *index != self.reference());
        let mut differences: Vec<Difference> = others
            .map(|(_, arm)| {
                let difference = arm.spread(measure).less(reference);
                let p = difference.p_value(self.overlap());
                Difference { epsilon: arm.epsilon, prior: arm.prior, difference, p, more_than_noise: false }
            })
            .collect();
        let mut order: Vec<usize> = (0..differences.len()).filter(|index| differences[*index].p.is_some()).collect();
        order.sort_by(|a, b| f64::total_cmp(&differences[*a].p.unwrap_or(1.0), &differences[*b].p.unwrap_or(1.0)));
        let tests = order.len();
        // Holm (1979): from the smallest p up, until the first that is too large.
        for (rank, index) in order.into_iter().enumerate() {
            if differences[index].p.is_none_or(|p| p * (tests - rank) as f64 > LEVEL) {
                break;
            }
            differences[index].more_than_noise = true;
        }
        differences
    }
}
