//! What every report looks like: one self-contained page, its charts and its tables. What a report says is its subcommand's affair.

mod chart;
mod page;
mod table;
mod versions;

pub use chart::{Axis, Chart, Ink, Mark, Stroke, key, small_multiples};
pub use page::{Page, Section};
pub use table::{Cell, Group, Table};
pub use versions::Versions;
