//! `CrossEntropyConfig` → `CrossEntropy`, in burn's manner.

use std::sync::Arc;

use burn::config::Config;
use xent::{ClassWeighting, Denominator, EmptyMean, Form, Masked, Prior, Reduction};

use crate::{CrossEntropy, Result};

/// What a [`CrossEntropy`] is to be. Everything left unsaid is plain cross-entropy with mean reduction, the classes on the logits' last axis.
///
/// As all of burn's configurations it can be a part of another one, and be stored.
///
/// ```
/// use xent::Prior;
/// use xent_burn::CrossEntropyConfig;
///
/// let criterion = CrossEntropyConfig::new().with_label_smoothing(0.1).with_prior(Prior::WrongClasses).with_ignore_indices(vec![-100]).init();
///
/// let error = CrossEntropyConfig::new().with_label_smoothing(-0.1).try_init().unwrap_err();
/// assert_eq!(error.to_string(), "label smoothing is -0.1, expected 0 ≤ ε ≤ 1");
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct CrossEntropyConfig {
    /// ε, the mass that smoothing takes from the target and gives to the prior, in [0, 1]; 0.1 is the usual choice. A batch may give one a row.
    #[config(default = 0.0)]
    pub label_smoothing: f64,
    /// Where that mass goes.
    #[config(default = "Prior::Uniform")]
    pub prior: Prior,
    /// One weight a class, finite and ≥ 0.
    pub class_weights: Option<Vec<f64>>,
    /// How class weights enter a smoothed row.
    #[config(default = "ClassWeighting::PerClass")]
    pub class_weighting: ClassWeighting,
    /// Class indices whose rows are ignored, inside 0..K or outside: padding.
    #[config(default = "Vec::new()")]
    pub ignore_indices: Vec<i64>,
    /// What the prior does on masked classes.
    #[config(default = "Masked::PyTorch")]
    pub masked: Masked,
    /// How `forward` makes one loss of the rows': mean or sum.
    #[config(default = "Reduction::Mean")]
    pub reduction: Reduction,
    /// What the mean divides by.
    #[config(default = "Denominator::PyTorch")]
    pub denominator: Denominator,
    /// The mean over nothing.
    #[config(default = "EmptyMean::Nan")]
    pub empty_mean: EmptyMean,
    /// Cross-entropy or KL divergence.
    #[config(default = "Form::CrossEntropy")]
    pub form: Form,
    /// λ of λ·lse², which is added to each kept row; finite and ≥ 0.
    #[config(default = 0.0)]
    pub z_loss: f64,
    /// Replaces each logit z (after the temperature) by c·tanh(z/c); c finite and > 0.
    pub softcap: Option<f64>,
    /// Divides the logits; finite and > 0.
    #[config(default = 1.0)]
    pub temperature: f64,
    /// The axis of the logits that counts the classes, from the end where negative: 1 for images `[N, K, H, W]`.
    #[config(default = "-1")]
    pub class_axis: isize,
}

impl CrossEntropyConfig {
    /// The loss that this describes.
    ///
    /// # Panics
    /// With the message of [`try_init`](Self::try_init)'s error.
    pub fn init(&self) -> CrossEntropy {
        self.try_init().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The loss that this describes.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the option, what came and what was expected.
    pub fn try_init(&self) -> Result<CrossEntropy> {
        let [reduced, rows] = [self.reduction, Reduction::None].map(|reduction| self.xent().reduction(reduction).build().map(Arc::new));
        Ok(CrossEntropy::new(self.clone(), reduced?, rows?))
    }

    fn xent(&self) -> xent::Config {
        let mut config = xent::Config::new()
            .label_smoothing(self.label_smoothing)
            .prior(self.prior.clone())
            .class_weighting(self.class_weighting)
            .masked(self.masked)
            .denominator(self.denominator)
            .empty_mean(self.empty_mean)
            .form(self.form)
            .z_loss(self.z_loss)
            .temperature(self.temperature);
        if let Some(weights) = &self.class_weights {
            config = config.class_weights(weights.clone());
        }
        if let Some(cap) = self.softcap {
            config = config.softcap(cap);
        }
        self.ignore_indices.iter().fold(config, |config, &index| config.ignore_index(index))
    }
}

impl Default for CrossEntropyConfig {
    fn default() -> Self {
        Self::new()
    }
}
