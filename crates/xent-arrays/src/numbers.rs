//! Arrays that are nothing but numbers one after the other: what `.npy`, `.npz` and safetensors come down to.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use crate::error::{ArrayError, Problem};
use crate::npy::{ByteOrder, Dtype, Header, Shape};
use crate::rows::{Block, Floats, LabelRows, LogitRows, numbers};

/// An array whose numbers are still to be read.
pub struct Numbers {
    /// The file.
    pub file: PathBuf,
    /// The array, for messages.
    pub name: String,
    /// What it is.
    pub header: Header,
    /// From its first byte on.
    pub bytes: Bytes,
}

/// Where an array's bytes are.
pub enum Bytes {
    /// From front to back.
    Stream(Box<dyn Read + Send>),
    /// In a file, from this position on.
    File(File, u64),
}

impl Numbers {
    /// As rows of logits.
    pub fn into_logits(self) -> Result<Box<dyn LogitRows>, Problem> {
        let Header { dtype, shape, fortran_order, .. } = &self.header;
        if !dtype.is_float() {
            return Err(Problem::LogitType { what: self.name, found: dtype.name().to_string() });
        }
        let classes = shape.last().copied().unwrap_or(0);
        if shape.len() < 2 || classes < 2 {
            return Err(Problem::Shape { what: self.name, shape: Shape(shape).to_string() });
        }
        let rows = shape[..shape.len() - 1].iter().product::<usize>() as u64;
        if *fortran_order && rows > 1 {
            let Bytes::File(file, start) = self.bytes else { return Err(Problem::FortranOrder(self.name)) };
            if shape.len() > 2 {
                return Err(Problem::FortranOrder(self.name));
            }
            let (dtype, order) = (*dtype, self.header.byte_order);
            return Ok(Box::new(Columns { path: self.file, file, start, dtype, order, rows, classes, read: 0 }));
        }
        Ok(Box::new(Rows { left: rows, rows, classes, numbers: self.sequential()? }))
    }

    /// As labels.
    pub fn into_labels(self) -> Result<Box<dyn LabelRows>, Problem> {
        let Header { dtype, shape, fortran_order, .. } = &self.header;
        if dtype.is_float() {
            return Err(Problem::LabelType { what: self.name, found: dtype.name().to_string() });
        }
        if *fortran_order && shape.iter().filter(|length| **length != 1).count() > 1 {
            return Err(Problem::FortranOrder(self.name));
        }
        let rows = shape.iter().product::<usize>() as u64;
        Ok(Box::new(Rows { left: rows, rows, classes: 1, numbers: self.sequential()? }))
    }

    fn sequential(self) -> Result<Sequential, Problem> {
        let reader = match self.bytes {
            Bytes::Stream(reader) => reader,
            Bytes::File(mut file, start) => {
                file.seek(SeekFrom::Start(start))?;
                Box::new(file)
            }
        };
        Ok(Sequential { file: self.file, name: self.name, dtype: self.header.dtype, order: self.header.byte_order, reader })
    }
}

struct Sequential {
    file: PathBuf,
    name: String,
    dtype: Dtype,
    order: ByteOrder,
    reader: Box<dyn Read + Send>,
}

impl Sequential {
    fn read(&mut self, bytes: usize) -> Result<Vec<u8>, ArrayError> {
        // Memory for what is asked for, which is a block.
        let mut buffer = vec![0; bytes];
        self.reader.read_exact(&mut buffer).map_err(|error| broken_off(&self.name, error).in_file(&self.file))?;
        Ok(buffer)
    }

    /// Lets the reader say what only shows behind the last row.
    fn end(&mut self) -> Result<(), ArrayError> {
        self.reader.read(&mut [0]).map(drop).map_err(|error| broken_off(&self.name, error).in_file(&self.file))
    }
}

/// The reader's own problems travel in `io::Error`s.
fn broken_off(name: &str, error: std::io::Error) -> Problem {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Problem::Io(std::io::Error::new(error.kind(), format!("{name} ends before its last row")));
    }
    match error.downcast::<Problem>() {
        Ok(problem) => problem,
        Err(error) => Problem::Io(error),
    }
}

struct Rows {
    rows: u64,
    left: u64,
    classes: usize,
    numbers: Sequential,
}

