//! What label smoothing leaves in a model's logits, and what its loss says of them.

use serde::Serialize;
use xent::{Config, ConfigError, InputError, Prior, Rows, ViewError};

use crate::scores::{Gaps, Scored};

/// The optimum of a smoothed loss on one row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Optimum {
    /// How far the label's logit stands above the others: ∞ without smoothing. None where so much is smoothed away that the label is no longer on top.
    #[serde(serialize_with = "infinity_as_text")]
    pub gap: Option<f64>,
    /// The loss there, which is the lowest possible: the entropy of the smoothed target.
    pub floor: f64,
}

/// Which of the two priors whose optimum is one gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UniformPrior {
    /// ε/K on every class, the true one too.
    Uniform,
    /// ε/(K−1) on every class but the true one.
    Others,
}

impl UniformPrior {
    /// As the library has it.
    pub fn prior(self) -> Prior {
        match self {
            Self::Uniform => Prior::Uniform,
            Self::Others => Prior::WrongClasses,
        }
    }
}

/// What can keep an [`Optimum`] from being computed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OptimumError {
    /// ε is not in \[0, 1\].
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are no classes.
    #[error(transparent)]
    View(#[from] ViewError),
    /// There are no classes.
    #[error(transparent)]
    Input(#[from] InputError),
}

impl Optimum {
    /// `gap = ln(1 + (1−ε)K/ε)` for the uniform prior, `ln((1−ε)(K−1)/ε)` for the others; the floor is as the loss itself reports it.
    ///
    /// # Errors
    /// ε outside \[0, 1\], or K = 0.
    pub fn new(prior: UniformPrior, epsilon: f64, classes: usize) -> Result<Self, OptimumError> {
        let k = classes as f64;
        let gap = match prior {
            UniformPrior::Uniform => ((1.0 - epsilon) * k / epsilon).ln_1p(),
            UniformPrior::Others => ((1.0 - epsilon) * (k - 1.0) / epsilon).ln(),
        };
        let criterion = Config::new().label_smoothing(epsilon).prior(prior.prior()).build()?;
        let output = criterion.forward(&Rows::new(&vec![0.0; classes], 1, classes)?, &[0u32][..])?;
        Ok(Self { gap: (gap >= 0.0).then_some(gap), floor: output.floor.scalar().unwrap_or(f64::NAN) })
    }
}

impl Scored {
    /// The mean loss at a smoothed target, as a training loss has it: (1−ε)·nll + ε·(cross-entropy to the prior).
    ///
    /// That of the uniform prior is kept; over the other classes it is (K·uniform − nll)/(K−1).
    pub fn smoothed_loss(&self, prior: UniformPrior, epsilon: f64) -> f64 {
        let (nll, uniform, k) = (self.nll.value, self.uniform_nll, self.classes.len() as f64);
        let to_prior = match prior {
            UniformPrior::Uniform => uniform,
            UniformPrior::Others => (k * uniform - nll) / (k - 1.0),
        };
        if epsilon == 0.0 { nll } else { (1.0 - epsilon) * nll + epsilon * to_prior }
    }
}

/// An ε that a model may have been trained with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EpsilonEstimate {
    /// From the median gap.
    pub value: f64,
    /// From the upper quartile of the gaps.
    pub low: f64,
    /// From the lower one.
    pub high: f64,
}

