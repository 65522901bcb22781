//! `Config`: the options of a loss, which can be read, written and stored.

use crate::{ConfigError, Denominator, EmptyMean, Instructions, Numbers, Prior, Reduction, Result};

/// How class weights enter a smoothed row. See [S4.2](crate::semantics#s42-class-weights).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClassWeighting {
    /// `per_class`: each class's term is multiplied by its own weight, including the terms of the
    /// prior. PyTorch's definition.
    #[default]
    PerClass,
    /// `per_row`: the row as a whole is multiplied by the weight of its true class, so that weights
    /// do not change the smoothing.
    PerRow,
}

/// What the prior does on masked classes. See [S7](crate::semantics#s7-masked-classes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Masked {
    /// `pytorch`: the prior keeps its mass on masked classes, so a smoothed loss is +∞, as in
    /// PyTorch.
    #[default]
    PyTorch,
    /// `renormalise`: the prior is renormalised over the classes that are not masked, so the loss
    /// stays finite. The gradient on masked classes is exactly 0.
    Renormalise,
}

/// Cross-entropy or KL divergence. See [S4.4](crate::semantics#s44-form).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Form {
    /// `cross_entropy`: −Σ y ln p.
    #[default]
    CrossEntropy,
    /// `kl_divergence`: Σ y ln(y/p). This is the cross-entropy minus the entropy of the target, so
    /// that the lowest loss is 0.
    KlDivergence,
}

