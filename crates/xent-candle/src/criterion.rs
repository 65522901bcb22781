//! `CrossEntropy`, and the call that collects what comes with a batch.

use std::sync::Arc;

use candle_core::Tensor;
use candle_core::shape::Dim;
use xent::{Config, Criterion, Output};

use crate::host::HostBatch;
use crate::shape::{ClassAxis, LogitsShape};
use crate::{Result, attach, engine};

/// Label-smoothed cross-entropy of candle tensors: a differentiable loss.
#[derive(Clone)]
pub struct CrossEntropy {
    criterion: Arc<Criterion>,
    axis: ClassAxis,
}

impl CrossEntropy {
    /// From what [`xent::Config`] says.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the option, what came and what was expected.
    pub fn new(config: Config) -> Result<Self> {
        Ok(config.build()?.into())
    }

    /// The axis of the logits that counts the classes: a number, or [`D::Minus1`](candle_core::D) and its like. The last one unless said; 1 for `[N, K, H, W]`.
    pub fn class_axis(mut self, axis: impl Dim + Send + Sync + 'static) -> Self {
        self.axis = ClassAxis::new(axis);
        self
    }

    /// What is measured.
    pub fn criterion(&self) -> &Criterion {
        &self.criterion
    }

    /// The loss of `logits`.
    pub fn forward(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        self.on(logits, targets).forward()
    }

    /// A call with more than targets.
    pub fn on<'a>(&'a self, logits: &'a Tensor, targets: &'a Tensor) -> Call<'a> {
        Call { criterion: self, logits, labels: Labels::One(targets), epsilon: None, row_weights: None, ignored: None, allowed: None, denominator: None }
    }
}

impl From<Criterion> for CrossEntropy {
    fn from(criterion: Criterion) -> Self {
        Self { criterion: Arc::new(criterion), axis: ClassAxis::default() }
    }
}

/// λ of a two-label mix.
#[derive(Debug, Clone, Copy)]
pub enum Lambda<'a> {
    /// One for all rows.
    Scalar(f64),
    /// One a row.
    Rows(&'a Tensor),
}

pub(crate) enum Labels<'a> {
    One(&'a Tensor),
    Two { a: &'a Tensor, b: &'a Tensor, lambda: Lambda<'a> },
}

/// A call with its options.
#[must_use = "a call does nothing until forward or forward_with_output"]
pub struct Call<'a> {
    criterion: &'a CrossEntropy,
    logits: &'a Tensor,
    pub(crate) labels: Labels<'a>,
    pub(crate) epsilon: Option<&'a Tensor>,
    pub(crate) row_weights: Option<&'a Tensor>,
    pub(crate) ignored: Option<&'a Tensor>,
    pub(crate) allowed: Option<&'a Tensor>,
    pub(crate) denominator: Option<f64>,
}

impl Call<'_> {
    /// The loss.
    pub fn forward(self) -> Result<Tensor> {
        Ok(self.forward_with_output()?.0)
    }

    /// The loss and its parts.
    pub fn forward_with_output(self) -> Result<(Tensor, Output<f64>)> {
        let CrossEntropy { criterion, axis } = self.criterion;
        let shape = LogitsShape::new(self.logits, axis)?;
        let batch = HostBatch::new(&self, &shape)?;
        let (loss, output, gradient) = engine::forward(criterion, batch, shape, self.logits)?;
        let loss = match gradient {
            Some(gradient) => attach::attach(self.logits, &loss, gradient)?,
            None => loss,
        };
        Ok((loss, output))
    }
}
