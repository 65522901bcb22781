//! Folders that are written into.

use std::path::Path;

use super::temporary::Temporary;
use crate::error::{Error, Result};

/// Makes a folder and those that contain it, and makes sure that it can be written.
pub fn make_folder(path: &Path) -> Result<()> {
    if path.exists() && !path.is_dir() {
        return Err(Error::in_file(path, "it is a file, expected a folder, or a name for one"));
    }
    std::fs::create_dir_all(path).map_err(|error| {
        Error::input(format!("cannot make the folder {}: {error}", path.display()))
    })?;
    Temporary::new(path).map(drop).map_err(|error| {
        Error::input(format!("cannot write into the folder {}: {error}", path.display()))
    })
}