/// The options of a [`Criterion`]. The default is plain cross-entropy with mean reduction, as in
/// PyTorch.
///
/// Each option is a public field, and a method of the same name sets it in a chain.
/// [`build`](Self::build) validates them all.
///
/// ```
/// use xent::{Config, Prior, Reduction};
/// let mut config = Config::new().label_smoothing(0.1).prior(Prior::WrongClasses).ignore_index(-100);
/// config.reduction = "sum".parse()?;
/// assert_eq!((config.label_smoothing, config.reduction), (0.1, Reduction::Sum));
/// let criterion = config.build()?;
/// assert_eq!(criterion.config().ignore_indices, [-100]);
///
/// let error = Config::new().label_smoothing(-0.1).build().unwrap_err();
/// assert_eq!(error.to_string(), "label smoothing is -0.1, expected 0 ≤ ε ≤ 1");
/// # Ok::<(), xent::Error>(())
/// ```
///
/// With the feature `serde` it can be stored: each option under its name, and enums by the words
/// that they print and parse. A missing option has its default, and an unknown one is an error.
/// [`instructions`](Self::instructions) are not stored, because they are a property of the machine.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Config {
    /// ε, the mass that smoothing takes from the target and gives to the prior, in [0, 1]. Default:
    /// 0; usual: 0.1.
    pub label_smoothing: f64,
    /// Where that mass goes. Default: [`Prior::Uniform`].
    pub prior: Prior,
    /// One weight per class, `[K]`, finite and ≥ 0. They multiply the terms of the loss, and the
    /// default mean divides by the sum of those of the kept rows. Default: none.
    pub class_weights: Option<Vec<f64>>,
    /// How class weights enter a smoothed row. Default: [`ClassWeighting::PerClass`].
    pub class_weighting: ClassWeighting,
    /// Class indices whose rows are ignored, inside or outside 0..K. Default: none (PyTorch's
    /// default is −100). Labels of an unsigned type cannot be negative: use an index that they
    /// hold, 255 or 65535 for example. With probability targets an ignore index is an error; mark
    /// padding with [`Batch::ignored_rows`](crate::Batch::ignored_rows) there.
    pub ignore_indices: Vec<i64>,
    /// What the prior does on masked classes. Default: [`Masked::PyTorch`].
    pub masked: Masked,
    /// How the losses of the rows are reduced to that of the batch. Default: [`Reduction::Mean`].
    pub reduction: Reduction,
    /// What the mean divides by. Default: [`Denominator::PyTorch`].
    pub denominator: Denominator,
    /// The value of a mean whose denominator is 0. Default: [`EmptyMean::Nan`].
    pub empty_mean: EmptyMean,
    /// Cross-entropy or KL divergence. Default: [`Form::CrossEntropy`].
    pub form: Form,
    /// λ of the z-loss λ·lse², which is added to each kept row; finite and ≥ 0. Class weights do
    /// not scale it, and the default mean averages it over the kept rows. Default: 0.
    pub z_loss: f64,
    /// The cap of cap·tanh(z/cap), which replaces each logit z after the temperature; finite and >
    /// 0. Default: none.
    pub softcap: Option<f64>,
    /// The temperature T that divides the logits; finite and > 0. Default: 1.
    pub temperature: f64,
    /// The instruction set to compute with, for comparisons and tests. Default: the best one that
    /// the processor supports.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub instructions: Option<Instructions>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            prior: Prior::default(),
            class_weights: None,
            class_weighting: ClassWeighting::default(),
            ignore_indices: Vec::new(),
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

    /// Sets [`label_smoothing`](Self#structfield.label_smoothing), ε. A batch may give one per row
    /// instead ([`Batch::label_smoothing_rows`](crate::Batch::label_smoothing_rows)).
    pub fn label_smoothing(mut self, epsilon: f64) -> Self {
        self.label_smoothing = epsilon;
        self
    }

    /// Sets [`prior`](Self#structfield.prior).
    pub fn prior(mut self, prior: Prior) -> Self {
        self.prior = prior;
        self
    }

    /// Sets [`class_weights`](Self#structfield.class_weights): one number per class, of `f32` or
    /// `f64`.
    pub fn class_weights<'a>(mut self, weights: impl Into<Numbers<'a>>) -> Self {
        self.class_weights = Some(weights.into().into_vec());
        self
    }

    /// Sets [`class_weighting`](Self#structfield.class_weighting).
    pub fn class_weighting(mut self, weighting: ClassWeighting) -> Self {
        self.class_weighting = weighting;
        self
    }

    /// Adds one of [`ignore_indices`](Self#structfield.ignore_indices).
    pub fn ignore_index(mut self, index: i64) -> Self {
        self.ignore_indices.push(index);
        self
    }

    /// Adds several [`ignore_indices`](Self#structfield.ignore_indices).
    pub fn ignore_indices(mut self, indices: impl IntoIterator<Item = i64>) -> Self {
        self.ignore_indices.extend(indices);
        self
    }

    /// Sets [`masked`](Self#structfield.masked).
    pub fn masked(mut self, masked: Masked) -> Self {
        self.masked = masked;
        self
    }

    /// Sets [`reduction`](Self#structfield.reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets [`denominator`](Self#structfield.denominator).
    pub fn denominator(mut self, denominator: Denominator) -> Self {
        self.denominator = denominator;
        self
    }

    /// Sets [`empty_mean`](Self#structfield.empty_mean).
    pub fn empty_mean(mut self, empty_mean: EmptyMean) -> Self {
        self.empty_mean = empty_mean;
        self
    }

    /// Sets [`form`](Self#structfield.form).
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Sets [`z_loss`](Self#structfield.z_loss), λ.
    pub fn z_loss(mut self, lambda: f64) -> Self {
        self.z_loss = lambda;
        self
    }

    /// Sets [`softcap`](Self#structfield.softcap).
    pub fn softcap(mut self, cap: f64) -> Self {
        self.softcap = Some(cap);
        self
    }

    /// Sets [`temperature`](Self#structfield.temperature), T.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets [`instructions`](Self#structfield.instructions).
    pub fn instructions(mut self, instructions: Instructions) -> Self {
        self.instructions = Some(instructions);
        self
    }

    /// Validates all options, as far as that is possible without a batch.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the option, what came and what was expected:
    /// ε outside [0, 1] or NaN, a negative, NaN or infinite weight, a prior that is not a
    /// distribution, a temperature or softcap that is not finite and > 0, a z-loss that is not
    /// finite and ≥ 0, instructions that the processor does not support.
    pub fn build(self) -> Result<Criterion> {
        let number = |name, value: f64, good: bool, expected| {
            if good { Ok(()) } else { Err(ConfigError::Number { name, value, expected }) }
        };
        number(
            "label smoothing",
            self.label_smoothing,
            (0.0..=1.0).contains(&self.label_smoothing),
            "0 ≤ ε ≤ 1",
        )?;
        number(
            "z-loss",
            self.z_loss,
            self.z_loss.is_finite() && self.z_loss >= 0.0,
            "a finite number ≥ 0",
        )?;
        number(
            "temperature",
            self.temperature,
            self.temperature.is_finite() && self.temperature > 0.0,
            "a finite number > 0",
        )?;
        if let Some(cap) = self.softcap {
            number("softcap", cap, cap.is_finite() && cap > 0.0, "a finite number > 0")?;
        }
        if let Some(weights) = &self.class_weights {
            if weights.is_empty() {
                return Err(ConfigError::Length {
                    name: "class weights",
                    len: 0,
                    expected: "one per class",
                }
                .into());
            }
            if let Some(index) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
                return Err(ConfigError::Entry {
                    name: "class weights",
                    index,
                    value: weights[index],
                    expected: "a finite number ≥ 0",
                }
                .into());
            }
        }
        self.prior.check()?;
        if let Some(asked) = self.instructions.filter(|asked| !asked.is_available()) {
            return Err(ConfigError::Instructions { asked, best: Instructions::best() }.into());
        }
        Ok(Criterion { config: self })
    }
}

