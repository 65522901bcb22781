//! What an evaluation takes: its settings, and rows of logits with their labels.

use serde::{Deserialize, Serialize};

use crate::bins::{BINS, Binning, Bins};
use crate::error::{InputError, SettingsError};

/// The most classes. A header of a file may claim more than any memory holds.
const MOST_CLASSES: usize = 1 << 24;
/// The memory of an evaluation grows by 440 to 550 bytes per class.
const BYTES_PER_CLASS: usize = 600;

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

    /// Checks all settings, and that there is memory for so many classes, before any is taken.
    ///
    /// # Errors
    /// [`SettingsError`] with the setting.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Self { classes, bins, sample_logits, temperature, .. } = *self;
        if !(2..=MOST_CLASSES).contains(&classes) {
            return Err(SettingsError::Classes { found: classes, most: MOST_CLASSES });
        }
        let number = |name, found, expected| Err(SettingsError::Number { name, found, expected });
        if !(1..=1000).contains(&bins) {
            return number("the number of bins", bins as f64, "1 to 1000");
        }
        if sample_logits == 0 {
            return number("the number of sampled logits", 0.0, "at least 1");
        }
        if let Some(t) = temperature.filter(|t| !(*t > 0.0 && t.is_finite())) {
            return number("the temperature", t, "a finite number > 0");
        }
        let bytes = classes * BYTES_PER_CLASS;
        let memory = Vec::<u8>::new().try_reserve_exact(bytes);
        memory.map_err(|_| SettingsError::Memory { classes, bytes })
    }

    /// The first setting that differs in `other`: its name, its value here, and there.
    pub(crate) fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        type Value = fn(&Settings) -> String;
        let settings: [(&'static str, Value); 7] = [
            ("number of classes", |of| of.classes.to_string()),
            ("convention for bins", |of| format!("{:?}", of.binning)),
            ("number of bins", |of| of.bins.to_string()),
            ("list of ignored labels", |of| format!("{:?}", of.ignored)),
            ("temperature", |of| of.temperature.map_or("fitted".into(), |t| t.to_string())),
            ("choice to skip rows that are not finite", |of| of.skip_not_finite.to_string()),
            ("budget of sampled logits", |of| of.sample_logits.to_string()),
        ];
        let values = settings.map(|(name, value)| (name, value(self), value(other)));
        values.into_iter().find(|(_, here, there)| here != there)
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
    /// Checks everything that [`Tallies::add`](crate::Tallies::add) checks, before anything is
    /// added.
    ///
    /// # Errors
    /// [`InputError`] with the first row of those with a wrong label, or else of those that are not
    /// finite.
    pub fn check(&self, settings: &Settings) -> Result<(), InputError> {
        self.check_labels(settings)?;
        if settings.skip_not_finite {
            return Ok(());
        }
        let mut rows = self.evaluated(settings);
        match rows.find(|(_, logits, _)| !logits.define_probabilities()) {
            Some((row, logits, _)) => Err(self.not_finite(row, logits)),
            None => Ok(()),
        }
    }

    pub(crate) fn check_labels(&self, settings: &Settings) -> Result<(), InputError> {
        let (classes, logits, labels) = (settings.classes, self.logits.count(), self.labels);
        if labels.len().checked_mul(classes) != Some(logits) {
            return Err(InputError::Lengths { logits, labels: labels.len(), classes });
        }
        let wrong = |label: &i64| {
            !usize::try_from(*label).is_ok_and(|label| label < classes)
                && !settings.ignored.contains(label)
        };
        match labels.iter().position(wrong) {
            Some(row) => Err(InputError::Label {
                file: self.source.to_string(),
                row: self.first + row as u64,
                label: labels[row],
                classes,
            }),
            None => Ok(()),
        }
    }

    /// The error of one of these rows.
    pub(crate) fn not_finite(&self, row: usize, logits: Logits<'_>) -> InputError {
        let (class, value) = logits.first_not_finite();
        let (file, row) = (self.source.to_string(), self.first + row as u64);
        InputError::NotFinite { file, row, class, value }
    }

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

    /// Whether a row has a softmax: no NaN, no +∞, and something other than −∞.
    fn define_probabilities(self) -> bool {
        fn of<F: Copy + Into<f64>>(row: &[F]) -> bool {
            let below = |z: &F| (*z).into() < f64::INFINITY;
            row.iter().all(below) && row.iter().any(|z| (*z).into() > f64::NEG_INFINITY)
        }
        match self {
            Self::F32(row) => of(row),
            Self::F64(row) => of(row),
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
