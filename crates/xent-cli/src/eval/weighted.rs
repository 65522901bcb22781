//! The numbers with row weights, in a further pass over the files: raw, and at the temperature.

use serde::Serialize;
use xent_arrays::open_numbers;
use xent_metrics::{ExactSum, Extended, LabelledRows, Mean, Reader, Row, Settings};

use super::beside::Beside;
use super::comparison::Comparison;
use super::pass::Pass;
use super::{Passes, begin};
use crate::error::{Error, Result};
use crate::spread::TTest;

/// The numbers with row weights.
#[derive(Debug, Serialize)]
pub struct Weighted {
    /// The number of rows with a weight above 0.
    pub rows: u64,
    /// The sum of the weights.
    pub weight: f64,
    /// The share of right rows.
    pub accuracy: Weighed,
    /// At temperature 1.
    pub raw: Scored,
    /// At the temperature.
    pub scaled: Scored,
}

/// The numbers at one temperature.
#[derive(Debug, Serialize)]
pub struct Scored {
    /// Mean of −ln p of the label.
    pub nll: Weighed,
    /// e to the NLL.
    pub perplexity: Extended,
    /// The Brier score.
    pub brier: Weighed,
    /// Expected calibration error, bins of equal width.
    pub ece: f64,
}

/// A weighted mean.
#[derive(Debug, Serialize)]
pub struct Weighed {
    /// The mean.
    pub value: Extended,
    /// Its 95 % t interval.
    pub interval: Option<(f64, f64)>,
}

impl Weighed {
    /// Of rows.
    pub fn new(mean: &Mean) -> Self {
        let test = TTest::new(mean.value(), mean.error(), mean.rows() as f64);
        Self { value: Extended(mean.value()), interval: test.map(|test| test.interval()) }
    }
}

/// Adds the weighted numbers to those of every model.
///
/// # Errors
/// The files of the weights do not have one finite weight ≥ 0 for each row, or all are 0.
pub fn weigh(passes: &Passes<'_>, comparison: &mut Comparison) -> Result<()> {
    let Passes { options, models, .. } = passes;
    let bar = passes.bar();
    for (model, scores) in models.iter().zip(&mut comparison.models) {
        begin(&bar, &format!("{} with its weights", model.name));
        let input = passes.input(model);
        let pass = Pass::new(&input, options.threads, &bar);
        let weights = options.weights()?;
        let feed =
            pass.open()?.beside(vec![Beside::open(weights.clone(), Box::new(open_numbers))?]);
        let settings = options.settings(feed.classes());
        let temperature = scores.temperature();
        let all = pass.run(feed, &|| Sums::new(&settings), &|sums, rows, beside| {
            sums.add(rows, &beside[0], &settings, temperature)
        })?;
        let mut sums = Sums::new(&settings);
        all.iter().for_each(|other| sums.merge(other));
        if sums.accuracy.rows() == 0 {
            return Err(Error::input(format!("{}: all weights are 0", weights[0])));
        }
        scores.weighted = Some(sums.weighted());
    }
    bar.finish_and_clear();
    Ok(())
}

/// The sums of a pass.
struct Sums {
    reader: Reader,
    accuracy: Mean,
    /// Raw, and at the temperature.
    at: [AtTemperature; 2],
}

#[derive(Default)]
struct AtTemperature {
    nll: Mean,
    brier: Mean,
    /// For each bin of confidence, Σ weight·(right − confidence).
    bins: Vec<ExactSum>,
}

impl Sums {
    fn new(settings: &Settings) -> Self {
        let bins = vec![ExactSum::default(); settings.binning.slots(settings.bins)];
        let at = || AtTemperature { bins: bins.clone(), ..Default::default() };
        Self { reader: Reader::default(), accuracy: Mean::default(), at: [at(), at()] }
    }

    fn add(
        &mut self,
        rows: &LabelledRows<'_>,
        weights: &[f64],
        settings: &Settings,
        temperature: f64,
    ) -> Result<()> {
        for (row, logits, label) in rows.evaluated(settings) {
            let weight = weights[row];
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::input(format!(
                    "the weight of row {} of {} is {weight}, expected a finite number from 0 up",
                    rows.first + row as u64,
                    rows.source
                )));
            }
            // Rows that are not finite are left out here, too.
            let Ok(raw) = self.reader.read(logits, label, 1.0) else { continue };
            let Ok(scaled) = self.reader.read(logits, label, temperature) else { continue };
            self.accuracy.add(f64::from(u8::from(raw.rank == 0)), weight);
            for (at, row) in self.at.iter_mut().zip([raw, scaled]) {
                at.add(&row, weight, settings);
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.accuracy.merge(&other.accuracy);
        for (at, other) in self.at.iter_mut().zip(&other.at) {
            at.nll.merge(&other.nll);
            at.brier.merge(&other.brier);
            at.bins.iter_mut().zip(&other.bins).for_each(|(bin, other)| bin.merge(other));
        }
    }

    fn weighted(&self) -> Weighted {
        let weight = self.accuracy.weight();
        let [raw, scaled] = self.at.each_ref().map(|at| at.scored(weight));
        let (rows, accuracy) = (self.accuracy.rows(), Weighed::new(&self.accuracy));
        Weighted { rows, weight, accuracy, raw, scaled }
    }
}

impl AtTemperature {
    fn add(&mut self, row: &Row, weight: f64, settings: &Settings) {
        self.nll.add(row.nll, weight);
        self.brier.add(row.brier, weight);
        let right = f64::from(u8::from(row.rank == 0));
        let bin = settings.binning.bin_of(row.confidence, settings.bins);
        self.bins[bin].add(weight * (right - row.confidence));
    }

    fn scored(&self, weight: f64) -> Scored {
        Scored {
            nll: Weighed::new(&self.nll),
            perplexity: Extended(self.nll.value().exp()),
            brier: Weighed::new(&self.brier),
            ece: self.bins.iter().map(|bin| bin.value().abs()).sum::<f64>() / weight,
        }
    }
}
