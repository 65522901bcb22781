//! What comes with the logits: targets, and whatever is given a row.

use std::path::{Path, PathBuf};

use xent::{AllowedClasses, Batch, InputError, Lambda, Probabilities, RowOption, Rows, Targets};

use super::entries::{Labels, numbers, truths};
use super::layout::{Layout, read};
use super::options::{Divisor, LossOptions, NumberOrFile};
use crate::error::{Error, Result};
use xent_arrays::npy::{Array, Shape, Values};

/// The files beside the logits, read and of the right shapes and types.
#[derive(Debug)]
pub struct Inputs<'a> {
    options: &'a LossOptions,
    layout: &'a Layout,
    targets: OwnedTargets,
    epsilon: Option<Vec<f64>>,
    row_weights: Option<Vec<f64>>,
    ignored: Option<Vec<bool>>,
    allowed: Option<OwnedAllowed>,
}

#[derive(Debug)]
enum OwnedTargets {
    Classes(Labels),
    Probabilities(Array),
    Mix { a: Labels, b: Labels, lambda: Share },
}

#[derive(Debug)]
enum Share {
    All(f64),
    Rows(Vec<f64>),
}

#[derive(Debug)]
enum OwnedAllowed {
    Shared(Vec<bool>),
    PerRow(Vec<bool>),
}

impl<'a> Inputs<'a> {
    /// Reads them.
    pub fn read(options: &'a LossOptions, layout: &'a Layout) -> Result<Self> {
        let row_numbers = |path: &PathBuf, what| numbers(layout.read_rows(path, what)?).map_err(|error| Error::in_file(path, error));
        let ignored = match &options.ignored_rows {
            Some(path) => Some(truths(layout.read_rows(path, "True or False")?).map_err(|error| Error::in_file(path, error))?),
            None => None,
        };
        let epsilon = match &options.epsilon {
            Some(NumberOrFile::File(path)) => Some(row_numbers(path, "an amount")?),
            _ => None,
        };
        let targets = match (&options.mix, &options.lambda) {
            (Some(mix), Some(lambda)) => OwnedTargets::Mix {
                a: labels(&options.targets, layout, ignored.as_deref())?,
                b: labels(mix, layout, ignored.as_deref())?,
                lambda: match lambda {
                    NumberOrFile::Number(lambda) => Share::All(*lambda),
                    NumberOrFile::File(path) => Share::Rows(row_numbers(path, "a share")?),
                },
            },
            _ => targets(&options.targets, layout, ignored.as_deref())?,
        };
        let row_weights = options.row_weights.as_ref().map(|path| row_numbers(path, "a weight")).transpose()?;
        let allowed = options.allowed.as_ref().map(|path| allowed(path, layout)).transpose()?;
        Ok(Self { options, layout, targets, epsilon, row_weights, ignored, allowed })
    }

    /// What was asked for.
    pub fn options(&self) -> &'a LossOptions {
        self.options
    }

    /// The logits' layout.
    pub fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// An error in the logits themselves.
    pub fn in_logits(&self, error: impl std::fmt::Display) -> Error {
        Error::in_file(&self.options.logits, error)
    }

    /// As xent takes them.
    pub fn batch(&self) -> Result<Batch<'_>> {
        let mut batch = Batch::new(match &self.targets {
            OwnedTargets::Classes(labels) => Targets::Classes(labels.indices()),
            OwnedTargets::Probabilities(array) => {
                Targets::Probabilities(probabilities(array, self.layout).map_err(|error| Error::in_file(&self.options.targets, error))?)
            }
            OwnedTargets::Mix { a, b, lambda } => Targets::Mix {
                a: a.indices(),
                b: b.indices(),
                lambda: match lambda {
                    Share::All(lambda) => Lambda::Scalar(*lambda),
                    Share::Rows(lambda) => Lambda::Rows(lambda),
                },
            },
        });
        if let Some(epsilon) = &self.epsilon {
            batch = batch.label_smoothing_rows(epsilon);
        }
        if let Some(weights) = &self.row_weights {
            batch = batch.row_weights(weights);
        }
        if let Some(ignored) = &self.ignored {
            batch = batch.ignored_rows(ignored);
        }
        if let Some(allowed) = &self.allowed {
            batch = batch.allowed_classes(match allowed {
                OwnedAllowed::Shared(allowed) => AllowedClasses::Shared(allowed),
                OwnedAllowed::PerRow(allowed) => AllowedClasses::PerRow(allowed),
            });
        }
        if let Divisor::Given(denominator) = self.options.denominator {
            batch = batch.denominator(denominator);
        }
        Ok(batch)
    }

    /// The error with the file it is about and, where there are several row axes, the row's place on them.
    pub fn explain(&self, error: &InputError) -> Error {
        let file_of = |option: &'a Option<NumberOrFile>| match option {
            Some(NumberOrFile::File(path)) => Some(path),
            _ => None,
        };
        let options = self.options;
        let (file, row) = match error {
            InputError::Class { row, value, .. } => (Some(self.file_with_label(*row, *value)), Some(*row)),
            InputError::Probability { row, .. } => (Some(&options.targets), Some(*row)),
            InputError::RowValue { option: RowOption::LabelSmoothing, row, .. } => (file_of(&options.epsilon), Some(*row)),
            InputError::RowValue { option: RowOption::Lambda, row, .. } => (file_of(&options.lambda), Some(*row)),
            InputError::RowValue { option: RowOption::Weight, row, .. } => (options.row_weights.as_ref(), Some(*row)),
            _ => (None, None),
        };
        let message = match row.and_then(|row| self.layout.position(row)) {
            Some(position) => format!("{error}; the row is at {position:?}"),
            None => error.to_string(),
        };
        match file {
            Some(file) => Error::in_file(file, message),
            None => Error::input(message),
        }
    }

    /// Of the two files of a mix, the one with the label that was found; the first labels are looked at first.
    fn file_with_label(&self, row: usize, label: i64) -> &'a PathBuf {
        match (&self.targets, &self.options.mix) {
            (OwnedTargets::Mix { a, .. }, Some(mix)) if a.get(row) != label => mix,
            _ => &self.options.targets,
        }
    }
}

