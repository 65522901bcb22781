//! The batch: targets and per-row options, read from files.

use xent::host::{HostAllowed, HostBatch, HostIndices, HostTargets, LogitsShape};
use xent::{Batch, InputError, Lambda, Numbers, RowOption, Rows, Targets};
use xent_arrays::npy::{Array, Dtype, Values};
use xent_arrays::{ClassNames, Place};

use super::arrays::{
    self, ARRAY, class_indices, no_distribution, numbers, position, read_rows, read_shaped, truths,
};
use super::options::{Divisor, LossOptions, OrFile};
use crate::error::{Error, Result};

/// The files that belong to the logits, read and checked for their shapes and types.
pub struct Inputs<'a> {
    options: &'a LossOptions,
    shape: &'a LogitsShape,
    batch: HostBatch<'static>,
    /// The targets, if they are probabilities.
    probabilities: Option<Array>,
}

impl<'a> Inputs<'a> {
    /// Reads the files. Labels in tables may be the names of the classes.
    pub fn read(
        options: &'a LossOptions,
        shape: &'a LogitsShape,
        classes: &ClassNames,
    ) -> Result<Self> {
        let per_row = |path: &Place| -> Result<Numbers<'static>> {
            Ok(numbers(path, read_rows(path, shape)?)?.into())
        };
        let ignored = options
            .ignored_rows
            .as_ref()
            .map(|path| truths(path, read_rows(path, shape)?))
            .transpose()?;
        let indices = |path: &Place| {
            let array = arrays::targets(path, classes)?;
            shape
                .expect_rows(ARRAY, array.shape())
                .map_err(|error| Error::in_file(&path.file, error))?;
            class_indices(path, &array.into_values(), ignored.as_deref())
        };
        let (targets, probabilities) = match (&options.mix, &options.lambda) {
            (Some(mix), Some(lambda)) => {
                let lambda = match lambda {
                    OrFile::Value(lambda) => Lambda::Scalar(*lambda),
                    OrFile::File(path) => Lambda::Rows(per_row(path)?),
                };
                (
                    HostTargets::Mix {
                        a: indices(&options.targets)?.into(),
                        b: indices(mix)?.into(),
                        lambda,
                    },
                    None,
                )
            }
            _ => targets(&options.targets, shape, classes, ignored.as_deref())?,
        };
        let batch = HostBatch {
            label_smoothing: options
                .epsilon
                .as_ref()
                .and_then(OrFile::file)
                .map(per_row)
                .transpose()?,
            row_weights: options.row_weights.as_ref().map(per_row).transpose()?,
            allowed_classes: options
                .allowed_classes
                .as_ref()
                .map(|path| allowed(path, shape))
                .transpose()?,
            denominator: if let Divisor::Given(denominator) = options.denominator {
                Some(denominator)
            } else {
                None
            },
            ignored_rows: ignored,
            ..HostBatch::new(targets)
        };
        Ok(Self { options, shape, batch, probabilities })
    }

    /// The options.
    pub fn options(&self) -> &'a LossOptions {
        self.options
    }

    /// The shape of the logits.
    pub fn shape(&self) -> &'a LogitsShape {
        self.shape
    }

    /// The batch as xent takes it.
    pub fn batch(&self) -> Result<Batch<'_>> {
        let probabilities =
            self.probabilities.as_ref().map(|array| probabilities(array, self.shape)).transpose();
        let probabilities =
            probabilities.map_err(|error| Error::in_file(&self.options.targets.file, error))?;
        Ok(self.batch.lend(probabilities))
    }

    /// A warning that names the first row of probability targets with another sum than 1.
    pub fn unusual_sum(&self) -> Option<String> {
        let ignored = self.batch.ignored_rows.as_deref();
        let (row, sum) = no_distribution(self.probabilities.as_ref()?, self.shape, ignored)?;
        let file = self.options.targets.file.display();
        Some(format!(
            "{file}: row {row} sums to {sum}, expected 1: the probabilities are used as they are"
        ))
    }

    /// Adds to an error the file that it is about and, if there are several row axes, the position
    /// of the row on them.
    pub fn explain(&self, error: &xent::Error) -> Error {
        let options = self.options;
        let file_of = |option: &'a Option<OrFile<f64>>| option.as_ref().and_then(OrFile::file);
        let (file, row) = match error {
            xent::Error::Input(InputError::Class { row, value, .. }) => {
                (Some(self.file_with_label(*row, *value)), *row)
            }
            xent::Error::Input(InputError::Probability { row, .. }) => {
                (Some(&options.targets), *row)
            }
            xent::Error::Input(InputError::RowValue { option, row, .. }) => match option {
                RowOption::LabelSmoothing => (file_of(&options.epsilon), *row),
                RowOption::Lambda => (file_of(&options.lambda), *row),
                RowOption::Weight => (options.row_weights.as_ref(), *row),
                _ => (None, *row),
            },
            _ => return Error::input(error),
        };
        let at = position(self.shape, row)
            .map_or(String::new(), |position| format!("; the row is at {position:?}"));
        match file {
            Some(place) => Error::in_file(&place.file, format!("{error}{at}")),
            None => Error::input(format!("{error}{at}")),
        }
    }

    /// Of the two files of a mix, the one with the label that was found; the first labels are
    /// checked first.
    fn file_with_label(&self, row: usize, label: i64) -> &'a Place {
        match (&self.batch.targets, &self.options.mix) {
            (HostTargets::Mix { a: HostIndices::I64(a), .. }, Some(mix)) if a[row] != label => mix,
            _ => &self.options.targets,
        }
    }
}

