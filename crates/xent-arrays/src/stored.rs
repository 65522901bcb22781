//! Arrays that a file stores entry after entry: what `.npy`, `.npz` and safetensors come down to.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::error::{ArrayError, Problem, names};
use crate::npy::{ByteOrder, Dtype, Header, Shape, Values};
use crate::rows::{Block, Floats, LabelRows, LogitRows};

/// An array whose entries have not been read yet.
pub struct StoredArray {
    /// The file.
    pub file: PathBuf,
    /// What messages call the array.
    pub name: String,
    /// Its type, shape and order.
    pub header: Header,
    /// Its entries.
    pub entries: Entries,
}

/// Where an array's entries are.
pub enum Entries {
    /// In a stream, to be read from front to back.
    Stream(Box<dyn Read + Send>),
    /// In a file, from this position on.
    File(File, u64),
}

impl StoredArray {
    /// Of the arrays of a file, the one called `name`, or the only one that `fits`.
    pub fn choose(
        what: &'static str,
        all: &[String],
        name: Option<&str>,
        fits: fn(&Header) -> bool,
        mut open: impl FnMut(usize) -> Result<Self, Problem>,
    ) -> Result<Self, Problem> {
        let has = || names(what, all.iter().map(String::as_str));
        if let Some(name) = name {
            let index = all.iter().position(|other| other == name);
            return open(index.ok_or_else(|| Problem::missing(what, name, has()))?);
        }
        // An array that cannot be opened or does not fit is no candidate, for whatever reason.
        let mut candidates =
            (0..all.len()).filter_map(|index| open(index).ok()).filter(|array| fits(&array.header));
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Ok(only),
            _ if all.len() == 1 => open(0),
            _ => Err(Problem::ambiguous(has())),
        }
    }

    /// As rows of logits.
    pub fn into_logits(self) -> Result<Box<dyn LogitRows>, Problem> {
        let Header { dtype, shape, fortran_order, .. } = &self.header;
        if !dtype.is_float() {
            return Err(Problem::logit_type(&self.name, dtype.name()));
        }
        let classes = shape.last().copied().unwrap_or(0);
        if shape.len() < 2 || classes < 2 {
            return Err(Problem::shape(&self.name, Shape(shape)));
        }
        let rows = shape[..shape.len() - 1].iter().product::<usize>() as u64;
        if *fortran_order && rows > 1 {
            let Entries::File(file, start) = self.entries else {
                return Err(needs_c_order(&self.name));
            };
            if shape.len() > 2 {
                return Err(needs_c_order(&self.name));
            }
            let (dtype, order) = (*dtype, self.header.byte_order);
            return Ok(Box::new(FortranRows {
                path: self.file,
                file,
                start,
                dtype,
                order,
                rows,
                classes,
                read: 0,
            }));
        }
        Ok(Box::new(self.into_rows(rows, classes)?))
    }

    /// As labels.
    pub fn into_labels(mut self) -> Result<Box<dyn LabelRows>, Problem> {
        let Header { dtype, shape, fortran_order, .. } = &mut self.header;
        if dtype.is_float() {
            return Err(Problem::label_type(&self.name, dtype.name()));
        }
        if *fortran_order && shape.iter().filter(|length| **length != 1).count() > 1 {
            return Err(needs_c_order(&self.name));
        }
        if *dtype == Dtype::Bool {
            *dtype = Dtype::U8;
        }
        let rows = shape.iter().product::<usize>() as u64;
        Ok(Box::new(self.into_rows(rows, 1)?))
    }

    /// As rows of one number.
    pub fn into_numbers(self) -> Result<Box<dyn LogitRows>, Problem> {
        let Header { dtype, shape, .. } = &self.header;
        if !dtype.is_float() {
            return Err(Problem::logit_type(&self.name, dtype.name()));
        }
        if !self.header.is_flat() {
            return Err(Problem(format!("{}: shape {}, expected [rows]", self.name, Shape(shape))));
        }
        let rows = shape.iter().product::<usize>() as u64;
        Ok(Box::new(self.into_rows(rows, 1)?))
    }

    fn into_rows(self, rows: u64, width: usize) -> Result<SequentialRows, Problem> {
        let reader = match self.entries {
            Entries::Stream(reader) => reader,
            Entries::File(mut file, start) => {
                file.seek(SeekFrom::Start(start))?;
                Box::new(file)
            }
        };
        let Header { dtype, byte_order: order, .. } = self.header;
        Ok(SequentialRows {
            path: self.file,
            name: self.name,
            dtype,
            order,
            reader,
            rows,
            left: rows,
            width,
        })
    }
}

