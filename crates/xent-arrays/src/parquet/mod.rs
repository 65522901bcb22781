//! Parquet, through the Arrow project's crate: logits are a list of floats a row, labels a column of integers.

mod header;
mod pages;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use self::pages::{MOST_LOGITS, Pages};
use crate::error::{ArrayError, Problem, excerpt, names};
use crate::numbers::open_regular;
use crate::rows::{Block, Floats, LabelRows, LogitRows};

/// Values of a batch, about.
const BATCH: usize = 1 << 20;

/// The logits: the column with the name, or the only list of floats.
pub fn open_logits(path: &Path, name: Option<&str>) -> Result<Box<dyn LogitRows>, Problem> {
    let mut column = Column::open(path, name, "a list of floats", is_logits, 1)?;
    // The classes are known when there is a row; so is how many rows a batch may have.
    let classes = column.next()?.and_then(|array| lists(&array)).map_or(0, |lists| lists.first);
    if classes < 2 {
        return Err(Problem::Shape { what: column.name, shape: format!("[{}, {classes}]", column.rows) });
    }
    column.rebatch((BATCH / classes).max(1))?;
    Ok(Box::new(Logits { column, classes, row: 0, pending: None }))
}

/// The labels: the column with the name, or the only one of integers.
pub fn open_labels(path: &Path, name: Option<&str>) -> Result<Box<dyn LabelRows>, Problem> {
    let column = Column::open(path, name, "integers", DataType::is_integer, BATCH / 16)?;
    Ok(Box::new(Labels { column, row: 0, pending: None }))
}

fn is_logits(data: &DataType) -> bool {
    match data {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => field.data_type().is_floating(),
        _ => false,
    }
}

struct Column {
    path: PathBuf,
    name: String,
    index: usize,
    rows: u64,
    bytes: u64,
    metadata: ArrowReaderMetadata,
    pages: Pages,
    reader: ParquetRecordBatchReader,
}

impl Column {
    fn open(path: &Path, name: Option<&str>, what: &'static str, fits: fn(&DataType) -> bool, batch: usize) -> Result<Self, Problem> {
        let (file, bytes) = open_regular(path)?;
        guarded(|| {
            let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|error| Problem::Parquet(error.to_string()))?;
            let index = choose(metadata.schema(), name, what, fits)?;
            let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).map_err(|_| Problem::Parquet("a negative number of rows".to_string()))?;
            let field = metadata.schema().field(index);
            let name = field.name().clone();
            if let DataType::FixedSizeList(_, length) = field.data_type()
                && u64::try_from(*length).is_ok_and(|length| length > MOST_LOGITS)
            {
                return Err(Problem::Parquet(format!("column {name} has rows of {length} logits, expected at most {MOST_LOGITS}")));
            }
            let schema = metadata.parquet_schema();
            let leaf = (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == index);
            let leaf = leaf.ok_or_else(|| Problem::Parquet(format!("column {name} has no values")))?;
            let pages = Pages::new(file, bytes, &excerpt(&name), metadata.metadata(), leaf);
            let reader = reader(&pages, &metadata, index, batch)?;
            Ok(Self { path: path.to_path_buf(), name, index, rows, bytes, metadata, pages, reader })
        })
    }

    /// From the first row on again, in batches of another size.
    fn rebatch(&mut self, batch: usize) -> Result<(), Problem> {
        self.reader = guarded(|| reader(&self.pages, &self.metadata, self.index, batch))?;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<ArrayRef>, Problem> {
        self.pages.begin_batch();
        let batch: Result<Option<RecordBatch>, Problem> = guarded(|| self.reader.next().transpose().map_err(|error| Problem::Parquet(error.to_string())));
        match batch {
            Ok(batch) => Ok(batch.map(|batch| batch.column(0).clone())),
            Err(problem) => Err(self.pages.refused().unwrap_or(problem)),
        }
    }
}

