//! `CrossEntropyConfig` → `CrossEntropy`, in burn's manner.

use std::fmt;
use std::sync::Arc;

use burn::config::Config;
use burn::module::{Content, Module, ModuleDisplay};
use xent::{Criterion, EmptyMean, Reduction};

use crate::Result;
use crate::job::GradientMemory;
use crate::linear::Spare;
use crate::tensors::Tables;

/// The options of a [`CrossEntropy`]: those of [`xent::Config`], and the class axis.
///
/// Like every configuration of burn it can be a field of another one, and be saved and loaded.
/// Options of xent that a file lacks have their defaults.
///
/// ```
/// use burn::config::Config as _;
/// use xent_burn::CrossEntropyConfig;
/// use xent_burn::xent::{Config, Prior};
///
/// let xent = Config::new().label_smoothing(0.1).prior(Prior::WrongClasses).ignore_index(-100);
/// let criterion = CrossEntropyConfig::new(xent).with_class_axis(1).init();
///
/// let config = CrossEntropyConfig::from(Config::new().label_smoothing(-0.1));
/// let error = config.try_init().unwrap_err();
/// assert_eq!(error.to_string(), "label smoothing is -0.1, expected 0 ≤ ε ≤ 1");
///
/// let stored = r#"{"xent": {"label_smoothing": 0.1}, "class_axis": -1}"#;
/// let config = CrossEntropyConfig::load_binary(stored.as_bytes()).unwrap();
/// assert_eq!(config, Config::new().label_smoothing(0.1).into());
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct CrossEntropyConfig {
    /// The options of the loss.
    pub xent: xent::Config,
    /// The axis of the logits that counts the classes; a negative axis counts from the end. 1 for
    /// images `[N, K, H, W]`.
    #[config(default = "-1")]
    pub class_axis: isize,
}

impl From<xent::Config> for CrossEntropyConfig {
    /// With the classes on the last axis.
    fn from(xent: xent::Config) -> Self {
        Self::new(xent)
    }
}

impl CrossEntropyConfig {
    /// Makes the loss.
    ///
    /// # Panics
    /// With the message of the error of [`try_init`](Self::try_init).
    pub fn init(&self) -> CrossEntropy {
        self.try_init().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes the loss.
    ///
    /// # Errors
    /// [`xent::Error::Config`] naming the option, what came and what was expected.
    pub fn try_init(&self) -> Result<CrossEntropy> {
        let [reduced, rows] = [self.xent.reduction, Reduction::None]
            .map(|reduction| self.xent.clone().reduction(reduction).build().map(Arc::new));
        Ok(CrossEntropy {
            class_axis: self.class_axis,
            reduced: reduced?,
            rows: rows?,
            memory: Arc::default(),
            spare: Arc::default(),
            tables: Arc::default(),
            composed: false,
            checked: false,
        })
    }
}

/// Label-smoothed cross-entropy of burn tensors: with p = softmax(z) and y the smoothed target, the
/// loss of a row is `−Σ y_k ln p_k` and its gradient `p − y`. Made by [`CrossEntropyConfig::init`].
///
/// A module without parameters, cheap to clone, to keep in a model or next to it.
#[derive(Module)]
#[module(custom_display)]
pub struct CrossEntropy {
    #[module(skip)]
    pub(crate) class_axis: isize,
    /// With the configured reduction, and without reduction.
    #[module(skip)]
    pub(crate) reduced: Arc<Criterion>,
    #[module(skip)]
    pub(crate) rows: Arc<Criterion>,
    #[module(skip)]
    pub(crate) memory: Arc<GradientMemory>,
    #[module(skip)]
    pub(crate) spare: Arc<Spare>,
    #[module(skip)]
    pub(crate) tables: Arc<Tables>,
    #[module(skip)]
    pub(crate) composed: bool,
    #[module(skip)]
    checked: bool,
}

impl ModuleDisplay for CrossEntropy {
    fn custom_content(&self, content: Content) -> Option<Content> {
        let xent::Config { label_smoothing, prior, reduction, .. } = self.reduced.config();
        let content = content
            .add_debug_attribute("label_smoothing", label_smoothing)
            .add_debug_attribute("prior", prior);
        content
            .add_debug_attribute("reduction", reduction)
            .add_debug_attribute("class_axis", &self.class_axis)
            .optional()
    }
}

impl fmt::Debug for CrossEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { composed, checked, .. } = self;
        f.debug_struct("CrossEntropy")
            .field("config", &self.config())
            .field("composed", composed)
            .field("checked", checked)
            .finish_non_exhaustive()
    }
}

impl CrossEntropy {
    /// The configuration that it was made from.
    pub fn config(&self) -> CrossEntropyConfig {
        CrossEntropyConfig { xent: self.reduced.config().clone(), class_axis: self.class_axis }
    }

    /// Whether burn's own operations compute on the CPU too, as on every other device, instead of
    /// xent's engine. Slower, and takes more memory: for comparing the two. Default: false.
    pub fn composed(mut self, composed: bool) -> Self {
        self.composed = composed;
        self
    }

    /// Whether targets, weights and masks are read back from devices other than the CPU, so that
    /// bad ones are errors there too. Each call then waits for the device. Without it, a row with a
    /// class index outside the classes, or ε, λ, a weight or a probability outside its range, has a
    /// loss and a gradient of NaN. Default: false.
    pub fn checked(mut self, checked: bool) -> Self {
        self.checked = checked;
        self
    }

    /// Whether values are read back. A mean that is an error where no row is kept cannot do
    /// without.
    pub(crate) fn is_checked(&self) -> bool {
        self.checked || self.reduced.config().empty_mean == EmptyMean::Error
    }
}
