//! Reads the tensors of a batch into host memory, and has xent check them.

use burn::tensor::kind::Basic;
use burn::tensor::{Element, Tensor};
use xent::host::{HostAllowed, HostBatch, HostTargets, LogitsShape};
use xent::rules::Plan;
use xent::{Criterion, Lambda, Rows};

use crate::batch::{DeviceBatch, GivenAllowed, GivenLambda, GivenTargets, PerRow};
use crate::shape::rows_of;
use crate::{Error, Result};

/// The batch without its probabilities. Shapes and dtypes are checked here, values by xent.
pub(crate) fn batch<const D: usize>(
    batch: &DeviceBatch<D>,
    shape: &LogitsShape,
) -> Result<HostBatch<'static>> {
    Reader { shape, values: true }.batch(batch)
}

/// Whether xent accepts the batch. Without `values`, whether it would if every row were valid:
/// nothing is read then.
pub(crate) fn check<const D: usize>(
    criterion: &Criterion,
    batch: &DeviceBatch<D>,
    shape: &LogitsShape,
    values: bool,
) -> Result<()> {
    let reader = Reader { shape, values };
    let host = reader.batch(batch)?;
    let probabilities: Option<Vec<f64>> = batch
        .probabilities()
        .map(|tensor| reader.read(&rows_of(tensor.clone(), shape)))
        .transpose()?;
    let targets =
        probabilities.as_deref().map(|entries| Rows::new(entries, shape.classes())).transpose()?;
    let rows = if values { shape.rows() } else { 0 };
    Plan::new(criterion, &host.lend(targets.map(Into::into)), rows, shape.classes())
        .map_err(xent::Error::from)?;
    Ok(())
}

/// Reads tensors of a batch, or checks their shapes alone.
struct Reader<'a> {
    shape: &'a LogitsShape,
    values: bool,
}

impl Reader<'_> {
    fn batch<const D: usize>(&self, batch: &DeviceBatch<D>) -> Result<HostBatch<'static>> {
        let targets = match (&batch.targets, &batch.mix) {
            (GivenTargets::Classes(classes), None) => {
                HostTargets::Classes(self.rows::<_, i64>(classes)?.into())
            }
            (GivenTargets::Classes(first), Some((second, lambda))) => HostTargets::Mix {
                a: self.rows::<_, i64>(first)?.into(),
                b: self.rows::<_, i64>(second)?.into(),
                lambda: match lambda {
                    GivenLambda::Scalar(lambda) => Lambda::Scalar(*lambda),
                    GivenLambda::Rows(lambda) => Lambda::from(self.rows::<_, f64>(lambda)?),
                },
            },
            (GivenTargets::Probabilities(probabilities), None) => {
                self.shape.expect_logits(
                    "the tensor of target probabilities (a floating-point dtype)",
                    &probabilities.dims(),
                )?;
                HostTargets::Probabilities
            }
            (GivenTargets::Probabilities(first), Some(_)) => {
                return Err(Error::Dtype {
                    name: "the tensor of first labels",
                    found: first.dtype(),
                    expected: "an integer dtype",
                });
            }
        };
        const ALLOWED: &str = "the mask of allowed classes";
        let allowed = match &batch.allowed {
            None => None,
            Some(GivenAllowed::Shared(mask)) => {
                self.shape.expect_classes(ALLOWED, &mask.dims())?;
                Some(HostAllowed { entries: self.read(mask)?, shared: true })
            }
            Some(GivenAllowed::PerRow(mask)) => {
                self.shape.expect_logits(ALLOWED, &mask.dims())?;
                Some(HostAllowed {
                    entries: self.read(&rows_of(mask.clone(), self.shape))?,
                    shared: false,
                })
            }
        };
        let numbers = |given: &Option<PerRow<_>>| {
            given.as_ref().map(|given| self.rows::<_, f64>(given)).transpose()
        };
        let mut host = HostBatch::new(targets);
        host.label_smoothing = numbers(&batch.epsilon)?.map(Into::into);
        host.row_weights = numbers(&batch.row_weights)?.map(Into::into);
        host.ignored_rows = batch.ignored.as_ref().map(|mask| self.rows(mask)).transpose()?;
        host.allowed_classes = allowed.filter(|_| self.values);
        host.denominator = batch.denominator;
        Ok(host)
    }

    /// One entry per row.
    fn rows<K: Basic, E: Element>(&self, given: &PerRow<K>) -> Result<Vec<E>> {
        self.shape.expect_rows(given.name, &given.dims)?;
        self.read(&given.entries)
    }

    /// The entries of a tensor in C order; none if values are not read.
    fn read<const D: usize, K: Basic, E: Element>(&self, tensor: &Tensor<D, K>) -> Result<Vec<E>> {
        if self.values {
            tensor.try_to_vec_as().map_err(|error| Error::Read(error.to_string()))
        } else {
            Ok(Vec::new())
        }
    }
}
