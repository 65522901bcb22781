//! What a sweep compares.

use crate::train::{Facts, facts};

/// One number of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Accuracy,
    ScaledNll,
    Ece,
    ScaledEce,
    Aurc,
    Nll,
    Temperature,
    Gap,
}

impl Measure {
    /// Every measure, in the order in which finished runs store them.
    pub const ALL: [Self; 8] = [
        Self::Accuracy,
        Self::ScaledNll,
        Self::Ece,
        Self::ScaledEce,
        Self::Aurc,
        Self::Nll,
        Self::Temperature,
        Self::Gap,
    ];
    /// The measures whose differences are tested: for the others neither direction is better.
    pub const JUDGED: [Self; 6] =
        [Self::Accuracy, Self::ScaledNll, Self::Ece, Self::ScaledEce, Self::Aurc, Self::Nll];

    /// How it is computed and shown.
    pub fn facts(self) -> Facts {
        match self {
            Self::Accuracy => facts("accuracy", "accuracy, %", 100.0, 2, |run| Some(run.accuracy)),
            Self::ScaledNll => {
                facts("nll_after_temperature", "NLL after temperature", 1.0, 4, |run| {
                    Some(run.scaled.nll)
                })
            }
            Self::Ece => facts("ece", "ECE", 1.0, 4, |run| Some(run.raw.ece)),
            Self::ScaledEce => {
                facts("ece_after_temperature", "ECE after temperature", 1.0, 4, |run| {
                    Some(run.scaled.ece)
                })
            }
            Self::Aurc => facts("aurc", "AURC", 1.0, 4, |run| Some(run.aurc)),
            Self::Nll => facts("nll", "NLL", 1.0, 4, |run| Some(run.raw.nll)),
            Self::Temperature => {
                facts("temperature", "temperature", 1.0, 2, |run| Some(run.temperature.value))
            }
            Self::Gap => facts("logit_gap", "logit gap", 1.0, 2, |run| Some(run.end().test_gap)),
        }
    }
}
