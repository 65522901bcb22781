//! The most confident of the wrong rows.

use serde::{Deserialize, Serialize};

use crate::json::extended;
use crate::packed;
use crate::row::Row;

/// The number of mistakes that are retained.
const MOST: usize = 50;

/// A row whose prediction is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mistake {
    /// The file, as it was named.
    pub source: String,
    /// Its number in the file, from 0.
    pub row: u64,
    /// The label.
    pub label: u32,
    /// The class with the largest logit.
    pub predicted: u32,
    /// `p_max`.
    pub confidence: f64,
    /// `p_y`.
    pub probability: f64,
    /// The logit gap, which distinguishes confidences that round to 1.
    #[serde(serialize_with = "extended")]
    pub gap: f64,
}

/// The wrong rows with the largest gaps, largest first; equal gaps in the order of file and row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "Packed", try_from = "Packed")]
pub struct Mistakes(Vec<Mistake>);

/// Not every JSON reader returns exactly the f64 that was written.
#[derive(Serialize, Deserialize)]
struct Packed {
    sources: Vec<String>,
    #[serde(with = "packed")]
    rows: Vec<u64>,
    /// Label and predicted class, one after the other.
    #[serde(with = "packed")]
    classes: Vec<u32>,
    /// Confidence, probability and gap.
    #[serde(with = "packed")]
    numbers: Vec<f64>,
}

impl Mistakes {
    pub(crate) fn add(&mut self, row: &Row, label: usize, source: &str, number: u64) {
        if self.0.len() == MOST && row.gap < self.0[MOST - 1].gap {
            return;
        }
        self.insert(Mistake {
            source: source.to_string(),
            row: number,
            label: label as u32,
            predicted: row.predicted as u32,
            confidence: row.confidence,
            probability: row.probability,
            gap: row.gap,
        });
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|mistake| self.insert(mistake.clone()));
    }

    /// Most confident first.
    pub fn most_confident(&self) -> &[Mistake] {
        &self.0
    }

    fn insert(&mut self, mistake: Mistake) {
        let key = |mistake: &Mistake| (mistake.source.clone(), mistake.row);
        let place = self.0.partition_point(|other| {
            other
                .gap
                .total_cmp(&mistake.gap)
                .reverse()
                .then_with(|| key(other).cmp(&key(&mistake)))
                .is_lt()
        });
        self.0.insert(place, mistake);
        self.0.truncate(MOST);
    }
}

impl From<Mistakes> for Packed {
    fn from(Mistakes(mistakes): Mistakes) -> Self {
        Self {
            rows: mistakes.iter().map(|mistake| mistake.row).collect(),
            classes: mistakes
                .iter()
                .flat_map(|mistake| [mistake.label, mistake.predicted])
                .collect(),
            numbers: mistakes
                .iter()
                .flat_map(|mistake| [mistake.confidence, mistake.probability, mistake.gap])
                .collect(),
            sources: mistakes.into_iter().map(|mistake| mistake.source).collect(),
        }
    }
}

impl TryFrom<Packed> for Mistakes {
    type Error = &'static str;

    fn try_from(packed: Packed) -> Result<Self, Self::Error> {
        let len = packed.sources.len();
        let same = [packed.rows.len(), packed.classes.len() / 2, packed.numbers.len() / 3];
        if len > MOST
            || same.iter().any(|other| *other != len)
            || packed.classes.len() % 2 + packed.numbers.len() % 3 > 0
        {
            return Err("mistakes whose arrays differ in length");
        }
        let mut mistakes = Self::default();
        let numbers = packed.numbers.chunks_exact(3).zip(packed.classes.chunks_exact(2));
        for ((source, row), (numbers, classes)) in
            packed.sources.into_iter().zip(packed.rows).zip(numbers)
        {
            let (label, predicted, confidence, probability, gap) =
                (classes[0], classes[1], numbers[0], numbers[1], numbers[2]);
            mistakes.insert(Mistake {
                source,
                row,
                label,
                predicted,
                confidence,
                probability,
                gap,
            });
        }
        Ok(mistakes)
    }
}
