//! Everything that is known of a model on some rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cells::Cells;
use crate::error::{InputError, MergeError};
use crate::input::{LabelledRows, Settings};
use crate::row::Reader;
use crate::sample::{Candidate, Sample};
use crate::tally::{CONFIDENCES, Tally};
use crate::temperature::{Temperature, fit_temperature};

/// The sums of an [`Evaluation`] without its [`Sample`]: each thread fills its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tallies {
    pub(crate) settings: Settings,
    /// What was read of each file.
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) ignored: u64,
    pub(crate) not_finite: u64,
    /// The first of these rows, by file and row.
    pub(crate) first_not_finite: Option<(String, u64)>,
    pub(crate) raw: Tally,
    /// Rows by their largest logit over the norm of all, which no temperature changes.
    pub(crate) normalised: Cells,
    /// At the temperature that is known beforehand.
    pub(crate) scaled: Option<Tally>,
    #[serde(skip)]
    reader: Reader,
}

/// What was read of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The number of rows, ignored ones included.
    pub rows: u64,
    /// The sum of the hashes of the rows that were evaluated: equal for equal files, whatever they
    /// are called. 0 if no row was.
    pub hash: u64,
}

/// Everything that is known of a model on some rows, as a value that merges: evaluations of the
/// parts of a data set, in any order, merge to the bits of one evaluation of all of it.
///
/// Counts are integers, sums are exact ([`ExactSum`](crate::ExactSum)), sorted numbers depend on
/// their set alone ([`Cells`](crate::Cells)), and the rows that are retained for the temperature
/// are chosen by a hash of their contents ([`Sample`]). serde writes an evaluation as JSON and reads
/// it.
///
/// ```
/// use xent_metrics::{Evaluation, LabelledRows, Logits, Settings};
/// let logits = [2.0, 0.0, 0.0, 1.0, 3.0, 0.0];
/// let rows = |range: std::ops::Range<usize>| LabelledRows {
///     source: "a",
///     first: range.start as u64,
///     logits: Logits::F64(&logits[2 * range.start..2 * range.end]),
///     labels: &[0i64, 1, 1][range],
/// };
/// let mut whole = Evaluation::new(Settings::new(2));
/// whole.add(&rows(0..3))?;
/// let (mut left, mut right) = (Evaluation::new(Settings::new(2)), Evaluation::new(Settings::new(2)));
/// left.add(&rows(0..1))?;
/// right.add(&rows(1..3))?;
/// right.merge(&left)?;
/// assert_eq!(serde_json::to_string(&right)?, serde_json::to_string(&whole)?);
/// let scores = whole.scores();
/// assert_eq!(scores.raw.accuracy.value, 2.0 / 3.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Evaluation {
    pub(crate) tallies: Tallies,
    #[serde(rename = "kept")]
    pub(crate) sample: Sample,
    /// What a second pass over all rows found.
    #[serde(skip)]
    pub(crate) fitted: Option<(Temperature, Tally)>,
}

/// The sums of a second pass over the rows of an [`Evaluation`], at a temperature that was fitted
/// after the first one.
#[derive(Debug, Clone)]
pub struct SecondPass {
    settings: Settings,
    temperature: f64,
    tally: Tally,
    reader: Reader,
}

#[derive(Deserialize)]
struct Unchecked {
    tallies: Tallies,
    kept: Sample,
}