impl Rows {
    fn bytes(&mut self, most: usize) -> Result<(usize, Vec<u8>), ArrayError> {
        let rows = self.left.min(most as u64) as usize;
        let bytes = self.numbers.read(rows * self.classes * self.numbers.dtype.size())?;
        self.left -= rows as u64;
        if self.left == 0 && rows > 0 {
            self.numbers.end()?;
        }
        Ok((rows, bytes))
    }
}

impl LogitRows for Rows {
    fn classes(&self) -> usize {
        self.classes
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn row_bytes(&self) -> u64 {
        (self.classes * self.numbers.dtype.size()) as u64
    }

    fn next(&mut self, most: usize) -> Result<Block, ArrayError> {
        let (rows, bytes) = self.bytes(most)?;
        Ok(Block { rows, floats: Floats::Encoded(bytes, self.numbers.dtype, self.numbers.order) })
    }
}

impl LabelRows for Rows {
    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, ArrayError> {
        let first = self.rows - self.left;
        let (rows, bytes) = self.bytes(most)?;
        labels(&bytes, self.numbers.dtype, self.numbers.order, first, into).map_err(|problem| problem.in_file(&self.numbers.file))?;
        Ok(rows)
    }
}

fn labels(bytes: &[u8], dtype: Dtype, order: ByteOrder, first: u64, into: &mut Vec<i64>) -> Result<(), Problem> {
    macro_rules! widen {
        ($number:ty) => {
            into.extend(numbers::<$number>(bytes, order).into_iter().map(i64::from))
        };
    }
    match dtype {
        Dtype::Bool | Dtype::U8 => widen!(u8),
        Dtype::I8 => widen!(i8),
        Dtype::I16 => widen!(i16),
        Dtype::I32 => widen!(i32),
        Dtype::I64 => widen!(i64),
        Dtype::U16 => widen!(u16),
        Dtype::U32 => widen!(u32),
        Dtype::U64 => {
            for (row, label) in numbers::<u64>(bytes, order).into_iter().enumerate() {
                into.push(i64::try_from(label).map_err(|_| Problem::Label { row: first + row as u64, found: label.to_string() })?);
            }
        }
        float => return Err(Problem::LabelType { what: "the array".to_string(), found: float.name().to_string() }),
    }
    Ok(())
}

/// A matrix whose columns follow one another: a block of rows is a piece of each column.
struct Columns {
    path: PathBuf,
    file: File,
    start: u64,
    dtype: Dtype,
    order: ByteOrder,
    rows: u64,
    classes: usize,
    read: u64,
}

impl Columns {
    fn gather<T: crate::npy::Number>(&mut self, rows: usize) -> Result<Vec<T>, Problem> {
        let size = size_of::<T>();
        let mut columns: Vec<T> = Vec::with_capacity(rows * self.classes);
        let mut piece = vec![0; rows * size];
        for class in 0..self.classes as u64 {
            self.file.seek(SeekFrom::Start(self.start + (class * self.rows + self.read) * size as u64))?;
            self.file.read_exact(&mut piece)?;
            T::decode(&piece, self.order, &mut columns);
        }
        Ok((0..rows * self.classes).map(|i| columns[i % self.classes * rows + i / self.classes]).collect())
    }
}

impl LogitRows for Columns {
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
        let single = |numbers: Vec<f32>| Floats::F32(numbers);
        let floats = match self.dtype {
            Dtype::F16 => self.gather::<f16>(rows).map(|numbers| single(numbers.into_iter().map(f32::from).collect())),
            Dtype::Bf16 => self.gather::<bf16>(rows).map(|numbers| single(numbers.into_iter().map(f32::from).collect())),
            Dtype::F64 => self.gather::<f64>(rows).map(Floats::F64),
            _ => self.gather::<f32>(rows).map(single),
        };
        let floats = floats.map_err(|problem| problem.in_file(&self.path))?;
        self.read += rows as u64;
        Ok(Block { rows, floats })
    }
}

/// Opens a file that has to be a regular one: its size is held against what it claims.
pub fn open_regular(path: &Path) -> Result<(File, u64), Problem> {
    // Before the file is opened: opening a pipe waits for a writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(crate::npy::NpyError::NotRegular.into());
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}
