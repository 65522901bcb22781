//! What stands for [`parquet`](crate::parquet) in a build without the feature `parquet`.

use std::path::Path;

use crate::columns::{ClassNames, Columns};
use crate::error::Problem;
use crate::rows::{LabelRows, LogitRows};

/// An error that says what to build.
pub fn open_logits(
    _: &Path,
    _: Option<&str>,
    _: Option<&str>,
    _: bool,
    _: &Columns,
) -> Result<Box<dyn LogitRows>, Problem> {
    Err(absent())
}

/// An error that says what to build.
pub fn open_labels(
    _: &Path,
    _: Option<&str>,
    _: &ClassNames,
) -> Result<Box<dyn LabelRows>, Problem> {
    Err(absent())
}

fn absent() -> Problem {
    Problem(
        "this program was built without the reader of Parquet files; build it with `--features parquet`"
            .to_string(),
    )
}
