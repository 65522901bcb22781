//! CSV: a header, then one row per line, separated by commas, semicolons or tabs, plain or gzipped.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder};
use flate2::bufread::MultiGzDecoder;

use crate::columns::{self, ClassNames, Classes, Columns, PEEKED};
use crate::error::{ArrayError, Problem, excerpt, names};
use crate::npy::open_regular;
use crate::rows::{Block, Floats, LabelRows, LogitRows};

/// The longest line that is read: a quarter of a million classes with a hundred characters each.
const LONGEST_LINE: usize = 1 << 25;

/// The logits of a table. `label` is the name of the labels' column; if the labels are in this
/// very file, it must have that column.
pub fn open_logits(
    path: &Path,
    label: Option<&str>,
    here: bool,
    wanted: &Columns,
) -> Result<Box<dyn LogitRows>, Problem> {
    let mut table = Table::open(path)?;
    if let Some(name) = label.filter(|_| here) {
        table.column(name)?;
    }
    let Classes { columns, guessed } = columns::classes(&table.names(), label, wanted)?;
    if columns.len() < 2 {
        let only = columns.first().map(|column| excerpt(&table.header[*column]));
        return Err(Problem(format!(
            "its classes are {}; expected at least two columns of numbers, separated by commas, semicolons or tabs",
            only.map_or("no column".to_string(), |only| format!("the column {only} alone")),
        )));
    }
    if guessed || !table.has_header {
        table.expect_logits(&columns)?;
    }
    let names = if table.has_header {
        columns.iter().map(|column| table.header[*column].clone()).collect()
    } else {
        Vec::new()
    };
    Ok(Box::new(CsvLogits { table, columns, names }))
}

/// The labels of a table: the column called `name`, or the one that labels are in by its name, or
/// the only one.
pub fn open_labels(
    path: &Path,
    name: Option<&str>,
    classes: &ClassNames,
) -> Result<Box<dyn LabelRows>, Problem> {
    let table = Table::open(path)?;
    let all = table.names();
    let possible: Vec<usize> =
        (0..all.len()).filter(|column| !columns::is_unnamed(all[*column])).collect();
    let column = match name {
        Some(name) => table.column(name)?,
        None => match (&possible[..], columns::label(&all, &possible)) {
            ([only], _) => *only,
            (_, Some(column)) if columns::is_label(all[column]) => column,
            _ => return Err(Problem::ambiguous(names("column", all.iter().copied()))),
        },
    };
    Ok(Box::new(CsvLabels { table, column, classes: classes.clone() }))
}

/// The numbers of a table: the column called `name`, or the only one.
pub fn open_numbers(path: &Path, name: Option<&str>) -> Result<Box<dyn LogitRows>, Problem> {
    let table = Table::open(path)?;
    let all = table.names();
    let possible: Vec<usize> =
        (0..all.len()).filter(|column| !columns::is_unnamed(all[*column])).collect();
    let column = match (name, &possible[..]) {
        (Some(name), _) => table.column(name)?,
        (None, [only]) => *only,
        _ => return Err(Problem::ambiguous(names("column", all.iter().copied()))),
    };
    Ok(Box::new(CsvLogits { table, columns: vec![column], names: Vec::new() }))
}

struct Table {
    path: PathBuf,
    reader: Reader<LineLimit<Box<dyn BufRead + Send>>>,
    header: Vec<String>,
    /// Otherwise the columns are called 0, 1, 2, …
    has_header: bool,
    record: ByteRecord,
    /// Lines that were read ahead.
    ahead: VecDeque<ByteRecord>,
    row: u64,
    bytes: u64,
}

