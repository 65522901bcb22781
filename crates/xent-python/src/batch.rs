//! What comes with a batch beside its logits, read into what [`xent::Batch`] borrows.

use std::borrow::Cow;

use pyo3::prelude::*;
use xent::{AllowedClasses, Batch, Targets};

use crate::array::{Array, Dtype};
use crate::error::{type_error, value_error};
use crate::read::{Indices, with_float};

/// The shape of the logits.
pub(crate) struct Shape {
    pub(crate) dims: Vec<usize>,
    pub(crate) axis: usize,
}

impl Shape {
    pub(crate) fn new(logits: &Array, axis: usize) -> PyResult<Self> {
        let dims = logits.shape.clone();
        if axis >= dims.len() {
            return Err(value_error(format!("logits of shape {dims:?} with classes on axis {axis}, expected an axis that they have")));
        }
        Ok(Self { dims, axis })
    }

    pub(crate) fn classes(&self) -> usize {
        self.dims[self.axis]
    }

    pub(crate) fn row_dims(&self) -> Vec<usize> {
        let mut dims = self.dims.clone();
        dims.remove(self.axis);
        dims
    }

    pub(crate) fn expect_rows(&self, name: &str, array: &Array) -> PyResult<()> {
        array.expect_shape(name, &self.row_dims(), &format!("one entry a row of logits of shape {:?} with classes on axis {}", self.dims, self.axis))
    }
}

/// One number for all rows, or an array of one a row.
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
}

enum HostTargets<'a> {
    Classes(Indices<'a>),
    Mix(Indices<'a>, Indices<'a>, HostLambda<'a>),
    Probabilities(&'a Array),
}

enum HostLambda<'a> {
    All(f64),
    Rows(Cow<'a, [f64]>),
}

/// The same in the types that xent takes. Shapes and types are checked here, values are xent's to check.
pub(crate) struct HostBatch<'a> {
    axis: usize,
    targets: HostTargets<'a>,
    epsilon: Option<Cow<'a, [f64]>>,
    row_weights: Option<Cow<'a, [f64]>>,
    ignored: Option<Vec<bool>>,
    /// The mask, and whether it is the same for all rows.
    allowed: Option<(Vec<bool>, bool)>,
    denominator: Option<f64>,
}

impl<'a> HostBatch<'a> {
    pub(crate) fn new(arrays: &'a Arrays, shape: &Shape) -> PyResult<Self> {
        let numbers = |name, array: &'a Option<Array>| array.as_ref().map(|array| row_numbers(name, array, shape)).transpose();
        Ok(Self {
            axis: shape.axis,
            targets: HostTargets::new(arrays, shape)?,
            epsilon: numbers("label_smoothing", &arrays.label_smoothing)?,
            row_weights: numbers("row weights", &arrays.row_weights)?,
            ignored: arrays
                .ignored_rows
                .as_ref()
                .map(|mask| {
                    shape.expect_rows("the mask of ignored rows", mask)?;
                    mask.booleans("the mask of ignored rows", None)
                })
                .transpose()?,
            allowed: arrays.allowed_classes.as_ref().map(|mask| allowed(mask, shape)).transpose()?,
            denominator: arrays.denominator,
        })
    }

    /// The batch as xent takes it.
    pub(crate) fn as_xent(&self) -> PyResult<Batch<'_>> {
        let targets = match &self.targets {
            HostTargets::Classes(indices) => indices.as_xent().into(),
            HostTargets::Mix(a, b, HostLambda::All(lambda)) => Targets::mix(a.as_xent(), b.as_xent(), *lambda),
            HostTargets::Mix(a, b, HostLambda::Rows(lambda)) => Targets::mix(a.as_xent(), b.as_xent(), &**lambda),
            HostTargets::Probabilities(array) => with_float!("targets", array.dtype, F => match array.rows::<F>(self.axis)? {
                Some(rows) => rows.into(),
                None => return Err(type_error("targets changed their dtype")),
            }),
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
        if let Some((mask, shared)) = &self.allowed {
            batch = batch.allowed_classes(if *shared { AllowedClasses::Shared(mask) } else { AllowedClasses::PerRow(mask) });
        }
        Ok(match self.denominator {
            Some(denominator) => batch.denominator(denominator),
            None => batch,
        })
    }
}

impl<'a> HostTargets<'a> {
    fn new(arrays: &'a Arrays, shape: &Shape) -> PyResult<Self> {
        let targets = &arrays.targets;
        match (&arrays.second_targets, &arrays.lam) {
            (None, None) if targets.dtype.is_float() => {
                targets.expect_shape("target probabilities", &shape.dims, "the shape of the logits")?;
                Ok(Self::Probabilities(targets))
            }
            (None, None) => Ok(Self::Classes(indices("targets", targets, shape)?)),
            (Some(second), Some(lambda)) => {
                let lambda = match lambda {
                    Given::All(lambda) => HostLambda::All(*lambda),
                    Given::Rows(lambda) => HostLambda::Rows(row_numbers("lam", lambda, shape)?),
                };
                Ok(Self::Mix(indices("targets", targets, shape)?, indices("second targets", second, shape)?, lambda))
            }
            _ => Err(type_error("a mix of two labels takes second targets and lam, the share of the first; one of them is missing")),
        }
    }
}

fn indices<'a>(name: &str, array: &'a Array, shape: &Shape) -> PyResult<Indices<'a>> {
    // Before anything of that size is made of it: a broadcast array may have any number of positions.
    shape.expect_rows(name, array)?;
    array.indices(name)
}

fn row_numbers<'a>(name: &str, array: &'a Array, shape: &Shape) -> PyResult<Cow<'a, [f64]>> {
    shape.expect_rows(name, array)?;
    array.numbers(name)
}

fn allowed(mask: &Array, shape: &Shape) -> PyResult<(Vec<bool>, bool)> {
    let name = "the mask of allowed classes";
    let shared = mask.shape == [shape.classes()];
    if shared {
        return Ok((mask.booleans(name, None)?, true));
    }
    mask.expect_shape(name, &shape.dims, &format!("one entry a row and class, or [{}], one a class", shape.classes()))?;
    Ok((mask.booleans(name, Some(shape.axis))?, false))
}
