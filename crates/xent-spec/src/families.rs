//! Rows of logits by the way in which they are hard, and the sweep of them over every number of
//! classes.

use std::f64::consts::TAU;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::case::{Case, Reduction, RowValue, Targets};
use crate::dtype::Dtype;

/// How a row's logits are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Family {
    /// N(0, scale²) + offset.
    Normal {
        /// Standard deviation.
        scale: f64,
        /// Mean.
        offset: f64,
    },
    /// All alike.
    Constant,
    /// N(0, 1), with one class this far above all others.
    Confident(f64),
    /// Few different values, so that most classes are tied.
    Ties,
}

/// The families of the accuracy sweep.
pub const FAMILIES: [Family; 9] = [
    Family::Normal { scale: 1.0, offset: 0.0 },
    Family::Normal { scale: 4.0, offset: 0.0 },
    Family::Normal { scale: 1.0, offset: 100.0 },
    Family::Normal { scale: 1.0, offset: 1e4 },
    Family::Normal { scale: 1.0, offset: -20.0 },
    Family::Constant,
    Family::Confident(5.0),
    Family::Confident(20.0),
    Family::Confident(60.0),
];

/// The numbers of classes of the accuracy sweep.
pub const CLASSES: [usize; 12] = [1, 2, 3, 31, 32, 33, 1000, 4096, 32000, 50257, 128_256, 262_144];

impl Family {
    /// A row of `dtype`'s values. The confident class is `favourite`.
    pub fn row(
        self,
        rng: &mut impl Rng,
        dtype: Dtype,
        classes: usize,
        favourite: usize,
    ) -> Vec<f64> {
        let mut row: Vec<f64> = match self {
            Family::Normal { scale, offset } => {
                (0..classes).map(|_| offset + scale * normal(rng)).collect()
            }
            Family::Confident(_) => (0..classes).map(|_| normal(rng)).collect(),
            Family::Constant => vec![2.5; classes],
            Family::Ties => {
                (0..classes).map(|_| f64::from(rng.random_range(-1..=1)) * 1.5).collect()
            }
        };
        if let (Family::Confident(lead), true) = (self, classes > 1) {
            row[favourite] = f64::NEG_INFINITY;
            row[favourite] = row.iter().fold(f64::NEG_INFINITY, |max: f64, &z| max.max(z)) + lead;
        }
        row.iter().map(|&logit| dtype.round(logit)).collect()
    }
}

/// N(0, 1), by Box and Muller.
fn normal(rng: &mut impl Rng) -> f64 {
    let (radius, angle) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
    (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
}

/// One case of the accuracy sweep: two rows, each loss by itself. Confident rows are right in the
/// first row and wrong in the second. The same arguments give the same case.
pub fn sweep_case(dtype: Dtype, classes: usize, family: Family, epsilon: f64) -> Case {
    let mut rng = ChaCha8Rng::seed_from_u64(classes as u64);
    let favourites = [rng.random_range(0..classes), rng.random_range(0..classes)];
    let wrong = (favourites[1] + 1 + classes / 3) % classes;
    let logits =
        favourites.map(|favourite| family.row(&mut rng, dtype, classes, favourite)).concat();
    Case {
        name: format!("{dtype:?}, K = {classes}, {family:?}, ε = {epsilon}"),
        dtype,
        shape: vec![2, classes],
        axis: 1,
        logits,
        targets: Targets::classes(&[favourites[0] as i64, wrong as i64]),
        epsilon: RowValue::Shared(epsilon),
        reduction: Reduction::None,
        ..Case::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_their_names_say() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let wide =
            Family::Normal { scale: 4.0, offset: 100.0 }.row(&mut rng, Dtype::F64, 10_000, 0);
        let mean = wide.iter().sum::<f64>() / 1e4;
        let variance = wide.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / 1e4;
        assert!((mean - 100.0).abs() < 0.2 && (variance - 16.0).abs() < 1.0, "{mean} {variance}");
        let mut confident = Family::Confident(20.0).row(&mut rng, Dtype::F64, 50, 7);
        let favourite = confident[7];
        confident.sort_by(f64::total_cmp);
        assert_eq!((favourite, favourite - confident[48]), (confident[49], 20.0));
    }

    #[test]
    fn sweep_cases_are_reproducible_and_representable() {
        for dtype in Dtype::ALL {
            for family in FAMILIES {
                let case = sweep_case(dtype, 33, family, 0.1);
                assert_eq!(case, sweep_case(dtype, 33, family, 0.1));
                assert!(case.logits.iter().all(|&logit| logit.is_finite() && dtype.holds(logit)));
            }
        }
    }
}
