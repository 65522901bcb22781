//! Folders that are written into.

use std::fs::{File, OpenOptions};
use std::path::Path;

use super::temporary::{Live, Temporary, live, lock};
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

/// A folder that no other process claims.
#[derive(Debug)]
pub struct Claim {
    live: Live,
    /// Locked; the lock ends with the process, however that ends.
    _file: File,
}

impl Claim {
    /// Claims a folder, unless another process has.
    pub fn new(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(".xent-claim");
        let fails = |error| Error::writing(&path, error);
        loop {
            let mut live = live();
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(fails)?;
            if !lock(&file) {
                return Ok(None);
            }
            // The last owner may have removed it in between.
            let locked = file.try_clone().and_then(same_file::Handle::from_file).map_err(fails)?;
            if same_file::Handle::from_path(&path).is_ok_and(|named| named == locked) {
                return Ok(Some(Self { live: Live::new(&path, &mut live), _file: file }));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.live.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_claimed_once_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let claim = Claim::new(folder.path()).unwrap();
        assert!(claim.is_some());
        assert!(Claim::new(folder.path()).unwrap().is_none());
        // Other files may be made and cleaned up meanwhile.
        drop(Temporary::new(folder.path()).unwrap());
        assert!(Claim::new(folder.path()).unwrap().is_none());
        drop(claim);
        assert!(Claim::new(folder.path()).unwrap().is_some());
    }
}
