//! Label-smoothed cross-entropy on candle tensors.

#![forbid(unsafe_code)]

mod attach;
mod composed;
mod criterion;
mod engine;
mod error;
mod host;
mod shape;

pub use criterion::{Call, CrossEntropy, Lambda};
pub use error::{Error, Result};
