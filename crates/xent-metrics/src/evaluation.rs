//! All that is known of a model on some rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bins::Binning;
use crate::error::{InputError, MergeError};
use crate::kept::Kept;
use crate::row::{Logits, Reader};
use crate::tally::Tally;

/// Logits that are kept whole by default: 128 MiB of f32.
pub const KEPT_LOGITS: usize = 1 << 25;

/// What is measured; evaluations with the same settings merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// K, at least 2.
    pub classes: usize,
    /// Whose confidence bins.
    #[serde(default)]
    pub binning: Binning,
    /// Labels whose rows are left out, never read.
    #[serde(default)]
    pub ignored: Vec<i64>,
    /// A temperature that is known beforehand; without one it is fitted to the rows that are kept.
    #[serde(default, with = "as_text")]
    pub temperature: Option<f64>,
    /// Leave rows with NaN or +∞, or with nothing but −∞, out and count them, instead of an error.
    #[serde(default)]
    pub skip_not_finite: bool,
    /// Most logits that are kept whole.
    pub kept_logits: usize,
}

impl Settings {
    /// For K classes, the rest as usual.
    pub fn new(classes: usize) -> Self {
        Self { classes, binning: Binning::default(), ignored: Vec::new(), temperature: None, skip_not_finite: false, kept_logits: KEPT_LOGITS }
    }

    fn is_sound(&self) -> bool {
        (2..=1 << 31).contains(&self.classes) && self.kept_logits >= 1 && self.temperature.is_none_or(|t| t > 0.0 && t.is_finite())
    }
}

/// Rows that follow one another in a file.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The file, as it is to be named.
    pub source: &'a str,
    /// The number of the first of these rows there.
    pub first: u64,
    /// `[rows, classes]`.
    pub logits: Logits<'a>,
    /// One a row.
    pub labels: &'a [i64],
}

/// The sums of an [`Evaluation`], without the rows that are kept whole: what every thread has one of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tallies {
    pub(crate) settings: Settings,
    /// Rows read of each file, the ignored ones too.
    pub(crate) sources: BTreeMap<String, u64>,
    pub(crate) ignored: u64,
    pub(crate) not_finite: u64,
    /// The first of them, by file and row.
    pub(crate) first_not_finite: Option<(String, u64)>,
    pub(crate) raw: Tally,
    /// At the temperature that is known beforehand.
    pub(crate) scaled: Option<Tally>,
    #[serde(skip)]
    reader: Reader,
}

/// All that is known of a model on some rows, as a value that merges: evaluations of the parts of a data set, in any order, merge to the bits that one evaluation of
/// all of it has.
///
/// Counts are integers, sums are exact ([`ExactSum`](crate::ExactSum)), sorted numbers follow from their set ([`Cells`](crate::Cells)), and the rows that are kept for the
/// temperature are chosen by a hash of file and row ([`Kept`]). It can be written as JSON with serde, and read again.
///
/// ```
/// use xent_metrics::{Evaluation, Logits, Rows, Settings};
/// let logits = [2.0, 0.0, 0.0, 1.0, 3.0, 0.0];
/// let rows = |range: std::ops::Range<usize>| Rows { source: "a", first: range.start as u64, logits: Logits::F64(&logits[2 * range.start..2 * range.end]), labels: &[0i64, 1, 1][range] };
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
    pub(crate) kept: Kept,
}

#[derive(Deserialize)]
struct Unchecked {
    tallies: Tallies,
    kept: Kept,
}

impl Tallies {
    /// Of no rows yet. K below 2 becomes 2.
    pub fn new(settings: Settings) -> Self {
        let settings = Settings { classes: settings.classes.max(2), ..settings };
        let tally = || Tally::new(settings.classes, settings.binning);
        Self {
            sources: BTreeMap::new(),
            ignored: 0,
            not_finite: 0,
            first_not_finite: None,
            raw: tally(),
            scaled: settings.temperature.map(|_| tally()),
            reader: Reader::default(),
            settings,
        }
    }