thread_local! {
    /// Whether this thread's panics are caught here.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// The crate checks much, but not everything: what panics in it is the file's fault, too, and is said once, as an error. Panics elsewhere go to whoever was told of them before.
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
    result.unwrap_or_else(|_| Err(Problem::Parquet("its parts contradict one another".to_string())))
}

fn reader(pages: &Pages, metadata: &ArrowReaderMetadata, index: usize, batch: usize) -> Result<ParquetRecordBatchReader, Problem> {
    let mask = ProjectionMask::roots(metadata.parquet_schema(), [index]);
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(pages.clone(), metadata.clone());
    builder.with_projection(mask).with_batch_size(batch).build().map_err(|error| Problem::Parquet(error.to_string()))
}

fn choose(schema: &Schema, name: Option<&str>, expected: &'static str, fits: fn(&DataType) -> bool) -> Result<usize, Problem> {
    let has = || names("column", schema.fields().iter().map(|field| field.name().as_str()));
    if let Some(name) = name {
        let index = schema.fields().iter().position(|field| field.name() == name);
        let index = index.ok_or_else(|| Problem::Missing { what: "column", name: name.to_string(), has: has() })?;
        let found = schema.field(index).data_type();
        if !fits(found) {
            return Err(Problem::Parquet(format!("column {name} has the type {found}, expected {expected}")));
        }
        return Ok(index);
    }
    let mut candidates = (0..schema.fields().len()).filter(|index| fits(schema.field(*index).data_type()));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Problem::Parquet(format!("no column has {expected}; it has {}", has()))),
        _ => Err(Problem::Ambiguous { has: has() }),
    }
}

/// A list array as its values and the ends of its rows.
struct Lists {
    values: ArrayRef,
    /// Length of the first row.
    first: usize,
    /// The first row of another length, and that length.
    ragged: Option<(usize, usize)>,
    null: Option<usize>,
}

fn lists(array: &ArrayRef) -> Option<Lists> {
    let null = (array.null_count() > 0).then(|| (0..array.len()).find(|row| array.is_null(*row))).flatten();
    let of = |values: ArrayRef, lengths: Vec<usize>| {
        let first = lengths.first().copied().unwrap_or(0);
        let ragged = lengths.iter().position(|length| *length != first).map(|row| (row, lengths[row]));
        Lists { values, first, ragged, null }
    };
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list_opt::<i32>()?;
            let offsets = list.value_offsets();
            let values = list.values().slice(offsets[0] as usize, (offsets[list.len()] - offsets[0]) as usize);
            Some(of(values, offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect()))
        }
        DataType::LargeList(_) => {
            let list = array.as_list_opt::<i64>()?;
            let offsets = list.value_offsets();
            let values = list.values().slice(offsets[0] as usize, (offsets[list.len()] - offsets[0]) as usize);
            Some(of(values, offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect()))
        }
        DataType::FixedSizeList(_, length) => {
            let list = array.as_fixed_size_list_opt()?;
            let length = usize::try_from(*length).ok()?;
            Some(of(list.values().slice(list.value_offset_at(0), list.len() * length), vec![length; list.len()]))
        }
        _ => None,
    }
}

struct Logits {
    column: Column,
    classes: usize,
    row: u64,
    pending: Option<ArrayRef>,
}

