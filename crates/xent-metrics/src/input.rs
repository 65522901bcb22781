//! What an evaluation takes: its settings, and rows of logits with their labels.

use serde::{Deserialize, Serialize};

use crate::bins::{BINS, Binning, Bins};

/// What is measured; evaluations with the same settings merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// K, at least 2.
    pub classes: usize,
    /// The convention for confidence bins.
    #[serde(default)]
    pub binning: Binning,
    /// The number of confidence bins, from 1 to 1000.
    pub bins: usize,
    /// Labels whose rows are left out without being read.
    #[serde(default)]
    pub ignored: Vec<i64>,
    /// A temperature that is known beforehand; without one it is fitted to the sampled rows.
    #[serde(default, with = "as_text")]
    pub temperature: Option<f64>,
    /// Rows with NaN or +∞, or with nothing except −∞, are left out and counted instead of being an
    /// error.
    #[serde(default)]
    pub skip_not_finite: bool,
    /// The most logits that are retained as whole rows, in a [`Sample`](crate::Sample).
    #[serde(rename = "kept_logits")]
    pub sample_logits: usize,
}

impl Settings {
    /// For K classes, everything else at its default: 2²⁵ logits are retained, which take 128 MiB
    /// in f32.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            binning: Binning::default(),
            bins: BINS,
            ignored: Vec::new(),
            temperature: None,
            skip_not_finite: false,
            sample_logits: 1 << 25,
        }
    }

    pub(crate) fn binned(&self) -> Bins {
        Bins { edges: self.binning, count: self.bins.clamp(1, 1000) }
    }

    pub(crate) fn is_valid(&self) -> bool {
        (2..=1 << 31).contains(&self.classes)
            && (1..=1000).contains(&self.bins)
            && self.sample_logits >= 1
            && self.temperature.is_none_or(|t| t > 0.0 && t.is_finite())
    }
}

/// Consecutive rows of a file.
#[derive(Debug, Clone, Copy)]
pub struct LabelledRows<'a> {
    /// What messages and reports call the file.
    pub source: &'a str,
    /// The number of the first of these rows in the file.
    pub first: u64,
    /// `[rows, classes]`.
    pub logits: Logits<'a>,
    /// One label per row.
    pub labels: &'a [i64],
}

impl<'a> LabelledRows<'a> {
    /// The rows whose label is a class that is not ignored: the position among these rows, the
    /// logits, the label.
    pub fn evaluated(
        self,
        settings: &Settings,
    ) -> impl Iterator<Item = (usize, Logits<'a>, usize)> {
        let classes = settings.classes;
        let class = move |label: &i64| {
            let class = usize::try_from(*label).ok().filter(|label| *label < classes)?;
            (!settings.ignored.contains(label)).then_some(class)
        };
        self.labels.iter().enumerate().filter_map(move |(row, label)| {
            let logits = self.logits.part(row * classes..(row + 1) * classes);
            Some((row, logits, class(label)?))
        })
    }
}

/// Logits as they are stored.
#[derive(Debug, Clone, Copy)]
pub enum Logits<'a> {
    /// Single precision; half precision is widened to it without loss.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

impl<'a> Logits<'a> {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    pub(crate) fn part(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::F64(values) => Self::F64(&values[range]),
        }
    }

    /// The first logit that is NaN or +∞, or the first one at all, with its position.
    pub(crate) fn first_not_finite(self) -> (usize, f64) {
        let values: Vec<f64> = match self {
            Self::F32(values) => values.iter().map(|z| f64::from(*z)).collect(),
            Self::F64(values) => values.to_vec(),
        };
        let at = values.iter().position(|z| z.is_nan() || *z == f64::INFINITY).unwrap_or(0);
        (at, values[at])
    }
}

/// A number that every JSON reader returns exactly as it was written.
mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(
        number: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        number.map(|number| number.to_string()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
