//! What is measured on a part: everything in f64, from logits, so that confident rows keep their digits.

mod calibration;
mod gap;
mod logits;
mod temperature;

pub use calibration::{BINS, Bin, ChanceEce, Reliability, chance_ece};
pub use gap::mean_logit_gap;
pub use logits::Logits;
pub use temperature::{Temperature, fit_temperature};
