//! Files that are written whole or not at all, and never over a file that is read.
//!
//! [`Outputs`] knows what a command reads and writes. It opens every [`Destination`] before the
//! work begins, with the temporary file that will take its place, so that what cannot be written is
//! found before hours of computing rather than after them.

mod claim;
mod folder;
mod temporary;

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

pub use claim::{Claim, Joined};
pub use folder::make_folder;

use crate::error::{Error, Result};
use temporary::Temporary;

/// What a command reads and writes.
#[derive(Debug, Default)]
pub struct Outputs {
    inputs: Vec<PathBuf>,
    targets: Vec<PathBuf>,
}

/// A file that will be there, whole, after [`write`](Self::write).
#[derive(Debug)]
pub struct Destination {
    /// As it was named.
    path: PathBuf,
    /// Behind links.
    target: PathBuf,
    temporary: Temporary,
}

/// A destination whose new contents are complete.
#[derive(Debug)]
pub struct Filled(Destination);

impl Outputs {
    /// Of a command that reads these files.
    pub fn beside(inputs: Vec<PathBuf>) -> Self {
        Self { inputs, targets: Vec::new() }
    }

    /// Prepares to write or replace a file.
    ///
    /// # Errors
    /// It is read (under whatever name), or written already; it is no file; its folder does not
    /// exist or cannot be written.
    pub fn open(&mut self, path: &Path) -> Result<Destination> {
        let (folder, name) = self.check(path)?;
        let temporary = Temporary::new(&folder).map_err(|error| Error::writing(path, error))?;
        let target = folder.join(name);
        self.targets.push(target.clone());
        Ok(Destination { path: path.to_path_buf(), target, temporary })
    }

    /// Whether a file may be written: its folder and its name in there.
    pub fn check(&self, path: &Path) -> Result<(PathBuf, OsString)> {
        let refuse = |message: &str| Err(Error::in_file(path, message));
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        let target = match path.canonicalize() {
            Ok(target) => target,
            Err(_) if is_link => return refuse("it is a link that leads nowhere"),
            Err(_) => path.to_path_buf(),
        };
        match target.metadata() {
            Ok(metadata) if !metadata.is_file() => {
                return refuse(
                    "it is a folder, pipe or device, expected a file, or a name for one",
                );
            }
            _ => {}
        }
        let Some(name) = target.file_name() else { return refuse("it is not the name of a file") };
        let folder = target
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let Some(folder) = folder.canonicalize().ok().filter(|folder| folder.is_dir()) else {
            return refuse(&format!(
                "{} is not a folder, expected one that exists",
                folder.display()
            ));
        };
        let target = folder.join(name);
        if self.inputs.iter().any(|input| same(input, &target)) {
            return refuse("it would replace a file that is read, expected another name for it");
        }
        if self.targets.iter().any(|other| *other == target || same(other, &target)) {
            return refuse("it is written already, expected another name for it");
        }
        Ok((folder, name.to_owned()))
    }
}

impl Destination {
    /// Writes the file.
    pub fn write(self, contents: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        self.fill(contents)?.place()
    }

    /// Writes the contents beside the file, which stays as it is.
    pub fn fill(
        self,
        contents: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<Filled> {
        let mut writer = BufWriter::with_capacity(1 << 16, self.temporary.file());
        contents(&mut writer)
            .and_then(|()| writer.flush())
            .map_err(|error| Error::writing(&self.path, error))?;
        drop(writer);
        Ok(Filled(self))
    }

    /// As it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Filled {
    /// Replaces the file: its readers see the old one or the new one, and never a part.
    pub fn place(self) -> Result<()> {
        let Destination { path, target, temporary } = self.0;
        temporary.become_file(&target).map_err(|error| Error::writing(&path, error))
    }
}

/// Whether two names are of one file, through links of any kind.
fn same(a: &Path, b: &Path) -> bool {
    same_file::is_same_file(a, b).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with one file, `read`.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let read = folder.path().join("read");
        std::fs::write(&read, "old").unwrap();
        (folder, read)
    }

    fn refusal(outputs: &mut Outputs, path: &Path) -> String {
        let message = outputs.open(path).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        message
    }

    #[test]
    fn a_file_that_is_read_is_refused_under_every_name() {
        let (folder, read) = folder();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("deeper")).unwrap();
        std::fs::hard_link(&read, at("hard")).unwrap();
        let mut names = vec![read.clone(), at("./read"), at("deeper/../read"), at("hard")];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("read", at("soft")).unwrap();
            std::os::unix::fs::symlink(folder.path(), at("deeper/up")).unwrap();
            names.extend([at("soft"), at("deeper/up/read")]);
        }
        // However it is read.
        for input in &names {
            for output in &names {
                let mut outputs = Outputs::beside(vec![input.clone()]);
                assert!(refusal(&mut outputs, output).contains("is read"), "{output:?}");
            }
        }
        assert_eq!(std::fs::read(&read).unwrap(), b"old");
    }

    #[test]
    fn two_outputs_are_two_files() {
        let (folder, read) = folder();
        let mut outputs = Outputs::default();
        let _new = outputs.open(&folder.path().join("new")).unwrap();
        assert!(refusal(&mut outputs, &folder.path().join("./new")).contains("written already"));
        let _old = outputs.open(&read).unwrap();
        std::fs::hard_link(&read, folder.path().join("hard")).unwrap();
        assert!(refusal(&mut outputs, &folder.path().join("hard")).contains("written already"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let (folder, read) = folder();
        let mut outputs = Outputs::default();
        assert!(refusal(&mut outputs, folder.path()).contains("expected a file"));
        assert!(refusal(&mut outputs, &read.join("below")).contains("is not a folder"));
        assert!(refusal(&mut outputs, &folder.path().join("no/new")).contains("is not a folder"));
        #[cfg(unix)]
        {
            assert!(refusal(&mut outputs, Path::new("/dev/null")).contains("device"));
            let dangling = folder.path().join("dangling");
            std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
            assert!(refusal(&mut outputs, &dangling).contains("leads nowhere"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let (folder, read) = folder();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("read", &link).unwrap();
        Outputs::default().open(&link).unwrap().write(|out| out.write_all(b"new")).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&read).unwrap(), b"new");
    }

    #[test]
    fn a_file_is_old_until_all_is_written_and_nothing_else_stays() {
        let (folder, read) = folder();
        let open = || Outputs::default().open(&read).unwrap();
        let failed = open().write(|out| {
            out.write_all(b"half")?;
            Err(std::io::ErrorKind::Other.into())
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&read).unwrap(), b"old");
        let filled = open().fill(|out| out.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&read).unwrap(), b"old");
        filled.place().unwrap();
        assert_eq!(std::fs::read(&read).unwrap(), b"new");
        drop(open());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
