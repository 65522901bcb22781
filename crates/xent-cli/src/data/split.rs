//! Training, validation and test parts, as a network sees them.

use ndarray::Array2;
use rand::{RngExt, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Features};
use crate::seed::{Purpose, stream};

/// Of every 18 rows 10 train, 3 validate and 5 test; if the data came with a test part, 10 of 13
/// other rows train and 3 validate.
const TRAIN: usize = 10;
const VALIDATION: usize = 3;
const TEST: usize = 5;

/// One part of the data as a network sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// `[rows, width]`.
    pub features: Array2<f32>,
    /// The class of each row; in a training part some may be deliberately wrong.
    pub labels: Vec<u32>,
    /// p(class | features), `[rows, classes]`, if it is known.
    pub truth: Option<Vec<f64>>,
}

/// Something for each of the three parts: their rows as a network sees them, the rows' numbers, or
/// how many they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Split<T> {
    /// The weights are fitted to this part.
    pub train: T,
    /// The temperature is fitted to this part.
    pub validation: T,
    /// This part is reported.
    pub test: T,
}

impl<T> Split<T> {
    /// The same with a function applied to each part.
    pub fn map<U>(&self, part: impl Fn(&T) -> U) -> Split<U> {
        Split {
            train: part(&self.train),
            validation: part(&self.validation),
            test: part(&self.test),
        }
    }
}

/// Splits the rows so that every part has the classes in the same proportions, standardises them by
/// the training part's statistics, and gives a share `label_noise` of the training labels a wrong
/// class, each equally likely. The same seed gives the same parts.
pub fn split(dataset: &Dataset, seed: u64, label_noise: f64) -> Split<Part> {
    let rows = deal(dataset, seed);
    let scaling = scaling(dataset, &rows.train);
    let mut parts = rows.map(|rows| part(dataset, &scaling, rows));
    add_label_noise(&mut parts.train.labels, dataset.classes.len() as u32, label_noise, seed);
    parts
}

/// Shuffles the rows, sorts them by class and deals them out like cards, so that no part deviates
/// from a class's proportion by more than about one row.
fn deal(dataset: &Dataset, seed: u64) -> Split<Vec<usize>> {
    let mut rng = stream(seed, Purpose::Split);
    let given = dataset.given_test.unwrap_or(dataset.labels.len());
    let mut rows: Vec<usize> = (0..given).collect();
    rows.shuffle(&mut rng);
    rows.sort_by_key(|&row| dataset.labels[row]);
    let hand =
        if dataset.given_test.is_some() { TRAIN + VALIDATION } else { TRAIN + VALIDATION + TEST };
    // A step without a common divisor with the hand (13 or 18) visits each place once and mixes the
    // parts.
    const STEP: usize = 7;
    let mut dealt: Split<Vec<usize>> =
        Split { test: (given..dataset.labels.len()).collect(), ..Split::default() };
    for (card, row) in rows.into_iter().enumerate() {
        match card * STEP % hand {
            place if place < TRAIN => dealt.train.push(row),
            place if place < TRAIN + VALIDATION => dealt.validation.push(row),
            _ => dealt.test.push(row),
        }
    }
    dealt
}

/// For each column, what is subtracted from it and what it is then multiplied by.
fn scaling(dataset: &Dataset, train: &[usize]) -> Vec<(f64, f64)> {
    let (values, standardise) = match &dataset.features {
        Features::Bytes { full_scale, .. } => {
            return vec![(0.0, 1.0 / f64::from(*full_scale)); dataset.width];
        }
        Features::Reals { values, standardise } => (values, standardise),
    };
    let rows = train.len() as f64;
    let scale = |index: usize| {
        let column = || train.iter().map(|row| values[row * dataset.width + index]);
        let mean = column().map(|value| value / rows).sum::<f64>();
        let deviation = column().map(|value| (value - mean).powi(2) / rows).sum::<f64>().sqrt();
        // The deviation of a constant column is rounding and must not be amplified.
        let varies = deviation.is_finite() && deviation > 1e-12 * mean.abs();
        (mean, if varies { 1.0 / deviation } else { 1.0 })
    };
    standardise
        .iter()
        .enumerate()
        .map(|(index, &standardised)| if standardised { scale(index) } else { (0.0, 1.0) })
        .collect()
}