impl Table {
    fn open(path: &Path) -> Result<Self, Problem> {
        let (file, _) = open_regular(path)?;
        let file = BufReader::with_capacity(1 << 16, file);
        let mut source: Box<dyn BufRead + Send> =
            if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz")) {
                Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file)))
            } else {
                Box::new(file)
            };
        let beginning = source.fill_buf()?;
        if beginning.starts_with(b"\xff\xfe") || beginning.starts_with(b"\xfe\xff") {
            return Err(Problem::unreadable("CSV file", "it is in UTF-16, expected UTF-8"));
        }
        let delimiter = delimiter(beginning);
        let mut reader = ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .delimiter(delimiter)
            .from_reader(LineLimit { inner: source, line: 0 });
        let mut first = ByteRecord::new();
        reader.read_byte_record(&mut first).map_err(problem)?;
        let mut header: Vec<String> = first
            .iter()
            .map(|name| {
                String::from_utf8_lossy(name).trim_start_matches('\u{feff}').trim().to_string()
            })
            .collect();
        let has_header = is_header(&header)?;
        let mut ahead = VecDeque::new();
        if !has_header {
            header = (0..first.len()).map(|column| column.to_string()).collect();
            ahead.push_back(first);
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(name) = header.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(Problem::unreadable(
                "CSV file",
                format!("two columns are named '{}'", excerpt(name)),
            ));
        }
        Ok(Self {
            path: path.to_path_buf(),
            reader,
            header,
            has_header,
            record: ByteRecord::new(),
            ahead,
            row: 0,
            bytes: 0,
        })
    }

    fn names(&self) -> Vec<&str> {
        self.header.iter().map(String::as_str).collect()
    }

    /// Refuses a column whose contents show that it is no class.
    fn expect_logits(&mut self, classes: &[usize]) -> Result<(), Problem> {
        while self.ahead.len() < PEEKED {
            let mut record = ByteRecord::new();
            if !self.reader.read_byte_record(&mut record).map_err(problem)? {
                break;
            }
            self.ahead.push_back(record);
        }
        let all = self.names();
        let values = |column: usize| -> Option<Vec<f64>> {
            let number = |record: &ByteRecord| {
                let cell = record.get(column).filter(|_| record.len() == all.len())?;
                std::str::from_utf8(cell).ok()?.trim().parse::<f64>().ok()
            };
            self.ahead.iter().map(number).collect()
        };
        let peeked = classes.iter().map(|column| Some((all[*column], values(*column)?)));
        // What is no number, and a row of another length, is an error where it is read.
        peeked.collect::<Option<Vec<_>>>().map_or(Ok(()), |peeked| columns::expect_logits(&peeked))
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
        let more = match self.ahead.pop_front() {
            Some(record) => {
                self.record = record;
                true
            }
            None => self.reader.read_byte_record(&mut self.record).map_err(problem)?,
        };
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
    fn cell(&self, column: usize, expected: &str) -> Problem {
        let found = format!("'{}'", excerpt(&String::from_utf8_lossy(&self.record[column])));
        let comma = self.record[column].contains(&b',');
        let found = found + if comma { " with a decimal comma" } else { "" };
        let expected = if comma { "a decimal point" } else { expected };
        Problem::cell(self.row - 1, &excerpt(&self.header[column]), found, expected)
    }
}

/// What separates the fields of a table that begins so: the first line has no comma if it is a
/// semicolon or a tab.
fn delimiter(beginning: &[u8]) -> u8 {
    let line = beginning.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |separator: u8| line.iter().filter(|byte| **byte == separator).count();
    match (count(b'\t'), count(b';'), count(b',')) {
        (tabs, _, commas) if tabs > 0 && (commas == 0 || commas <= tabs + 1) => b'\t',
        (_, semicolons, commas) if semicolons > 0 && (commas == 0 || commas <= semicolons + 1) => {
            b';'
        }
        _ => b',',
    }
}

/// Whether the first line of a table has the columns' names rather than the first row.
fn is_header(first: &[String]) -> Result<bool, Problem> {
    let number = |name: &String| {
        name.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && name.replacen(',', ".", 1).parse::<f64>().is_ok()
    };
    let all: Vec<&str> = first.iter().map(String::as_str).collect();
    match first.iter().filter(|name| number(name)).count() {
        0 => Ok(true),
        _ if columns::are_positions(&all) => Ok(true),
        1 if all.len() == 2 && columns::is_unnamed(all[0]) && all[1] == "0" => Ok(true),
        numbers if numbers == first.len() => {
            if matches!(all[..], ["0" | "1"]) {
                return Err(Problem(format!(
                    "its only column begins with {}, which is either its name, as pandas writes it, or the first label, as NumPy writes it; expected a line with a name before it",
                    all[0]
                )));
            }
            Ok(false)
        }
        _ => {
            let odd = first.iter().find(|name| number(name) && name.parse::<u64>().is_err());
            match odd {
                Some(odd) => Err(Problem(format!(
                    "its first line has '{}'; expected the columns' names there, or numbers only",
                    excerpt(odd)
                ))),
                None => Ok(true),
            }
        }
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
    /// The columns' names, if the file has them.
    names: Vec<String>,
}

impl LogitRows for CsvLogits {
    fn classes(&self) -> usize {
        self.columns.len()
    }

    fn class_names(&self) -> &[String] {
        &self.names
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
    classes: ClassNames,
}

impl LabelRows for CsvLabels {
    fn rows(&self) -> Option<u64> {
        None
    }

    fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, ArrayError> {
        self.table.lines(most, |table| {
            let class = self.classes.class(table.text(self.column)?);
            into.push(class.ok_or_else(|| table.cell(self.column, &self.classes.expected()))?);
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
