//! Runs by prior and ε, and which differences are more than noise.

use serde::Serialize;
use xent_metrics::UniformPrior;

use super::measure::Measure;
use super::store::Finished;
use crate::data::Split;
use crate::spread::{Spread, holm};

/// All runs with one prior and ε.
pub struct SweepArm {
    /// Where smoothing puts its mass.
    pub prior: UniformPrior,
    /// ε.
    pub epsilon: f64,
    /// One per measure, over the seeds.
    spreads: Vec<Spread>,
}

impl SweepArm {
    /// A measure over the seeds.
    pub fn spread(&self, measure: Measure) -> &Spread {
        &self.spreads[measure as usize]
    }
}

/// All runs of a sweep.
pub struct SweepSummary {
    /// In the order of the options.
    pub arms: Vec<SweepArm>,
    /// The number of seeds.
    pub seeds: usize,
    /// Rows in each part.
    pub rows: Split<usize>,
    /// Whether the test part came with the data; otherwise each seed draws its own.
    pub given_test: bool,
}

/// How an arm differs from the reference.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The arm's ε.
    pub epsilon: f64,
    /// Its prior.
    pub prior: UniformPrior,
    /// Seed by seed.
    pub difference: Spread,
    /// Two-sided, by the test that the report names, before Holm's correction.
    pub p: Option<f64>,
    /// The 95 % interval of the mean difference, by the same test and without the correction.
    pub interval: Option<(f64, f64)>,
    /// Whether p is below 5 % after the correction.
    pub more_than_noise: bool,
}

impl SweepSummary {
    /// From runs in the order of the arms and, within them, of the seeds.
    pub fn new(
        arms: &[(UniformPrior, f64)],
        seeds: usize,
        given_test: bool,
        runs: &[Finished],
    ) -> Self {
        let each = arms.iter().zip(runs.chunks(seeds));
        let spread = |runs: &[Finished], measure: Measure| {
            Spread::new(runs.iter().map(|run| run.values[measure as usize]).collect())
        };
        let arm = |(&(prior, epsilon), runs): (&(UniformPrior, f64), &[Finished])| SweepArm {
            prior,
            epsilon,
            spreads: Measure::ALL.iter().map(|measure| spread(runs, *measure)).collect(),
        };
        Self { arms: each.map(arm).collect(), seeds, rows: runs[0].rows, given_test }
    }

    /// The index of the arm that the others are compared with: the one without smoothing, or the
    /// first.
    pub fn reference(&self) -> usize {
        self.arms.iter().position(|arm| arm.epsilon == 0.0).unwrap_or(0)
    }

    /// What splits that share rows add to the variance of a mean (Nadeau and Bengio).
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
                let test = difference.test(self.overlap());
                Difference {
                    epsilon: arm.epsilon,
                    prior: arm.prior,
                    p: test.map(|test| test.p()),
                    interval: test.map(|test| test.interval()),
                    difference,
                    more_than_noise: false,
                }
            })
            .collect();
        let p: Vec<_> = differences.iter().map(|difference| difference.p).collect();
        for (difference, beyond) in differences.iter_mut().zip(holm(&p)) {
            difference.more_than_noise = beyond;
        }
        differences
    }
}
