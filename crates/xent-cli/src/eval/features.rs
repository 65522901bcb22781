//! How features lie around the means of their classes, in a further pass over the files.

use serde::Serialize;
use xent_metrics::Features;

use super::beside::{Beside, open_rows};
use super::comparison::Comparison;
use super::pass::Pass;
use super::{Passes, begin};
use crate::error::{Error, Result};

/// How features lie.
#[derive(Debug, Serialize)]
pub struct FeatureScores {
    /// The number of rows.
    pub rows: u64,
    /// The number of features of a row.
    pub features: usize,
    /// 1 less the mean cosine distance within classes over that of all rows.
    pub class_separation: Option<f64>,
    /// The mean squared distance of rows from the mean of their class.
    pub within_variance: f64,
    /// The mean squared distance of the classes' means from the mean of all.
    pub between_variance: f64,
    /// The first over the second; none if all classes have one mean.
    pub within_over_between: Option<f64>,
}

/// Adds what the features say to the numbers of the model. The rows are added up in their order, on
/// one thread, so that the numbers do not depend on the threads.
///
/// # Errors
/// A file does not have a row of finite numbers for each row, or there is no memory for their means.
pub fn measure(passes: &Passes<'_>, comparison: &mut Comparison) -> Result<()> {
    let Passes { options, models, .. } = passes;
    let (model, bar) = (&models[0], passes.bar());
    let input = passes.input(model);
    let places = options.features()?;
    let rows = Beside::open(places.clone(), Box::new(open_rows))?;
    let width = rows.width();
    begin(&bar, &format!("{} with its features", model.name));
    let mut feed = Pass::new(&input, options.threads, &bar).open()?.beside(vec![rows]);
    bar.set_length(feed.bytes());
    let classes = feed.classes();
    let mut features = Features::new(classes, width).ok_or_else(|| {
        let place = &places[0];
        Error::input(format!("{place}: not enough memory for {classes} means of {width} features"))
    })?;
    while let Some(piece) = feed.next()? {
        let each = piece.labels.iter().zip(piece.beside[0].chunks(width)).enumerate();
        for (row, (label, numbers)) in each {
            let class = usize::try_from(*label).ok().filter(|class| *class < classes);
            let Some(class) = class.filter(|_| !options.ignore_index.contains(label)) else {
                continue;
            };
            if let Some(feature) = numbers.iter().position(|x| !x.is_finite()) {
                return Err(Error::input(format!(
                    "feature {feature} of row {} of {} is {}, expected a finite number",
                    piece.first + row as u64,
                    model.logits[piece.source],
                    numbers[feature]
                )));
            }
            features.add(class, numbers);
        }
        bar.inc(piece.bytes);
    }
    bar.finish_and_clear();
    let (within, between) = (features.within(), features.between());
    comparison.models[0].features = Some(FeatureScores {
        rows: features.rows(),
        features: width,
        class_separation: features.separation(),
        within_variance: within,
        between_variance: between,
        within_over_between: (between > 0.0).then_some(within / between),
    });
    Ok(())
}
