//! Data sets: where they come from, what they are in memory, and how they are split.

mod dataset;
mod digits;
mod idx;
mod mixture;
mod source;
mod split;
mod table;

pub use dataset::{Dataset, Features};
pub use source::Source;
pub use split::{Part, Split, split};
pub use table::TableOptions;
