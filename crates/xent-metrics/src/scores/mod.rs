//! From sums to metrics, chance levels and intervals.

mod resample;
mod sorted;

use serde::{Serialize, Serializer};

pub use resample::Chance;
pub use sorted::RiskCoverage;

use crate::bins::Reliability;
use crate::evaluation::{Evaluation, Tallies};
use crate::json::{Extended, extended};
use crate::mistakes::Mistake;
use crate::tally::{TOP, Tally};
use crate::temperature::Temperature;
use resample::Resampled;

/// A metric with what to compare it with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The metric.
    #[serde(serialize_with = "extended")]
    pub value: f64,
    /// The chance level: for a calibration error, the score of a perfectly calibrated model with
    /// the same confidences; for the others, of a model that knows only the frequency of each class
    /// (for AURC: of one whose confidences are uninformative).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance: Option<Chance>,
    /// The 95 % basic bootstrap interval (Davison and Hinkley 1997, section 5.2), from 500
    /// resamples with Poisson weights (at least 40 for the classwise error of many classes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// An increasing function of the metric.
    fn map(self, function: fn(f64) -> f64) -> Self {
        Self {
            value: function(self.value),
            chance: self.chance.map(|Chance { mean, usual }| Chance {
                mean: function(mean),
                usual: usual.map(function),
            }),
            interval: self.interval.map(|(low, high)| (function(low), function(high))),
        }
    }
}

/// How far the predicted class's logit is above the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gaps {
    /// Mean of max − log-mean-exp of the others, which is logit(p_max) + ln(K−1).
    #[serde(serialize_with = "extended")]
    pub mean: f64,
    /// Mean of max − mean of the others, which is larger.
    #[serde(serialize_with = "extended")]
    pub plain_mean: f64,
    /// The 5, 25, 50, 75 and 95 % quantiles of the first kind of gap.
    pub quantiles: [Extended; 5],
}

/// The metrics of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScores {
    /// The number of rows with this label.
    pub rows: u64,
    /// The number of rows predicted so.
    pub predicted: u64,
    /// Share of the rows with this label that are predicted so.
    pub recall: Option<f64>,
    /// Share of the rows predicted so that have this label.
    pub precision: Option<f64>,
    /// Mean of −ln p of the label over the rows with it.
    pub nll: Option<Extended>,
    /// One-vs-rest calibration error.
    pub ece: f64,
}

/// The most classes that JSON has; reports of a million classes would have hundreds of megabytes.
const WRITTEN_CLASSES: usize = 1000;

impl ClassScores {
    /// The classes that have the most wrong rows, then those with the most rows: at most `most`,
    /// in the order of their indices.
    pub fn telling(classes: &[Self], most: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..classes.len()).collect();
        if order.len() > most {
            let rank = |class: &usize| {
                let scores = &classes[*class];
                let rows = scores.rows as f64 + scores.predicted as f64;
                // Rows of the class that were missed, and of others that were taken for it.
                let wrong = rows - 2.0 * scores.recall.unwrap_or(0.0) * scores.rows as f64;
                (wrong, rows)
            };
            let compare =
                |a: (f64, f64), b: (f64, f64)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
            order.sort_by(|a, b| compare(rank(b), rank(a)));
            order.truncate(most);
            order.sort_unstable();
        }
        order
    }
}

/// Classes with their indices.
fn telling<S: Serializer>(classes: &[ClassScores], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Class<'a> {
        class: usize,
        #[serde(flatten)]
        scores: &'a ClassScores,
    }
    serializer.collect_seq(
        ClassScores::telling(classes, WRITTEN_CLASSES)
            .into_iter()
            .map(|class| Class { class, scores: &classes[class] }),
    )
}

