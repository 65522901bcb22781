//! Evaluates a classifier from its logits: accuracy, NLL, Brier score, calibration errors, risk by
//! coverage, temperature, logit gap.
//!
//! Everything is computed in f64 from logits, in one pass, into an [`Evaluation`] that merges:
//! evaluations of parts of a data set, on any machines and in any order, merge to the bits of one
//! evaluation of all of it. Memory does not grow with the number of rows. [`Evaluation::scores`]
//! turns the sums into metrics, with chance levels and intervals.
//!
//! What is exact, and when:
//! - counts, means and equal-width bins: always;
//! - metrics that need sorted confidences (bins of equal mass, risk by coverage): up to 2¹⁹
//!   different confidences, above which confidences are rounded ([`Cells`]);
//! - metrics that need whole rows again (the temperature, and all numbers after it, unless it is
//!   given): as long as all rows fit into the budget, or if the rows can be visited again, by a
//!   [`TemperatureSearch`] and a [`SecondPass`]; otherwise they come from a [`Sample`].
//!
//! [`Scores`] says which of these was the case.
#![forbid(unsafe_code)]

mod bins;
mod cells;
mod classes;
mod error;
mod evaluation;
mod features;
mod input;
mod json;
mod mean;
mod mistakes;
mod packed;
mod partial;
mod row;
mod sample;
mod scores;
mod smoothing;
mod soft;
mod sum;
mod tally;
mod temperature;
mod vectors;

pub use bins::{BINS, Bin, Binning, Reliability, ShareSum};
pub use cells::{Cell, Cells};
pub use error::{InputError, MergeError, PartialError, SettingsError};
pub use evaluation::{Evaluation, SecondPass, Source, Tallies};
pub use features::Features;
pub use input::{LabelledRows, Logits, Settings};
pub use json::Extended;
pub use mean::Mean;
pub use mistakes::Mistake;
pub use partial::{Evaluated, read_partial, write_partial};
pub use row::{NotFinite, Reader, Row};
pub use sample::{Candidate, Sample};
pub use scores::{Chance, ClassScores, Estimate, Gaps, RiskCoverage, Scored, Scores};
pub use smoothing::{EpsilonEstimate, Optimum, UniformPrior, estimate_epsilon};
pub use soft::SoftRow;
pub use sum::ExactSum;
pub use tally::Tally;
pub use temperature::{NoOptimum, Slopes, Temperature, TemperatureSearch, fit_temperature};
