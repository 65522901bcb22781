//! Logits and labels from files that may come from anyone: `.npy`, `.npz`, safetensors, CSV and
//! Parquet.
//!
//! Everything that a file declares is checked against its contents before memory is allocated for
//! it, and [`LogitRows`] and [`LabelRows`] return rows one block at a time, so memory does not grow
//! with the file. Errors name the file and the place in it, what was found and what was expected.
#![forbid(unsafe_code)]

mod columns;
mod csv;
mod error;
pub mod npy;
mod npz;
mod open;
mod parquet;
mod rows;
mod safetensors;
mod stored;

pub use columns::Columns;
pub use error::{ArrayError, Problem};
pub use open::{Place, open_labels, open_logits, open_numbers};
pub use rows::{Block, Floats, LabelRows, LogitRows};
