//! What every report looks like: one self-contained page, its charts and its tables. What a report says is its subcommand's affair.

mod chart;
mod finding;
mod page;
mod reliability;
mod table;
mod versions;

pub use chart::{Axis, Chart, Ink, Mark, Stroke, key, small_multiples};
pub use finding::Finding;
pub use page::{Page, Section};
pub use reliability::reliability_chart;
pub use table::{Cell, Group, Table};
pub use versions::Versions;
