//! What the loss drives a network to on rows that it can fit.

use serde::Serialize;

use super::options::{PriorName, Settings};
use crate::error::Result;
use crate::metrics::Logits;

/// The optimum of the smoothed loss on a training row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Optimum {
    /// How far the label's logit stands above the others: ∞ without smoothing. None where so much is smoothed away that the label is no longer on top.
    #[serde(serialize_with = "infinity_as_text")]
    pub gap: Option<f64>,
    /// The loss there, which is the lowest possible: the entropy of the smoothed target.
    pub floor: f64,
}

impl Optimum {
    /// `gap = ln(1 + (1−ε)K/ε)` for the uniform prior, `ln((1−ε)(K−1)/ε)` for the others; the floor is as the loss itself reports it.
    pub fn new(settings: &Settings, epsilon: f64, classes: usize) -> Result<Self> {
        let k = classes as f64;
        let gap = match settings.prior {
            PriorName::Uniform => ((1.0 - epsilon) * k / epsilon).ln_1p(),
            PriorName::Others => ((1.0 - epsilon) * (k - 1.0) / epsilon).ln(),
        };
        let output = Logits::new(vec![0.0; classes], classes).evaluate(&settings.criterion(epsilon)?, &[0])?;
        Ok(Self { gap: (gap >= 0.0).then_some(gap), floor: output.floor.scalar().unwrap_or(f64::NAN) })
    }
}

/// JSON has no infinity.
fn infinity_as_text<S: serde::Serializer>(gap: &Option<f64>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match gap {
        Some(gap) if gap.is_infinite() => serializer.serialize_str("infinite"),
        gap => gap.serialize(serializer),
    }
}
