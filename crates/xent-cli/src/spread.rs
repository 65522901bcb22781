//! Numbers that differ from seed to seed: their mean, their spread, and whether a difference is
//! significant.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

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

    /// The two-sided p of Student's t-test that the mean is 0, with the variance of the mean set to
    /// `1/n + overlap` times that of the numbers. With overlap 0 it is the paired t-test; with the
    /// ratio of test rows to training rows it has Nadeau and Bengio's correction for splits that
    /// share rows (Machine Learning 52, 2003). None for one number.
    pub fn p_value(&self, overlap: f64) -> Option<f64> {
        let n = self.values.len() as f64;
        let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
        let error = self.sd? * (1.0 / n + overlap).sqrt();
        if error == 0.0 {
            return Some(if self.mean == 0.0 { 1.0 } else { 0.0 });
        }
        Some(2.0 * student.sf(self.mean.abs() / error))
    }

    /// Whether 0 is outside the 95 % t interval of the mean; false for one number.
    pub fn stands_out(&self) -> bool {
        self.p_value(0.0).is_some_and(|p| p < 0.05)
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
    fn p_values_are_students() {
        // t = 1/(0.9001/√5) = 2.4842 on 4 degrees of freedom: p = 0.0679 by tables.
        let spread =
            Spread::new([-1.0, -1.0, 0.0, 1.0, 1.0].iter().map(|x| 1.0 + 0.9001 * x).collect());
        assert!((spread.p_value(0.0).unwrap() - 0.0679).abs() < 2e-4, "{:?}", spread.p_value(0.0));
        // A correction of 1/5 halves t²: t = 1.7566, p = 0.1538.
        assert!((spread.p_value(0.2).unwrap() - 0.1538).abs() < 2e-4, "{:?}", spread.p_value(0.2));
        assert_eq!(
            (Spread::new(vec![1.0]).p_value(0.0), Spread::new(vec![0.0, 0.0]).p_value(0.0)),
            (None, Some(1.0))
        );
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
