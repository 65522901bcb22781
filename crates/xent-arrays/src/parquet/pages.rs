//! The file as the `parquet` crate reads it, with each page checked first: the crate reserves the
//! memory that a page's header declares, for the page and for a dictionary's values, before it
//! reads either.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use parquet::basic::{Compression, Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::header::PageHeader;
use crate::error::Problem;
use crate::npy::open_regular;

/// The most bytes of a header; the header of a page of numbers has about a hundred.
const MOST_HEADER: u64 = 10_000;
/// The most bytes of a page in memory; writers make pages of a megabyte.
const MOST_BYTES: u64 = 1 << 28;
/// The most bytes of the pages of all columns that are read together.
const MOST_MEMORY: u64 = 1 << 32;
/// The most logits of a row.
const MOST_LOGITS: u64 = 1 << 24;
/// The most logits of a page. Its size is no bound, because a million equal numbers take a few bytes.
/// DuckDB's pages have up to 100 MB.
const MOST_IN_PAGE: u64 = 1 << 26;

/// A file, whose columns share its handle.
pub struct File {
    pub handle: std::fs::File,
    pub size: u64,
    /// Bytes of the current pages of all columns.
    memory: AtomicU64,
}

impl File {
    pub fn open(path: &Path) -> std::result::Result<Self, Problem> {
        let (handle, size) = open_regular(path)?;
        Ok(Self { handle, size, memory: AtomicU64::new(0) })
    }
}

/// A file's pages of one column.
#[derive(Clone)]
pub struct Pages(Arc<Source>);

struct Source {
    file: Arc<File>,
    column: String,
    /// Whether rows are lists.
    lists: bool,
    /// Bytes per value.
    width: u64,
    /// The most bytes that a compressed byte can become.
    growth: u64,
    /// Whether some pages are compressed by this codec.
    gzip: bool,
    lz4: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Values of the pages since the start of the batch.
    values: u64,
    /// The page whose header was read last, with its position.
    page: (u64, PageHeader),
    rejected: Option<Problem>,
}

impl Pages {
    /// The pages of a leaf of the schema.
    pub fn new(file: &Arc<File>, column: &str, metadata: &ParquetMetaData, leaf: usize) -> Self {
        let descriptor = metadata.file_metadata().schema_descr().column(leaf);
        let width = match descriptor.physical_type() {
            Type::BOOLEAN | Type::BYTE_ARRAY => 1,
            Type::INT32 | Type::FLOAT => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => {
                u64::try_from(descriptor.type_length()).unwrap_or(0).max(1)
            }
        };
        let codecs: Vec<_> = metadata
            .row_groups()
            .iter()
            .filter_map(|group| group.columns().get(leaf))
            .map(|chunk| chunk.compression())
            .collect();
        Self(Arc::new(Source {
            file: file.clone(),
            column: column.to_string(),
            lists: descriptor.max_rep_level() > 0,
            width,
            growth: codecs.iter().copied().map(growth).max().unwrap_or(1),
            gzip: codecs.iter().any(|codec| matches!(codec, Compression::GZIP(_))),
            lz4: codecs.contains(&Compression::LZ4),
            state: Mutex::default(),
        }))
    }

    /// The size of the file.
    pub fn file_size(&self) -> u64 {
        self.0.file.size
    }

    /// Resets the count of values; called before each batch.
    pub fn begin_batch(&self) {
        self.state().values = 0;
    }

