//! Parquet, through the Arrow project's crate: logits are a list of floats per row or a column of
//! numbers per class, labels a column of integers, truth values or texts.

mod header;
mod pages;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float16Type, Float32Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};

use self::pages::{File, Pages};
use crate::columns::{self, ClassNames, Classes, Columns, PEEKED};
use crate::error::{ArrayError, Problem, excerpt, names};
use crate::rows::{Block, Floats, LabelRows, LogitRows};

/// Approximate number of values in a batch.
const BATCH: usize = 1 << 20;

/// The logits: the column called `name`, or the only one of lists of floats, or one column per
/// class. `label` is the name of the labels' column; `here` says whether they are in this file.
pub fn open_logits(
    path: &Path,
    name: Option<&str>,
    label: Option<&str>,
    here: bool,
    wanted: &Columns,
) -> Result<Box<dyn LogitRows>, Problem> {
    let table = Table::open(path)?;
    if let Some(name) = name {
        if *wanted != Columns::default() {
            return Err(Problem(format!(
                "its logits are the column {}, of which --columns and --drop choose nothing",
                excerpt(name)
            )));
        }
        return open_lists(&table, table.named(name, "a list of floats", is_logits)?);
    }
    let all = table.names();
    if wanted.chosen.is_empty() {
        let dropped = columns::select(&all, &wanted.drop)?;
        let mut lists = table.of_type(is_logits);
        lists.retain(|column| !dropped.contains(column));
        match lists[..] {
            [] => {}
            [only] => return open_lists(&table, only),
            _ => return Err(Problem::ambiguous(table.has())),
        }
    }
    let found = if here && label.is_none() { table.label().ok() } else { None };
    open_wide(&table, label.or(found.map(|column| all[column])), wanted)
}

fn open_lists(table: &Table, index: usize) -> Result<Box<dyn LogitRows>, Problem> {
    let mut column = Column::open(table, index, 1)?;
    // The first row tells the number of classes, and that how many rows a batch may have.
    let classes = column.next()?.and_then(|array| lists(&array)).map_or(0, |lists| lists.first);
    if classes < 2 {
        return Err(Problem::shape(&column.name, format!("[{}, {classes}]", table.rows)));
    }
    column.rebatch(table, (BATCH / classes).max(1))?;
    Ok(Box::new(ParquetLogits { path: table.path.clone(), column, classes }))
}

fn open_wide(
    table: &Table,
    label: Option<&str>,
    wanted: &Columns,
) -> Result<Box<dyn LogitRows>, Problem> {
    let all = table.names();
    let numbers = table.of_type(|data| is_fraction(data) || data.is_integer());
    if numbers.iter().filter(|column| Some(all[**column]) != label).count() < 2 {
        return Err(unreadable(format!(
            "no column has a list of floats, and no two have one number per class; it has {}",
            table.has()
        )));
    }
    let Classes { columns: classes, guessed } = columns::classes(&all, label, wanted)?;
    if classes.len() < 2 {
        return Err(Problem::shape("the table", format!("[{}, {}]", table.rows, classes.len())));
    }
    for column in &classes {
        let (name, found) = (all[*column], table.data_type(*column));
        if guessed && !is_fraction(found) {
            let why = format!("has the type {found}, where classes have floats");
            return Err(columns::undecided(name, &why, "--columns names the classes"));
        }
        if !numbers.contains(column) {
            let name = excerpt(name);
            return Err(unreadable(format!(
                "column {name} has the type {found}, expected numbers"
            )));
        }
    }
    let batch = (BATCH / classes.len()).max(1);
    let mut columns = classes
        .iter()
        .map(|column| Column::open(table, *column, batch))
        .collect::<Result<Vec<_>, _>>()?;
    if guessed {
        let peeked = columns.iter_mut().zip(&classes).map(|(column, index)| {
            Ok(column.peek()?.and_then(|array| doubles(&array)).map(|values| (all[*index], values)))
        });
        // What has no value is an error where it is read, with its row.
        if let Some(peeked) = peeked.collect::<Result<Option<Vec<_>>, Problem>>()? {
            columns::expect_logits(&peeked)?;
        }
    }
    let names = classes.iter().map(|column| all[*column].to_string()).collect();
    Ok(Box::new(WideLogits {
        path: table.path.clone(),
        rows: table.rows,
        row_bytes: table.file.size / table.rows.max(1),
        columns,
        names,
    }))
}

