//! What a batch carries in addition to its logits, as tensors.

use burn::tensor::kind::{Autodiff, Basic};
use burn::tensor::{Bool, Float, Int, Tensor};

use xent::host::LogitsShape;

use crate::Result;

/// Targets of logits of `D` dimensions: class indices, `Tensor<R, Int>` in the logits' shape without the class axis, or
/// probabilities, `Tensor<D>`.
pub trait Targets<const D: usize>: sealed::Targets<D> {}

impl<const D: usize, const R: usize> Targets<D> for Tensor<R, Int> {}
impl<const D: usize> Targets<D> for Tensor<D> {}

pub(crate) mod sealed {
    use super::{GivenTargets, Int, PerRow, Tensor};

    pub trait Targets<const D: usize> {
        #[allow(private_interfaces)]
        fn given(self) -> GivenTargets<D>;
    }

    impl<const D: usize, const R: usize> Targets<D> for Tensor<R, Int> {
        #[allow(private_interfaces)]
        fn given(self) -> GivenTargets<D> {
            GivenTargets::Classes(PerRow::new(self))
        }
    }

    impl<const D: usize> Targets<D> for Tensor<D> {
        #[allow(private_interfaces)]
        fn given(self) -> GivenTargets<D> {
            GivenTargets::Probabilities(self.inner())
        }
    }
}

/// λ of a two-label mix, the share of the first label, in [0, 1]: one number, or one per row.
#[derive(Debug, Clone)]
pub struct Lambda(pub(crate) GivenLambda);

#[derive(Debug, Clone)]
pub(crate) enum GivenLambda {
    Scalar(f64),
    Rows(Box<PerRow<Float>>),
}

impl From<f64> for Lambda {
    fn from(lambda: f64) -> Self {
        Self(GivenLambda::Scalar(lambda))
    }
}

impl<const R: usize> From<Tensor<R>> for Lambda {
    fn from(lambda: Tensor<R>) -> Self {
        Self(GivenLambda::Rows(Box::new(PerRow::new(lambda))))
    }
}

/// One entry per row, flattened, and the shape in which it came. Nothing of it is differentiated.
#[derive(Debug, Clone)]
pub(crate) struct PerRow<K: Basic> {
    dims: Vec<usize>,
    entries: Tensor<1, K>,
}

impl<K: Autodiff> PerRow<K> {
    pub(crate) fn new<const R: usize>(tensor: Tensor<R, K>) -> Self {
        Self { dims: tensor.dims().to_vec(), entries: tensor.inner().flatten(0, R - 1) }
    }

    /// The entries, `[N]`.
    ///
    /// # Errors
    /// If the shape is not that of the rows.
    pub(crate) fn of(&self, name: &'static str, shape: &LogitsShape) -> Result<Tensor<1, K>> {
        shape.expect_rows(name, &self.dims)?;
        Ok(self.entries.clone())
    }
}

#[derive(Debug, Clone)]
pub(crate) enum GivenTargets<const D: usize> {
    Classes(PerRow<Int>),
    Probabilities(Tensor<D>),
}

/// The second labels of a two-label mix.
#[derive(Debug, Clone)]
pub(crate) struct GivenMix {
    pub(crate) second: PerRow<Int>,
    pub(crate) lambda: GivenLambda,
}

#[derive(Debug, Clone)]
pub(crate) enum GivenAllowed<const D: usize> {
    Shared(Tensor<1, Bool>),
    PerRow(Tensor<D, Bool>),
}

#[derive(Debug, Clone)]
pub(crate) struct DeviceBatch<const D: usize> {
    pub(crate) targets: GivenTargets<D>,
    pub(crate) mix: Option<GivenMix>,
    pub(crate) epsilon: Option<PerRow<Float>>,
    pub(crate) row_weights: Option<PerRow<Float>>,
    pub(crate) ignored: Option<PerRow<Bool>>,
    pub(crate) allowed: Option<GivenAllowed<D>>,
    pub(crate) denominator: Option<f64>,
}

/// The names of tensors in messages.
pub(crate) mod names {
    pub(crate) const CLASSES: &str = "the tensor of target class indices";
    pub(crate) const FIRST: &str = "the tensor of first labels";
    pub(crate) const SECOND: &str = "the tensor of second labels";
    pub(crate) const LAMBDA: &str = "the tensor of λ";
    pub(crate) const PROBABILITIES: &str = "the tensor of target probabilities (a floating-point dtype)";
    pub(crate) const EPSILON: &str = "the tensor of ε";
    pub(crate) const ROW_WEIGHTS: &str = "the tensor of row weights";
    pub(crate) const IGNORED: &str = "the mask of ignored rows";
    pub(crate) const ALLOWED: &str = "the mask of allowed classes";
}

impl<const D: usize> DeviceBatch<D> {
    pub(crate) fn new(targets: GivenTargets<D>) -> Self {
        Self { targets, mix: None, epsilon: None, row_weights: None, ignored: None, allowed: None, denominator: None }
    }

    pub(crate) fn probabilities(&self) -> Option<&Tensor<D>> {
        match &self.targets {
            GivenTargets::Probabilities(probabilities) => Some(probabilities),
            GivenTargets::Classes(_) => None,
        }
    }
}
