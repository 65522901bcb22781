//! `.npz`: a ZIP archive of `.npy` members, stored or deflated.
//!
//! The archive's directory is read by the `zip` crate; a member's bytes are read here, held to the sizes and the checksum that the directory has.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use crate::error::{Problem, names};
use crate::npy::{self, NpyError};
use crate::numbers::{Bytes, Numbers, open_regular};

/// An array of an archive: that with the name, or the only one that `fits`.
pub fn open(path: &Path, name: Option<&str>, fits: fn(&npy::Header) -> bool) -> Result<Numbers, Problem> {
    let (file, _) = open_regular(path)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| Problem::Archive(error.to_string()))?;
    if archive.has_duplicate_names() {
        return Err(Problem::Archive("two members have the same name".to_string()));
    }
    let members: Vec<String> = archive.file_names_raw().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let bare = |member: &str| member.strip_suffix(".npy").unwrap_or(member).to_string();
    let all = || names("array", members.iter().map(|member| member.strip_suffix(".npy").unwrap_or(member)));
    if let Some(name) = name {
        let found = members.iter().position(|member| bare(member) == name);
        return member(path, &mut archive, found.ok_or_else(|| Problem::Missing { what: "array", name: name.to_string(), has: all() })?, name);
    }
    // Members of other types may be there: they are no candidates, and why they are not read does not matter.
    let mut candidates =
        (0..members.len()).filter_map(|index| member(path, &mut archive, index, &bare(&members[index])).ok()).filter(|numbers| fits(&numbers.header));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        _ if members.len() == 1 => member(path, &mut archive, 0, &bare(&members[0])),
        _ => Err(Problem::Ambiguous { has: all() }),
    }
}

fn member(path: &Path, archive: &mut ZipArchive<BufReader<File>>, index: usize, name: &str) -> Result<Numbers, Problem> {
    let archive_error = |error: zip::result::ZipError| Problem::Archive(error.to_string());
    let (start, compressed, size, crc, deflated) = {
        let member = archive.by_index_raw(index).map_err(archive_error)?;
        let deflated = match member.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            other => return Err(Problem::Archive(format!("{name} is compressed by {other}, expected stored or deflated members"))),
        };
        if member.encrypted() {
            return Err(Problem::Archive(format!("{name} is encrypted")));
        }
        let start = member.data_start().ok_or_else(|| Problem::Archive(format!("{name} has no data")))?;
        (start, member.compressed_size(), member.size(), member.crc32(), deflated)
    };
    let (mut file, whole) = open_regular(path)?;
    if start.checked_add(compressed).is_none_or(|end| end > whole) || !deflated && compressed != size {
        return Err(Problem::Archive(format!("{name} does not lie within the file")));
    }
    file.seek(SeekFrom::Start(start))?;
    let raw = BufReader::with_capacity(1 << 16, file).take(compressed);
    let inner: Box<dyn Read + Send> = if deflated { Box::new(DeflateDecoder::new(raw)) } else { Box::new(raw) };
    let mut reader = Checked { inner, name: name.to_string(), declared: size, left: size, hasher: crc32fast::Hasher::new(), crc };
    let header = npy::read_header(&mut reader, size).map_err(|error| match error {
        NpyError::Io(error) => match error.downcast::<Problem>() {
            Ok(problem) => problem,
            Err(error) => Problem::Io(error),
        },
        other => Problem::Npy(other),
    })?;
    Ok(Numbers { file: path.to_path_buf(), name: name.to_string(), header, bytes: Bytes::Stream(Box::new(reader)) })
}

/// Exactly as many bytes as were declared, with the right checksum.
struct Checked {
    inner: Box<dyn Read + Send>,
    name: String,
    declared: u64,
    left: u64,
    hasher: crc32fast::Hasher,
    crc: u32,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let length = |found: String| Problem::Length { what: self.name.clone(), found, expected: self.declared };
            if !buffer.is_empty() && self.inner.read(&mut [0])? > 0 {
                return Err(std::io::Error::other(length(format!("more than {}", self.declared))));
            }
            if self.hasher.clone().finalize() != self.crc {
                return Err(std::io::Error::other(Problem::Checksum(self.name.clone())));
            }
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            let found = (self.declared - self.left).to_string();
            return Err(std::io::Error::other(Problem::Length { what: self.name.clone(), found, expected: self.declared }));
        }
        self.hasher.update(&buffer[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}
