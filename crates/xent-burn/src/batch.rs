//! What a batch carries in addition to its logits, as tensors.

use burn::tensor::kind::{Autodiff, Basic};
use burn::tensor::{Bool, Device, Float, Int, Tensor};

/// The targets of logits of `D` dimensions: class indices, `Tensor<R, Int>` in the logits' shape
/// without the class axis, or probabilities, `Tensor<D>`. Both convert into it.
#[derive(Debug, Clone)]
pub struct Targets<const D: usize>(pub(crate) GivenTargets<D>);

impl<const D: usize, const R: usize> From<Tensor<R, Int>> for Targets<D> {
    fn from(classes: Tensor<R, Int>) -> Self {
        Self(GivenTargets::Classes(PerRow::new("the tensor of target class indices", classes)))
    }
}

impl<const D: usize> From<Tensor<D>> for Targets<D> {
    fn from(probabilities: Tensor<D>) -> Self {
        Self(GivenTargets::Probabilities(probabilities.inner()))
    }
}

/// λ of a two-label mix, the share of the first label, in [0, 1]: one number, or one entry per row.
#[derive(Debug, Clone)]
pub struct Lambda(pub(crate) GivenLambda);

impl From<f64> for Lambda {
    fn from(lambda: f64) -> Self {
        Self(GivenLambda::Scalar(lambda))
    }
}

impl<const R: usize> From<Tensor<R>> for Lambda {
    fn from(lambda: Tensor<R>) -> Self {
        Self(GivenLambda::Rows(PerRow::new("the tensor of λ", lambda)))
    }
}

/// One entry per row: flat, with the shape in which it came and its name in messages. Nothing of it
/// is differentiated.
#[derive(Debug, Clone)]
pub(crate) struct PerRow<K: Basic> {
    pub(crate) name: &'static str,
    pub(crate) dims: Vec<usize>,
    pub(crate) entries: Tensor<1, K>,
}

impl<K: Autodiff> PerRow<K> {
    pub(crate) fn new<const R: usize>(name: &'static str, tensor: Tensor<R, K>) -> Self {
        Self { name, dims: tensor.dims().to_vec(), entries: tensor.inner().flatten(0, R - 1) }
    }

    /// `[N, 1]`, where the loss is computed.
    pub(crate) fn column(&self, device: &Device) -> Tensor<2, K> {
        self.entries.clone().to_device(device).unsqueeze_dim(1)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum GivenTargets<const D: usize> {
    Classes(PerRow<Int>),
    Probabilities(Tensor<D>),
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one per call")]
pub(crate) enum GivenLambda {
    Scalar(f64),
    Rows(PerRow<Float>),
}

#[derive(Debug, Clone)]
pub(crate) enum GivenAllowed<const D: usize> {
    Shared(Tensor<1, Bool>),
    PerRow(Tensor<D, Bool>),
}

#[derive(Debug, Clone)]
pub(crate) struct DeviceBatch<const D: usize> {
    pub(crate) targets: GivenTargets<D>,
    /// The second labels of a two-label mix, and the share of the first.
    pub(crate) mix: Option<(PerRow<Int>, GivenLambda)>,
    pub(crate) epsilon: Option<PerRow<Float>>,
    pub(crate) row_weights: Option<PerRow<Float>>,
    pub(crate) ignored: Option<PerRow<Bool>>,
    pub(crate) allowed: Option<GivenAllowed<D>>,
    pub(crate) denominator: Option<f64>,
}

impl<const D: usize> DeviceBatch<D> {
    pub(crate) fn new(targets: GivenTargets<D>) -> Self {
        Self {
            targets,
            mix: None,
            epsilon: None,
            row_weights: None,
            ignored: None,
            allowed: None,
            denominator: None,
        }
    }

    pub(crate) fn probabilities(&self) -> Option<&Tensor<D>> {
        match &self.targets {
            GivenTargets::Probabilities(probabilities) => Some(probabilities),
            GivenTargets::Classes(_) => None,
        }
    }
}
