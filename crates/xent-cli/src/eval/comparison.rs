//! The scores of all models.

use serde::Serialize;
use xent_metrics::{
    EpsilonEstimate, Evaluated, Extended, Optimum, Scored, Scores, UniformPrior, estimate_epsilon,
};

use super::features::FeatureScores;
use super::paired::Paired;
use super::remarks::remarks;
use super::soft::Soft;
use super::weighted::Weighted;
use crate::error::{Error, Result};

/// The models side by side.
pub struct Comparison {
    /// In the order given.
    pub models: Vec<ModelScores>,
    /// The prior of the smoothed losses.
    pub prior: UniformPrior,
    /// How each other model differs from the first on the same rows, if those were read.
    pub paired: Vec<Paired>,
}

/// The numbers of a model.
#[derive(Serialize)]
pub struct ModelScores {
    /// Its name in the report.
    pub name: String,
    /// What should be looked at before the numbers are believed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// The number of rows of its files, ignored ones included.
    pub rows_read: u64,
    /// The numbers.
    #[serde(flatten)]
    pub scores: Scores,
    /// Losses at smoothed targets.
    pub smoothed: Vec<Smoothed>,
    /// The ε that it may have been trained with, if the gaps tell.
    pub epsilon_estimate: Option<EpsilonEstimate>,
    /// The numbers against soft targets, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_targets: Option<Soft>,
    /// The numbers with row weights, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Weighted>,
    /// How its features lie, if they are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureScores>,
}

/// A loss at a smoothed target.
#[derive(Serialize)]
pub struct Smoothed {
    /// ε.
    pub epsilon: f64,
    /// The mean over the rows.
    pub loss: Extended,
    /// After temperature scaling.
    pub loss_after_temperature: Option<Extended>,
    /// The lowest that it can be.
    pub floor: f64,
}

impl ModelScores {
    /// The temperature of the numbers after temperature scaling.
    pub fn temperature(&self) -> f64 {
        self.scores.temperature.map_or(1.0, |temperature| temperature.value)
    }
}

impl Comparison {
    /// From the evaluations of the models.
    pub fn new(models: &[Evaluated], (prior, epsilons): (UniformPrior, &[f64])) -> Result<Self> {
        let model = |Evaluated { name, evaluation, .. }: &Evaluated| -> Result<ModelScores> {
            let scores = evaluation.scores();
            let smoothed = |epsilon: f64| -> Result<Smoothed> {
                let loss = |scored: &Scored| Extended(scored.smoothed_loss(prior, epsilon));
                let floor =
                    Optimum::new(prior, epsilon, scores.classes).map_err(Error::failed)?.floor;
                Ok(Smoothed {
                    epsilon,
                    loss: loss(&scores.raw),
                    loss_after_temperature: scores.scaled.as_ref().map(loss),
                    floor,
                })
            };
            Ok(ModelScores {
                name: name.clone(),
                remarks: remarks(&scores.raw),
                rows_read: evaluation.sources().values().map(|source| source.rows).sum(),
                smoothed: epsilons
                    .iter()
                    .map(|epsilon| smoothed(*epsilon))
                    .collect::<Result<_>>()?,
                epsilon_estimate: estimate_epsilon(&scores.raw.gap, scores.classes),
                soft_targets: None,
                weighted: None,
                features: None,
                scores,
            })
        };
        let models = models.iter().map(model).collect::<Result<_>>()?;
        Ok(Self { models, prior, paired: Vec::new() })
    }

    /// The models and their numbers of rows, in a line.
    pub fn headline(&self) -> String {
        let first = &self.models[0];
        let same = self.models.iter().all(|model| {
            (model.scores.raw.rows, model.scores.classes)
                == (first.scores.raw.rows, first.scores.classes)
        });
        let rows = |model: &ModelScores| {
            let scores = &model.scores;
            let left_out = match (scores.ignored, scores.not_finite) {
                (0, 0) => String::new(),
                (ignored, 0) => format!(" ({ignored} ignored)"),
                (0, bad) => format!(" ({bad} with NaN or infinite logits left out)"),
                (ignored, bad) => {
                    format!(" ({ignored} ignored, {bad} with NaN or infinite logits left out)")
                }
            };
            format!("{} rows{left_out}, {} classes", scores.raw.rows, scores.classes)
        };
        match &self.models[..] {
            [only] => format!("{}: {}.", only.name, rows(only)),
            models if same => format!("{} models: {}.", models.len(), rows(first)),
            models => models
                .iter()
                .map(|model| format!("{}: {}.", model.name, rows(model)))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}
