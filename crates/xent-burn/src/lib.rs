//! Label-smoothed cross-entropy on burn tensors.

#![forbid(unsafe_code)]

mod backend;
mod batch;
mod call;
mod composed;
mod config;
mod criterion;
mod engine;
mod error;
mod host;
mod output;
mod shape;

pub use batch::{Lambda, Targets};
pub use call::Call;
pub use config::CrossEntropyConfig;
pub use criterion::CrossEntropy;
pub use error::{Error, Result};
pub use output::CrossEntropyOutput;
