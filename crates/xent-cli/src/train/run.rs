//! One training run: one amount of smoothing, one seed, one thread.

use std::path::Path;

use ndarray::{Array2, ArrayView2, Axis};
use rand::seq::SliceRandom;
use serde::Serialize;
use xent::{Criterion, Rows};
use xent_metrics::{Chance, Reliability, Tally, Temperature};

use super::experiment::Experiment;
use super::logits::PartLogits;
use super::network::{Network, Rate};
use crate::data::{Dataset, Part, Split, split};
use crate::error::{Error, Result};
use crate::seed::{Purpose, stream};

/// The most points of a curve, not counting its start.
const MOST_POINTS: usize = 200;

/// The results of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// ε.
    pub epsilon: f64,
    /// The seed of split, label noise, initial weights and order.
    pub seed: u64,
    /// The number of rows in each part.
    pub rows: Split<usize>,
    /// From before the first epoch to after the last.
    pub curve: Vec<Point>,
    /// Fitted to the validation part.
    pub temperature: Temperature,
    /// The probabilities of the test part at temperature 1.
    pub raw: Probabilities,
    /// The probabilities of the test part at the fitted temperature.
    pub scaled: Probabilities,
    /// Share of right test rows; it does not depend on the temperature.
    pub accuracy: f64,
    /// AURC at temperature 1.
    pub aurc: f64,
    /// The scores of the best possible classifier on the test part, if the truth is known.
    pub best: Option<Best>,
}

/// The state of a run after some epochs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Point {
    /// The number of epochs.
    pub epoch: usize,
    /// The smoothed loss on the training part.
    pub train_loss: f64,
    /// The same with ε = 0.
    pub train_nll: f64,
    /// −ln p of the test labels.
    pub test_nll: f64,
    /// Mean logit gap of the training rows.
    pub train_gap: f64,
    /// Mean logit gap of the test rows.
    pub test_gap: f64,
}

/// How good the probabilities of the test part are.
#[derive(Debug, Clone)]
pub struct Probabilities {
    /// −ln p of the labels.
    pub nll: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// The ECE of a perfectly calibrated model with these confidences.
    pub chance_ece: Chance,
    /// The bins of the ECE.
    pub reliability: Reliability,
    /// KL(truth ‖ model), if the truth is known.
    pub kl: Option<f64>,
}

/// The classifier that knows the truth.
#[derive(Debug, Clone, Copy)]
pub struct Best {
    /// Its expected −ln p: the entropy of the truth.
    pub nll: f64,
    /// Its expected accuracy.
    pub accuracy: f64,
}

/// Trains once. `after_epoch` is called after every epoch; the weights are written to `save`, if
/// given.
///
/// All random numbers come from the seed, in streams that do not depend on ε: two runs with the
/// same seed share their split, initial weights and batches.
pub fn run(
    experiment: &Experiment,
    dataset: &Dataset,
    epsilon: f64,
    seed: u64,
    save: Option<&Path>,
    after_epoch: &dyn Fn(),
) -> Result<Run> {
    let epochs = experiment.network.epochs;
    let parts = split(dataset, seed, experiment.data.label_noise);
    let mut network =
        Network::new(dataset.width, &experiment.network.hidden, dataset.classes.len(), seed);
    let observe = Observer { criterion: experiment.criterion(epsilon)?, parts: &parts };
    let mut trainer = Trainer::new(experiment, &parts.train, epsilon, seed)?;

    let mut curve = vec![observe.point(&network, 0)?];
    for epoch in 1..=epochs {
        trainer.epoch(&mut network)?;
        let points = MOST_POINTS.min(epochs);
        if epoch * points / epochs != (epoch - 1) * points / epochs {
            let point = observe.point(&network, epoch)?;
            if !(point.train_loss.is_finite() && point.test_nll.is_finite()) {
                return Err(Error::failed(format!(
                    "training with ε = {epsilon} and seed {seed} diverged: the loss is {} after {epoch} epochs; a lower --lr may help",
                    point.train_loss
                )));
            }
            curve.push(point);
        }
        after_epoch();
    }
    if let Some(path) = save {
        network.save(path)?;
    }

    let validation = network.logits(parts.validation.features.view());
    let temperature = validation.fit_temperature(&parts.validation.labels)?;
    let test = network.logits(parts.test.features.view());
    let evaluation = test.evaluation(&parts.test.labels, temperature.value)?;
    let (raw, accuracy, aurc) =
        (evaluation.raw(), evaluation.raw().accuracy(), evaluation.raw().mean_risk());
    let scaled = evaluation.scaled().unwrap_or(raw);
    let kl = |temperature: f64| {
        parts.test.truth.as_ref().map(|truth| test.kl_and_entropy(truth, temperature)).transpose()
    };
    let raw = probabilities(raw, kl(1.0)?, seed);
    let scaled = probabilities(scaled, kl(temperature.value)?, seed);
    let best = parts.test.truth.as_ref().map(|truth| best(&test, truth)).transpose()?;
    Ok(Run {
        epsilon,
        seed,
        rows: parts.map(|part| part.labels.len()),
        curve,
        temperature,
        raw,
        scaled,
        accuracy,
        aurc,
        best,
    })
}

