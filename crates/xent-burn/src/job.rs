//! A pass of xent's engine over logits: all that it needs except the logits, and where its gradient
//! goes.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Bytes;
use xent::host::{HostBatch, LogitsShape};
use xent::{Criterion, Reduction, Upstream};

/// A pass over logits, without the logits.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) criterion: Arc<Criterion>,
    pub(crate) batch: HostBatch<'static>,
    pub(crate) shape: LogitsShape,
    pub(crate) memory: Arc<GradientMemory>,
}

impl Job {
    /// dL/dloss from the entries of its tensor: one number, or one per row.
    pub(crate) fn upstream(&self, numbers: Vec<f64>) -> Upstream<'static> {
        match self.criterion.config().reduction {
            Reduction::None => Upstream::Rows(numbers.into()),
            _ => Upstream::Scalar(numbers.iter().sum()),
        }
    }
}

/// The memory of the last gradient, reused for the next one once nobody holds it: pages fresh from
/// the system cost more than the arithmetic.
#[derive(Debug, Default)]
pub(crate) struct GradientMemory(Mutex<Option<Arc<Bytes>>>);

impl GradientMemory {
    pub(crate) fn take(&self) -> Option<Bytes> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Arc::try_unwrap(kept).ok()
    }

    pub(crate) fn keep(&self, memory: Arc<Bytes>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(memory);
    }
}