fn part(dataset: &Dataset, scaling: &[(f64, f64)], rows: &[usize]) -> Part {
    let (width, classes) = (dataset.width, dataset.classes.len());
    let features = Array2::from_shape_fn((rows.len(), width), |(row, column)| {
        let (at, (offset, factor)) = (rows[row] * width + column, scaling[column]);
        let value = match &dataset.features {
            Features::Bytes { values, .. } => f64::from(values[at]),
            Features::Reals { values, .. } => values[at],
        };
        ((value - offset) * factor) as f32
    });
    let truth = dataset.truth.as_ref().map(|truth| {
        rows.iter().flat_map(|row| &truth[row * classes..(row + 1) * classes]).copied().collect()
    });
    Part { features, labels: rows.iter().map(|&row| dataset.labels[row]).collect(), truth }
}

fn add_label_noise(labels: &mut [u32], classes: u32, share: f64, seed: u64) {
    let mut rng = stream(seed, Purpose::LabelNoise);
    for label in labels {
        if rng.random_bool(share) {
            *label = (*label + rng.random_range(1..classes)) % classes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Source, TableOptions};

    fn digits() -> Dataset {
        Source::Digits.load(&TableOptions::default()).unwrap()
    }

    #[test]
    fn parts_are_disjoint_complete_and_stratified() {
        let digits = digits();
        let rows = deal(&digits, 3);
        assert_eq!((rows.train.len(), rows.validation.len(), rows.test.len()), (999, 299, 499));
        let mut all: Vec<usize> = [&rows.train[..], &rows.validation, &rows.test].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1797));
        for part in [&rows.train, &rows.validation, &rows.test] {
            let labels: Vec<u32> = part.iter().map(|&row| digits.labels[row]).collect();
            for class in 0..10 {
                let (of_part, of_all) = (
                    labels.iter().filter(|label| **label == class).count(),
                    digits.labels.iter().filter(|label| **label == class).count(),
                );
                let expected = of_all as f64 * part.len() as f64 / 1797.0;
                assert!(
                    (of_part as f64 - expected).abs() < 2.0,
                    "{of_part} of class {class}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let digits = digits();
        assert_eq!(split(&digits, 1, 0.1), split(&digits, 1, 0.1));
        assert_ne!(split(&digits, 1, 0.1).test, split(&digits, 2, 0.1).test);
    }

    #[test]
    fn noise_is_in_the_training_labels_only() {
        let digits = digits();
        let (clean, noisy) = (split(&digits, 5, 0.0), split(&digits, 5, 0.25));
        assert_eq!((&clean.validation, &clean.test), (&noisy.validation, &noisy.test));
        assert_eq!(clean.train.features, noisy.train.features);
        let wrong =
            clean.train.labels.iter().zip(&noisy.train.labels).filter(|(a, b)| a != b).count();
        // 999 draws at 1/4: within four standard deviations.
        assert!((195..=305).contains(&wrong), "{wrong}");
        let all_wrong = split(&digits, 5, 1.0);
        assert!(
            clean.train.labels.iter().zip(&all_wrong.train.labels).all(|(a, b)| a != b && *b < 10)
        );
    }

    #[test]
    fn numbers_are_standardised_by_the_training_part() {
        let rows = 90;
        let values: Vec<f64> =
            (0..rows).flat_map(|row| [1e9 + row as f64, 7.0, (row % 2) as f64]).collect();
        let dataset = Dataset {
            about: String::new(),
            width: 3,
            features: Features::Reals { values, standardise: vec![true, true, false] },
            labels: (0..rows).map(|row| row % 2).collect(),
            classes: vec!["even".into(), "odd".into()],
            given_test: Some(72),
            truth: None,
        };
        let parts = split(&dataset, 0, 0.0);
        assert_eq!(parts.test.labels.len(), 18);
        let column = |part: &Part, column: usize| part.features.column(column).to_vec();
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        let train = column(&parts.train, 0);
        assert!(mean(&train).abs() < 1e-6);
        assert!((train.iter().map(|x| x * x).sum::<f32>() / train.len() as f32 - 1.0).abs() < 1e-5);
        assert!(
            mean(&column(&parts.test, 0)) > 1.0,
            "the test part lies above the training part and must stay there"
        );
        assert!(
            column(&parts.train, 1).iter().all(|x| x.abs() < 1e-12),
            "a constant column carries nothing"
        );
        assert!(
            column(&parts.train, 2)
                .iter()
                .zip(&parts.train.labels)
                .all(|(x, label)| *x == *label as f32)
        );
    }
}
