//! What a mean divides by. See SEMANTICS.md S6.

use super::labels::RowLabels;
use super::row::mean_weight;
use super::sum::Sum;
use super::table::ClassTable;
use crate::{ClassWeighting, Denominator, Reduction};

/// The denominators of means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Denominators {
    /// D, for everything except the z-loss.
    pub(super) loss: f64,
    /// D_z, for the z-loss. Class weights do not enter the z-loss, so they do not enter its
    /// denominator either.
    pub(super) z_loss: f64,
}

impl Denominators {
    /// Of a batch whose rows were checked, or of the one that it is a piece of.
    pub(super) fn new(table: &ClassTable<'_>, labels: &RowLabels<'_>) -> Self {
        if let Some(whole) = labels.batch.denominators {
            return whole;
        }
        let config = table.config();
        let kept = (labels.rows - labels.ignored) as f64;
        let dense = labels.probabilities().is_some();
        let weights = config
            .class_weights
            .as_deref()
            .filter(|_| !dense || config.class_weighting == ClassWeighting::PerRow);
        let same = |loss| Self { loss, z_loss: loss };
        match (labels.batch.denominator, config.denominator, weights) {
            (Some(given), _, _) => same(given),
            (None, Denominator::Rows, _) => same(labels.rows as f64),
            (None, Denominator::PyTorch, Some(weights)) => {
                Self { loss: kept_weight(labels, weights), z_loss: kept }
            }
            (None, Denominator::PyTorch | Denominator::KeptRows, _) => same(kept),
        }
    }

    /// λ as rows use it, λ·D/D_z: later everything is divided by D ([`loss`](Self::loss)), the
    /// z-loss included.
    pub(super) fn z_loss(&self, lambda: f64, reduction: Reduction) -> f64 {
        let apart = reduction == Reduction::Mean && self.loss != self.z_loss && self.loss != 0.0;
        if apart { lambda * (self.loss / self.z_loss) } else { lambda }
    }
}

/// Σ w̄ over the rows that are kept.
fn kept_weight(labels: &RowLabels<'_>, weights: &[f64]) -> f64 {
    let mut sum = Sum::default();
    match labels.single {
        Some(_) => (0..labels.rows)
            .filter_map(|row| labels.kept_class(row))
            .for_each(|class| sum.add(weights[class])),
        None => (0..labels.rows)
            .filter(|&row| !labels.is_ignored(row))
            .for_each(|row| sum.add(mean_weight(labels, row, weights))),
    }
    sum.total()
}
