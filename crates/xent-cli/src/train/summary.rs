//! The runs, grouped by amount of smoothing.

use serde_json::{Map, Value, json};
use xent_metrics::{Optimum, Reliability};

use super::experiment::Experiment;
use super::measure::{Facts, MEASURES, Measure};
use super::run::{Point, Run};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::spread::Spread;

/// All results of a run of the program.
pub struct Summary {
    /// What was trained.
    pub experiment: Experiment,
    /// A description of the data.
    pub about: String,
    /// The number of features.
    pub width: usize,
    /// K.
    pub classes: usize,
    /// Rows in each part.
    pub rows: Split<usize>,
    /// Whether the test part came with the data; otherwise each seed draws its own.
    pub given_test: bool,
    /// One per ε, in the order given.
    pub arms: Vec<Arm>,
}

/// All runs with one ε.
pub struct Arm {
    /// ε.
    pub epsilon: f64,
    /// The optimum of its loss.
    pub optimum: Optimum,
    /// In the order of their seeds.
    pub runs: Vec<Run>,
}

impl Summary {
    /// From one run per ε and seed, in this order.
    pub fn new(experiment: Experiment, dataset: &Dataset, runs: Vec<Run>) -> Result<Self> {
        let classes = dataset.classes.len();
        let rows = runs[0].rows;
        let mut runs = runs.into_iter();
        let arms = experiment
            .epsilon
            .iter()
            .map(|&epsilon| {
                Ok(Arm {
                    epsilon,
                    optimum: Optimum::new(experiment.prior, epsilon, classes)
                        .map_err(Error::failed)?,
                    runs: runs.by_ref().take(experiment.seeds).collect(),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            about: dataset.about.clone(),
            given_test: dataset.given_test.is_some(),
            width: dataset.width,
            classes,
            rows,
            arms,
            experiment,
        })
    }

    /// The runs without smoothing, if there are any.
    pub fn plain(&self) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.epsilon == 0.0)
    }

    /// The runs with smoothing.
    pub fn smoothed(&self) -> impl Iterator<Item = &Arm> {
        self.arms.iter().filter(|arm| arm.epsilon > 0.0)
    }

    /// Layer widths, `64→128→10`.
    pub fn layers(&self) -> String {
        let widths = std::iter::once(self.width)
            .chain(self.experiment.network.hidden.iter().copied())
            .chain([self.classes]);
        widths.map(|width| width.to_string()).collect::<Vec<_>>().join("→")
    }
}

impl Arm {
    /// A measure over the seeds, if the runs have it.
    pub fn spread(&self, measure: Measure) -> Option<Spread> {
        self.spread_of(measure.facts())
    }

    fn spread_of(&self, facts: &Facts) -> Option<Spread> {
        self.runs.iter().map(facts.of).collect::<Option<Vec<f64>>>().map(Spread::new)
    }

    /// A curve over the seeds: epochs, and the spread at each.
    pub fn curve(&self, value: fn(&Point) -> f64) -> Vec<(usize, Spread)> {
        let points = self.runs[0].curve.iter().map(|point| point.epoch).enumerate();
        points
            .map(|(index, epoch)| {
                (epoch, Spread::new(self.runs.iter().map(|run| value(&run.curve[index])).collect()))
            })
            .collect()
    }

    /// The bins of all seeds together, before or after the temperature.
    pub fn reliability(&self, which: fn(&Run) -> &Reliability) -> Reliability {
        let mut pooled = which(&self.runs[0]).clone();
        self.runs[1..].iter().for_each(|run| pooled.add(which(run)));
        pooled
    }

    /// On how many seeds no temperature fits the validation part best, so that it stayed at 1.
    pub fn without_temperature(&self) -> usize {
        self.runs.iter().filter(|run| run.temperature.no_optimum.is_some()).count()
    }

    /// As JSON: every measure with its value for each seed, curves, bins.
    pub fn to_json(&self) -> Value {
        let measures: Map<String, Value> = MEASURES
            .iter()
            .filter_map(|facts| Some((facts.key.to_string(), json!(self.spread_of(facts)?))))
            .collect();
        json!({
            "epsilon": self.epsilon,
            "optimum": self.optimum,
            "measures": measures,
            "runs_without_temperature": self.without_temperature(),
            "curves": self.runs.iter().map(|run| json!({"seed": run.seed, "points": run.curve})).collect::<Vec<_>>(),
            "reliability": self.reliability(|run| &run.raw.reliability),
            "reliability_after_temperature": self.reliability(|run| &run.scaled.reliability),
        })
    }
}