impl Source {
    fn add(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// The most classes in tallies of several threads together.
const SUMMED_CLASSES: usize = 1 << 20;

impl Tallies {
    /// Of no rows. K below 2 becomes 2.
    pub fn new(settings: Settings) -> Self {
        let settings = Settings { classes: settings.classes.max(2), ..settings };
        let tally = || Tally::new(settings.classes, settings.binned());
        Self {
            sources: BTreeMap::new(),
            ignored: 0,
            not_finite: 0,
            first_not_finite: None,
            raw: tally(),
            normalised: Cells::new(CONFIDENCES),
            scaled: settings.temperature.map(|_| tally()),
            reader: Reader::default(),
            settings,
        }
    }

    /// How many may be summed up beside one another without taking much memory; at least 2.
    pub fn most_beside(classes: usize) -> usize {
        (SUMMED_CLASSES / classes.max(2)).max(2)
    }

    /// Adds rows. Those that are to be offered to the [`Sample`] are appended to `evaluated`.
    ///
    /// # Errors
    /// [`InputError`] with the row. Lengths and labels are checked before any row is added. Logits
    /// that are not finite are found only after the rows before them have been added: this value
    /// cannot be used any more then.
    pub fn add(
        &mut self,
        rows: &LabelledRows<'_>,
        evaluated: &mut Vec<Candidate>,
    ) -> Result<(), InputError> {
        rows.check_labels(&self.settings)?;
        let ignored = |label: &i64| self.settings.ignored.contains(label);
        self.ignored += rows.labels.iter().filter(|label| ignored(label)).count() as u64;
        let mut hash = 0u64;
        for (row, logits, label) in rows.evaluated(&self.settings) {
            let number = rows.first + row as u64;
            let Ok(read) = self.reader.read(logits, label, 1.0) else {
                if !self.settings.skip_not_finite {
                    return Err(rows.not_finite(row, logits));
                }
                self.not_finite += 1;
                let place = (rows.source.to_string(), number);
                self.first_not_finite = Some(
                    self.first_not_finite.take().map_or(place.clone(), |first| first.min(place)),
                );
                continue;
            };
            self.raw.add(&self.reader, &read, label, rows.source, number);
            self.normalised.add(self.reader.normalised(), read.rank == 0);
            if let (Some(temperature), Some(scaled)) = (self.settings.temperature, &mut self.scaled)
                && let Ok(read) = self.reader.read(logits, label, temperature)
            {
                scaled.add(&self.reader, &read, label, rows.source, number);
            }
            let candidate = Candidate::new(row, number, logits, label);
            hash = hash.wrapping_add(candidate.hash());
            evaluated.push(candidate);
        }
        let read = Source { rows: rows.labels.len() as u64, hash };
        self.sources.entry(rows.source.to_string()).or_default().add(&read);
        Ok(())
    }

    /// Adds the sums of another thread, which must have the same settings.
    pub fn merge(&mut self, other: &Self) {
        for (name, source) in &other.sources {
            self.sources.entry(name.clone()).or_default().add(source);
        }
        self.ignored += other.ignored;
        self.not_finite += other.not_finite;
        self.first_not_finite = [self.first_not_finite.take(), other.first_not_finite.clone()]
            .into_iter()
            .flatten()
            .min();
        self.raw.merge(&other.raw);
        self.normalised.merge(&other.normalised);
        if let (Some(scaled), Some(other)) = (&mut self.scaled, &other.scaled) {
            scaled.merge(other);
        }
    }
}

impl Evaluation {
    /// Of no rows. K below 2 becomes 2.
    pub fn new(settings: Settings) -> Self {
        let sample = Sample::new(settings.classes.max(2), settings.sample_logits);
        Self { tallies: Tallies::new(settings), sample, fitted: None }
    }

    /// From the merged sums of several threads and the sample that they share.
    pub fn from_parts(tallies: Tallies, sample: Sample) -> Self {
        Self { tallies, sample, fitted: None }
    }

    /// Whether a temperature and the numbers at it would come from a sample of the rows. A
    /// [`TemperatureSearch`](crate::TemperatureSearch) and a [`SecondPass`] over all rows, if they
    /// can be read again, make them exact.
    pub fn is_sampled(&self) -> bool {
        self.fitted.is_none()
            && self.tallies.settings.temperature.is_none()
            && (self.sample.len() as u64) < self.sample.seen()
    }

    /// The temperature that fits the retained rows best: where a search over all rows starts.
    pub fn sampled_temperature(&self) -> Option<Temperature> {
        fit_temperature(self.sample.len(), &|place| self.sample.row(place))
    }

    /// Takes a temperature that was fitted to all rows, and their sums at it. Merging with rows
    /// that it does not know of undoes it.
    ///
    /// # Errors
    /// [`MergeError::Rows`] if the second pass had other rows than the first.
    pub fn set_fitted(
        &mut self,
        temperature: Temperature,
        second: SecondPass,
    ) -> Result<(), MergeError> {
        let (found, expected) = (&second.tally, &self.tallies.raw);
        if (found.rows, found.correct, found.top) != (expected.rows, expected.correct, expected.top)
        {
            return Err(MergeError::Rows);
        }
        self.fitted = Some((temperature, second.tally));
        Ok(())
    }

    /// What is measured.
    pub fn settings(&self) -> &Settings {
        &self.tallies.settings
    }

    /// The sums at temperature 1.
    pub fn raw(&self) -> &Tally {
        &self.tallies.raw
    }

    /// The sums at the temperature that was known beforehand.
    pub fn scaled(&self) -> Option<&Tally> {
        self.tallies.scaled.as_ref()
    }

    /// The files that rows came from.
    pub fn sources(&self) -> &BTreeMap<String, Source> {
        &self.tallies.sources
    }

    /// A file of this evaluation and one of another that have the same rows, with the same numbers:
    /// these would count twice if they merged.
    pub fn shared_rows<'a>(&'a self, other: &'a Self) -> Option<(&'a str, &'a str)> {
        let rows = |evaluation: &'a Self| {
            let sources = evaluation.sources().iter().filter(|(_, source)| source.hash > 0);
            sources.map(|(name, source)| (source.hash, name.as_str()))
        };
        let here: BTreeMap<u64, &str> = rows(self).collect();
        rows(other).find_map(|(hash, there)| Some((*here.get(&hash)?, there)))
    }

