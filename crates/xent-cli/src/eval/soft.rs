//! The numbers against soft targets, in a further pass over the files: raw, and at the temperature.

use serde::Serialize;
use xent_metrics::{Extended, LabelledRows, Logits, Mean, Settings, SoftRow};

use super::beside::{Beside, open_rows};
use super::comparison::Comparison;
use super::pass::Pass;
use super::weighted::Weighed;
use super::{Passes, begin};
use crate::error::Result;

/// The numbers against soft targets.
#[derive(Debug, Serialize)]
pub struct Soft {
    /// Mean entropy of the targets: the lowest possible NLL.
    pub entropy: Extended,
    /// At temperature 1.
    pub raw: SoftScores,
    /// At the temperature.
    pub scaled: SoftScores,
}

/// The numbers at one temperature.
#[derive(Debug, Serialize)]
pub struct SoftScores {
    /// Mean of −Σ t ln p.
    pub nll: Weighed,
    /// Mean of Σ (p − t)².
    pub brier: Weighed,
}

/// Adds the numbers against soft targets to those of every model.
pub fn soften(passes: &Passes<'_>, comparison: &mut Comparison) -> Result<()> {
    let Passes { options, models, .. } = passes;
    let bar = passes.bar();
    for (model, scores) in models.iter().zip(&mut comparison.models) {
        begin(&bar, &format!("{} against its targets", model.name));
        let input = passes.input(model);
        let pass = Pass::new(&input, options.threads, &bar);
        let targets = Beside::open(model.labels.clone(), Box::new(open_rows))?;
        let feed = pass.open()?.beside(vec![targets]);
        let (settings, temperature) = (options.settings(feed.classes()), scores.temperature());
        let all = pass.run(feed, &Sums::default, &|sums, rows, beside| {
            sums.add(rows, &beside[0], &settings, temperature);
            Ok(())
        })?;
        let mut sums = Sums::default();
        all.iter().for_each(|other| sums.merge(other));
        let [raw, scaled] = [0, 1].map(|at| SoftScores {
            nll: Weighed::new(&sums.nll[at]),
            brier: Weighed::new(&sums.brier[at]),
        });
        let entropy = Extended(sums.entropy.value());
        scores.soft_targets = Some(Soft { entropy, raw, scaled });
    }
    bar.finish_and_clear();
    Ok(())
}

/// The sums of a pass; in pairs: raw, and at the temperature.
#[derive(Default)]
struct Sums {
    entropy: Mean,
    nll: [Mean; 2],
    brier: [Mean; 2],
}

impl Sums {
    fn add(
        &mut self,
        rows: &LabelledRows<'_>,
        targets: &[f64],
        settings: &Settings,
        temperature: f64,
    ) {
        let classes = settings.classes;
        for (row, logits, _) in rows.evaluated(settings) {
            let targets = &targets[row * classes..(row + 1) * classes];
            let logits: Vec<f64> = match logits {
                Logits::F64(logits) => logits.to_vec(),
                Logits::F32(logits) => logits.iter().map(|z| f64::from(*z)).collect(),
            };
            for (at, temperature) in [1.0, temperature].into_iter().enumerate() {
                // Rows that are not finite are left out here, too.
                let Some(row) = SoftRow::new(&logits, targets, temperature) else { break };
                if at == 0 {
                    self.entropy.add(row.entropy, 1.0);
                }
                self.nll[at].add(row.nll, 1.0);
                self.brier[at].add(row.brier, 1.0);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.entropy.merge(&other.entropy);
        for at in 0..2 {
            self.nll[at].merge(&other.nll[at]);
            self.brier[at].merge(&other.brier[at]);
        }
    }
}