/// All metrics at one temperature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// The number of rows.
    pub rows: u64,
    /// Share of the rows whose label has the largest logit.
    pub accuracy: Estimate,
    /// Shares of the rows that would be right if all labels were one less, and one more; none if
    /// some label would be no class then.
    #[serde(skip)]
    pub shifted: [Option<f64>; 2],
    /// Share of the rows whose label is among the five largest; none with five classes or fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<Estimate>,
    /// Mean of −ln p of the label.
    pub nll: Estimate,
    /// e to the NLL.
    pub perplexity: Estimate,
    /// Mean of Σ_k (p_k − \[k = y\])², in \[0, 2\].
    pub brier: Estimate,
    /// Expected calibration error, bins of equal width.
    pub ece: Estimate,
    /// The same with bins of equally many rows; rows with equal confidences are divided in
    /// proportion if a border runs through them.
    pub ece_equal_mass: Estimate,
    /// One-vs-rest calibration error, mean over the classes. Its chance and interval treat the
    /// classes as independent.
    pub ece_classwise: Estimate,
    /// Largest calibration error of a bin.
    pub mce: Estimate,
    /// Mean over coverages 1/N, 2/N, … of the share of wrong rows among the most confident; ties
    /// count with their mean.
    pub aurc: Estimate,
    /// Mean of −Σ_k ln p_k / K: smoothed losses are mixtures of it and the NLL.
    #[serde(serialize_with = "extended")]
    pub uniform_nll: f64,
    /// The logit gaps.
    pub gap: Gaps,
    /// Gaps in up to 60 bins of equal width from 0 to their 99.5 % quantile: the width, and shares
    /// of the rows.
    pub gap_histogram: (f64, Vec<f64>),
    /// The bins behind `ece` and `mce`.
    pub reliability: Reliability,
    /// Risk at coverages from 1 % to 100 %.
    pub risk_coverage: RiskCoverage,
    /// The relative rounding of confidences in the metrics that need them sorted (`ece_equal_mass`,
    /// `aurc`): 0 up to 2¹⁹ different confidences.
    pub confidence_rounding: f64,
    /// The metrics of each class; in JSON, of those classes that say most, if there are many.
    #[serde(serialize_with = "telling")]
    pub classes: Vec<ClassScores>,
    /// The wrong rows with the largest gaps.
    pub mistakes: Vec<Mistake>,
}

/// The metrics of an [`Evaluation`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// K.
    pub classes: usize,
    /// The number of rows left out for their label.
    pub ignored: u64,
    /// The number of rows left out for NaN or infinite logits.
    pub not_finite: u64,
    /// The first of these rows: file and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_not_finite: Option<(String, u64)>,
    /// AURC with the largest logit over the 4-norm of all logits, after their mean is subtracted, in
    /// place of the confidence: what a norm-free ranking of the rows would be. No temperature changes it.
    pub aurc_normalised: Estimate,
    /// At temperature 1.
    pub raw: Scored,
    /// The temperature; none if there are no rows to fit it to.
    pub temperature: Option<Temperature>,
    /// At the temperature: of all rows if it was known beforehand, otherwise of those that it was
    /// fitted to. Accuracies are always of all rows, because no temperature changes them.
    pub scaled: Option<Scored>,
}

impl Evaluation {
    /// Computes the metrics. Chance levels and intervals are drawn from a fixed seed, so the same
    /// evaluation always has the same numbers.
    pub fn scores(&self) -> Scores {
        let tallies = &self.tallies;
        let (temperature, mut scaled) = match (tallies.settings.temperature, &tallies.scaled) {
            (Some(value), Some(scaled)) => (Some(Temperature::known(value)), Some(scaled.scored())),
            _ => match &self.fitted {
                Some((temperature, tally)) => (Some(*temperature), Some(tally.scored())),
                None => {
                    let temperature = self.sampled_temperature();
                    let scaled = temperature.map(|temperature| {
                        self.sample.tally(temperature.value, tallies.settings.binned()).scored()
                    });
                    (temperature, scaled)
                }
            },
        };
        let raw = tallies.raw.scored();
        // A temperature changes no order of logits, so these are known of all rows.
        if let Some(scaled) = &mut scaled {
            (scaled.accuracy, scaled.top5) = (raw.accuracy, raw.top5);
        }
        Scores {
            classes: tallies.settings.classes,
            ignored: tallies.ignored,
            not_finite: tallies.not_finite,
            first_not_finite: tallies.first_not_finite.clone(),
            aurc_normalised: tallies.normalised_aurc(),
            raw,
            temperature,
            scaled,
        }
    }
}

impl Tallies {
    /// AURC of rows ranked by their normalised logits.
    fn normalised_aurc(&self) -> Estimate {
        let value = sorted::aurc(&sorted::counted(&self.normalised));
        Estimate {
            value,
            chance: Some(Chance { mean: 1.0 - self.raw.accuracy(), usual: None }),
            interval: resample::resampled_aurc(&self.normalised).interval(value, (0.0, 1.0)),
        }
    }
}

impl Scored {
    /// How far the mean confidence is above the share of right rows.
    pub fn overconfidence(&self) -> f64 {
        let bins = self.reliability.bins.iter();
        let over: f64 = bins.map(|bin| bin.confidence.value() - bin.correct as f64).sum();
        over / self.rows as f64
    }
}

impl Tally {
    /// The rows in equal-width bins of confidence.
    pub fn reliability(&self) -> Reliability {
        Reliability { bins: self.bins.clone() }
    }