/// The labels: the column called `name`, or the one that labels are in by its name, or the only one
/// of integers.
pub fn open_labels(
    path: &Path,
    name: Option<&str>,
    classes: &ClassNames,
) -> Result<Box<dyn LabelRows>, Problem> {
    let table = Table::open(path)?;
    let index = match name {
        Some(name) => table.named(name, "integers", is_labels)?,
        None => table.label()?,
    };
    let column = Column::open(&table, index, BATCH / 16)?;
    Ok(Box::new(ParquetLabels { path: table.path, column, classes: classes.clone() }))
}

/// Whether a type can hold class indices: integers, truth values, or texts and floats that are
/// integers.
fn is_labels(data: &DataType) -> bool {
    matches!(data, DataType::Boolean | DataType::Utf8) || data.is_integer() || data.is_floating()
}

/// Whether a type holds labels even where the column's name does not say so.
fn is_surely_labels(data: &DataType) -> bool {
    *data == DataType::Boolean || data.is_integer()
}

/// Whether a type has numbers with fractions.
fn is_fraction(data: &DataType) -> bool {
    data.is_floating() || matches!(data, DataType::Decimal128(..))
}

fn is_logits(data: &DataType) -> bool {
    matches!(data, DataType::List(field) if field.data_type().is_floating())
}

/// A file, before any of its columns is read.
struct Table {
    path: PathBuf,
    file: Arc<File>,
    metadata: ArrowReaderMetadata,
    rows: u64,
}

struct Column {
    name: String,
    index: usize,
    rows: u64,
    pages: Pages,
    reader: ParquetRecordBatchReader,
    /// The number of the next row.
    row: u64,
    /// The rest of a batch that had more rows than were requested.
    pending: Option<ArrayRef>,
}

fn unreadable(why: impl std::fmt::Display) -> Problem {
    Problem::unreadable("Parquet file", why)
}

impl Table {
    fn open(path: &Path) -> Result<Self, Problem> {
        let file = File::open(path)?;
        guarded(|| {
            // The types are Parquet's own. Those of Arrow, which a writer may add, are more, and say
            // nothing more about numbers and texts.
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            let metadata = ArrowReaderMetadata::load(&file.handle, options).map_err(unreadable)?;
            let rows = u64::try_from(metadata.metadata().file_metadata().num_rows())
                .map_err(|_| unreadable("a negative number of rows"))?;
            Ok(Self { path: path.to_path_buf(), file: Arc::new(file), metadata, rows })
        })
    }

    fn names(&self) -> Vec<&str> {
        self.metadata.schema().fields().iter().map(|field| field.name().as_str()).collect()
    }

    fn data_type(&self, column: usize) -> &DataType {
        self.metadata.schema().field(column).data_type()
    }

    fn of_type(&self, fits: impl Fn(&DataType) -> bool) -> Vec<usize> {
        let all = 0..self.metadata.schema().fields().len();
        all.filter(|column| fits(self.data_type(*column))).collect()
    }

    /// The first columns, for a message.
    fn has(&self) -> String {
        names("column", self.names())
    }

    fn named(
        &self,
        name: &str,
        expected: &str,
        fits: fn(&DataType) -> bool,
    ) -> Result<usize, Problem> {
        let index = self.names().iter().position(|other| *other == name);
        let index = index.ok_or_else(|| Problem::missing("column", name, self.has()))?;
        let found = self.data_type(index);
        if fits(found) {
            return Ok(index);
        }
        Err(unreadable(format!("column {name} has the type {found}, expected {expected}")))
    }

    /// The column of the labels, without its name being given.
    fn label(&self) -> Result<usize, Problem> {
        let all = self.names();
        let mut possible = self.of_type(is_labels);
        possible.retain(|column| {
            columns::is_label(all[*column]) || is_surely_labels(self.data_type(*column))
        });
        columns::label(&all, &possible).ok_or_else(|| match possible[..] {
            [] => unreadable(format!("no column has integers; it has {}", self.has())),
            _ => Problem::ambiguous(self.has()),
        })
    }
}

