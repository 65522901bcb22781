//! How models differ on the same rows: a further pass over the files of each model and of the
//! first, row by row, because the scores of two models on the same rows are far from independent.

use indicatif::ProgressBar;
use serde::Serialize;
use xent_arrays::{ClassNames, Place, open_labels};
use xent_metrics::{Extended, LabelledRows, Logits, Mean, NotFinite, Reader, Row, Settings};

use super::beside::Beside;
use super::comparison::{Comparison, ModelScores};
use super::feed::{Feed, Input};
use super::options::EvalOptions;
use super::pass::Pass;
use super::{Passes, begin};
use crate::error::{Error, Result};
use crate::report::{Contrast, Contrasts};
use crate::spread::{TTest, holm, mcnemar};

/// How a model differs from the first.
#[derive(Debug, Serialize)]
pub struct Paired {
    /// Its name.
    pub model: String,
    /// The name of the first.
    pub against: String,
    /// The number of rows.
    pub rows: u64,
    /// Rows that this model has right and the first wrong.
    pub right_only_here: u64,
    /// Rows that the first has right and this model wrong.
    pub right_only_there: u64,
    /// The share of right rows; p is that of McNemar's exact test.
    pub accuracy: Difference,
    /// −ln p of the label.
    pub nll: Difference,
    /// The same at each model's temperature.
    pub nll_after_temperature: Difference,
    /// The Brier score.
    pub brier: Difference,
    /// The same at each model's temperature.
    pub brier_after_temperature: Difference,
}

/// The mean over the rows of a difference.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The mean.
    pub mean: Extended,
    /// Its 95 % t interval.
    pub interval: Option<(f64, f64)>,
    /// Two-sided, by the paired t-test over the rows unless another is named.
    pub p: Option<f64>,
    /// Whether p is below 5 % after Holm's correction over the other models.
    pub more_than_noise: bool,
}

impl Difference {
    fn new(mean: &Mean) -> Self {
        let test = TTest::new(mean.value(), mean.error(), mean.rows() as f64);
        Self {
            mean: Extended(mean.value()),
            interval: test.map(|test| test.interval()),
            p: test.map(|test| test.p()),
            more_than_noise: false,
        }
    }
}

/// A difference of two models.
type Of = fn(&mut Paired) -> &mut Difference;

/// Every difference.
const ALL: [Of; 5] = [
    |paired| &mut paired.accuracy,
    |paired| &mut paired.nll,
    |paired| &mut paired.nll_after_temperature,
    |paired| &mut paired.brier,
    |paired| &mut paired.brier_after_temperature,
];

/// Compares every other model with the first.
///
/// # Errors
/// The models' files have other rows or labels.
pub fn pair(passes: &Passes<'_>, comparison: &mut Comparison) -> Result<()> {
    let bar = passes.bar();
    let [first, others @ ..] = passes.models else { return Ok(()) };
    let temperatures: Vec<f64> = comparison.models.iter().map(ModelScores::temperature).collect();
    let there = passes.input(first);
    for (index, other) in others.iter().enumerate() {
        let here = passes.input(other);
        same_labels(&here, &there)?;
        begin(&bar, &format!("{} beside {}", other.name, first.name));
        let temperatures = [temperatures[0], temperatures[index + 1]];
        let sums = Sums::new(passes.options, &here, &there, temperatures, &bar)?;
        comparison.paired.push(sums.paired(&other.name, &first.name));
    }
    bar.finish_and_clear();
    for of in ALL {
        let p: Vec<_> = comparison.paired.iter_mut().map(|paired| of(paired).p).collect();
        for (paired, beyond) in comparison.paired.iter_mut().zip(holm(&p)) {
            of(paired).more_than_noise = beyond;
        }
    }
    Ok(())
}

/// Checks that the classes are in the same order, and that labels of the same rows
/// come from the same files, or are equal.
fn same_labels(here: &Input<'_>, there: &Input<'_>) -> Result<()> {
    let (this, first) = (&here.logits[0], &there.logits[0]);
    let (our_feed, their_feed) = (Feed::open(here)?, Feed::open(there)?);
    let sorted = |feed: &Feed<'_>| {
        let mut names = feed.names().to_vec();
        names.sort();
        names
    };
    // Names may differ by what a model is called, but not in their order alone.
    if our_feed.names() != their_feed.names() && sorted(&our_feed) == sorted(&their_feed) {
        return Err(Error::input(format!(
            "{this}: the classes have the same names as in {first}, in another order"
        )));
    }
    if here.labels == there.labels {
        return Ok(());
    }
    let all = |places: &[Place], called: &ClassNames| -> Result<Vec<i64>> {
        let mut labels = Vec::new();
        for place in places {
            let mut rows = open_labels(place, called).map_err(Error::input)?;
            while rows.next(1 << 16, &mut labels).map_err(Error::input)? > 0 {}
        }
        Ok(labels)
    };
    let ours = all(here.labels, our_feed.labels_called())?;
    let theirs = all(there.labels, their_feed.labels_called())?;
    let expected = "expected the same rows in both";
    if let Some(row) = ours.iter().zip(&theirs).position(|(a, b)| a != b) {
        return Err(Error::input(format!(
            "{this}: row {row} has the label {}, and {} in {first}; {expected}",
            ours[row], theirs[row]
        )));
    }
    if ours.len() != theirs.len() {
        return Err(Error::input(format!(
            "{this}: {} rows, and {} in {first}; {expected}",
            ours.len(),
            theirs.len()
        )));
    }
    Ok(())
}

