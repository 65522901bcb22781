//! What a batch carries in addition to its logits: targets and per-row options.

use crate::rules::Denominators;
use crate::{Numbers, Targets};

/// The classes that a batch allows. The others are masked, as if their logits were −∞.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedClasses<'a> {
    /// The same for all rows: one entry per class, `[K]`, `true` where allowed.
    Shared(&'a [bool]),
    /// One entry per row and class, `[N, K]` in C order.
    PerRow(&'a [bool]),
}

/// Targets and the options that change with every batch. Targets alone convert into it.
///
/// ```
/// use xent::{Batch, Config, Rows};
/// let criterion = Config::new().label_smoothing(0.1).build()?;
/// let logits = [2.0_f64, -1.0, 0.5, 0.0, 0.0, 1.0, -2.0, 3.0];
/// let logits = Rows::new(&logits, 4)?;
/// let plain = criterion.forward(&logits, &[0i64, 3])?;
/// let weighted = criterion.forward(&logits, Batch::new(&[0i64, 3]).row_weights(&[1.0, 0.0]))?;
/// assert_eq!(format!("{:.6}", plain.loss), "0.465182"); // (0.504850 + 0.425515) / 2
/// assert_eq!(format!("{:.6}", weighted.loss), "0.252425"); // 0.504850 / 2
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    pub(crate) targets: Targets<'a>,
    pub(crate) epsilon: Option<Numbers<'a>>,
    pub(crate) row_weights: Option<Numbers<'a>>,
    pub(crate) ignored: Option<&'a [bool]>,
    pub(crate) allowed: Option<AllowedClasses<'a>>,
    pub(crate) denominator: Option<f64>,
    /// Those of the batch that this one is a piece of.
    pub(crate) denominators: Option<Denominators>,
    pub(crate) predictions: bool,
}

impl<'a> Batch<'a> {
    /// Targets alone.
    pub fn new(targets: impl Into<Targets<'a>>) -> Self {
        Self {
            targets: targets.into(),
            epsilon: None,
            row_weights: None,
            ignored: None,
            allowed: None,
            denominator: None,
            denominators: None,
            predictions: false,
        }
    }

    /// ε per row, `[N]` in [0, 1], instead of the ε of the criterion.
    pub fn label_smoothing_rows(mut self, epsilon: impl Into<Numbers<'a>>) -> Self {
        self.epsilon = Some(epsilon.into());
        self
    }

    /// Row weights, `[N]`, finite and ≥ 0. Each multiplies everything that its row contributes, the
    /// z-loss included, and does not enter the denominator.
    pub fn row_weights(mut self, weights: impl Into<Numbers<'a>>) -> Self {
        self.row_weights = Some(weights.into());
        self
    }

    /// Rows to ignore, `[N]`, `true` where ignored, in addition to those that an ignore index
    /// marks. They are never read.
    pub fn ignored_rows(mut self, ignored: &'a [bool]) -> Self {
        self.ignored = Some(ignored);
        self
    }

    /// Classes that are allowed; the others are masked.
    pub fn allowed_classes(mut self, allowed: AllowedClasses<'a>) -> Self {
        self.allowed = Some(allowed);
        self
    }

    /// The denominator of a mean, finite and > 0, for example the number of tokens over all
    /// devices. It overrides that of the criterion.
    pub fn denominator(mut self, denominator: f64) -> Self {
        self.denominator = Some(denominator);
        self
    }

    /// Whether the output is to say what each row predicts:
    /// [`predicted`](crate::Output::predicted) and
    /// [`correct_rows`](crate::Output::correct_rows). They cost memory, and no further pass.
    pub fn predictions(mut self, predictions: bool) -> Self {
        self.predictions = predictions;
        self
    }
}

impl<'a, T: Into<Targets<'a>>> From<T> for Batch<'a> {
    fn from(targets: T) -> Self {
        Self::new(targets)
    }
}

/// dL/dloss: the gradient of the objective with respect to this loss.
#[derive(Debug, Clone, PartialEq)]
pub enum Upstream<'a> {
    /// One number; without reduction, the same for every row.
    Scalar(f64),
    /// One per row, `[N]`; only without reduction.
    Rows(Numbers<'a>),
}

impl From<f64> for Upstream<'_> {
    fn from(upstream: f64) -> Self {
        Self::Scalar(upstream)
    }
}

impl<'a, T: Into<Numbers<'a>>> From<T> for Upstream<'a> {
    fn from(upstream: T) -> Self {
        Self::Rows(upstream.into())
    }
}
