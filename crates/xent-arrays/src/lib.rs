//! Logits and labels from files that may come from anyone: `.npy`, `.npz`, safetensors, CSV and Parquet.
//!
//! Whatever a file claims is checked against what it has before memory is taken for it, and [`LogitRows`] and [`LabelRows`] give rows a block at a time: memory does not grow with the
//! file. Errors say which file, where in it, what came and what was expected.
#![forbid(unsafe_code)]

mod csv;
mod error;
pub mod npy;
mod npz;
mod numbers;
mod open;
mod parquet;
mod rows;
mod safetensors;

pub use error::{ArrayError, Problem};
pub use open::{Place, open_labels, open_logits};
pub use rows::{Block, Floats, LabelRows, LogitRows};
