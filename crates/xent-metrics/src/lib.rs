//! What a classifier's logits say about it: accuracy, NLL, Brier score, calibration errors, risk by coverage, temperature, logit gap.
//!
//! Everything is computed in f64 from logits, in one pass, into an [`Evaluation`] that merges: evaluations of parts of a data set, on any machines and in any order, merge to
//! the bits of one evaluation of all of it. Memory does not grow with the rows. [`Evaluation::scores`] then says what the sums mean, with chance levels and intervals.
//!
//! What is exact, and when: counts, means and equal-width bins always. What needs confidences sorted (bins of equal mass, risk by coverage) up to 2¹⁹ different
//! confidences, above which they are rounded ([`Cells`]). What needs whole rows again (the temperature, and all numbers after it, unless it is given) as long
//! as all rows fit into the budget, else from a sample of them ([`Kept`]). [`Scores`] says which.
#![forbid(unsafe_code)]

mod bins;
mod cells;
mod classes;
mod error;
mod evaluation;
mod kept;
mod mistakes;
mod packed;
mod row;
mod scores;
mod smoothing;
mod sum;
mod tally;
mod temperature;
mod vectors;

pub use bins::{BINS, Bin, Binning, Reliability, ShareSum};
pub use cells::{Cell, Cells};
pub use classes::{Classes, Counts};
pub use error::{InputError, MergeError};
pub use evaluation::{Evaluation, KEPT_LOGITS, Rows, Settings, Tallies};
pub use kept::Kept;
pub use mistakes::{Mistake, Mistakes};
pub use row::{Logits, NotFinite, Reader, Row};
pub use scores::{Chance, ClassScores, Estimate, Gaps, Quantile, RiskCoverage, Scored, Scores};
pub use smoothing::{EpsilonEstimate, Optimum, OptimumError, UniformPrior, estimate_epsilon};
pub use sum::ExactSum;
pub use tally::{CONFIDENCES, Tally};
pub use temperature::{Temperature, fit_temperature};
