//! Arrays that a file stores entry after entry: what `.npy`, `.npz` and safetensors come down to.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::error::{ArrayError, Problem, names};
use crate::npy::{Array, ByteOrder, Dtype, Header, Shape, Values};
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

impl Entries {
    fn reader(self) -> Result<Box<dyn Read + Send>, Problem> {
        Ok(match self {
            Self::Stream(reader) => reader,
            Self::File(mut file, start) => {
                file.seek(SeekFrom::Start(start))?;
                Box::new(file)
            }
        })
    }
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

    /// As rows of logits, whose classes are on this axis.
    pub fn into_logits(self, axis: usize) -> Result<Box<dyn LogitRows>, Problem> {
        let Header { dtype, shape, fortran_order, .. } = &self.header;
        if !dtype.is_float() {
            return Err(Problem::logit_type(&self.name, dtype.name()));
        }
        let classes = shape.get(axis).copied().unwrap_or(0);
        if shape.len() < 2 || classes < 2 {
            return Err(Problem::shape(&self.name, Shape(shape)));
        }
        let (before, after) = (&shape[..axis], &shape[axis + 1..]);
        let of_rows = || before.iter().chain(after);
        let rows = of_rows().product::<usize>() as u64;
        // The rows whose entries of a class follow one another.
        let slab = if *fortran_order { before } else { after }.iter().product::<usize>() as u64;
        let scattered = *fortran_order && has_axes(of_rows());
        if rows == 0 || slab == 1 && !scattered {
            return Ok(Box::new(self.into_rows(rows, classes)?));
        }
        let (dtype, order) = (*dtype, self.header.byte_order);
        let axes: Vec<usize> = (0..axis).chain(axis + 1..shape.len()).chain([axis]).collect();
        match self.entries {
            Entries::File(file, start) if !scattered => {
                let path = self.file;
                Ok(Box::new(SlabRows {
                    path,
                    file,
                    start,
                    dtype,
                    order,
                    rows,
                    slab,
                    classes,
                    read: 0,
                }))
            }
            entries => {
                let whole = Self { entries, ..self }.in_memory(&axes)?;
                Ok(Box::new(whole.into_rows(rows, classes)?))
            }
        }
    }

    /// As labels.
    pub fn into_labels(mut self) -> Result<Box<dyn LabelRows>, Problem> {
        let Header { dtype, shape, fortran_order, .. } = &mut self.header;
        if dtype.is_float() {
            return Err(Problem::label_type(&self.name, dtype.name()));
        }
        if *dtype == Dtype::Bool {
            *dtype = Dtype::U8;
        }
        let rows = shape.iter().product::<usize>() as u64;
        if *fortran_order && has_axes(shape.iter()) {
            let order: Vec<usize> = (0..shape.len()).collect();
            return Ok(Box::new(self.in_memory(&order)?.into_rows(rows, 1)?));
        }
        Ok(Box::new(self.into_rows(rows, 1)?))
    }

    /// The whole array.
    pub fn into_array(self) -> Result<Array, Problem> {
        let Header { dtype, byte_order, fortran_order, ref shape } = self.header;
        let (shape, count) = (shape.clone(), self.header.entries()?);
        let mut reader = self.entries.reader()?;
        let values = Values::read(&mut reader, dtype, count, byte_order)?;
        // At its end the reader reports what only shows behind the last entry.
        let _ = reader.read(&mut [0])?;
        Ok(Array::new(shape, fortran_order, values))
    }

    /// Read whole, with these axes in C order: what lies in any other order cannot be read from
    /// front to back.
    fn in_memory(self, axes: &[usize]) -> Result<Self, Problem> {
        let (file, name, dtype) = (self.file.clone(), self.name.clone(), self.header.dtype);
        let shape = axes.iter().map(|axis| self.header.shape[*axis]).collect();
        let header = Header { dtype, byte_order: ByteOrder::Little, fortran_order: false, shape };
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(header.entries()? * dtype.size())
            .map_err(|error| Problem(format!("{name} cannot be read whole: {error}")))?;
        self.into_array()?.into_values_along(axes).write(&mut bytes)?;
        Ok(Self { file, name, header, entries: Entries::Stream(Box::new(Cursor::new(bytes))) })
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
        let reader = self.entries.reader()?;
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

/// Whether there is more than one axis of another length than 1.
fn has_axes<'a>(lengths: impl Iterator<Item = &'a usize>) -> bool {
    lengths.filter(|length| **length != 1).count() > 1
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

/// The rows of an array that is a sequence of slabs, classes × rows each: a matrix in Fortran order
/// is one slab, an array of images in C order with the classes on axis 1 has a slab for each image.
struct SlabRows {
    path: PathBuf,
    file: File,
    start: u64,
    dtype: Dtype,
    order: ByteOrder,
    rows: u64,
    /// The rows of a slab.
    slab: u64,
    classes: usize,
    read: u64,
}

impl SlabRows {
    /// The bytes of the next rows, row after row.
    fn bytes(&mut self, rows: u64) -> Result<Vec<u8>, Problem> {
        let size = self.dtype.size();
        let row_size = self.classes * size;
        let mut bytes = vec![0; rows as usize * row_size];
        let mut left = &mut bytes[..];
        while !left.is_empty() {
            let (slab, first) = (self.read / self.slab, self.read % self.slab);
            let part = (self.slab - first).min((left.len() / row_size) as u64);
            let mut columns = vec![0; part as usize * row_size];
            let column_size = part as usize * size;
            let place = |class: u64| {
                let entry = slab * self.slab * self.classes as u64 + class * self.slab + first;
                SeekFrom::Start(self.start + entry * size as u64)
            };
            if part == self.slab {
                self.file.seek(place(0))?;
                self.file.read_exact(&mut columns)?;
            } else {
                for (class, column) in (0..).zip(columns.chunks_exact_mut(column_size)) {
                    self.file.seek(place(class))?;
                    self.file.read_exact(column)?;
                }
            }
            let (done, rest) = std::mem::take(&mut left).split_at_mut(columns.len());
            for (class, column) in columns.chunks_exact(column_size).enumerate() {
                for (row, entry) in column.chunks_exact(size).enumerate() {
                    let at = row * row_size + class * size;
                    done[at..at + size].copy_from_slice(entry);
                }
            }
            left = rest;
            self.read += part;
        }
        Ok(bytes)
    }
}

impl LogitRows for SlabRows {
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
        let rows = (self.rows - self.read).min(most as u64);
        let bytes = self.bytes(rows).map_err(|problem| problem.in_file(&self.path))?;
        Ok(Block { rows: rows as usize, floats: Floats::Encoded(bytes, self.dtype, self.order) })
    }
}
