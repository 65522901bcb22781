//! Where rows are read and written. The only unsafe code of the crate: logits and gradient may be one buffer, rows are written by several threads, and stores go past the cache.
//!
//! What makes it sound: a layout was checked against its buffer when its view was made, a view for writing has no element at two positions (`view.rs`), and the engine
//! hands each row, or each piece of a row, to one task, which reads and writes that only.

mod ahead;
mod sink;
mod source;
mod stream;

pub(super) use ahead::{Ahead, Steps, TileAhead};
pub(super) use sink::Sink;
pub use source::Source;