impl Column {
    fn open(table: &Table, index: usize, batch: usize) -> Result<Self, Problem> {
        guarded(|| {
            let metadata = &table.metadata;
            let name = excerpt(metadata.schema().field(index).name());
            let schema = metadata.parquet_schema();
            let leaf =
                (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == index);
            let leaf = leaf.ok_or_else(|| unreadable(format!("column {name} has no values")))?;
            let pages = Pages::new(&table.file, &name, metadata.metadata(), leaf);
            let reader = reader(&pages, metadata, index, batch)?;
            Ok(Self { name, index, rows: table.rows, pages, reader, row: 0, pending: None })
        })
    }

    /// Starts again at the first row, in batches of another size.
    fn rebatch(&mut self, table: &Table, batch: usize) -> Result<(), Problem> {
        self.reader = guarded(|| reader(&self.pages, &table.metadata, self.index, batch))?;
        Ok(())
    }

    /// The first rows, which are not taken by that.
    fn peek(&mut self) -> Result<Option<ArrayRef>, Problem> {
        if self.pending.is_none() {
            self.pending = self.next()?;
        }
        Ok(self.pending.as_ref().map(|array| array.slice(0, array.len().min(PEEKED))))
    }

    fn next(&mut self) -> Result<Option<ArrayRef>, Problem> {
        self.pages.begin_batch();
        let batch: Result<Option<RecordBatch>, Problem> =
            guarded(|| self.reader.next().transpose().map_err(unreadable));
        match batch {
            Ok(batch) => Ok(batch.map(|batch| batch.column(0).clone())),
            Err(problem) => Err(self.pages.rejected().unwrap_or(problem)),
        }
    }

    /// The next rows, at most `most`, with the number of the first; none at the end.
    fn take(&mut self, most: usize) -> Result<Option<(u64, ArrayRef)>, Problem> {
        let pending = match self.pending.take() {
            Some(array) => Some(array),
            None => self.next()?,
        };
        let Some(array) = pending else {
            let end = || {
                unreadable(format!("it ends after row {}, expected {} rows", self.row, self.rows))
            };
            return if self.row == self.rows { Ok(None) } else { Err(end()) };
        };
        let rows = array.len().min(most);
        if rows < array.len() {
            self.pending = Some(array.slice(rows, array.len() - rows));
        }
        let first = self.row;
        self.row += rows as u64;
        Ok(Some((first, array.slice(0, rows))))
    }

    fn no_value(&self, row: u64, within: &str) -> Problem {
        Problem::cell(row, &format!("{}{within}", self.name), "no value", "one")
    }
}

thread_local! {
    /// Whether the panics of this thread are caught here.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// The crate checks much, but not everything: a panic in it is the file's fault, too, and becomes
/// an error without being printed. Panics elsewhere go to the previous hook.
fn guarded<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                others(panic);
            }
        }));
    });
    GUARDED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    result.unwrap_or_else(|_| Err(unreadable("its parts contradict one another")))
}

fn reader(
    pages: &Pages,
    metadata: &ArrowReaderMetadata,
    index: usize,
    batch: usize,
) -> Result<ParquetRecordBatchReader, Problem> {
    let mask = ProjectionMask::roots(metadata.parquet_schema(), [index]);
    let builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(pages.clone(), metadata.clone());
    builder.with_projection(mask).with_batch_size(batch).build().map_err(unreadable)
}

/// A list array as its values and the lengths of its rows.
struct Lists {
    values: ArrayRef,
    /// Length of the first row.
    first: usize,
    /// The first row of another length, and its length.
    ragged: Option<(usize, usize)>,
    null: Option<usize>,
}

fn lists(array: &ArrayRef) -> Option<Lists> {
    let null = (array.null_count() > 0)
        .then(|| (0..array.len()).find(|row| array.is_null(*row)))
        .flatten();
    let list = array.as_list_opt::<i32>()?;
    let ends: Vec<usize> = list.value_offsets().iter().map(|offset| *offset as usize).collect();
    let values = list.values().slice(ends[0], ends[list.len()] - ends[0]);
    let lengths = ends.windows(2).map(|pair| pair[1] - pair[0]);
    let first = lengths.clone().next().unwrap_or(0);
    let ragged = lengths.clone().zip(0..).find(|(length, _)| *length != first);
    Some(Lists { values, first, ragged: ragged.map(|(length, row)| (row, length)), null })
}