/// The ε of the uniform prior whose optimal gap is the median of these: K/(e^gap − 1 + K), from `gap = ln(1 + (1−ε)K/ε)`.
///
/// Only where it is plausible: where the gaps lie together, since smoothing drives all rows to one gap and its absence to none (the quartiles within a sixth of the
/// median), and at an ε that people use (0.005 to 0.6). None otherwise. An estimate: rows that were not fitted, a short training, wrong labels, weight decay and temperature
/// move the gap, too.
///
/// Seen on networks as `xent train` trains them (digits, 100 epochs, four seeds): 0.055 to 0.057, 0.109 to 0.110 and 0.214 to 0.216 from the training rows for ε = 0.05, 0.1 and 0.2; from
/// other rows 0.052 to 0.065, 0.111 to 0.129 and 0.229 to 0.247, or none, the more often the smaller ε. None at ε = 0, none on a mixture of classes that overlap, and after 20 epochs none but
/// 0.26 to 0.27 for 0.2. A fifth of wrong labels is smoothing, too: none, or 0.37 to 0.41 for 0.2.
pub fn estimate_epsilon(gaps: &Gaps, classes: usize) -> Option<EpsilonEstimate> {
    let [_, lower, median, upper, _] = gaps.quantiles.map(|quantile| quantile.0);
    let k = classes as f64;
    let epsilon = |gap: f64| k / (gap.exp_m1() + k);
    let value = epsilon(median);
    let plausible = upper - lower <= median / 3.0 && (0.005..=0.6).contains(&value);
    plausible.then(|| EpsilonEstimate { value, low: epsilon(upper), high: epsilon(lower) })
}

/// JSON has no infinity.
fn infinity_as_text<S: serde::Serializer>(gap: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match gap {
        Some(gap) if gap.is_infinite() => serializer.serialize_str("infinite"),
        gap => gap.serialize(serializer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::Quantile;

    #[test]
    fn the_loss_reaches_its_floor_at_the_gap_and_only_there() {
        for (prior, epsilon, classes) in
            [(UniformPrior::Uniform, 0.1, 10), (UniformPrior::Uniform, 0.3, 2), (UniformPrior::Others, 0.1, 10), (UniformPrior::Others, 0.4, 3)]
        {
            let optimum = Optimum::new(prior, epsilon, classes).unwrap();
            let criterion = Config::new().label_smoothing(epsilon).prior(prior.prior()).build().unwrap();
            let loss = |gap: f64| {
                let mut row = vec![0.0; classes];
                row[0] = gap;
                criterion.forward(&Rows::new(&row, 1, classes).unwrap(), &[0u32][..]).unwrap().loss.scalar().unwrap()
            };
            let gap = optimum.gap.unwrap();
            assert!((loss(gap) - optimum.floor).abs() < 1e-14, "{prior:?} {epsilon} {classes}");
            assert!(loss(gap - 0.01) > optimum.floor + 1e-7 && loss(gap + 0.01) > optimum.floor + 1e-7);
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let optimum = |prior, epsilon| Optimum::new(prior, epsilon, 4).unwrap();
        assert_eq!(optimum(UniformPrior::Uniform, 0.0), Optimum { gap: Some(f64::INFINITY), floor: 0.0 });
        assert_eq!(optimum(UniformPrior::Uniform, 1.0).gap, Some(0.0));
        assert_eq!(optimum(UniformPrior::Others, 0.75).gap, Some(0.0));
        assert_eq!(optimum(UniformPrior::Others, 0.9).gap, None, "the label is no longer on top");
        assert_eq!(optimum(UniformPrior::Others, 1.0).gap, None);
        assert!(Optimum::new(UniformPrior::Uniform, 1.5, 4).is_err());
    }

    #[test]
    fn the_estimate_inverts_the_optimum() {
        let gaps = |lower: f64, median: f64, upper: f64| Gaps { mean: median, plain_mean: median, quantiles: [0.0, lower, median, upper, 99.0].map(Quantile) };
        for epsilon in [0.05, 0.1, 0.2] {
            let gap = Optimum::new(UniformPrior::Uniform, epsilon, 10).unwrap().gap.unwrap();
            let found = estimate_epsilon(&gaps(gap - 0.1, gap, gap + 0.1), 10).unwrap();
            assert!((found.value - epsilon).abs() < 1e-14 && found.low < epsilon && epsilon < found.high, "{found:?}");
        }
        assert_eq!(estimate_epsilon(&gaps(9.0, 12.7, 15.0), 10), None, "gaps that spread, and are too wide");
        assert_eq!(estimate_epsilon(&gaps(1.0, 2.0, 3.0), 10), None, "gaps that spread");
    }
}
