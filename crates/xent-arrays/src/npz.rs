//! `.npz`: a ZIP archive of `.npy` members, stored or deflated.
//!
//! The `zip` crate reads the archive's directory; a member's bytes are read here and checked
//! against the sizes and the checksum in the directory.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use crate::error::Problem;
use crate::npy::{self, open_regular};
use crate::stored::{Entries, StoredArray};

/// An array of an archive: the one called `name`, or the only one that `fits`.
pub fn open(
    path: &Path,
    name: Option<&str>,
    fits: fn(&npy::Header) -> bool,
) -> Result<StoredArray, Problem> {
    let (file, _) = open_regular(path)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(unreadable)?;
    if archive.has_duplicate_names() {
        return Err(unreadable("two members have the same name"));
    }
    let member_names =
        archive.file_names_raw().map(|name| String::from_utf8_lossy(name).into_owned());
    let arrays: Vec<String> =
        member_names.map(|name| name.strip_suffix(".npy").unwrap_or(&name).to_string()).collect();
    StoredArray::choose("array", &arrays, name, fits, |index| {
        member(path, &mut archive, index, &arrays[index])
    })
}

fn unreadable(why: impl std::fmt::Display) -> Problem {
    Problem::unreadable("archive", why)
}

fn member(
    path: &Path,
    archive: &mut ZipArchive<BufReader<File>>,
    index: usize,
    name: &str,
) -> Result<StoredArray, Problem> {
    let (start, compressed, size, crc, deflated) = {
        let member = archive.by_index_raw(index).map_err(unreadable)?;
        let deflated = match member.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            other => {
                return Err(unreadable(format!(
                    "{name} is compressed by {other}, expected stored or deflated members"
                )));
            }
        };
        if member.encrypted() {
            return Err(unreadable(format!("{name} is encrypted")));
        }
        let start = member.data_start().ok_or_else(|| unreadable(format!("{name} has no data")))?;
        (start, member.compressed_size(), member.size(), member.crc32(), deflated)
    };
    let (mut file, whole) = open_regular(path)?;
    if start.checked_add(compressed).is_none_or(|end| end > whole)
        || !deflated && compressed != size
    {
        return Err(unreadable(format!("{name} does not lie within the file")));
    }
    file.seek(SeekFrom::Start(start))?;
    let raw = BufReader::with_capacity(1 << 16, file).take(compressed);
    let inner: Box<dyn Read + Send> =
        if deflated { Box::new(DeflateDecoder::new(raw)) } else { Box::new(raw) };
    let mut reader = Checked {
        inner,
        name: name.to_string(),
        declared: size,
        left: size,
        hasher: crc32fast::Hasher::new(),
        crc,
    };
    let header = npy::read_header(&mut reader, size)?;
    Ok(StoredArray {
        file: path.to_path_buf(),
        name: name.to_string(),
        header,
        entries: Entries::Stream(Box::new(reader)),
    })
}

/// Reads exactly as many bytes as the directory declares and checks their checksum.
struct Checked {
    inner: Box<dyn Read + Send>,
    name: String,
    declared: u64,
    left: u64,
    hasher: crc32fast::Hasher,
    crc: u32,
}

impl Checked {
    fn wrong_length(&self, found: String) -> std::io::Error {
        std::io::Error::other(Problem::length(&self.name, found, self.declared))
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            if !buffer.is_empty() && self.inner.read(&mut [0])? > 0 {
                return Err(self.wrong_length(format!("more than {}", self.declared)));
            }
            if self.hasher.clone().finalize() != self.crc {
                return Err(std::io::Error::other(format!(
                    "{}: its checksum is wrong: the file is damaged",
                    self.name
                )));
            }
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(self.wrong_length((self.declared - self.left).to_string()));
        }
        self.hasher.update(&buffer[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}
