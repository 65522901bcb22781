//! A batch's tensors, read into what [`xent::Batch`] borrows.

use burn::tensor::kind::Basic;
use burn::tensor::{Element, Float, Int, Tensor};
use xent::rules::Plan;
use xent::{AllowedClasses, Batch, Criterion, Rows, Targets};

use crate::batch::{DeviceBatch, GivenAllowed, GivenLambda, GivenTargets, PerRow, names};
use crate::shape::LogitsShape;
use crate::{Error, Result};

/// Everything that comes with a batch beside its logits and probabilities, in host memory: O(N), but for a mask a row.
#[derive(Debug)]
pub(crate) struct HostBatch {
    targets: HostTargets,
    epsilon: Option<Vec<f64>>,
    row_weights: Option<Vec<f64>>,
    ignored: Option<Vec<bool>>,
    /// The mask, and whether it is the same for all rows.
    allowed: Option<(Vec<bool>, bool)>,
    denominator: Option<f64>,
}

#[derive(Debug)]
enum HostTargets {
    Classes(Vec<i64>),
    Mix {
        a: Vec<i64>,
        b: Vec<i64>,
        lambda: HostLambda,
    },
    /// Which are not here.
    Probabilities,
}

#[derive(Debug)]
enum HostLambda {
    Scalar(f64),
    Rows(Vec<f64>),
}

impl HostBatch {
    /// Checks shapes and dtypes; values are xent's to check.
    pub(crate) fn new<const D: usize>(batch: &DeviceBatch<D>, shape: &LogitsShape) -> Result<Self> {
        let labels = |name, given: &PerRow<Int>| read(&given.of(name, shape)?);
        let numbers = |name, given: &PerRow<Float>| read(&given.of(name, shape)?);
        Ok(Self {
            targets: match &batch.targets {
                GivenTargets::Classes(classes) => HostTargets::Classes(labels(names::CLASSES, classes)?),
                GivenTargets::Mix(mix) => HostTargets::Mix {
                    a: labels(names::FIRST, &mix.a)?,
                    b: labels(names::SECOND, &mix.b)?,
                    lambda: match &mix.lambda {
                        GivenLambda::Scalar(lambda) => HostLambda::Scalar(*lambda),
                        GivenLambda::Rows(lambda) => HostLambda::Rows(numbers(names::LAMBDA, lambda)?),
                    },
                },
                GivenTargets::Probabilities(probabilities) => {
                    shape.expect_logits(names::PROBABILITIES, &probabilities.dims())?;
                    HostTargets::Probabilities
                }
            },
            epsilon: batch.epsilon.as_ref().map(|epsilon| numbers(names::EPSILON, epsilon)).transpose()?,
            row_weights: batch.row_weights.as_ref().map(|weights| numbers(names::ROW_WEIGHTS, weights)).transpose()?,
            ignored: batch.ignored.as_ref().map(|mask| read(&mask.of(names::IGNORED, shape)?)).transpose()?,
            allowed: match &batch.allowed {
                None => None,
                Some(GivenAllowed::Shared(mask)) => {
                    shape.expect_classes(names::ALLOWED, &mask.dims())?;
                    Some((read(mask)?, true))
                }
                Some(GivenAllowed::PerRow(mask)) => {
                    shape.expect_logits(names::ALLOWED, &mask.dims())?;
                    Some((read(&shape.rows_of(mask.clone()))?, false))
                }
            },
            denominator: batch.denominator,
        })
    }

    /// Whether xent would take the batch but for its rows, which are not read: whether the criterion goes with K classes and with such targets.
    pub(crate) fn check_without_rows<const D: usize>(criterion: &Criterion, shape: &LogitsShape, batch: &DeviceBatch<D>) -> Result<()> {
        let dense = batch.probabilities().is_some();
        let targets = if dense { HostTargets::Probabilities } else { HostTargets::Classes(Vec::new()) };
        let none = Self { targets, epsilon: None, row_weights: None, ignored: None, allowed: None, denominator: batch.denominator };
        none.check_against(criterion, 0, shape.classes(), dense.then_some(&[]))
    }

    /// The batch as xent takes it. `probabilities` are the targets where these are none of class indices.
    pub(crate) fn with<'a>(&'a self, probabilities: Option<Targets<'a>>) -> Batch<'a> {
        let targets = match (&self.targets, probabilities) {
            (_, Some(probabilities)) => probabilities,
            (HostTargets::Classes(indices), None) => indices.into(),
            (HostTargets::Mix { a, b, lambda }, None) => {
                let lambda = match lambda {
                    HostLambda::Scalar(lambda) => xent::Lambda::Scalar(*lambda),
                    HostLambda::Rows(lambda) => xent::Lambda::Rows(lambda),
                };
                Targets::mix(a, b, lambda)
            }
            (HostTargets::Probabilities, None) => (&[0i64; 0][..]).into(),
        };
        let mut batch = Batch::new(targets);
        if let Some(epsilon) = &self.epsilon {
            batch = batch.label_smoothing_rows(epsilon);
        }
        if let Some(weights) = &self.row_weights {
            batch = batch.row_weights(weights);
        }
        if let Some(ignored) = &self.ignored {
            batch = batch.ignored_rows(ignored);
        }
        if let Some((entries, shared)) = &self.allowed {
            batch = batch.allowed_classes(if *shared { AllowedClasses::Shared(entries) } else { AllowedClasses::PerRow(entries) });
        }
        match self.denominator {
            Some(denominator) => batch.denominator(denominator),
            None => batch,
        }
    }

    /// Whether xent would take the batch.
    pub(crate) fn check<const D: usize>(&self, criterion: &Criterion, shape: &LogitsShape, probabilities: Option<&Tensor<D>>) -> Result<()> {
        let entries: Option<Vec<f64>> = probabilities.map(|tensor| read(&shape.rows_of(tensor.clone()))).transpose()?;
        self.check_against(criterion, shape.rows(), shape.classes(), entries.as_deref())
    }

    /// Whether xent would take the batch of `rows` rows.
    fn check_against(&self, criterion: &Criterion, rows: usize, classes: usize, probabilities: Option<&[f64]>) -> Result<()> {
        let targets = probabilities.map(|entries| Ok::<_, Error>(Rows::new(entries, rows, classes)?.into())).transpose()?;
        Plan::new(criterion, &self.with(targets), rows, classes)?;
        Ok(())
    }
}

/// A tensor's entries in C order.
fn read<const D: usize, K: Basic, E: Element>(tensor: &Tensor<D, K>) -> Result<Vec<E>> {
    tensor.try_to_vec_as().map_err(|error| Error::Read(error.to_string()))
}
