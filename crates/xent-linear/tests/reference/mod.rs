//! The same loss by its definition: all logits at once, products in f64.
//! Shared by test programs, none of which uses all of it.
#![allow(dead_code)]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xent::{Batch, Criterion, Element, Output, Real, Rows, RowsMut, Upstream};

/// A linear layer in f64. All numbers are values of the type that is tested.
#[derive(Debug, Clone)]
pub struct Layer {
    pub rows: usize,
    pub features: usize,
    pub classes: usize,
    pub hidden: Vec<f64>,
    pub weight: Vec<f64>,
    pub bias: Option<Vec<f64>>,
}

/// Loss and gradients in f64.
pub struct Expected {
    pub output: Output<f64>,
    pub hidden: Vec<f64>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
    /// The largest sums of the absolute values of the terms of an entry of each: where they cancel,
    /// their rounding errors do not.
    pub terms: [f64; 3],
}

pub fn wide<T: Element>(value: T) -> f64 {
    value.to_real().to_f64()
}

pub fn narrow<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&value| T::from_f64(value)).collect()
}

impl Layer {
    pub fn new<T: Element>(
        rows: usize,
        features: usize,
        classes: usize,
        bias: bool,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |len: usize, scale: f64| -> Vec<f64> {
            (0..len).map(|_| wide(T::from_f64(scale * rng.random_range(-1.0..1.0)))).collect()
        };
        let hidden = draw(rows * features, 2.0);
        let weight = draw(classes * features, 3.0 / (features as f64).sqrt());
        let bias = bias.then(|| draw(classes, 1.0));
        Self { rows, features, classes, hidden, weight, bias }
    }

    pub fn logits(&self) -> Vec<f64> {
        let mut logits = vec![0.0; self.rows * self.classes];
        for i in 0..self.rows {
            let hidden = &self.hidden[i * self.features..][..self.features];
            for k in 0..self.classes {
                let weight = &self.weight[k * self.features..][..self.features];
                let product: f64 = hidden.iter().zip(weight).map(|(h, w)| h * w).sum();
                logits[i * self.classes + k] =
                    product + self.bias.as_ref().map_or(0.0, |bias| bias[k]);
            }
        }
        logits
    }

    pub fn expected(
        &self,
        criterion: &Criterion,
        batch: Batch<'_>,
        upstream: Upstream<'_>,
    ) -> xent::Result<Expected> {
        let logits = self.logits();
        let mut gradient = vec![0.0; logits.len()];
        let output = criterion.forward_backward(
            &Rows::new(&logits, self.classes)?,
            batch,
            upstream,
            &mut RowsMut::new(&mut gradient, self.classes)?,
        )?;
        let (rows, features, classes) = (self.rows, self.features, self.classes);
        let sums = |absolute: fn(f64) -> f64| {
            let (mut hidden, mut weight, mut bias) =
                (vec![0.0; rows * features], vec![0.0; classes * features], vec![0.0; classes]);
            for i in 0..rows {
                // An ignored row enters no product, not even as 0·∞.
                if gradient[i * classes..][..classes].iter().all(|g| *g == 0.0) {
                    continue;
                }
                for k in 0..classes {
                    let g = gradient[i * classes + k];
                    bias[k] += absolute(g);
                    for d in 0..features {
                        hidden[i * features + d] += absolute(g * self.weight[k * features + d]);
                        weight[k * features + d] += absolute(g * self.hidden[i * features + d]);
                    }
                }
            }
            [hidden, weight, bias]
        };
        let largest = |values: Vec<f64>| {
            values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max)
        };
        let terms = sums(f64::abs).map(largest);
        let [hidden, weight, bias] = sums(|term| term);
        Ok(Expected { output, hidden, weight, bias, terms })
    }
}

/// The largest difference over the largest entry, or over `least` if that is more; NaN where only
/// one of two is, or is infinite. What overflows in the type is alike.
pub fn distance<T: Element>(came: &[T], expected: &[f64], least: f64) -> f64 {
    assert_eq!(came.len(), expected.len());
    let largest = expected.iter().filter(|x| x.is_finite()).fold(least, |m, x| m.max(x.abs()));
    came.iter().zip(expected).fold(0.0, |worst: f64, (came, expected)| {
        let came = wide(*came);
        let alike = came == wide(T::from_f64(*expected)) || (came.is_nan() && expected.is_nan());
        let difference = if alike { 0.0 } else { (came - expected).abs() / largest };
        if difference.is_nan() || worst.is_nan() { f64::NAN } else { worst.max(difference) }
    })
}