impl Run {
    /// The state after the last epoch.
    pub fn end(&self) -> Point {
        self.curve[self.curve.len() - 1]
    }

    /// Whether the loss ended higher than it began.
    pub fn diverged(&self) -> bool {
        self.end().train_loss > self.curve[0].train_loss
    }

    /// How far the test part's NLL rose from the lowest point of its curve to the last.
    pub fn rise(&self) -> f64 {
        self.end().test_nll
            - self.curve.iter().map(|point| point.test_nll).fold(f64::INFINITY, f64::min)
    }

    /// How much the training rows' mean logit gap grew in the last tenth of the epochs.
    pub fn late_growth(&self) -> f64 {
        let end = self.end();
        let before = self
            .curve
            .iter()
            .rev()
            .find(|point| 10 * point.epoch <= 9 * end.epoch)
            .unwrap_or(&self.curve[0]);
        end.train_gap - before.train_gap
    }
}

struct Trainer<'a> {
    features: ArrayView2<'a, f32>,
    labels: &'a [u32],
    criterion: Criterion,
    rate: Rate,
    order: Vec<usize>,
    rng: rand_chacha::ChaCha8Rng,
    batch_size: usize,
}

impl<'a> Trainer<'a> {
    fn new(experiment: &Experiment, train: &'a Part, epsilon: f64, seed: u64) -> Result<Self> {
        Ok(Self {
            features: train.features.view(),
            labels: &train.labels,
            criterion: experiment.criterion(epsilon)?,
            rate: Rate::new(experiment.network.lr),
            order: (0..train.labels.len()).collect(),
            rng: stream(seed, Purpose::Batches),
            batch_size: experiment.network.batch_size,
        })
    }

    /// Trains on every row once, in a new order.
    fn epoch(&mut self, network: &mut Network) -> Result<()> {
        self.order.shuffle(&mut self.rng);
        for rows in self.order.chunks(self.batch_size) {
            let activations = network.forward(self.features.select(Axis(0), rows));
            let labels: Vec<u32> = rows.iter().map(|&row| self.labels[row]).collect();
            let (logits, shape) = (activations.logits(), activations.logits().dim());
            let logits = Rows::new(logits.as_slice().unwrap_or_default(), shape.1);
            let (_, gradient) = self
                .criterion
                .loss_and_gradient(&logits.map_err(Error::failed)?, &labels)
                .map_err(Error::failed)?;
            let gradient = Array2::from_shape_vec(shape, gradient).map_err(Error::failed)?;
            network.step(&activations, gradient, self.rate.next());
        }
        Ok(())
    }
}

struct Observer<'a> {
    criterion: Criterion,
    parts: &'a Split<Part>,
}

