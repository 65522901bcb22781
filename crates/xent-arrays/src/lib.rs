//! Logits and labels from files that may come from anyone: `.npy`, `.npz`, safetensors, CSV and
//! Parquet.
//!
//! Everything that a file declares is checked against its contents before memory is allocated for
//! it, and [`LogitRows`] and [`LabelRows`] return rows one block at a time, so memory does not grow
//! with the file, except for arrays whose rows are scattered over it: several axes of rows in Fortran
//! order, and archives with another order than that of the rows. Errors name the file and the place in it, what was found and what was expected.
#![forbid(unsafe_code)]

mod axis;
mod columns;
mod csv;
mod error;
pub mod npy;
mod npz;
mod open;
#[cfg_attr(not(feature = "parquet"), path = "parquet_absent.rs")]
mod parquet;
mod rows;
mod safetensors;
mod stored;

pub use columns::{ClassNames, Columns};
pub use error::{ArrayError, Problem};
pub use open::{Place, open_labels, open_logits, open_numbers, read_array};
pub use rows::{Block, Floats, LabelRows, LogitRows};