    /// Mean of −ln p of the label.
    pub fn mean_nll(&self) -> f64 {
        self.nll.value() / self.rows as f64
    }

    /// Share of the rows that are right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.rows as f64
    }

    /// AURC: mean over coverages 1/N, 2/N, … of the share of wrong rows among the most confident.
    pub fn mean_risk(&self) -> f64 {
        sorted::aurc(&sorted::counted(&self.confidence))
    }

    /// The ECE that these confidences would score if each were exactly the probability of being
    /// right. It is above 0 because of the scatter of a finite number of rows.
    pub fn chance_ece(&self, seed: u64) -> Chance {
        resample::chance_ece(self, seed)
    }

    /// Computes all metrics.
    pub fn scored(&self) -> Scored {
        let resampled = Resampled::new(self);
        let n = self.rows as f64;
        let reliability = self.reliability();
        let cells = sorted::counted(&self.confidence);
        let frequencies = || self.classes.counts().iter().map(|counts| counts.rows as f64 / n);
        let mut by_frequency: Vec<f64> = frequencies().collect();
        by_frequency.sort_by(|a, b| b.total_cmp(a));
        let entropy = frequencies()
            .filter(|share| *share > 0.0)
            .map(|share| -share * share.ln())
            .sum::<f64>();
        let fixed = |mean: f64| Some(Chance { mean, usual: None });
        let estimate = |value: f64, chance, draws: &resample::Draws, range| Estimate {
            value,
            chance,
            interval: draws.interval(value, range),
        };
        let share = self.correct as f64 / n;
        let aurc = sorted::aurc(&cells);
        let errors = self.classes.errors();
        let (counts, k) = (self.classes.counts(), errors.len());
        let nll = estimate(self.mean_nll(), fixed(entropy), &resampled.nll, (0.0, f64::INFINITY));
        Scored {
            rows: self.rows,
            accuracy: estimate(share, fixed(by_frequency[0]), &resampled.accuracy, (0.0, 1.0)),
            shifted: [
                (counts[0].rows == 0).then(|| self.beside[0] as f64 / n),
                (counts[k - 1].rows == 0).then(|| self.beside[1] as f64 / n),
            ],
            top5: (k > TOP).then(|| {
                estimate(
                    self.top as f64 / n,
                    fixed(by_frequency[..TOP].iter().sum()),
                    &resampled.top,
                    (0.0, 1.0),
                )
            }),
            nll,
            perplexity: nll.map(f64::exp),
            brier: estimate(
                self.brier.value() / n,
                fixed(1.0 - frequencies().map(|share| share * share).sum::<f64>()),
                &resampled.brier,
                (0.0, 2.0),
            ),
            ece: estimate(reliability.ece(), Some(resampled.ece.1), &resampled.ece.0, (0.0, 1.0)),
            ece_equal_mass: estimate(
                sorted::equal_mass_error(&cells, self.binning.count),
                Some(resampled.equal_mass.1),
                &resampled.equal_mass.0,
                (0.0, 1.0),
            ),
            ece_classwise: estimate(
                errors.iter().sum::<f64>() / k as f64,
                Some(resampled.classwise.1),
                &resampled.classwise.0,
                (0.0, 1.0),
            ),
            mce: estimate(reliability.mce(), Some(resampled.mce.1), &resampled.mce.0, (0.0, 1.0)),
            aurc: estimate(aurc, fixed(1.0 - share), &resampled.aurc, (0.0, 1.0)),
            uniform_nll: self.uniform.value() / n,
            gap: Gaps {
                mean: self.gap.value() / n,
                plain_mean: self.plain_gap.value() / n,
                quantiles: sorted::quantiles(&self.gap_cells, [0.05, 0.25, 0.5, 0.75, 0.95])
                    .map(Extended),
            },
            gap_histogram: sorted::histogram(&self.gap_cells),
            risk_coverage: sorted::risk_coverage(&cells),
            confidence_rounding: self.confidence.rounding(),
            classes: self.class_scores(&errors),
            mistakes: self.mistakes.most_confident().to_vec(),
            reliability,
        }
    }

    fn class_scores(&self, errors: &[f64]) -> Vec<ClassScores> {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let each = self.classes.counts().iter().zip(errors);
        each.map(|(counts, ece)| ClassScores {
            rows: counts.rows,
            predicted: counts.predicted,
            recall: share(counts.correct, counts.rows),
            precision: share(counts.correct, counts.predicted),
            nll: counts.nll.as_ref().map(|nll| Extended(nll.value() / counts.rows as f64)),
            ece: *ece,
        })
        .collect()
    }
}
