//! What is measured in every run: one list for the table, the sentences and the JSON.

use super::run::Run;

/// One number of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Accuracy,
    Nll,
    Ece,
    ChanceEce,
    Kl,
    Temperature,
    ScaledNll,
    ScaledEce,
    ScaledChanceEce,
    ScaledKl,
    TestGap,
    TrainGap,
    LateGrowth,
    TrainLoss,
    TrainNll,
    Rise,
    BestAccuracy,
    BestNll,
}

/// How a measure is computed and shown.
pub struct Facts {
    /// Its name in JSON.
    pub key: &'static str,
    /// Its name in the table.
    pub name: &'static str,
    /// What the table multiplies it by.
    pub factor: f64,
    /// Its decimals in the table.
    pub decimals: usize,
    /// Its value, if the run has one: some need a known truth.
    pub of: fn(&Run) -> Option<f64>,
}

/// An entry of a list of measures.
pub const fn facts(
    key: &'static str,
    name: &'static str,
    factor: f64,
    decimals: usize,
    of: fn(&Run) -> Option<f64>,
) -> Facts {
    Facts { key, name, factor, decimals, of }
}

/// Every measure, in the order of [`Measure`].
pub static MEASURES: [Facts; 18] = [
    facts("accuracy", "accuracy, %", 100.0, 2, |run| Some(run.accuracy)),
    facts("nll", "NLL", 1.0, 3, |run| Some(run.raw.nll)),
    facts("ece", "ECE", 1.0, 3, |run| Some(run.raw.ece)),
    facts("ece_by_chance", "ECE, chance level", 1.0, 3, |run| Some(run.raw.chance_ece.mean)),
    facts("kl_from_truth", "KL from the truth", 1.0, 3, |run| run.raw.kl),
    facts("temperature", "temperature", 1.0, 2, |run| Some(run.temperature.value)),
    facts("nll_after_temperature", "NLL", 1.0, 3, |run| Some(run.scaled.nll)),
    facts("ece_after_temperature", "ECE", 1.0, 3, |run| Some(run.scaled.ece)),
    facts("ece_after_temperature_by_chance", "ECE, chance level", 1.0, 3, |run| {
        Some(run.scaled.chance_ece.mean)
    }),
    facts("kl_from_truth_after_temperature", "KL from the truth", 1.0, 3, |run| run.scaled.kl),
    facts("logit_gap_test", "test", 1.0, 2, |run| Some(run.end().test_gap)),
    facts("logit_gap_train", "training", 1.0, 2, |run| Some(run.end().train_gap)),
    facts("logit_gap_train_growth_last_tenth", "growth, last tenth", 1.0, 2, |run| {
        Some(run.late_growth())
    }),
    facts("train_loss", "loss", 1.0, 3, |run| Some(run.end().train_loss)),
    facts("train_nll", "NLL", 1.0, 3, |run| Some(run.end().train_nll)),
    facts("nll_rise_from_lowest", "NLL, since its lowest", 1.0, 3, |run| Some(run.rise())),
    facts("accuracy_best_possible", "best possible, %", 100.0, 2, |run| {
        run.best.map(|best| best.accuracy)
    }),
    facts("nll_best_possible", "best possible NLL", 1.0, 3, |run| run.best.map(|best| best.nll)),
];

impl Measure {
    /// Its entry in [`MEASURES`].
    pub fn facts(self) -> &'static Facts {
        &MEASURES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_the_order_of_the_measures() {
        assert_eq!(
            [Measure::Accuracy, Measure::Temperature, Measure::ScaledKl, Measure::BestNll]
                .map(|measure| measure.facts().key),
            ["accuracy", "temperature", "kl_from_truth_after_temperature", "nll_best_possible"]
        );
    }
}
