//! `Config` (a builder) → `Criterion` (checked, immutable, reusable for any batch and dtype).

use crate::{ConfigError, Denominator, EmptyMean, Instructions, Prior, Reduction};

/// How class weights enter a smoothed row. See SEMANTICS.md S4.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ClassWeighting {
    /// Each class's term by its own weight, the prior's terms too: PyTorch's meaning.
    #[default]
    PerClass,
    /// The row as a whole by the weight of its true class, so that weights do not change the smoothing.
    PerRow,
}

/// The prior beside masked classes. See SEMANTICS.md S7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Masked {
    /// It keeps its mass on them, which makes the loss +∞: PyTorch's meaning.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "pytorch"))]
    PyTorch,
    /// It is renormalised over the classes that are not masked; the gradient on masked ones is exactly 0.
    Renormalise,
}

/// What is measured. See SEMANTICS.md S4.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Form {
    /// −Σ y ln p.
    #[default]
    CrossEntropy,
    /// Σ y ln(y/p): cross-entropy less the target's entropy, so that the lowest loss is 0.
    KlDivergence,
}

/// What a [`Criterion`] is to be. Everything left unsaid is plain cross-entropy with mean reduction, as PyTorch has it.
///
/// ```
/// use xent::{Config, Prior};
/// let criterion = Config::new().label_smoothing(0.1).prior(Prior::WrongClasses).ignore_index(-100).build()?;
/// assert_eq!(criterion.epsilon(), 0.1);
///
/// let error = Config::new().label_smoothing(-0.1).build().unwrap_err();
/// assert_eq!(error.to_string(), "label smoothing is -0.1, expected 0 ≤ ε ≤ 1");
/// # Ok::<(), xent::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(crate) epsilon: f64,
    pub(crate) prior: Prior,
    pub(crate) class_weights: Option<Vec<f64>>,
    pub(crate) class_weighting: ClassWeighting,
    pub(crate) ignore: Vec<i64>,
    pub(crate) masked: Masked,
    pub(crate) reduction: Reduction,
    pub(crate) denominator: Denominator,
    pub(crate) empty_mean: EmptyMean,
    pub(crate) form: Form,
    pub(crate) z_loss: f64,
    pub(crate) softcap: Option<f64>,
    pub(crate) temperature: f64,
    pub(crate) instructions: Option<Instructions>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            epsilon: 0.0,
            prior: Prior::default(),
            class_weights: None,
            class_weighting: ClassWeighting::default(),
            ignore: Vec::new(),
            masked: Masked::default(),
            reduction: Reduction::default(),
            denominator: Denominator::default(),
            empty_mean: EmptyMean::default(),
            form: Form::default(),
            z_loss: 0.0,
            softcap: None,
            temperature: 1.0,
            instructions: None,
        }
    }
}

impl Config {
    /// Plain cross-entropy, mean reduction.
    pub fn new() -> Self {
        Self::default()
    }

