//! Data sets: where they come from, what they are in memory, and how they are split.

mod dataset;
mod digits;
mod distribution;
mod idx;
mod mixture;
mod source;
mod split;
mod table;

pub use dataset::{Dataset, Features};
pub use distribution::{NO_DISTRIBUTION, SEEM_PROBABILITIES, is_distribution};
pub use source::Source;
pub use split::{Part, Split, split};
pub use table::TableOptions;