fn needs_c_order(what: &str) -> Problem {
    Problem(format!(
        "{what}: Fortran order in an archive, expected C order (numpy.ascontiguousarray makes it)"
    ))
}

/// Rows that follow one another.
struct SequentialRows {
    path: PathBuf,
    name: String,
    dtype: Dtype,
    order: ByteOrder,
    reader: Box<dyn Read + Send>,
    rows: u64,
    left: u64,
    /// Entries per row.
    width: usize,
}

impl SequentialRows {
    /// The next rows, at most `most`, and their bytes.
    fn bytes(&mut self, most: usize) -> Result<(usize, Vec<u8>), Problem> {
        let rows = self.left.min(most as u64) as usize;
        let mut bytes = vec![0; rows * self.width * self.dtype.size()];
        self.reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                std::io::Error::new(error.kind(), format!("{} ends before its last row", self.name))
            }
            _ => error,
        })?;
        self.left -= rows as u64;
        if self.left == 0 && rows > 0 {
            // At its end the reader reports what only shows behind the last row.
            let _ = self.reader.read(&mut [0])?;
        }
        Ok((rows, bytes))
    }

    fn labels(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, Problem> {
        let first = self.rows - self.left;
        let (rows, bytes) = self.bytes(most)?;
        let values = Values::read(&mut &bytes[..], self.dtype, rows, self.order)?;
        let labels =
            values.integers().ok_or_else(|| Problem::label_type(&self.name, self.dtype.name()))?;
        for (row, label) in labels.into_iter().enumerate() {
            into.push(i64::try_from(label).map_err(|_| Problem::label(first + row as u64, label))?);
        }
        Ok(rows)
    }
}

impl LogitRows for SequentialRows {
    fn classes(&self) -> usize {
        self.width
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn row_bytes(&self) -> u64 {
        (self.width * self.dtype.size()) as u64
    }

    fn next(&mut self, most: usize) -> Result<Block, ArrayError> {
        let (rows, bytes) = self.bytes(most).map_err(|problem| problem.in_file(&self.path))?;
        Ok(Block { rows, floats: Floats::Encoded(bytes, self.dtype, self.order) })
    }
}

impl LabelRows for SequentialRows {
    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, ArrayError> {
        self.labels(most, into).map_err(|problem| problem.in_file(&self.path))
    }
}

/// The rows of a matrix in Fortran order, whose columns follow one another: a block of rows is a
/// piece of each column.
struct FortranRows {
    path: PathBuf,
    file: File,
    start: u64,
    dtype: Dtype,
    order: ByteOrder,
    rows: u64,
    classes: usize,
    read: u64,
}

impl FortranRows {
    /// The bytes of the next rows, row after row.
    fn bytes(&mut self, rows: usize) -> Result<Vec<u8>, Problem> {
        let size = self.dtype.size();
        let mut bytes = vec![0; rows * self.classes * size];
        let mut column = vec![0; rows * size];
        for class in 0..self.classes {
            self.file.seek(SeekFrom::Start(
                self.start + (class as u64 * self.rows + self.read) * size as u64,
            ))?;
            self.file.read_exact(&mut column)?;
            for (row, entry) in column.chunks_exact(size).enumerate() {
                let at = (row * self.classes + class) * size;
                bytes[at..at + size].copy_from_slice(entry);
            }
        }
        Ok(bytes)
    }
}

impl LogitRows for FortranRows {
    fn classes(&self) -> usize {
        self.classes
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn row_bytes(&self) -> u64 {
        (self.classes * self.dtype.size()) as u64
    }

    fn next(&mut self, most: usize) -> Result<Block, ArrayError> {
        let rows = (self.rows - self.read).min(most as u64) as usize;
        let bytes = self.bytes(rows).map_err(|problem| problem.in_file(&self.path))?;
        self.read += rows as u64;
        Ok(Block { rows, floats: Floats::Encoded(bytes, self.dtype, self.order) })
    }
}
