//! Temporary files, which nobody who ends leaves behind.
//!
//! A temporary file stands in the folder of the file that it becomes, and is named `.xent-…`. Three
//! things remove it: its owner, when it drops it; a thread that waits for the signals INT and TERM;
//! and, where its owner was killed, the next owner of a temporary file in the same folder. That one
//! knows by a lock which files have an owner that lives.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

const PREFIX: &str = ".xent-";

/// What this process would leave behind.
static LIVE: Mutex<Vec<Left>> = Mutex::new(Vec::new());

/// A file that must not stay when its owners end.
#[derive(Debug)]
pub struct Left {
    id: u64,
    path: PathBuf,
    /// Locked by every process that owns it, if several may.
    shared: Option<File>,
}

impl Left {
    /// Removes the file, unless other processes own it, too.
    fn remove(&self) {
        // A lock is not turned into another: what that does depends on the system.
        // Whoever left in between may have removed it, and others have made a new one.
        let is_last = self
            .shared
            .as_ref()
            .is_none_or(|file| file.unlock().is_ok() && lock(file) && is_named(file, &self.path));
        if is_last {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Held while a file is made that must not stay, so that a signal finds it.
pub fn live() -> MutexGuard<'static, Vec<Left>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is removed by a signal, as long as this lives.
#[derive(Debug)]
pub struct Live {
    id: u64,
}

impl Live {
    /// A file of this process alone, or one that processes share which have locked it.
    pub fn new(path: &Path, shared: Option<File>, live: &mut Vec<Left>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        live.push(Left { id, path: path.to_path_buf(), shared });
        Self { id }
    }

    /// Does what a signal would do.
    pub fn remove(&self) {
        live().iter().filter(|left| left.id == self.id).for_each(Left::remove);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        live().retain(|left| left.id != self.id);
    }
}

/// A file that has not got its name yet.
#[derive(Debug)]
pub struct Temporary {
    // Dropped in this order.
    file: NamedTempFile,
    _live: Live,
}

impl Temporary {
    /// A new file in a folder, from which it removes what others left.
    pub fn new(folder: &Path) -> io::Result<Self> {
        signals::watch();
        remove_leftovers(folder);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        // Less the umask, as for any other file; temporary files are private by default.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        loop {
            let mut live = live();
            let file = builder.tempfile_in(folder)?;
            // Others may have taken it for a leftover before it was locked.
            if lock(file.as_file()) && file.path().exists() {
                let live = Live::new(file.path(), None, &mut live);
                return Ok(Self { file, _live: live });
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Gives it its name.
    pub fn become_file(self, name: &Path) -> io::Result<()> {
        self.file.persist(name).map(drop).map_err(|error| error.error)
    }
}

/// Locks a file, unless another process has. Where a file system has no locks, nobody has.
pub fn lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
}

/// Whether the open file still has its name: another owner may have removed it in between.
pub fn is_named(file: &File, path: &Path) -> bool {
    let opened = file.try_clone().and_then(same_file::Handle::from_file);
    let named = same_file::Handle::from_path(path);
    opened.is_ok_and(|opened| named.is_ok_and(|named| named == opened))
}

/// Removes the temporary files whose owners do not live.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let file = OpenOptions::new().read(true).write(true).open(entry.path());
            // Only a lock that was got says that nobody lives there.
            let Ok(file) = file else { continue };
            if file.try_lock().is_ok() && is_named(&file, &entry.path()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(unix)]
mod signals {
    use std::sync::Once;
    use std::sync::mpsc::channel;

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    /// Begins to wait for INT and TERM, which then remove what is temporary and end the process as
    /// they always do. Without a thread for it they end it at once, and the next command cleans up.
    pub fn watch() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let (ready, waits) = channel();
            let wait = move || {
                let signals: Vec<i32> =
                    [SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal)).collect();
                let registered = Signals::new(&signals);
                let _ = ready.send(());
                let Some(signal) = registered.ok().and_then(|mut all| all.forever().next()) else {
                    return;
                };
                // Kept to the end: nothing new is made.
                let live = super::live();
                live.iter().for_each(super::Left::remove);
                let _ = emulate_default_handler(signal);
            };
            if std::thread::Builder::new().name("signals".into()).spawn(wait).is_ok() {
                let _ = waits.recv();
            }
        });
    }

    /// Whether whoever started this process wants it to ignore a signal, as shells do with INT for
    /// what runs in the background.
    fn is_ignored(signal: i32) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    }
}

#[cfg(not(unix))]
mod signals {
    /// Signals are Unix's; elsewhere the next command cleans up.
    pub fn watch() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_removed_and_living_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(".xent-left");
        let other = folder.path().join("other");
        std::fs::write(&left, "").unwrap();
        std::fs::write(&other, "").unwrap();
        let living = Temporary::new(folder.path()).unwrap();
        let second = Temporary::new(folder.path()).unwrap();
        assert!(!left.exists() && other.exists());
        for file in [&living, &second] {
            assert!(file.file.path().exists());
        }
        drop((living, second));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
