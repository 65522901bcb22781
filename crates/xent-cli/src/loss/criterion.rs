//! From options and files to a criterion.

use std::path::Path;

use xent::{Config, Criterion, Prior, PriorMatrix};

use super::entries::numbers;
use super::layout::{Layout, read};
use super::options::{Divisor, LossOptions, NumberOrFile, PriorChoice};
use crate::error::{Error, Result};
use xent_arrays::npy::Shape;

/// ε where a prior is asked for and no amount.
const USUAL_EPSILON: f64 = 0.1;

/// The criterion that the options describe, for logits of this layout.
pub fn criterion(options: &LossOptions, layout: &Layout) -> Result<Criterion> {
    let prior = prior(options, layout)?;
    let epsilon = match (&options.epsilon, &prior) {
        (Some(NumberOrFile::Number(epsilon)), _) => *epsilon,
        (None, Some(_)) => USUAL_EPSILON,
        (Some(NumberOrFile::File(_)) | None, _) => 0.0,
    };
    let mut config = Config::new()
        .label_smoothing(epsilon)
        .prior(prior.unwrap_or_default())
        .class_weighting(options.weighting)
        .masked(options.masked)
        .reduction(options.reduction)
        .empty_mean(options.empty_mean)
        .form(options.form)
        .z_loss(options.z_loss)
        .temperature(options.temperature);
    if let Some(path) = &options.class_weights {
        config = config.class_weights(class_weights(path, layout)?);
    }
    if let Divisor::Counted(denominator) = options.denominator {
        config = config.denominator(denominator);
    }
    if let Some(cap) = options.softcap {
        config = config.softcap(cap);
    }
    options.ignore_index.iter().fold(config, |config, &index| config.ignore_index(index)).build().map_err(Error::input)
}

fn class_weights(path: &Path, layout: &Layout) -> Result<Vec<f64>> {
    let array = read(path)?;
    if array.shape() != [layout.classes()] {
        return Err(layout.misfit(path, Shape(array.shape()), format!("({},), a weight a class", layout.classes())));
    }
    let weights = numbers(array.into_values()).map_err(|error| Error::in_file(path, error))?;
    // Checked alone, so that the error names the file.
    Config::new().class_weights(weights.as_slice()).build().map_err(|error| Error::in_file(path, error))?;
    Ok(weights)
}

/// `None` if no prior was asked for.
fn prior(options: &LossOptions, layout: &Layout) -> Result<Option<Prior>> {
    let excluding = || Prior::Excluding(options.exclude.clone());
    Ok(match (&options.prior, options.exclude.is_empty()) {
        (None, true) => None,
        (Some(PriorChoice::Uniform), true) => Some(Prior::Uniform),
        (Some(PriorChoice::Others), true) => Some(Prior::WrongClasses),
        (Some(PriorChoice::File(path)), true) => Some(prior_file(path, layout)?),
        (None | Some(PriorChoice::Others), false) => Some(excluding()),
        (Some(PriorChoice::Uniform), false) => {
            return Err(Error::input(
                "--exclude spreads ε over the wrong classes alone, but --prior uniform gives the true class its share, too: expected --prior others, or no --prior",
            ));
        }
        (Some(PriorChoice::File(path)), false) => {
            return Err(Error::input(format!(
                "--exclude spreads ε evenly over the wrong classes, but {} says itself what each class gets: expected --prior others, no --prior, or zeros in the file",
                path.display()
            )));
        }
    })
}

fn prior_file(path: &Path, layout: &Layout) -> Result<Prior> {
    let classes = layout.classes();
    let array = read(path)?;
    let shape = array.shape().to_vec();
    if shape != [classes] && shape != [classes, classes] {
        let expected = format!("{} or {}, by class or by true class and class", Shape(&[classes]), Shape(&[classes, classes]));
        return Err(layout.misfit(path, Shape(array.shape()), expected));
    }
    let entries = numbers(array.into_values()).map_err(|error| Error::in_file(path, error))?;
    let prior = if shape.len() == 1 {
        let prior = Prior::Fixed(entries);
        Config::new().prior(prior.clone()).build().map(|_| prior)
    } else {
        PriorMatrix::new(classes, entries).map(Prior::ByTrueClass)
    };
    prior.map_err(|error| Error::in_file(path, error))
}