fn labels(path: &Path, layout: &Layout, ignored: Option<&[bool]>) -> Result<Labels> {
    let values = layout.read_rows(path, "a class index")?;
    let dtype = values.dtype();
    match Labels::new(values, ignored) {
        Some(labels) => labels.map_err(|error| Error::in_file(path, error)),
        None => Err(Error::in_file(path, format!("dtype {}, expected integers: a mix is of class indices", dtype.name()))),
    }
}

/// Probabilities if the file has floats, class indices if it has integers.
fn targets(path: &Path, layout: &Layout, ignored: Option<&[bool]>) -> Result<OwnedTargets> {
    let array = read(path)?;
    let row_shape = layout.row_shape();
    let (shape, dtype) = (array.shape().to_vec(), array.dtype());
    if shape == layout.shape() && dtype.is_float() {
        return Ok(OwnedTargets::Probabilities(array));
    }
    let labels = if shape == row_shape { Labels::new(array.into_values(), ignored) } else { None };
    match labels {
        Some(labels) => labels.map(OwnedTargets::Classes).map_err(|error| Error::in_file(path, error)),
        None => {
            let (indices, probabilities) = (Shape(&row_shape), Shape(layout.shape()));
            let expected = format!("{indices} of integers (class indices) or {probabilities} of floats (probabilities)");
            Err(layout.misfit(path, format!("{} of {}", Shape(&shape), dtype.name()), expected))
        }
    }
}

fn probabilities<'a>(array: &'a Array, layout: &Layout) -> Result<Probabilities<'a>> {
    let (shape, strides, axis) = (array.shape(), array.strides(), layout.axis());
    Ok(match array.values() {
        Values::F16(entries) => Probabilities::F16(Rows::strided(entries, shape, &strides, 0, axis).map_err(Error::input)?),
        Values::Bf16(entries) => Probabilities::Bf16(Rows::strided(entries, shape, &strides, 0, axis).map_err(Error::input)?),
        Values::F32(entries) => Probabilities::F32(Rows::strided(entries, shape, &strides, 0, axis).map_err(Error::input)?),
        Values::F64(entries) => Probabilities::F64(Rows::strided(entries, shape, &strides, 0, axis).map_err(Error::input)?),
        other => return Err(Error::input(format!("dtype {}, expected floats", other.dtype().name()))),
    })
}

fn allowed(path: &Path, layout: &Layout) -> Result<OwnedAllowed> {
    let array = read(path)?;
    let shared = array.shape() == [layout.classes()];
    if !shared && array.shape() != layout.shape() {
        let expected = format!("{} or {}, True where a class is allowed", Shape(&[layout.classes()]), Shape(layout.shape()));
        return Err(layout.misfit(path, Shape(array.shape()), expected));
    }
    let values = if shared { array.into_values() } else { array.into_values_along(&layout.classes_last()) };
    let allowed = truths(values).map_err(|error| Error::in_file(path, error))?;
    Ok(if shared { OwnedAllowed::Shared(allowed) } else { OwnedAllowed::PerRow(allowed) })
}