    /// Adds rows.
    ///
    /// # Errors
    /// As [`Tallies::add`].
    pub fn add(&mut self, rows: &LabelledRows<'_>) -> Result<(), InputError> {
        let mut evaluated = Vec::new();
        self.tallies.add(rows, &mut evaluated)?;
        self.sample.offer(rows, &evaluated);
        Ok(())
    }

    /// Adds an evaluation of other rows. The caller ensures that no row is in both: see
    /// [`sources`](Self::sources).
    ///
    /// # Errors
    /// [`MergeError`] if the settings differ; nothing has changed then.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        if let Some((name, expected, found)) = self.settings().difference(other.settings()) {
            return Err(MergeError::Settings { name, found, expected });
        }
        self.tallies.merge(&other.tallies);
        self.sample.merge(&other.sample);
        self.fitted = None;
        Ok(())
    }
}

impl SecondPass {
    /// Of no rows.
    pub fn new(settings: Settings, temperature: f64) -> Self {
        let tally = Tally::new(settings.classes, settings.binned());
        Self { settings, temperature, tally, reader: Reader::default() }
    }

    /// Adds rows, leaving out those that the first pass left out.
    pub fn add(&mut self, rows: &LabelledRows<'_>) {
        for (row, logits, label) in rows.evaluated(&self.settings) {
            if let Ok(read) = self.reader.read(logits, label, self.temperature) {
                let number = rows.first + row as u64;
                self.tally.add(&self.reader, &read, label, rows.source, number);
            }
        }
    }

    /// Adds the sums of another thread.
    pub fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
    }
}

impl TryFrom<Unchecked> for Evaluation {
    type Error = &'static str;

    fn try_from(Unchecked { tallies, kept }: Unchecked) -> Result<Self, Self::Error> {
        let settings = &tallies.settings;
        let consistent = |tally: &Tally| tally.is_consistent(settings.classes, settings.binned());
        let scaled = tallies
            .scaled
            .as_ref()
            .is_none_or(|scaled| consistent(scaled) && scaled.rows == tallies.raw.rows);
        let all = settings.is_valid()
            && consistent(&tallies.raw)
            && tallies.normalised.rows() == tallies.raw.rows
            && scaled
            && tallies.scaled.is_some() == settings.temperature.is_some();
        if !all || kept.classes() != settings.classes || kept.seen() != tallies.raw.rows {
            return Err("its parts contradict one another");
        }
        Ok(Self { tallies, sample: kept, fitted: None })
    }
}
