//! From options and files to a criterion.

use xent::host::LogitsShape;
use xent::{Config, Criterion, Prior, PriorMatrix};
use xent_arrays::Place;
use xent_metrics::UniformPrior;

use super::arrays::{ARRAY, numbers, read_shaped};
use super::options::{Divisor, LossOptions, OrFile};
use crate::error::{Error, Result};

/// The default ε if a prior is given.
const USUAL_EPSILON: f64 = 0.1;

/// The criterion that the options describe, for logits of this shape.
pub fn criterion(options: &LossOptions, shape: &LogitsShape) -> Result<Criterion> {
    let prior = prior(options, shape)?;
    let mut config = Config::new();
    config.label_smoothing = match (&options.epsilon, &prior) {
        (Some(OrFile::Value(epsilon)), _) => *epsilon,
        (None, Some(_)) => USUAL_EPSILON,
        (Some(OrFile::File(_)) | None, _) => 0.0,
    };
    config.prior = prior.unwrap_or_default();
    config.class_weights =
        options.class_weights.as_ref().map(|path| class_weights(path, shape)).transpose()?;
    config.class_weighting = options.class_weighting;
    config.ignore_indices = options.ignore_index.clone();
    config.masked = options.masked;
    config.reduction = options.reduction;
    if let Divisor::Counted(denominator) = options.denominator {
        config.denominator = denominator;
    }
    config.empty_mean = options.empty_mean;
    config.form = options.form;
    config.z_loss = options.z_loss;
    config.softcap = options.softcap;
    config.temperature = options.temperature;
    config.build().map_err(Error::input)
}

fn class_weights(path: &Place, shape: &LogitsShape) -> Result<Vec<f64>> {
    let (array, ()) = read_shaped(path, |found| shape.expect_classes(ARRAY, found))?;
    let weights = numbers(path, array.into_values())?;
    // Checked alone, so that the error names the file.
    Config::new()
        .class_weights(&weights)
        .build()
        .map_err(|error| Error::in_file(&path.file, error))?;
    Ok(weights)
}

/// `None` if no prior is given.
fn prior(options: &LossOptions, shape: &LogitsShape) -> Result<Option<Prior>> {
    let excluding = || Prior::Excluding(options.exclude.clone());
    Ok(match (&options.prior, options.exclude.is_empty()) {
        (None, true) => None,
        (Some(OrFile::Value(prior)), true) => Some(prior.prior()),
        (Some(OrFile::File(path)), true) => Some(prior_file(path, shape)?),
        (None | Some(OrFile::Value(UniformPrior::WrongClasses)), false) => Some(excluding()),
        (Some(OrFile::Value(UniformPrior::Uniform)), false) => {
            return Err(Error::input(
                "--exclude spreads ε over wrong classes alone, but --prior uniform gives the true class its share, too: expected --prior wrong_classes, or no --prior",
            ));
        }
        (Some(OrFile::File(path)), false) => {
            return Err(Error::input(format!(
                "--exclude spreads ε evenly over wrong classes, but {} itself says what each class gets: expected --prior wrong_classes, no --prior, or zeros in the file",
                path
            )));
        }
    })
}

fn prior_file(path: &Place, shape: &LogitsShape) -> Result<Prior> {
    let classes = shape.classes();
    let (array, by_true_class) = read_shaped(path, |found| match found {
        [length] if *length == classes => Ok(false),
        [rows, columns] if *rows == classes && *columns == classes => Ok(true),
        _ => Err(xent::Error::Shape {
            name: ARRAY,
            found: found.to_vec(),
            expected: format!(
                "[{classes}] or [{classes}, {classes}], one entry per class, or per true class and class,"
            ),
            logits: shape.dims().to_vec(),
            axis: shape.axis(),
        }),
    })?;
    let entries = numbers(path, array.into_values())?;
    let prior = if by_true_class {
        PriorMatrix::new(classes, entries).map(Prior::ByTrueClass)
    } else {
        let prior = Prior::Fixed(entries);
        Config::new().prior(prior.clone()).build().map(|_| prior)
    };
    prior.map_err(|error| Error::in_file(&path.file, error))
}
