//! A mixture of Gaussians: data whose true posterior is known, so that a model's probabilities can
//! be compared with the truth and not only with labels.

use rand_distr::{Distribution, StandardNormal};

use super::dataset::{Dataset, Features};
use crate::seed::{Purpose, stream};

const ROWS: usize = 1800;
const CLASSES: usize = 10;
const DIMENSIONS: usize = 16;
/// Standard deviation of the classes' centres in each dimension; that of the rows around their
/// centre is 1. Chosen so that the best possible classifier is right about nine times in ten.
const SPREAD: f64 = 0.8;
/// Every run has the same data set; runs differ in how they split it.
const SEED: u64 = 0;

/// `x = centre_k + N(0, 1)` in each dimension, the classes equally likely. The posterior is softmax
/// over k of `−|x − centre_k|²/2`.
pub fn generate() -> Dataset {
    let mut rng = stream(SEED, Purpose::Generation);
    let mut normal = move || -> f64 { StandardNormal.sample(&mut rng) };
    let centres: Vec<Vec<f64>> =
        (0..CLASSES).map(|_| (0..DIMENSIONS).map(|_| SPREAD * normal()).collect()).collect();
    let labels: Vec<u32> = (0..CLASSES as u32).cycle().take(ROWS).collect();
    let mut values = Vec::with_capacity(ROWS * DIMENSIONS);
    let mut truth = Vec::with_capacity(ROWS * CLASSES);
    for &label in &labels {
        let row: Vec<f64> =
            centres[label as usize].iter().map(|centre| centre + normal()).collect();
        let scores = centres.iter().map(|centre| {
            -0.5 * centre.iter().zip(&row).map(|(c, x)| (x - c).powi(2)).sum::<f64>()
        });
        truth.extend(softmax(scores.collect()));
        values.extend(row);
    }
    Dataset {
        about: format!(
            "{ROWS} generated rows of {DIMENSIONS} features: a mixture of {CLASSES} equally likely Gaussians, whose true posterior is known."
        ),
        width: DIMENSIONS,
        features: Features::Reals { values, standardise: vec![false; DIMENSIONS] },
        labels,
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        given_test: None,
        truth: Some(truth),
    }
}

fn softmax(scores: Vec<f64>) -> impl Iterator<Item = f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = scores.iter().map(|score| (score - largest).exp()).sum::<f64>();
    scores.into_iter().map(move |score| (score - largest).exp() / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_posterior_is_calibrated() {
        let data = generate();
        let truth = data.truth.as_ref().unwrap();
        let (mut right, mut expected) = (0.0, 0.0);
        for (row, &label) in truth.chunks(CLASSES).zip(&data.labels) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let best = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            expected += best;
            right += f64::from(u8::from(row[label as usize] == best));
        }
        let rows = data.labels.len() as f64;
        // Right as often as it says it is, within three standard deviations of the count.
        assert!(
            (right - expected).abs() < 3.0 * (rows * 0.09).sqrt(),
            "{right} of {rows}, expected {expected}"
        );
        assert!((0.85..0.95).contains(&(expected / rows)), "{}", expected / rows);
        assert_eq!(data, generate());
    }
}
