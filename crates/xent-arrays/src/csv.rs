//! CSV: a header, then one row per line. Every column except the labels' is a class.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder};

use crate::error::{ArrayError, Problem, excerpt, names};
use crate::npy::open_regular;
use crate::rows::{Block, Floats, LabelRows, LogitRows};

/// The longest line that is read: a quarter of a million classes with a hundred characters each.
const LONGEST_LINE: usize = 1 << 25;

/// The logits of a table: all columns except the labels', if it has one.
pub fn open_logits(path: &Path, labels: Option<&str>) -> Result<Box<dyn LogitRows>, Problem> {
    let table = Table::open(path)?;
    let label = labels.map(|name| table.column(name)).transpose()?;
    let columns: Vec<usize> =
        (0..table.header.len()).filter(|column| Some(*column) != label).collect();
    if columns.len() < 2 {
        return Err(Problem::shape("the table", format!("[rows, {}]", columns.len())));
    }
    Ok(Box::new(CsvLogits { table, columns }))
}

/// The labels of a table: the column called `name`, or the only one.
pub fn open_labels(path: &Path, name: Option<&str>) -> Result<Box<dyn LabelRows>, Problem> {
    let table = Table::open(path)?;
    let column = match name {
        Some(name) => table.column(name)?,
        None if table.header.len() == 1 => 0,
        None => {
            return Err(Problem::ambiguous(names(
                "column",
                table.header.iter().map(String::as_str),
            )));
        }
    };
    Ok(Box::new(CsvLabels { table, column }))
}

struct Table {
    path: PathBuf,
    reader: Reader<LineLimit<BufReader<File>>>,
    header: Vec<String>,
    record: ByteRecord,
    row: u64,
    bytes: u64,
}

impl Table {
    fn open(path: &Path) -> Result<Self, Problem> {
        let (file, _) = open_regular(path)?;
        let mut reader = ReaderBuilder::new()
            .flexible(true)
            .from_reader(LineLimit { inner: BufReader::with_capacity(1 << 16, file), line: 0 });
        let header = reader.byte_headers().map_err(problem)?;
        let header: Vec<String> = header
            .iter()
            .map(|name| {
                String::from_utf8_lossy(name).trim().trim_start_matches('\u{feff}').to_string()
            })
            .collect();
        for (index, name) in header.iter().enumerate() {
            if header[..index].contains(name) {
                return Err(Problem::unreadable(
                    "CSV file",
                    format!("two columns are named '{}'", excerpt(name)),
                ));
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            reader,
            header,
            record: ByteRecord::new(),
            row: 0,
            bytes: 0,
        })
    }

    fn column(&self, name: &str) -> Result<usize, Problem> {
        let has = || names("column", self.header.iter().map(String::as_str));
        self.header
            .iter()
            .position(|header| header == name)
            .ok_or_else(|| Problem::missing("column", name, has()))
    }

    /// Passes the next lines, at most `most`, to `each` and returns how many there were.
    fn lines(
        &mut self,
        most: usize,
        mut each: impl FnMut(&Self) -> Result<(), Problem>,
    ) -> Result<usize, ArrayError> {
        let mut rows = 0;
        let mut read = || -> Result<(), Problem> {
            while rows < most && self.next()? {
                each(self)?;
                rows += 1;
            }
            Ok(())
        };
        read().map_err(|problem| problem.in_file(&self.path))?;
        Ok(rows)
    }

    /// Reads the next line into `record`; false at the end.
    fn next(&mut self) -> Result<bool, Problem> {
        let more = self.reader.read_byte_record(&mut self.record).map_err(problem)?;
        if more && self.record.len() != self.header.len() {
            return Err(Problem::ragged(
                self.row,
                format!("{} fields", self.record.len()),
                self.header.len(),
            ));
        }
        self.bytes += self.record.as_slice().len() as u64 + self.record.len() as u64;
        self.row += u64::from(more);
        Ok(more)
    }

    fn text(&self, column: usize) -> Result<&str, Problem> {
        // A quote that is never closed takes in the rest of the file: a number contains no line
        // break.
        let text =
            std::str::from_utf8(&self.record[column]).ok().filter(|text| !text.contains('\n'));
        text.map(str::trim).ok_or_else(|| self.cell(column, "a number"))
    }

    /// The error for a cell of the line that was just read.
    fn cell(&self, column: usize, expected: &'static str) -> Problem {
        let found = format!("'{}'", excerpt(&String::from_utf8_lossy(&self.record[column])));
        Problem::cell(self.row - 1, &excerpt(&self.header[column]), found, expected)
    }
}

fn problem(error: csv::Error) -> Problem {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        other => Problem::unreadable("CSV file", format!("{other:?}")),
    }
}

struct CsvLogits {
    table: Table,
    columns: Vec<usize>,
}

impl LogitRows for CsvLogits {
    fn classes(&self) -> usize {
        self.columns.len()
    }

    fn rows(&self) -> Option<u64> {
        None
    }

    fn row_bytes(&self) -> u64 {
        // Before any row is read, assume ten characters per number.
        self.table.bytes.checked_div(self.table.row).unwrap_or(10 * self.columns.len() as u64)
    }

    fn next(&mut self, most: usize) -> Result<Block, ArrayError> {
        let mut values = Vec::new();
        let rows = self.table.lines(most, |table| {
            for column in &self.columns {
                values.push(
                    table
                        .text(*column)?
                        .parse::<f64>()
                        .map_err(|_| table.cell(*column, "a number"))?,
                );
            }
            Ok(())
        })?;
        Ok(Block { rows, floats: Floats::F64(values) })
    }
}

struct CsvLabels {
    table: Table,
    column: usize,
}

impl LabelRows for CsvLabels {
    fn rows(&self) -> Option<u64> {
        None
    }

    fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, ArrayError> {
        self.table.lines(most, |table| {
            into.push(
                table
                    .text(self.column)?
                    .parse::<i64>()
                    .map_err(|_| table.cell(self.column, "an integer"))?,
            );
            Ok(())
        })
    }
}

/// Fails on a line longer than any table's, before memory is allocated for it.
struct LineLimit<R> {
    inner: R,
    line: usize,
}

impl<R: Read> Read for LineLimit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match buffer[..read].iter().rposition(|byte| *byte == b'\n') {
            Some(last) => self.line = read - last,
            None => self.line += read,
        }
        if self.line > LONGEST_LINE {
            return Err(std::io::Error::other(Problem::unreadable(
                "CSV file",
                format!("it has a line of more than {LONGEST_LINE} bytes"),
            )));
        }
        Ok(read)
    }
}