impl Logits {
    fn block(&mut self, most: usize) -> Result<Block, Problem> {
        let array = match self.pending.take() {
            Some(array) => array,
            None => match self.column.next()? {
                Some(array) => array,
                None => {
                    return if self.row == self.column.rows {
                        Ok(Block { rows: 0, floats: Floats::F32(Vec::new()) })
                    } else {
                        Err(Problem::Parquet(format!("it ends after row {}, expected {} rows", self.row, self.column.rows)))
                    };
                }
            },
        };
        let rows = array.len().min(most);
        if rows < array.len() {
            self.pending = Some(array.slice(rows, array.len() - rows));
        }
        let taken = array.slice(0, rows);
        let unlike = || Problem::Parquet("a batch of another type than the schema's".to_string());
        let lists = lists(&taken).ok_or_else(unlike)?;
        let at = |row: usize| self.row + row as u64;
        if let Some(row) = lists.null {
            return Err(Problem::Null { row: at(row), column: self.column.name.clone() });
        }
        let wrong = if lists.first != self.classes { Some((0, lists.first)) } else { lists.ragged };
        if let Some((row, length)) = wrong {
            return Err(Problem::Ragged { row: at(row), found: format!("{length} logits"), expected: self.classes });
        }
        if lists.values.null_count() > 0 {
            let first = (0..lists.values.len()).find(|entry| lists.values.is_null(*entry)).unwrap_or(0);
            return Err(Problem::Null { row: at(first / self.classes), column: format!("{}, class {}", self.column.name, first % self.classes) });
        }
        let floats = match lists.values.data_type() {
            DataType::Float16 => Floats::F32(lists.values.as_primitive::<Float16Type>().values().iter().map(|z| z.to_f32()).collect()),
            DataType::Float32 => Floats::F32(lists.values.as_primitive::<Float32Type>().values().to_vec()),
            DataType::Float64 => Floats::F64(lists.values.as_primitive::<Float64Type>().values().to_vec()),
            _ => return Err(unlike()),
        };
        self.row += rows as u64;
        Ok(Block { rows, floats })
    }
}

impl LogitRows for Logits {
    fn classes(&self) -> usize {
        self.classes
    }

    fn rows(&self) -> Option<u64> {
        Some(self.column.rows)
    }

    fn row_bytes(&self) -> u64 {
        self.column.bytes / self.column.rows.max(1)
    }

    fn next(&mut self, most: usize) -> Result<Block, ArrayError> {
        self.block(most).map_err(|problem| problem.in_file(&self.column.path))
    }
}

struct Labels {
    column: Column,
    row: u64,
    pending: Option<ArrayRef>,
}

impl Labels {
    fn labels(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, Problem> {
        let Some(array) = self.pending.take().map_or_else(|| self.column.next(), |array| Ok(Some(array)))? else { return Ok(0) };
        let rows = array.len().min(most);
        if rows < array.len() {
            self.pending = Some(array.slice(rows, array.len() - rows));
        }
        let taken = array.slice(0, rows);
        if let Some(row) = (0..rows).find(|row| taken.is_null(*row)) {
            return Err(Problem::Null { row: self.row + row as u64, column: self.column.name.clone() });
        }
        widen(&taken, self.row, into)?;
        self.row += rows as u64;
        Ok(rows)
    }
}

/// Any integers as those of 64 bits.
fn widen(array: &ArrayRef, first: u64, into: &mut Vec<i64>) -> Result<(), Problem> {
    use arrow_array::types::{Int8Type, Int16Type, Int32Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
    macro_rules! of {
        ($number:ty) => {
            into.extend(array.as_primitive::<$number>().values().iter().map(|label| i64::from(*label)))
        };
    }
    match array.data_type() {
        DataType::Int8 => of!(Int8Type),
        DataType::Int16 => of!(Int16Type),
        DataType::Int32 => of!(Int32Type),
        DataType::Int64 => of!(Int64Type),
        DataType::UInt8 => of!(UInt8Type),
        DataType::UInt16 => of!(UInt16Type),
        DataType::UInt32 => of!(UInt32Type),
        DataType::UInt64 => {
            for (row, label) in array.as_primitive::<UInt64Type>().values().iter().enumerate() {
                into.push(i64::try_from(*label).map_err(|_| Problem::Label { row: first + row as u64, found: label.to_string() })?);
            }
        }
        other => return Err(Problem::LabelType { what: "the column".to_string(), found: other.to_string() }),
    }
    Ok(())
}

impl LabelRows for Labels {
    fn rows(&self) -> Option<u64> {
        Some(self.column.rows)
    }

    fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, ArrayError> {
        self.labels(most, into).map_err(|problem| problem.in_file(&self.column.path))
    }
}
