//! Reads the tensors of a batch into host memory, and has xent check them.

use burn::tensor::kind::{Autodiff, Basic};
use burn::tensor::{Element, Tensor};
use xent::host::{HostAllowed, HostBatch, HostTargets, LogitsShape};
use xent::rules::Plan;
use xent::{Criterion, Lambda, Rows};

use crate::batch::{DeviceBatch, GivenAllowed, GivenLambda, GivenMix, GivenTargets, PerRow, names};
use crate::shape::rows_of;
use crate::{Error, Result};

/// Reads tensors of a batch, or checks their shapes alone.
struct Reader<'a> {
    shape: &'a LogitsShape,
    values: bool,
}

impl Reader<'_> {
    /// One entry per row; none if values are not read.
    fn rows<K: Autodiff, E: Element>(&self, name: &'static str, given: &PerRow<K>) -> Result<Vec<E>> {
        let entries = given.of(name, self.shape)?;
        if self.values { read(&entries) } else { Ok(Vec::new()) }
    }

    fn optional<K: Autodiff, E: Element>(&self, name: &'static str, given: &Option<PerRow<K>>) -> Result<Option<Vec<E>>> {
        given.as_ref().map(|given| self.rows(name, given)).transpose()
    }

    fn batch<const D: usize>(&self, batch: &DeviceBatch<D>) -> Result<HostBatch<'static>> {
        let targets = match (&batch.targets, &batch.mix) {
            (GivenTargets::Classes(classes), None) => HostTargets::Classes(self.rows::<_, i64>(names::CLASSES, classes)?.into()),
            (GivenTargets::Classes(first), Some(GivenMix { second, lambda })) => HostTargets::Mix {
                a: self.rows::<_, i64>(names::FIRST, first)?.into(),
                b: self.rows::<_, i64>(names::SECOND, second)?.into(),
                lambda: match lambda {
                    GivenLambda::Scalar(lambda) => Lambda::Scalar(*lambda),
                    GivenLambda::Rows(lambda) => Lambda::Rows(self.rows::<_, f64>(names::LAMBDA, lambda)?.into()),
                },
            },
            (GivenTargets::Probabilities(probabilities), None) => {
                self.shape.expect_logits(names::PROBABILITIES, &probabilities.dims())?;
                HostTargets::Probabilities
            }
            (GivenTargets::Probabilities(first), Some(_)) => {
                return Err(Error::Dtype { name: names::FIRST, found: first.dtype(), expected: "an integer dtype: class indices are mixed, not probabilities" });
            }
        };
        let mut host = HostBatch::new(targets);
        host.label_smoothing = self.optional::<_, f64>(names::EPSILON, &batch.epsilon)?.map(Into::into);
        host.row_weights = self.optional::<_, f64>(names::ROW_WEIGHTS, &batch.row_weights)?.map(Into::into);
        host.ignored_rows = self.optional(names::IGNORED, &batch.ignored)?;
        host.denominator = batch.denominator;
        match &batch.allowed {
            Some(GivenAllowed::Shared(mask)) => self.shape.expect_classes(names::ALLOWED, &mask.dims())?,
            Some(GivenAllowed::PerRow(mask)) => self.shape.expect_logits(names::ALLOWED, &mask.dims())?,
            None => {}
        }
        host.allowed_classes = match &batch.allowed {
            Some(GivenAllowed::Shared(mask)) if self.values => Some(HostAllowed { entries: read(mask)?, shared: true }),
            Some(GivenAllowed::PerRow(mask)) if self.values => Some(HostAllowed { entries: read(&rows_of(mask.clone(), self.shape))?, shared: false }),
            _ => None,
        };
        Ok(host)
    }
}

/// The batch, without its probabilities. Shapes and dtypes are checked here, values by xent.
pub(crate) fn batch<const D: usize>(batch: &DeviceBatch<D>, shape: &LogitsShape) -> Result<HostBatch<'static>> {
    Reader { shape, values: true }.batch(batch)
}

/// Whether xent accepts the batch; without `values`, whether it would if every row were valid, which nothing needs to be read for.
pub(crate) fn check<const D: usize>(criterion: &Criterion, batch: &DeviceBatch<D>, shape: &LogitsShape, values: bool) -> Result<()> {
    let host = Reader { shape, values }.batch(batch)?;
    let probabilities: Option<Vec<f64>> = match batch.probabilities() {
        Some(probabilities) if values => Some(read(&rows_of(probabilities.clone(), shape))?),
        probabilities => probabilities.map(|_| Vec::new()),
    };
    let targets = probabilities.as_deref().map(|entries| Rows::new(entries, shape.classes())).transpose()?;
    let rows = if values { shape.rows() } else { 0 };
    Plan::new(criterion, &host.lend(targets.map(Into::into)), rows, shape.classes()).map_err(xent::Error::from)?;
    Ok(())
}

/// The entries of a tensor in C order.
fn read<const D: usize, K: Basic, E: Element>(tensor: &Tensor<D, K>) -> Result<Vec<E>> {
    tensor.try_to_vec_as().map_err(|error| Error::Read(error.to_string()))
}