/// Probabilities if the file has floats, class indices if it has integers.
fn targets(
    path: &Place,
    shape: &LogitsShape,
    classes: &ClassNames,
    ignored: Option<&[bool]>,
) -> Result<(HostTargets<'static>, Option<Array>)> {
    let array = arrays::targets(path, classes)?;
    let (dtype, found) = (array.dtype(), array.shape().to_vec());
    if found == shape.dims() && dtype.is_float() {
        return Ok((HostTargets::Probabilities, Some(array)));
    }
    if found == shape.row_dims() && !dtype.is_float() && dtype != Dtype::Bool {
        return Ok((
            HostTargets::Classes(class_indices(path, &array.into_values(), ignored)?.into()),
            None,
        ));
    }
    let (rows, logits) = (shape.row_dims(), shape.dims());
    let expected = format!(
        "expected {rows:?} of integers (class indices) or {logits:?} of floats (probabilities)"
    );
    Err(Error::in_file(
        &path.file,
        format!(
            "{ARRAY} has shape {found:?} and dtype {}, {expected}, for logits of shape {logits:?}",
            dtype.name()
        ),
    ))
}

fn probabilities<'a>(array: &'a Array, shape: &LogitsShape) -> xent::Result<Targets<'a>> {
    let (dims, strides, axis) = (array.shape(), array.strides(), shape.axis() as isize);
    Ok(match array.values() {
        Values::F16(entries) => Rows::strided(entries, dims, &strides, 0, axis)?.into(),
        Values::Bf16(entries) => Rows::strided(entries, dims, &strides, 0, axis)?.into(),
        Values::F32(entries) => Rows::strided(entries, dims, &strides, 0, axis)?.into(),
        Values::F64(entries) => Rows::strided(entries, dims, &strides, 0, axis)?.into(),
        // `targets` takes floats alone for probabilities.
        _ => Rows::strided(&[0.0f64; 0][..], dims, &strides, 0, axis)?.into(),
    })
}

fn allowed(path: &Place, shape: &LogitsShape) -> Result<HostAllowed> {
    let (array, shared) = read_shaped(path, |found| shape.expect_classes_or_logits(ARRAY, found))?;
    let values = if shared {
        array.into_values()
    } else {
        array.into_values_along(&shape.class_axis_last())
    };
    Ok(HostAllowed { entries: truths(path, values)?, shared })
}
