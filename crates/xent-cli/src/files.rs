//! Files that are written whole or not at all.

use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Makes a folder and those that contain it.
pub fn make_folder(path: &Path) -> Result<()> {
    if path.exists() && !path.is_dir() {
        return Err(Error::in_file(path, "it is a file, expected a folder, or a name for one"));
    }
    std::fs::create_dir_all(path).map_err(|error| {
        Error::input(format!("cannot make the folder {}: {error}", path.display()))
    })
}

/// Writes a file through a temporary one in the same folder, so that a reader sees the old file or
/// the new one and never a part.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<()> {
    write_whole_with(path, |writer| writer.write_all(contents))
}

/// The same for contents that are written piece by piece.
pub fn write_whole_with(
    path: &Path,
    contents: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = move || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".xent-");
        // Less the umask, as for any other file; temporary files are private by default.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = BufWriter::with_capacity(1 << 16, builder.tempfile_in(folder)?);
        contents(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.persist(path)?;
        Ok(())
    };
    write().map_err(|error| Error::writing(path, error))
}
