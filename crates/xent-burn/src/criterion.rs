//! `CrossEntropy`: the loss as a module of burn's.

use std::fmt;
use std::sync::Arc;

use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::tensor::Tensor;
use xent::{Criterion, Reduction};

use crate::batch::{DeviceBatch, Targets};
use crate::engine::{GradientMemory, Job};
use crate::host::HostBatch;
use crate::shape::LogitsShape;
use crate::{Call, CrossEntropyConfig};

/// Label-smoothed cross-entropy of burn's tensors. Made by [`CrossEntropyConfig::init`].
///
/// With p = softmax(z) and y the smoothed target a row's loss is `−Σ y_k ln p_k` and its gradient `p − y`. A module without parameters, cheap to clone, to be kept in a
/// model or beside it.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use xent_burn::CrossEntropyConfig;
///
/// let device = Device::default().autodiff();
/// let criterion = CrossEntropyConfig::new().with_label_smoothing(0.1).init();
/// let logits = Tensor::<2>::zeros([2, 4], &device).require_grad();
/// let targets = Tensor::<1, Int>::from_ints([0, 3], &device);
/// let loss = criterion.forward(logits.clone(), targets);
/// assert_eq!(loss.clone().into_scalar::<f32>(), 4f32.ln()); // four classes, all equally likely
/// let gradient = logits.grad(&loss.backward()).unwrap();
/// ```
#[derive(Module)]
#[module(custom_display)]
pub struct CrossEntropy {
    #[module(skip)]
    config: CrossEntropyConfig,
    #[module(skip)]
    reduced: Arc<Criterion>,
    #[module(skip)]
    rows: Arc<Criterion>,
    #[module(skip)]
    memory: Arc<GradientMemory>,
    #[module(skip)]
    composed: bool,
    #[module(skip)]
    checked: bool,
}

impl ModuleDisplay for CrossEntropy {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let CrossEntropyConfig { label_smoothing, prior, reduction, class_axis, .. } = &self.config;
        content
            .add_debug_attribute("label_smoothing", label_smoothing)
            .add_debug_attribute("prior", prior)
            .add_debug_attribute("reduction", reduction)
            .add_debug_attribute("class_axis", class_axis)
            .optional()
    }
}

impl fmt::Debug for CrossEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, composed, checked, .. } = self;
        f.debug_struct("CrossEntropy").field("config", config).field("composed", composed).field("checked", checked).finish_non_exhaustive()
    }
}

impl CrossEntropy {
    pub(crate) fn new(config: CrossEntropyConfig, reduced: Arc<Criterion>, rows: Arc<Criterion>) -> Self {
        Self { config, reduced, rows, memory: Arc::default(), composed: false, checked: false }
    }

    /// What it was made from.
    pub fn config(&self) -> &CrossEntropyConfig {
        &self.config
    }

    /// Whether burn's own operations compute on the CPU too, as they do on every other backend, instead of xent's engine. Slower and hungrier: for comparing the two.
    pub fn composed(mut self, composed: bool) -> Self {
        self.composed = composed;
        self
    }

    /// Whether targets, weights and masks are read back from devices that are not the CPU, so that bad ones are errors there too. Off unless said, since each call then
    /// waits for the device: a row with a label outside the classes, or ε, λ, a weight or a probability outside its range, has a loss and a gradient of NaN instead.
    pub fn checked(mut self, checked: bool) -> Self {
        self.checked = checked;
        self
    }

    /// The loss of `logits` against `targets`, one number: the mean or the sum over the rows.
    ///
    /// - `logits`: f32, f64, f16 or bf16, of 2 dimensions or more, `[N, K]`, `[B, T, K]`, or with `class_axis` 1 `[N, K, H, W]`. On the CPU read where they lie.
    /// - `targets`: class indices, an integer tensor in the logits' shape without the class axis; or probabilities, a float tensor in the logits' shape.
    /// - The loss, `[1]`: f64 for f64 logits, f32 for all others. The gradient has the logits' dtype.
    ///
    /// Ignored rows are never read and get gradients of exactly 0. NaN and +∞ logits make their own row's loss NaN. Only logits are differentiated, once.
    ///
    /// # Panics
    /// As burn's own operations, with the message of the error that [`Call::forward`] returns. [`on`](Self::on) begins a call that returns it.
    #[track_caller]
    pub fn forward<const D: usize>(&self, logits: Tensor<D>, targets: impl Targets<D>) -> Tensor<1> {
        self.on(logits, targets).forward().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The loss of each row, in the logits' shape without the class axis: `R` is `D − 1`. 0 for ignored rows.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    #[track_caller]
    pub fn forward_no_reduction<const D: usize, const R: usize>(&self, logits: Tensor<D>, targets: impl Targets<D>) -> Tensor<R> {
        self.on(logits, targets).forward_no_reduction().unwrap_or_else(|error| panic!("{error}"))
    }

    /// A call with more than targets, or one that returns errors: [`Call`] collects the rest.
    pub fn on<const D: usize>(&self, logits: Tensor<D>, targets: impl Targets<D>) -> Call<'_, D> {
        Call { criterion: self, logits, batch: DeviceBatch::new(targets.given()) }
    }

    pub(crate) fn is_composed(&self) -> bool {
        self.composed
    }

    /// A mean that is an error where nothing is kept cannot be computed without a look.
    pub(crate) fn is_checked(&self) -> bool {
        self.checked || self.config.empty_mean == xent::EmptyMean::Error
    }

    pub(crate) fn job(&self, batch: HostBatch, shape: LogitsShape, reduction: Reduction) -> Job {
        Job { criterion: self.xent(reduction).clone(), batch, shape, memory: self.memory.clone() }
    }

    pub(crate) fn xent(&self, reduction: Reduction) -> &Arc<Criterion> {
        if reduction == Reduction::None { &self.rows } else { &self.reduced }
    }
}
