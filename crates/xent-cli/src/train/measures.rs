//! What is measured in every run: one list for the table, the sentences and the JSON.

use super::run::Run;

/// One number of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Share of the test rows that are right.
    Accuracy,
    /// −ln p of the test labels.
    Nll,
    /// Expected calibration error.
    Ece,
    /// ECE of a perfectly calibrated model with these confidences.
    ChanceEce,
    /// KL(truth ‖ model).
    Kl,
    /// Fitted on the validation part.
    Temperature,
    /// NLL after the temperature.
    ScaledNll,
    /// ECE after the temperature.
    ScaledEce,
    /// Its chance level.
    ScaledChanceEce,
    /// KL after the temperature.
    ScaledKl,
    /// Mean logit gap of the test rows.
    TestGap,
    /// Mean logit gap of the training rows.
    TrainGap,
    /// How much that grew in the last tenth of the epochs.
    LateGrowth,
    /// The loss on the training part.
    TrainLoss,
    /// −ln p of the training labels.
    TrainNll,
    /// How far the test part's NLL rose from its lowest to its last.
    Rise,
    /// Accuracy of the best possible classifier.
    BestAccuracy,
    /// NLL of the best possible classifier.
    BestNll,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Accuracy,
        Self::Nll,
        Self::Ece,
        Self::ChanceEce,
        Self::Kl,
        Self::Temperature,
        Self::ScaledNll,
        Self::ScaledEce,
        Self::ScaledChanceEce,
        Self::ScaledKl,
        Self::TestGap,
        Self::TrainGap,
        Self::LateGrowth,
        Self::TrainLoss,
        Self::TrainNll,
        Self::Rise,
        Self::BestAccuracy,
        Self::BestNll,
    ];

    /// Its value, if the run has one: some need a known truth.
    pub fn of(self, run: &Run) -> Option<f64> {
        match self {
            Self::Accuracy => Some(run.accuracy),
            Self::Nll => Some(run.raw.nll),
            Self::Ece => Some(run.raw.ece),
            Self::ChanceEce => Some(run.raw.chance_ece.mean),
            Self::Kl => run.raw.kl,
            Self::Temperature => Some(run.temperature.value),
            Self::ScaledNll => Some(run.scaled.nll),
            Self::ScaledEce => Some(run.scaled.ece),
            Self::ScaledChanceEce => Some(run.scaled.chance_ece.mean),
            Self::ScaledKl => run.scaled.kl,
            Self::TestGap => Some(run.end().test_gap),
            Self::TrainGap => Some(run.end().train_gap),
            Self::LateGrowth => Some(run.late_growth()),
            Self::TrainLoss => Some(run.end().train_loss),
            Self::TrainNll => Some(run.end().train_nll),
            Self::Rise => Some(run.rise()),
            Self::BestAccuracy => run.best.map(|best| best.accuracy),
            Self::BestNll => run.best.map(|best| best.nll),
        }
    }

    /// In JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Nll => "nll",
            Self::Ece => "ece",
            Self::ChanceEce => "ece_by_chance",
            Self::Kl => "kl_from_truth",
            Self::Temperature => "temperature",
            Self::ScaledNll => "nll_after_temperature",
            Self::ScaledEce => "ece_after_temperature",
            Self::ScaledChanceEce => "ece_after_temperature_by_chance",
            Self::ScaledKl => "kl_from_truth_after_temperature",
            Self::TestGap => "logit_gap_test",
            Self::TrainGap => "logit_gap_train",
            Self::LateGrowth => "logit_gap_train_growth_last_tenth",
            Self::TrainLoss => "train_loss",
            Self::TrainNll => "train_nll",
            Self::Rise => "nll_rise_from_lowest",
            Self::BestAccuracy => "accuracy_best_possible",
            Self::BestNll => "nll_best_possible",
        }
    }

    /// In the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy, %",
            Self::Nll | Self::ScaledNll => "NLL",
            Self::Ece | Self::ScaledEce => "ECE",
            Self::ChanceEce | Self::ScaledChanceEce => "ECE by chance",
            Self::Kl | Self::ScaledKl => "KL from the truth",
            Self::Temperature => "temperature",
            Self::TestGap => "test",
            Self::TrainGap => "training",
            Self::LateGrowth => "growth, last tenth",
            Self::TrainLoss => "loss",
            Self::TrainNll => "NLL",
            Self::Rise => "NLL, since its lowest",
            Self::BestAccuracy => "best possible, %",
            Self::BestNll => "best possible NLL",
        }
    }

    /// What the table multiplies it by, and its decimals there.
    pub fn shown(self) -> (f64, usize) {
        match self {
            Self::Accuracy | Self::BestAccuracy => (100.0, 2),
            Self::Temperature | Self::TestGap | Self::TrainGap | Self::LateGrowth => (1.0, 2),
            _ => (1.0, 3),
        }
    }
}
