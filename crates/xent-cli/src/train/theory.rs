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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::options::tests::parse;

    #[test]
    fn the_loss_reaches_its_floor_at_the_gap_and_only_there() {
        for (prior, epsilon, classes) in [("uniform", 0.1, 10), ("uniform", 0.3, 2), ("others", 0.1, 10), ("others", 0.4, 3)] {
            let settings = parse(&[&format!("--prior={prior}")]).unwrap().settings().unwrap();
            let optimum = Optimum::new(&settings, epsilon, classes).unwrap();
            let loss = |gap: f64| {
                let mut row = vec![0.0; classes];
                row[0] = gap;
                Logits::new(row, classes).evaluate(&settings.criterion(epsilon).unwrap(), &[0]).unwrap().loss.scalar().unwrap()
            };
            let gap = optimum.gap.unwrap();
            assert!((loss(gap) - optimum.floor).abs() < 1e-14, "{prior} {epsilon} {classes}");
            assert!(loss(gap - 0.01) > optimum.floor + 1e-7 && loss(gap + 0.01) > optimum.floor + 1e-7);
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let optimum = |prior: &str, epsilon| Optimum::new(&parse(&[&format!("--prior={prior}")]).unwrap().settings().unwrap(), epsilon, 4).unwrap();
        assert_eq!(optimum("uniform", 0.0), Optimum { gap: Some(f64::INFINITY), floor: 0.0 });
        assert_eq!(optimum("uniform", 1.0).gap, Some(0.0));
        assert_eq!(optimum("others", 0.75).gap, Some(0.0));
        assert_eq!(optimum("others", 0.9).gap, None, "the label is no longer on top");
        assert_eq!(optimum("others", 1.0).gap, None);
    }
}
