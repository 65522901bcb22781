//! What every report has: one self-contained page, its charts and its tables. What a report says is
//! decided by its subcommand.

mod chart;
mod contrast;
mod finding;
mod page;
mod reliability;
mod table;
mod versions;

pub use chart::{Axis, Chart, Ink, Mark, RAW_AND_SCALED, Stroke, key, small_multiples};
pub use contrast::{Contrast, Contrasts, dot_plots};
pub use finding::Finding;
pub use page::{Report, ReportFiles, Section, folded, how_it_was_made};
pub use reliability::reliability_chart;
pub use table::{Cell, Group, Table, grid, short};
pub use versions::Versions;
