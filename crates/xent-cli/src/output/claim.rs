//! Claims: what processes say to each other about a folder that they all write into.
//!
//! A claim is a locked file. The system takes the lock away when the process ends, however that
//! ends, so that nothing has to be cleaned up before others go on. A [`Claim`] has one owner. A
//! [`Joined`] file has as many as want to do the same: it begins with what that is.
//!
//! Where a file system has no locks, every process believes to be alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::temporary::{Live, is_named, live, lock};
use crate::error::{Error, Result};

/// Something that no other process has.
#[derive(Debug)]
pub struct Claim {
    live: Live,
    /// Locked.
    _file: File,
}

impl Claim {
    /// Claims what a file stands for, unless another process has.
    pub fn new(path: &Path) -> Result<Option<Self>> {
        loop {
            let mut live = live();
            let file = open(path)?;
            if !lock(&file) {
                return Ok(None);
            }
            if is_named(&file, path) {
                return Ok(Some(Self { live: Live::new(path, None, &mut live), _file: file }));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.live.remove();
    }
}

/// Something that several processes do together.
#[derive(Debug)]
pub struct Joined {
    live: Live,
    /// What those do that were there first: the same, or this process should leave.
    pub theirs: String,
    /// Why they could not know of each other.
    pub no_locks: Option<std::io::Error>,
}

impl Joined {
    /// Joins those who have the file; the first says in it what is done.
    pub fn new(path: &Path, ours: &str) -> Result<Self> {
        let fails = |error| Error::writing(path, error);
        loop {
            let mut live = live();
            let mut file = open(path)?;
            match file.try_lock() {
                Ok(()) => {
                    file.set_len(0)
                        .and_then(|()| file.write_all(ours.as_bytes()))
                        .map_err(fails)?;
                    // Others may write again before it is locked below, and are then first.
                    file.unlock().map_err(fails)?;
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    let live = Live::new(path, None, &mut live);
                    return Ok(Self { live, theirs: ours.to_string(), no_locks: Some(error) });
                }
            }
            // Nobody writes into a file that somebody shares.
            if file.try_lock_shared().is_ok() && is_named(&file, path) {
                let mut theirs = String::new();
                let read = file.rewind().and_then(|()| file.read_to_string(&mut theirs));
                read.map_err(|error| Error::reading(path, error))?;
                // Whoever made an empty one was killed before it wrote.
                if !theirs.is_empty() {
                    let live = Live::new(path, Some(file), &mut live);
                    return Ok(Self { live, theirs, no_locks: None });
                }
            }
            drop((live, file));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.live.remove();
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).map_err(|error| Error::writing(path, error))
}

#[cfg(test)]
mod tests {
    use super::super::temporary::Temporary;
    use super::*;

    fn count(folder: &tempfile::TempDir) -> usize {
        std::fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn a_claim_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".xent-claim");
        let claim = Claim::new(&path).unwrap();
        assert!(claim.is_some());
        assert!(Claim::new(&path).unwrap().is_none());
        // Other files may be made and cleaned up meanwhile.
        drop(Temporary::new(folder.path()).unwrap());
        assert!(Claim::new(&path).unwrap().is_none());
        drop(claim);
        assert_eq!(count(&folder), 0);
        assert!(Claim::new(&path).unwrap().is_some());
    }

    #[test]
    fn who_leaves_does_not_remove_the_file_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".xent-joined");
        let first = Joined::new(&path, "this").unwrap();
        // As who leaves at the same time may do.
        std::fs::remove_file(&path).unwrap();
        let second = Joined::new(&path, "that").unwrap();
        drop(first);
        assert!(path.exists());
        assert_eq!(Joined::new(&path, "other").unwrap().theirs, "that");
        drop(second);
        assert_eq!(count(&folder), 0);
    }

    #[test]
    fn the_first_says_what_is_done_until_the_last_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".xent-joined");
        // What somebody left who was killed.
        std::fs::write(&path, "something long").unwrap();
        let first = Joined::new(&path, "this").unwrap();
        let second = Joined::new(&path, "that").unwrap();
        drop(Temporary::new(folder.path()).unwrap());
        assert_eq!((first.theirs.as_str(), second.theirs.as_str()), ("this", "this"));
        drop(first);
        let third = Joined::new(&path, "other").unwrap();
        assert_eq!(third.theirs, "this");
        drop(second);
        drop(third);
        assert_eq!(count(&folder), 0);
        assert_eq!(Joined::new(&path, "other").unwrap().theirs, "other");
    }
}