    /// Takes rows in; those that [`Kept`] is to be offered are appended to `sound`, by their place among these rows.
    ///
    /// # Errors
    /// [`InputError`] with the row, before any of these rows is taken in for lengths and labels, else (logits that are not finite) after those before it: then this value is of no further use.
    pub fn add(&mut self, rows: &Rows<'_>, sound: &mut Vec<usize>) -> Result<(), InputError> {
        let classes = self.settings.classes;
        if rows.logits.len() != rows.labels.len() * classes {
            return Err(InputError::Lengths { logits: rows.logits.len(), labels: rows.labels.len(), classes });
        }
        let ignored = |label: &i64| self.settings.ignored.contains(label);
        let wrong = |label: &i64| !ignored(label) && !usize::try_from(*label).is_ok_and(|label| label < classes);
        if let Some(row) = rows.labels.iter().position(wrong) {
            return Err(InputError::Label { file: rows.source.to_string(), row: rows.first + row as u64, label: rows.labels[row], classes });
        }
        *self.sources.entry(rows.source.to_string()).or_default() += rows.labels.len() as u64;
        for (row, label) in rows.labels.iter().enumerate() {
            if self.settings.ignored.contains(label) {
                self.ignored += 1;
                continue;
            }
            let (number, label) = (rows.first + row as u64, *label as usize);
            let logits = rows.logits.part(row * classes..(row + 1) * classes);
            let Ok(read) = self.reader.read(logits, label, 1.0) else {
                if !self.settings.skip_not_finite {
                    let class = not_finite(logits);
                    return Err(InputError::NotFinite { file: rows.source.to_string(), row: number, class: class.0, value: class.1 });
                }
                self.not_finite += 1;
                let place = (rows.source.to_string(), number);
                self.first_not_finite = Some(self.first_not_finite.take().map_or(place.clone(), |first| first.min(place)));
                continue;
            };
            self.raw.add(&self.reader, &read, label, rows.source, number);
            if let (Some(temperature), Some(scaled)) = (self.settings.temperature, &mut self.scaled)
                && let Ok(read) = self.reader.read(logits, label, temperature)
            {
                scaled.add(&self.reader, &read, label, rows.source, number);
            }
            sound.push(row);
        }
        Ok(())
    }

    /// Takes those of another thread in, with the same settings.
    pub fn merge(&mut self, other: &Self) {
        for (source, rows) in &other.sources {
            *self.sources.entry(source.clone()).or_default() += rows;
        }
        self.ignored += other.ignored;
        self.not_finite += other.not_finite;
        self.first_not_finite = [self.first_not_finite.take(), other.first_not_finite.clone()].into_iter().flatten().min();
        self.raw.merge(&other.raw);
        if let (Some(scaled), Some(other)) = (&mut self.scaled, &other.scaled) {
            scaled.merge(other);
        }
    }
}

/// A number that any reader of JSON gives back as it was written.
mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        number.map(|number| number.to_string()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// The first logit that is not finite, and its class.
fn not_finite(logits: Logits<'_>) -> (usize, f64) {
    let mut values: Vec<f64> = Vec::new();
    match logits {
        Logits::F32(row) => values.extend(row.iter().map(|z| f64::from(*z))),
        Logits::F64(row) => values.extend(row),
    }
    let bad = values.iter().position(|z| z.is_nan() || *z == f64::INFINITY).unwrap_or(0);
    (bad, values[bad])
}

impl Evaluation {
    /// Of no rows yet. K below 2 becomes 2.
    pub fn new(settings: Settings) -> Self {
        let kept = Kept::new(settings.classes.max(2), settings.kept_logits);
        Self { tallies: Tallies::new(settings), kept }
    }

    /// From the sums of several threads and the rows that they kept together.
    pub fn from_parts(tallies: Tallies, kept: Kept) -> Self {
        Self { tallies, kept }
    }

    /// What is measured.
    pub fn settings(&self) -> &Settings {
        &self.tallies.settings
    }

    /// The sums of the logits as they are.
    pub fn raw(&self) -> &Tally {
        &self.tallies.raw
    }

    /// The sums over the temperature that was known beforehand.
    pub fn scaled(&self) -> Option<&Tally> {
        self.tallies.scaled.as_ref()
    }

    /// The files that rows came from, and how many from each.
    pub fn sources(&self) -> &BTreeMap<String, u64> {
        &self.tallies.sources
    }

    /// Takes rows in.
    ///
    /// # Errors
    /// As [`Tallies::add`].
    pub fn add(&mut self, rows: &Rows<'_>) -> Result<(), InputError> {
        let mut sound = Vec::new();
        self.tallies.add(rows, &mut sound)?;
        self.kept.offer_rows(rows, &sound);
        Ok(())
    }

    /// Takes in what is known of other rows.
    ///
    /// # Errors
    /// [`MergeError`] if the settings differ; nothing has changed then. That no row is in both is the caller's affair: see [`sources`](Self::sources).
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        if self.settings() != other.settings() {
            return Err(MergeError::Settings);
        }
        self.tallies.merge(&other.tallies);
        self.kept.merge(&other.kept);
        Ok(())
    }
}

impl TryFrom<Unchecked> for Evaluation {
    type Error = &'static str;

    fn try_from(Unchecked { tallies, kept }: Unchecked) -> Result<Self, Self::Error> {
        let settings = &tallies.settings;
        let sound = |tally: &Tally| tally.is_sound(settings.classes, settings.binning);
        let same = tallies.scaled.as_ref().is_none_or(|scaled| sound(scaled) && scaled.rows == tallies.raw.rows);
        let all = settings.is_sound() && sound(&tallies.raw) && same && tallies.scaled.is_some() == settings.temperature.is_some();
        if !all || kept.classes() != settings.classes || kept.seen() != tallies.raw.rows {
            return Err("its parts contradict one another");
        }
        Ok(Self { tallies, kept })
    }
}