/// A validated [`Config`]: cross-entropy between softmax(logits) and smoothed targets, for any
/// batch, shape and dtype.
///
/// With target t, prior u and ℓ_k = −ln softmax(z)_k, the loss of a row is `(1−ε)·Σ t_k ℓ_k + ε·Σ
/// u_k ℓ_k`, computed in a closed form that never builds the smoothed target. Made by
/// [`Config::build`].
///
/// | call | gradient |
/// |---|---|
/// | [`forward`](Self::forward) | none |
/// | [`loss_and_gradient`](Self::loss_and_gradient) | in a new vector |
/// | [`forward_backward`](Self::forward_backward) | written into yours, in any layout |
/// | [`forward_backward_in_place`](Self::forward_backward_in_place) | written over the logits |
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion {
    pub(crate) config: Config,
}

impl Criterion {
    /// The configuration that was validated.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_what_methods_set() {
        let mut by_field = Config::new();
        by_field.label_smoothing = 0.1;
        by_field.prior = Prior::Excluding(vec![0]);
        by_field.class_weights = Some(vec![1.0, 0.5]);
        by_field.class_weighting = ClassWeighting::PerRow;
        by_field.ignore_indices = vec![-100, 7, 8];
        by_field.masked = Masked::Renormalise;
        by_field.reduction = Reduction::Sum;
        by_field.denominator = Denominator::Rows;
        by_field.empty_mean = EmptyMean::Zero;
        by_field.form = Form::KlDivergence;
        by_field.z_loss = 1e-4;
        by_field.softcap = Some(30.0);
        by_field.temperature = 2.0;
        by_field.instructions = Some(Instructions::Portable);
        let chained = Config::new()
            .label_smoothing(0.1)
            .prior(Prior::Excluding(vec![0]))
            .class_weights(&[1.0f32, 0.5])
            .class_weighting(ClassWeighting::PerRow)
            .ignore_index(-100)
            .ignore_indices([7, 8])
            .masked(Masked::Renormalise)
            .reduction(Reduction::Sum)
            .denominator(Denominator::Rows)
            .empty_mean(EmptyMean::Zero)
            .form(Form::KlDivergence)
            .z_loss(1e-4)
            .softcap(30.0)
            .temperature(2.0)
            .instructions(Instructions::Portable);
        assert_eq!(chained, by_field);
        assert_eq!(chained.clone().build().unwrap().config(), &chained);
    }

    #[cfg(feature = "serde")]
    mod stored {
        use super::*;
        use crate::PriorMatrix;

        fn back(json: &str) -> Config {
            serde_json::from_str(json).unwrap()
        }

        #[test]
        fn a_config_is_read_as_it_was_written() {
            let priors = [
                Prior::Uniform,
                Prior::WrongClasses,
                Prior::Excluding(vec![0, 3]),
                Prior::fixed(&[0.1, 0.9]),
                Prior::ByTrueClass(PriorMatrix::new(2, &[0.1, 0.9, 0.8, 0.2]).unwrap()),
            ];
            for prior in priors {
                let mut config = Config::new()
                    .label_smoothing(0.1)
                    .class_weights(&[0.1, 2.0])
                    .ignore_indices([-100, i64::MIN])
                    .softcap(1.0 / 3.0);
                (config.class_weighting, config.masked, config.form) =
                    (ClassWeighting::PerRow, Masked::Renormalise, Form::KlDivergence);
                (config.reduction, config.denominator, config.empty_mean) =
                    (Reduction::None, Denominator::KeptRows, EmptyMean::Error);
                (config.z_loss, config.temperature, config.prior) = (1e-4, 0.7, prior);
                let json = serde_json::to_string(&config).unwrap();
                assert_eq!(back(&json), config, "{json}");
                // What the prior is stored by is its kind's word.
                assert!(json.contains(&format!("\"{}\"", config.prior.kind())), "{json}");
            }
            assert_eq!(back(&serde_json::to_string(&Config::new()).unwrap()), Config::new());
        }

        #[test]
        fn what_is_missing_has_its_default_and_what_is_unknown_is_an_error() {
            assert_eq!(back("{}"), Config::new());
            let json = r#"{"label_smoothing": 0.1, "prior": "others", "denominator": "kept-rows", "form": "kl", "masked": "renormalize"}"#;
            let config = Config::new()
                .label_smoothing(0.1)
                .prior(Prior::WrongClasses)
                .denominator(Denominator::KeptRows);
            assert_eq!(back(json), config.form(Form::KlDivergence).masked(Masked::Renormalise));
            for unknown in [
                r#"{"label_smothing": 0.1}"#,
                r#"{"reduction": "average"}"#,
                r#"{"prior": "unigram"}"#,
                r#"{"instructions": "avx2"}"#,
            ] {
                assert!(serde_json::from_str::<Config>(unknown).is_err(), "{unknown}");
            }
            let message = serde_json::from_str::<Config>(r#"{"reduction": "average"}"#)
                .unwrap_err()
                .to_string();
            assert!(
                message.contains("reduction is 'average', expected 'none', 'sum', 'mean'"),
                "{message}"
            );
            let matrix =
                r#"{"prior": {"by_true_class": {"classes": 2, "entries": [0.5, 0.5, 0.5, 0.4]}}}"#;
            assert!(
                serde_json::from_str::<Config>(matrix)
                    .unwrap_err()
                    .to_string()
                    .contains("row 1 of the prior matrix sums to 0.9")
            );
        }

        #[test]
        fn instructions_are_not_stored() {
            let config = Config::new().label_smoothing(0.1).instructions(Instructions::Portable);
            assert_eq!(
                back(&serde_json::to_string(&config).unwrap()),
                Config::new().label_smoothing(0.1)
            );
        }

        #[test]
        fn words_are_stored_as_they_are_printed() {
            for &kind in crate::PriorKind::ALL {
                assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
                assert_eq!(
                    serde_json::from_value::<crate::PriorKind>(kind.word().into()).unwrap(),
                    kind
                );
            }
            for &denominator in Denominator::ALL {
                assert_eq!(serde_json::to_value(denominator).unwrap(), denominator.word());
            }
            // Priors without more to say of them are stored by their word, in every spelling of it.
            for word in ["wrong_classes", "wrong-classes", "others"] {
                assert_eq!(
                    serde_json::from_value::<Prior>(word.into()).unwrap(),
                    Prior::WrongClasses
                );
            }
        }
    }
}