struct ParquetLogits {
    path: PathBuf,
    column: Column,
    classes: usize,
}

impl ParquetLogits {
    fn block(&mut self, most: usize) -> Result<Block, Problem> {
        let Some((row, taken)) = self.column.take(most)? else {
            return Ok(Block { rows: 0, floats: Floats::F32(Vec::new()) });
        };
        let unlike = || unreadable("a batch of another type than the schema's");
        let lists = lists(&taken).ok_or_else(unlike)?;
        let at = |index: usize| row + index as u64;
        if let Some(index) = lists.null {
            return Err(self.column.no_value(at(index), ""));
        }
        let wrong = if lists.first != self.classes { Some((0, lists.first)) } else { lists.ragged };
        if let Some((index, length)) = wrong {
            return Err(Problem::ragged(at(index), format!("{length} logits"), self.classes));
        }
        if lists.values.null_count() > 0 {
            let first =
                (0..lists.values.len()).find(|entry| lists.values.is_null(*entry)).unwrap_or(0);
            return Err(self
                .column
                .no_value(at(first / self.classes), &format!(", class {}", first % self.classes)));
        }
        let floats = match lists.values.data_type() {
            DataType::Float16 => Floats::F32(
                lists
                    .values
                    .as_primitive::<Float16Type>()
                    .values()
                    .iter()
                    .map(|z| z.to_f32())
                    .collect(),
            ),
            DataType::Float32 => {
                Floats::F32(lists.values.as_primitive::<Float32Type>().values().to_vec())
            }
            DataType::Float64 => {
                Floats::F64(lists.values.as_primitive::<Float64Type>().values().to_vec())
            }
            _ => return Err(unlike()),
        };
        Ok(Block { rows: taken.len(), floats })
    }
}

impl LogitRows for ParquetLogits {
    fn classes(&self) -> usize {
        self.classes
    }

    fn rows(&self) -> Option<u64> {
        Some(self.column.rows)
    }

    fn row_bytes(&self) -> u64 {
        self.column.pages.file_size() / self.column.rows.max(1)
    }

    fn next(&mut self, most: usize) -> Result<Block, ArrayError> {
        self.block(most).map_err(|problem| problem.in_file(&self.path))
    }
}

/// Numbers of any type in double precision; none if one is missing.
fn doubles(array: &dyn Array) -> Option<Vec<f64>> {
    use arrow_array::types::{
        Int8Type, Int16Type, Int32Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    };
    macro_rules! of {
        ($number:ty, $double:expr) => {
            array.as_primitive::<$number>().values().iter().map($double).collect()
        };
    }
    if array.null_count() > 0 {
        return None;
    }
    Some(match array.data_type() {
        DataType::Float16 => of!(Float16Type, |z| z.to_f64()),
        DataType::Float32 => of!(Float32Type, |z| f64::from(*z)),
        DataType::Float64 => of!(Float64Type, |z| *z),
        DataType::Int8 => of!(Int8Type, |z| f64::from(*z)),
        DataType::Int16 => of!(Int16Type, |z| f64::from(*z)),
        DataType::Int32 => of!(Int32Type, |z| f64::from(*z)),
        DataType::Int64 => of!(Int64Type, |z| *z as f64),
        DataType::UInt8 => of!(UInt8Type, |z| f64::from(*z)),
        DataType::UInt16 => of!(UInt16Type, |z| f64::from(*z)),
        DataType::UInt32 => of!(UInt32Type, |z| f64::from(*z)),
        DataType::UInt64 => of!(UInt64Type, |z| *z as f64),
        DataType::Decimal128(_, scale) => {
            let unit = 10f64.powi(i32::from(*scale));
            of!(Decimal128Type, |z| *z as f64 / unit)
        }
        _ => return None,
    })
}

/// A column per class.
struct WideLogits {
    path: PathBuf,
    rows: u64,
    row_bytes: u64,
    columns: Vec<Column>,
    names: Vec<String>,
}

