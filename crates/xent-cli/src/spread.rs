//! Numbers that differ from seed to seed, or from row to row: their mean, their spread, and whether
//! a difference is significant.

use serde::Serialize;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

/// What a report says of a single seed.
pub const ONE_SEED: &str = "One seed cannot tell a difference from noise; --seeds 8 can.";

/// A p below this is called more than noise.
const LEVEL: f64 = 0.05;

/// Student's t-test that a mean is 0.
#[derive(Debug, Clone, Copy)]
pub struct TTest {
    mean: f64,
    /// Its standard error.
    error: f64,
    distribution: StudentsT,
}

impl TTest {
    /// Of the mean of n numbers and its standard error; none unless n > 1 and both are finite.
    pub fn new(mean: f64, error: f64, n: f64) -> Option<Self> {
        let distribution = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
        (mean.is_finite() && error.is_finite()).then_some(Self { mean, error, distribution })
    }

    /// The two-sided p.
    pub fn p(&self) -> f64 {
        match self.error {
            0.0 if self.mean == 0.0 => 1.0,
            0.0 => 0.0,
            error => 2.0 * self.distribution.sf(self.mean.abs() / error),
        }
    }

    /// The 95 % interval of the mean.
    pub fn interval(&self) -> (f64, f64) {
        let half = self.error * self.distribution.inverse_cdf(1.0 - LEVEL / 2.0);
        (self.mean - half, self.mean + half)
    }
}

/// The p of McNemar's exact test (1947): of the rows that one of two models has right and the other
/// wrong, each model has a binomial number with the share ½.
pub fn mcnemar(one: u64, other: u64) -> f64 {
    match Binomial::new(0.5, one + other) {
        Ok(binomial) if one != other => (2.0 * binomial.cdf(one.min(other))).min(1.0),
        _ => 1.0,
    }
}

/// Which of several tests are below 5 % after the correction of Holm (1979): from the smallest p
/// up, until the first that is too large. A test without p is not one of them.
pub fn holm(p: &[Option<f64>]) -> Vec<bool> {
    let mut order: Vec<(f64, usize)> =
        p.iter().enumerate().filter_map(|(index, p)| Some(((*p)?, index))).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut beyond = vec![false; p.len()];
    let tests = order.len();
    for (rank, (p, index)) in order.into_iter().enumerate() {
        if p * (tests - rank) as f64 > LEVEL {
            break;
        }
        beyond[index] = true;
    }
    beyond
}

/// One number per seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation (with n − 1); none with one seed.
    pub sd: Option<f64>,
    /// The numbers, in the order of the seeds.
    pub values: Vec<f64>,
}