impl Observer<'_> {
    fn point(&self, network: &Network, epoch: usize) -> Result<Point> {
        let train = network.logits(self.parts.train.features.view());
        let test = network.logits(self.parts.test.features.view());
        let on_train = train.evaluate(&self.criterion, &self.parts.train.labels)?;
        Ok(Point {
            epoch,
            train_loss: on_train.loss.scalar().unwrap_or(f64::NAN),
            train_nll: on_train.nll.scalar().unwrap_or(f64::NAN),
            test_nll: test.nll(&self.parts.test.labels)?,
            train_gap: train.mean_gap(),
            test_gap: test.mean_gap(),
        })
    }
}

fn probabilities(tally: &Tally, kl: Option<(f64, f64)>, seed: u64) -> Probabilities {
    let reliability = tally.reliability();
    Probabilities {
        nll: tally.mean_nll(),
        ece: reliability.ece(),
        chance_ece: tally.chance_ece(seed),
        reliability,
        kl: kl.map(|(kl, _)| kl),
    }
}

fn best(logits: &PartLogits, truth: &[f64]) -> Result<Best> {
    let (_, nll) = logits.kl_and_entropy(truth, 1.0)?;
    let largest =
        truth.chunks_exact(logits.classes()).map(|row| row.iter().copied().fold(0.0, f64::max));
    Ok(Best { nll, accuracy: largest.sum::<f64>() / logits.len() as f64 })
}

#[cfg(test)]
mod tests {
    use xent_metrics::{EpsilonEstimate, UniformPrior, estimate_epsilon};

    use super::*;
    use crate::data::{Source, TableOptions};
    use crate::train::{DataOptions, NetworkOptions};

    /// The estimates of `xent eval` from the logits of a network that `xent train` trains: from its
    /// training rows and from the validation part.
    fn estimates(dataset: &Dataset, epsilon: f64) -> [Option<EpsilonEstimate>; 2] {
        let experiment = Experiment {
            data: DataOptions {
                data: Source::Digits,
                table: TableOptions::default(),
                label_noise: 0.0,
            },
            epsilon: vec![epsilon],
            prior: UniformPrior::Uniform,
            network: NetworkOptions { hidden: vec![128], epochs: 100, batch_size: 64, lr: 1e-3 },
            seeds: 1,
        };
        let parts = split(dataset, 0, 0.0);
        let mut network =
            Network::new(dataset.width, &experiment.network.hidden, dataset.classes.len(), 0);
        let mut trainer = Trainer::new(&experiment, &parts.train, epsilon, 0).unwrap();
        for _ in 0..experiment.network.epochs {
            trainer.epoch(&mut network).unwrap();
        }
        [&parts.train, &parts.validation].map(|part| {
            let logits = network.logits(part.features.view());
            estimate_epsilon(
                &logits.evaluation(&part.labels, 1.0).unwrap().raw().scored().gap,
                logits.classes(),
            )
        })
    }

    /// Trained gaps lie within 0.35 of the optimum (over ten networks, on average, 5.59 for 5.25 at
    /// ε = 0.05, which is the farthest), and that is a factor of 1.4 in ε.
    #[test]
    fn the_estimate_finds_what_networks_were_trained_with() {
        let dataset = Source::Digits.load(&TableOptions::default()).unwrap();
        std::thread::scope(|scope| {
            for epsilon in [0.05, 0.1, 0.2] {
                let dataset = &dataset;
                scope.spawn(move || {
                    let [train, validation] = estimates(dataset, epsilon);
                    let train = train.unwrap();
                    assert!(
                        (epsilon / 1.4..epsilon * 1.4).contains(&train.value),
                        "ε = {epsilon}: {train:?}"
                    );
                    // Other rows scatter more, and may not lie close enough together.
                    for found in [Some(train), validation].into_iter().flatten() {
                        assert!(
                            found.low < epsilon && epsilon < found.high,
                            "ε = {epsilon}: {found:?}"
                        );
                    }
                });
            }
            assert_eq!(
                estimates(&dataset, 0.0),
                [None, None],
                "without smoothing there is nothing to find"
            );
        });
    }
}