/// The sums of a pass over two models.
#[derive(Default)]
struct Sums {
    reader: Reader,
    right_only_here: u64,
    right_only_there: u64,
    accuracy: Mean,
    /// Raw, and after temperature scaling.
    nll: [Mean; 2],
    brier: [Mean; 2],
}

impl Sums {
    fn new(
        options: &EvalOptions,
        here: &Input<'_>,
        there: &Input<'_>,
        temperatures: [f64; 2],
        bar: &ProgressBar,
    ) -> Result<Self> {
        let pass = Pass::new(here, options.threads, bar);
        let feed = pass.open()?;
        let settings = options.settings(feed.classes());
        let beside = beside(there)?;
        let width = beside.width();
        let all = pass.run(feed.beside(vec![beside]), &Self::default, &|sums, rows, beside| {
            let there = if options.probabilities {
                beside[0].iter().map(|p| p.ln()).collect()
            } else {
                beside[0].clone()
            };
            sums.add(rows, &there, width, &settings, temperatures);
            Ok(())
        })?;
        let mut sums = Self::default();
        all.iter().for_each(|other| sums.merge(other));
        Ok(sums)
    }

    fn add(
        &mut self,
        rows: &LabelledRows<'_>,
        there: &[f64],
        width: usize,
        settings: &Settings,
        [first, this]: [f64; 2],
    ) {
        for (row, logits, label) in rows.evaluated(settings) {
            // Each model has been evaluated with these labels, unless its files have changed since.
            if label >= width {
                continue;
            }
            let other = Logits::F64(&there[row * width..(row + 1) * width]);
            let mut read = || -> std::result::Result<[[Row; 2]; 2], NotFinite> {
                Ok([
                    [self.reader.read(other, label, 1.0)?, self.reader.read(logits, label, 1.0)?],
                    [
                        self.reader.read(other, label, first)?,
                        self.reader.read(logits, label, this)?,
                    ],
                ])
            };
            // Rows that are not finite are left out here, too.
            let Ok(read) = read() else { continue };
            let [there, here] = read[0].map(|row| row.rank == 0);
            self.right_only_here += u64::from(here && !there);
            self.right_only_there += u64::from(there && !here);
            self.accuracy.add(f64::from(u8::from(here)) - f64::from(u8::from(there)), 1.0);
            for (index, [there, here]) in read.iter().enumerate() {
                self.nll[index].add(here.nll - there.nll, 1.0);
                self.brier[index].add(here.brier - there.brier, 1.0);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.right_only_here += other.right_only_here;
        self.right_only_there += other.right_only_there;
        self.accuracy.merge(&other.accuracy);
        for index in 0..2 {
            self.nll[index].merge(&other.nll[index]);
            self.brier[index].merge(&other.brier[index]);
        }
    }

    fn paired(&self, model: &str, against: &str) -> Paired {
        let accuracy = Difference {
            p: Some(mcnemar(self.right_only_here, self.right_only_there)),
            ..Difference::new(&self.accuracy)
        };
        let [nll, nll_after_temperature] = self.nll.each_ref().map(Difference::new);
        let [brier, brier_after_temperature] = self.brier.each_ref().map(Difference::new);
        Paired {
            model: model.to_string(),
            against: against.to_string(),
            rows: self.accuracy.rows(),
            right_only_here: self.right_only_here,
            right_only_there: self.right_only_there,
            accuracy,
            nll,
            nll_after_temperature,
            brier,
            brier_after_temperature,
        }
    }
}

/// The logits of a model, beside those of another.
fn beside(input: &Input<'_>) -> Result<Beside> {
    let labels_of =
        |(file, place): (usize, &Place)| (place.clone(), input.labels_of(file).cloned());
    let own: Vec<(Place, Option<Place>)> = input.logits.iter().enumerate().map(labels_of).collect();
    let reading = input.reading.clone();
    let open = move |place: &Place| {
        let labels = own.iter().find(|(logits, _)| logits == place);
        reading.open(place, labels.and_then(|(_, labels)| labels.as_ref()))
    };
    Beside::open(input.logits.to_vec(), Box::new(open))
}

/// The differences as they are shown.
pub fn contrasts(comparison: &Comparison) -> Vec<Contrasts> {
    let Some(Paired { against, .. }) = comparison.paired.first() else { return Vec::new() };
    type Shown = (&'static str, fn(&Paired) -> &Difference);
    let measures: [Shown; 5] = [
        ("Accuracy", |paired| &paired.accuracy),
        ("NLL", |paired| &paired.nll),
        ("NLL after temperature scaling", |paired| &paired.nll_after_temperature),
        ("Brier score", |paired| &paired.brier),
        ("Brier score after temperature scaling", |paired| &paired.brier_after_temperature),
    ];
    let of_measure = |(measure, of): Shown| {
        let is_accuracy = measure == "Accuracy";
        let contrast = |paired: &Paired| {
            let Difference { mean, interval, more_than_noise, .. } = of(paired);
            Contrast {
                name: paired.model.clone(),
                difference: mean.0,
                interval: *interval,
                beyond_noise: *more_than_noise,
            }
        };
        Contrasts {
            measure,
            baseline: against.clone(),
            higher_is_better: is_accuracy,
            factor: if is_accuracy { 100.0 } else { 1.0 },
            unit: if is_accuracy { " points" } else { "" },
            decimals: if is_accuracy { 2 } else { 4 },
            rows: comparison.paired.iter().map(contrast).collect(),
        }
    };
    measures.map(of_measure).into()
}