impl WideLogits {
    fn block(&mut self, most: usize) -> Result<Block, Problem> {
        let classes = self.columns.len();
        let (mut rows, mut values) = (0, Vec::new());
        for (class, column) in self.columns.iter_mut().enumerate() {
            let taken = column.take(most)?;
            let found = taken.as_ref().map_or(0, |(_, array)| array.len());
            if class == 0 {
                rows = found;
                values = vec![0.0; rows * classes];
            } else if found != rows {
                return Err(unreadable(format!("column {} ends at another row", column.name)));
            }
            let Some((first, array)) = taken else { continue };
            let numbers = doubles(&array).ok_or_else(|| {
                let row = (0..array.len()).find(|row| array.is_null(*row)).unwrap_or(0);
                column.no_value(first + row as u64, "")
            })?;
            let places = values.iter_mut().skip(class).step_by(classes);
            places.zip(numbers).for_each(|(place, number)| *place = number);
        }
        Ok(Block { rows, floats: Floats::F64(values) })
    }
}

impl LogitRows for WideLogits {
    fn classes(&self) -> usize {
        self.columns.len()
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    fn next(&mut self, most: usize) -> Result<Block, ArrayError> {
        self.block(most).map_err(|problem| problem.in_file(&self.path))
    }
}

struct ParquetLabels {
    path: PathBuf,
    column: Column,
    classes: ClassNames,
}

impl ParquetLabels {
    fn labels(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, Problem> {
        let Some((row, taken)) = self.column.take(most)? else { return Ok(0) };
        let nulls = taken.nulls();
        if let Some(index) = nulls.and_then(|nulls| nulls.iter().position(|valid| !valid)) {
            return Err(self.column.no_value(row + index as u64, ""));
        }
        let wrong = |(index, found): (usize, String)| {
            let expected = self.classes.expected();
            Problem::cell(row + index as u64, &self.column.name, found, &expected)
        };
        widen(&taken, &self.classes, into).map_err(wrong)?;
        Ok(taken.len())
    }
}

/// Labels of any type as class indices, or the first one that is none.
fn widen(
    array: &dyn Array,
    classes: &ClassNames,
    into: &mut Vec<i64>,
) -> Result<(), (usize, String)> {
    use arrow_array::types::{
        Int8Type, Int16Type, Int32Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    };
    fn each<T: std::fmt::Display>(
        labels: impl Iterator<Item = T>,
        integer: impl Fn(&T) -> Option<i64>,
        into: &mut Vec<i64>,
    ) -> Result<(), (usize, String)> {
        for (index, label) in labels.enumerate() {
            let found = || (index, format!("'{}'", excerpt(&label.to_string())));
            into.push(integer(&label).ok_or_else(found)?);
        }
        Ok(())
    }
    macro_rules! of {
        ($number:ty) => {{
            let labels = array.as_primitive::<$number>().values().iter();
            each(labels, |label| i64::try_from(**label).ok(), into)
        }};
    }
    macro_rules! floats {
        ($number:ty) => {{
            let labels = array.as_primitive::<$number>().values().iter();
            each(labels, |label| columns::whole(f64::from(**label)), into)
        }};
    }
    let text = |label: &&str| classes.class(label.trim());
    match array.data_type() {
        DataType::Int8 => of!(Int8Type),
        DataType::Int16 => of!(Int16Type),
        DataType::Int32 => of!(Int32Type),
        DataType::Int64 => of!(Int64Type),
        DataType::UInt8 => of!(UInt8Type),
        DataType::UInt16 => of!(UInt16Type),
        DataType::UInt32 => of!(UInt32Type),
        DataType::UInt64 => of!(UInt64Type),
        DataType::Float16 => floats!(Float16Type),
        DataType::Float32 => floats!(Float32Type),
        DataType::Float64 => floats!(Float64Type),
        DataType::Boolean => {
            into.extend(array.as_boolean().values().iter().map(i64::from));
            Ok(())
        }
        DataType::Utf8 => each(array.as_string::<i32>().iter().flatten(), text, into),
        other => Err((0, other.to_string())),
    }
}

impl LabelRows for ParquetLabels {
    fn rows(&self) -> Option<u64> {
        Some(self.column.rows)
    }

    fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, ArrayError> {
        self.labels(most, into).map_err(|problem| problem.in_file(&self.path))
    }
}