impl Spread {
    /// From at least one number.
    pub fn new(values: Vec<f64>) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let sd = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Self { mean, sd, values }
    }

    /// The differences to another, seed by seed.
    pub fn less(&self, other: &Self) -> Self {
        Self::new(self.values.iter().zip(&other.values).map(|(a, b)| a - b).collect())
    }

    /// The smallest number.
    pub fn low(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest number.
    pub fn high(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// The number of seeds with a number above 0, and below 0.
    pub fn signs(&self) -> (usize, usize) {
        (
            self.values.iter().filter(|value| **value > 0.0).count(),
            self.values.iter().filter(|value| **value < 0.0).count(),
        )
    }

    /// Student's t-test that the mean is 0, with the variance of the mean set to `1/n + overlap`
    /// times that of the numbers. With overlap 0 it is the paired t-test; with the ratio of test
    /// rows to training rows it has Nadeau and Bengio's correction for splits that share rows
    /// (Machine Learning 52, 2003). None for one number.
    pub fn test(&self, overlap: f64) -> Option<TTest> {
        let n = self.values.len() as f64;
        TTest::new(self.mean, self.sd? * (1.0 / n + overlap).sqrt(), n)
    }

    /// Whether 0 is outside the 95 % t interval of the mean; false for one number.
    pub fn stands_out(&self) -> bool {
        self.test(0.0).is_some_and(|test| test.p() < LEVEL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_by_hand() {
        let spread = Spread::new(vec![1.0, 2.0, 6.0]);
        assert_eq!(
            (spread.mean, spread.sd, spread.low(), spread.high()),
            (3.0, Some(7f64.sqrt()), 1.0, 6.0)
        );
        assert_eq!(Spread::new(vec![4.0]).sd, None);
        assert_eq!(spread.less(&Spread::new(vec![1.0, 3.0, 5.0])).signs(), (1, 1));
    }

    #[test]
    fn p_values_and_intervals_are_students() {
        // t = 1/(0.9001/√5) = 2.4842 on 4 degrees of freedom: p = 0.0679 by tables.
        let spread =
            Spread::new([-1.0, -1.0, 0.0, 1.0, 1.0].iter().map(|x| 1.0 + 0.9001 * x).collect());
        let p = |overlap: f64| spread.test(overlap).unwrap().p();
        assert!((p(0.0) - 0.0679).abs() < 2e-4, "{}", p(0.0));
        // A correction of 1/5 halves t²: t = 1.7566, p = 0.1538.
        assert!((p(0.2) - 0.1538).abs() < 2e-4, "{}", p(0.2));
        // t(0.975, 4) = 2.7764.
        let (low, high) = spread.test(0.0).unwrap().interval();
        let half = 2.7764 * 0.9001 / 5f64.sqrt();
        assert!((low - (1.0 - half)).abs() < 1e-4 && (high - (1.0 + half)).abs() < 1e-4, "{low}");
        assert!(Spread::new(vec![1.0]).test(0.0).is_none());
        assert!(Spread::new(vec![1.0, f64::INFINITY]).test(0.0).is_none());
        assert_eq!(Spread::new(vec![0.0, 0.0]).test(0.0).unwrap().p(), 1.0);
    }

    #[test]
    fn mcnemars_test_by_hand() {
        // 2·(1 + 8)/2⁸, 2·1/2⁵, and the middle of a distribution.
        for (found, expected) in [(mcnemar(1, 7), 18.0 / 256.0), (mcnemar(5, 0), 2.0 / 32.0)] {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!([mcnemar(0, 0), mcnemar(4, 4)], [1.0; 2]);
        assert!((mcnemar(0, 1) - 1.0).abs() < 1e-12);
        // Large numbers: z = 100/√10000 with a continuity correction of 1/100.
        assert!((mcnemar(4950, 5050) - 0.322).abs() < 1e-3, "{}", mcnemar(4950, 5050));
    }

    #[test]
    fn several_tests_are_corrected_as_by_holm() {
        // 0.01·3 and 0.02·2 are below 0.05; 0.06·1 is not.
        assert_eq!(holm(&[Some(0.06), None, Some(0.01), Some(0.02)]), [false, false, true, true]);
        // 0.04·2 is too large, so 0.045 is not asked.
        assert_eq!(holm(&[Some(0.045), Some(0.04)]), [false, false]);
        assert_eq!(holm(&[Some(0.045)]), [true]);
    }

    #[test]
    fn noise_is_told_from_a_difference() {
        // t(0.975, 4) = 2.7764: mean 1 with sd 0.8 has a half-width of 0.993; with sd 0.81 of
        // 1.006.
        let five = |sd: f64| {
            Spread::new([-1.0, -1.0, 0.0, 1.0, 1.0].iter().map(|x| 1.0 + x * sd).collect())
        };
        assert!(five(0.8).stands_out());
        assert!(!five(0.81).stands_out());
        assert!(!Spread::new(vec![5.0]).stands_out(), "one seed");
        assert!(!Spread::new(vec![0.0, 0.0]).stands_out(), "no difference at all");
        assert!(Spread::new(vec![0.5, 0.5]).stands_out(), "the same difference every time");
    }
}