    /// Why the last batch was rejected, if it was rejected here.
    pub fn rejected(&self) -> Option<Problem> {
        self.state().rejected.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reject(&self, at: u64, found: String, expected: String) -> io::Error {
        let problem = Problem(format!(
            "column {}, the page at byte {at}: {found}, expected {expected}",
            self.0.column
        ));
        let error = io::Error::other(problem.to_string());
        self.state().rejected = Some(problem);
        error
    }

    /// The bytes from a header on, if what the header declares is possible.
    fn header(&self, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = self.0.file.handle.try_clone()?;
        file.seek(SeekFrom::Start(at))?;
        file.take(MOST_HEADER).read_to_end(&mut bytes)?;
        let Some(header) = PageHeader::parse(&bytes) else {
            return Err(self.reject(
                at,
                "a header that is not a page's".to_string(),
                format!("one of at most {MOST_HEADER} bytes"),
            ));
        };
        let PageHeader { uncompressed, compressed, values, dictionary, .. } = header;
        let most = compressed.saturating_mul(self.0.growth).min(MOST_BYTES);
        if uncompressed > most {
            return Err(self.reject(
                at,
                format!("{uncompressed} bytes, of {compressed} in the file"),
                format!("at most {most}"),
            ));
        }
        let more = uncompressed.wrapping_sub(self.state().page.1.uncompressed);
        let memory = self.0.file.memory.fetch_add(more, Relaxed).wrapping_add(more);
        if memory > MOST_MEMORY {
            return Err(self.reject(
                at,
                format!("{memory} bytes in all columns together"),
                format!("at most {MOST_MEMORY}"),
            ));
        }
        let most = uncompressed / self.0.width;
        if dictionary > most {
            return Err(self.reject(
                at,
                format!("a dictionary of {dictionary} values in {uncompressed} bytes"),
                format!("at most {most}"),
            ));
        }
        if self.0.lists {
            let before = self.state().values;
            if values > MOST_IN_PAGE {
                return Err(self.reject(
                    at,
                    format!("{values} logits"),
                    format!("at most {MOST_IN_PAGE}"),
                ));
            }
            if before > MOST_LOGITS {
                return Err(self.reject(
                    at,
                    "a row that does not end".to_string(),
                    format!("one of at most {MOST_LOGITS} logits"),
                ));
            }
            self.state().values = before + values;
        }
        self.state().page = (at, header);
        Ok(bytes)
    }

    /// Checks that a page is not longer than its header declares, which two of the decoders notice
    /// only after writing all of it. The check takes as long as decoding and is skipped if a page
    /// cannot be too long.
    fn check_end(&self, body: &[u8]) -> io::Result<()> {
        let (at, most) = {
            let state = self.state();
            let (at, PageHeader { uncompressed, levels, .. }) = &state.page;
            let Some(values) = usize::try_from(*levels).ok().and_then(|levels| body.get(levels..))
            else {
                return Ok(());
            };
            if (values.len() as u64).saturating_mul(self.0.growth) <= MOST_BYTES {
                return Ok(());
            }
            let most = uncompressed.saturating_sub(*levels);
            // Bytes that cannot be decoded stop the crate's decoder at the same place.
            let longer = |decoder: &mut dyn Read| {
                io::copy(&mut decoder.take(most + 1), &mut io::sink())
                    .is_ok_and(|decoded| decoded > most)
            };
            if !(self.0.gzip && longer(&mut MultiGzDecoder::new(values))
                || self.0.lz4 && longer(&mut FrameDecoder::new(values)))
            {
                return Ok(());
            }
            (*at, most)
        };
        Err(self.reject(at, "more bytes than its header says".to_string(), most.to_string()))
    }
}

/// The most bytes of memory per byte of the file: in snappy, 64 copied bytes take three; in LZ4,
/// 255 more bytes of a match take one; in deflate, 258 bytes take two bits; in zstd, a block of 128
/// KiB takes four bytes.
fn growth(codec: Compression) -> u64 {
    match codec {
        Compression::UNCOMPRESSED => 1,
        Compression::SNAPPY => 22,
        Compression::LZ4 | Compression::LZ4_RAW => 255,
        Compression::GZIP(_) => 1032,
        // As it is built here, the crate supports no other codec than zstd.
        _ => 1 << 15,
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.file.size
    }
}

impl ChunkReader for Pages {
    type T = Header;

    /// The crate requests a reader at every possible header and reads from it if there is one.
    fn get_read(&self, start: u64) -> Result<Header> {
        Ok(Header { pages: self.clone(), at: start, bytes: None })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let left = self.0.file.size.saturating_sub(start);
        if length as u64 > left {
            let at = self.state().page.0;
            return Err(ParquetError::from(self.reject(
                at,
                format!("{left} bytes to the end of the file"),
                length.to_string(),
            )));
        }
        let bytes = self.0.file.handle.get_bytes(start, length)?;
        self.check_end(&bytes)?;
        Ok(bytes)
    }
}

/// The bytes of a page from its header on.
pub struct Header {
    pages: Pages,
    at: u64,
    bytes: Option<Cursor<Vec<u8>>>,
}

impl Read for Header {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = match &mut self.bytes {
            Some(bytes) => bytes,
            unread => unread.insert(Cursor::new(self.pages.header(self.at)?)),
        };
        bytes.read(into)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Float64Array, RecordBatch};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

    use super::*;

    #[test]
    fn columns_share_what_memory_there_is() {
        let written = tempfile::NamedTempFile::new().unwrap();
        let column: ArrayRef = Arc::new(Float64Array::from(vec![0.5; 9]));
        let columns = ["a", "b", "c"].map(|name| (name, column.clone()));
        let table = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(written.as_file(), table.schema(), None).unwrap();
        writer.write(&table).unwrap();
        writer.close().unwrap();
        let file = Arc::new(File::open(written.path()).unwrap());
        let options = ArrowReaderOptions::new();
        let metadata = ArrowReaderMetadata::load(&file.handle, options).unwrap();
        let metadata = metadata.metadata();
        let page = |leaf| {
            let pages = Pages::new(&file, "a", metadata, leaf);
            let (at, _) = metadata.row_group(0).column(leaf).byte_range();
            pages.header(at).map(|_| pages.state().page.1.uncompressed)
        };
        let both = page(0).unwrap() + page(1).unwrap();
        assert_eq!(file.memory.load(Relaxed), both);
        file.memory.store(MOST_MEMORY, Relaxed);
        assert!(page(2).unwrap_err().to_string().contains("bytes in all columns together"));
    }
}