    /// ε, the mass that smoothing takes from the target and gives to the prior, in [0, 1]. 0 unless said; 0.1 is the usual choice. A batch may give one a row.
    pub fn label_smoothing(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Where that mass goes. Uniform over all classes unless said.
    pub fn prior(mut self, prior: Prior) -> Self {
        self.prior = prior;
        self
    }

    /// One weight a class, finite and ≥ 0.
    pub fn class_weights(mut self, weights: impl Into<Vec<f64>>) -> Self {
        self.class_weights = Some(weights.into());
        self
    }

    /// How class weights enter a smoothed row. [`PerClass`](ClassWeighting::PerClass) unless said.
    pub fn class_weighting(mut self, weighting: ClassWeighting) -> Self {
        self.class_weighting = weighting;
        self
    }

    /// A class index whose rows are ignored, inside 0..K or outside; may be called several times. None unless said (PyTorch's default is −100).
    pub fn ignore_index(mut self, index: i64) -> Self {
        self.ignore.push(index);
        self
    }

    /// What the prior does on masked classes. [`PyTorch`](Masked::PyTorch) unless said.
    pub fn masked(mut self, masked: Masked) -> Self {
        self.masked = masked;
        self
    }

    /// How the rows' losses become the batch's. [`Mean`](Reduction::Mean) unless said.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// What the mean divides by. [`PyTorch`](Denominator::PyTorch) unless said.
    pub fn denominator(mut self, denominator: Denominator) -> Self {
        self.denominator = denominator;
        self
    }

    /// The mean over nothing. [`Nan`](EmptyMean::Nan) unless said.
    pub fn empty_mean(mut self, empty_mean: EmptyMean) -> Self {
        self.empty_mean = empty_mean;
        self
    }

    /// Cross-entropy (unless said) or KL divergence.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Adds λ·lse² to each kept row; λ finite and ≥ 0.
    pub fn z_loss(mut self, lambda: f64) -> Self {
        self.z_loss = lambda;
        self
    }

    /// Replaces each logit z (after the temperature) by c·tanh(z/c); c finite and > 0.
    pub fn softcap(mut self, cap: f64) -> Self {
        self.softcap = Some(cap);
        self
    }

    /// Divides the logits by T, finite and > 0.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Computes with these instructions instead of the best that the processor has: for comparisons and tests.
    pub fn instructions(mut self, instructions: Instructions) -> Self {
        self.instructions = Some(instructions);
        self
    }

    /// Checks everything that can be checked without a batch.
    ///
    /// # Errors
    /// [`ConfigError`] naming the option, what came and what was expected: ε outside [0, 1] or NaN, a negative, NaN or infinite weight, a prior that is not a distribution,
    /// a temperature or softcap that is not finite and > 0, a z-loss that is not finite and ≥ 0, instructions that the processor does not have.
    pub fn build(self) -> Result<Criterion, ConfigError> {
        let number = |name, value: f64, good: bool, expected| if good { Ok(()) } else { Err(ConfigError::Number { name, value, expected }) };
        number("label smoothing", self.epsilon, (0.0..=1.0).contains(&self.epsilon), "0 ≤ ε ≤ 1")?;
        number("z-loss", self.z_loss, self.z_loss.is_finite() && self.z_loss >= 0.0, "a finite number ≥ 0")?;
        number("temperature", self.temperature, self.temperature.is_finite() && self.temperature > 0.0, "a finite number > 0")?;
        if let Some(cap) = self.softcap {
            number("softcap", cap, cap.is_finite() && cap > 0.0, "a finite number > 0")?;
        }
        if let Some(weights) = &self.class_weights {
            if weights.is_empty() {
                return Err(ConfigError::Length { name: "class weights", len: 0, expected: "one a class" });
            }
            if let Some(index) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
                return Err(ConfigError::Entry { name: "class weights", index, value: weights[index], expected: "a finite number ≥ 0" });
            }
        }
        self.prior.check()?;
        if let Some(asked) = self.instructions.filter(|instructions| !instructions.is_available()) {
            return Err(ConfigError::Instructions { asked, best: Instructions::best() });
        }
        Ok(Criterion { config: self })
    }
}

/// A checked [`Config`]: cross-entropy between softmax(logits) and smoothed targets, for any batch, shape and dtype.
///
/// With t the target, u the prior and ℓ_k = −ln softmax(z)_k, a row's loss is `(1−ε)·Σ t_k ℓ_k + ε·Σ u_k ℓ_k`, in the closed form that never builds the
/// smoothed target. Made by [`Config::build`]; used through [`forward`](Self::forward), [`forward_backward`](Self::forward_backward) and
/// [`forward_backward_in_place`](Self::forward_backward_in_place).
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion {
    pub(crate) config: Config,
}

impl Criterion {
    /// ε.
    pub fn epsilon(&self) -> f64 {
        self.config.epsilon
    }

    /// How the rows' losses become the batch's.
    pub fn reduction(&self) -> Reduction {
        self.config.reduction
    }

    /// The configuration that was checked.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
