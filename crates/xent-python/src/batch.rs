//! The arrays of a batch, read into what [`xent::Criterion`] takes. Shapes and dtypes are checked
//! here, values are xent's to check.

use pyo3::prelude::*;
use xent::host::{HostAllowed, HostBatch, HostIndices, HostTargets, LogitsShape};
use xent::{Lambda, Numbers, Targets};

use crate::array::Array;
use crate::dtype::with_float;
use crate::error::{error, type_error, value_error};

/// One number for all rows, or an array of one per row.
#[derive(FromPyObject)]
pub(crate) enum Given {
    Rows(Array),
    All(f64),
}

/// The arrays of a batch as they came.
pub(crate) struct Arrays {
    pub(crate) targets: Array,
    pub(crate) second_targets: Option<Array>,
    pub(crate) lam: Option<Given>,
    pub(crate) label_smoothing: Option<Array>,
    pub(crate) row_weights: Option<Array>,
    pub(crate) ignored_rows: Option<Array>,
    pub(crate) allowed_classes: Option<Array>,
    pub(crate) denominator: Option<f64>,
    pub(crate) predictions: bool,
}

impl Arrays {
    /// Every array, with its name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &Array)> {
        let lam = match &self.lam {
            Some(Given::Rows(lam)) => Some(lam),
            _ => None,
        };
        [
            ("targets", Some(&self.targets)),
            ("second_targets", self.second_targets.as_ref()),
            ("lam", lam),
            ("label_smoothing", self.label_smoothing.as_ref()),
            ("row_weights", self.row_weights.as_ref()),
            ("ignored_rows", self.ignored_rows.as_ref()),
            ("allowed_classes", self.allowed_classes.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, array)| array.map(|array| (name, array)))
    }

    /// What [`read`](Self::read) takes at most. Probabilities stay where they are.
    pub(crate) fn copied_bytes(&self) -> usize {
        let is_copied = |name: &str| name != "targets" || !self.targets.dtype.is_float();
        let bytes = |name: &str| if name.ends_with("_classes") { 1 } else { 8 };
        let copied = self.all().filter(|(name, _)| is_copied(name));
        let sizes = copied.map(|(name, array)| array.len().saturating_mul(bytes(name)));
        sizes.fold(0, usize::saturating_add)
    }

    pub(crate) fn read(&self, shape: &LogitsShape) -> PyResult<HostBatch<'_>> {
        let mut batch = HostBatch::new(self.targets(shape)?);
        if let Some(array) = &self.label_smoothing {
            batch.label_smoothing = Some(row_numbers("label_smoothing", array, shape)?);
        }
        if let Some(array) = &self.row_weights {
            batch.row_weights = Some(row_numbers("row_weights", array, shape)?);
        }
        if let Some(mask) = &self.ignored_rows {
            let name = "ignored_rows";
            shape.expect_rows(name, &mask.shape).map_err(error)?;
            batch.ignored_rows = Some(mask.booleans(name, None)?);
        }
        if let Some(mask) = &self.allowed_classes {
            let name = "allowed_classes";
            let shared = shape.expect_classes_or_logits(name, &mask.shape).map_err(error)?;
            batch.allowed_classes = Some(HostAllowed {
                entries: mask.booleans(name, (!shared).then_some(shape.axis()))?,
                shared,
            });
        }
        batch.denominator = self.denominator;
        Ok(batch)
    }

    fn targets(&self, shape: &LogitsShape) -> PyResult<HostTargets<'_>> {
        let name = "targets";
        match (&self.second_targets, &self.lam) {
            (None, None) if self.targets.dtype.is_float() => {
                if self.targets.shape == shape.row_dims() {
                    return Err(value_error(format!(
                        "targets has dtype {} and the shape of the rows, expected an integer dtype for class indices, or probabilities of shape {:?}",
                        self.targets.dtype,
                        shape.dims()
                    )));
                }
                shape.expect_logits(name, &self.targets.shape).map_err(error)?;
                Ok(HostTargets::Probabilities)
            }
            (None, None) => Ok(HostTargets::Classes(indices(name, &self.targets, shape)?)),
            (Some(second), Some(lambda)) => {
                let lambda = match lambda {
                    Given::All(lambda) => Lambda::Scalar(*lambda),
                    Given::Rows(lambda) => Lambda::Rows(row_numbers("lam", lambda, shape)?),
                };
                Ok(HostTargets::Mix {
                    a: indices(name, &self.targets, shape)?,
                    b: indices("second_targets", second, shape)?,
                    lambda,
                })
            }
            _ => Err(type_error(
                "a two-label mix needs both second_targets and lam, the share of the first label; one of them is missing",
            )),
        }
    }

    /// What [`HostTargets::Probabilities`] stands for.
    pub(crate) fn probabilities(&self, shape: &LogitsShape) -> PyResult<Option<Targets<'_>>> {
        let targets = &self.targets;
        if self.second_targets.is_some() || !targets.dtype.is_float() {
            return Ok(None);
        }
        Ok(
            with_float!("targets", targets.dtype, F => targets.rows::<F>(shape.axis() as isize)?.map(Targets::from)),
        )
    }
}

fn indices<'a>(
    name: &'static str,
    array: &'a Array,
    shape: &LogitsShape,
) -> PyResult<HostIndices<'a>> {
    // Before anything of that size is made of it: a broadcast array may have any number of
    // positions.
    shape.expect_rows(name, &array.shape).map_err(error)?;
    array.indices(name)
}

pub(crate) fn row_numbers<'a>(
    name: &'static str,
    array: &'a Array,
    shape: &LogitsShape,
) -> PyResult<Numbers<'a>> {
    shape.expect_rows(name, &array.shape).map_err(error)?;
    array.numbers(name)
}
