//! Parquet, through the Arrow project's crate: logits are a list of floats per row, labels a column
//! of integers.

mod header;
mod pages;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, GenericListArray, OffsetSizeTrait, RecordBatch};
use arrow_schema::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};

use self::pages::{MOST_LOGITS, Pages};
use crate::columns;
use crate::error::{ArrayError, Problem, excerpt, names};
use crate::npy::open_regular;
use crate::rows::{Block, Floats, LabelRows, LogitRows};

/// Approximate number of values in a batch.
const BATCH: usize = 1 << 20;

/// The logits: the column called `name`, or the only one of lists of floats.
pub fn open_logits(path: &Path, name: Option<&str>) -> Result<Box<dyn LogitRows>, Problem> {
    let mut column = Column::open(path, name, "a list of floats", is_logits, 1)?;
    // The first row tells the number of classes, and that how many rows a batch may have.
    let classes = column.next()?.and_then(|array| lists(&array)).map_or(0, |lists| lists.first);
    if classes < 2 {
        return Err(Problem::shape(&column.name, format!("[{}, {classes}]", column.rows)));
    }
    column.rebatch((BATCH / classes).max(1))?;
    Ok(Box::new(ParquetLogits { column, classes }))
}

/// The labels: the column called `name`, or the one that labels are in by its name, or the only one
/// of integers.
pub fn open_labels(path: &Path, name: Option<&str>) -> Result<Box<dyn LabelRows>, Problem> {
    let column = Column::open(path, name, "integers", is_labels, BATCH / 16)?;
    Ok(Box::new(ParquetLabels { column }))
}

/// Whether a type can hold class indices: integers, truth values, or texts and floats that are
/// integers.
fn is_labels(data: &DataType) -> bool {
    match data {
        DataType::Dictionary(_, values) => is_labels(values),
        DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        other => other.is_integer() || other.is_floating(),
    }
}

/// Whether a type holds labels even where the column's name does not say so.
fn is_surely_labels(data: &DataType) -> bool {
    match data {
        DataType::Dictionary(_, values) => is_surely_labels(values),
        other => *other == DataType::Boolean || other.is_integer(),
    }
}

fn is_logits(data: &DataType) -> bool {
    match data {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            field.data_type().is_floating()
        }
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
    /// The number of the next row.
    row: u64,
    /// The rest of a batch that had more rows than were requested.
    pending: Option<ArrayRef>,
}

fn unreadable(why: impl std::fmt::Display) -> Problem {
    Problem::unreadable("Parquet file", why)
}

impl Column {
    fn open(
        path: &Path,
        name: Option<&str>,
        what: &'static str,
        fits: fn(&DataType) -> bool,
        batch: usize,
    ) -> Result<Self, Problem> {
        let (file, bytes) = open_regular(path)?;
        guarded(|| {
            let metadata =
                ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(unreadable)?;
            let index = choose(metadata.schema(), name, what, fits)?;
            let rows = u64::try_from(metadata.metadata().file_metadata().num_rows())
                .map_err(|_| unreadable("a negative number of rows"))?;
            let field = metadata.schema().field(index);
            let name = field.name().clone();
            if let DataType::FixedSizeList(_, length) = field.data_type()
                && u64::try_from(*length).is_ok_and(|length| length > MOST_LOGITS)
            {
                return Err(unreadable(format!(
                    "column {name} has rows of {length} logits, expected at most {MOST_LOGITS}"
                )));
            }
            let schema = metadata.parquet_schema();
            let leaf =
                (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == index);
            let leaf = leaf.ok_or_else(|| unreadable(format!("column {name} has no values")))?;
            let pages = Pages::new(file, bytes, &excerpt(&name), metadata.metadata(), leaf);
            let reader = reader(&pages, &metadata, index, batch)?;
            Ok(Self {
                path: path.to_path_buf(),
                name,
                index,
                rows,
                bytes,
                metadata,
                pages,
                reader,
                row: 0,
                pending: None,
            })
        })
    }

    /// Starts again at the first row, in batches of another size.
    fn rebatch(&mut self, batch: usize) -> Result<(), Problem> {
        self.reader = guarded(|| reader(&self.pages, &self.metadata, self.index, batch))?;
        Ok(())
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

fn choose(
    schema: &Schema,
    name: Option<&str>,
    expected: &'static str,
    fits: fn(&DataType) -> bool,
) -> Result<usize, Problem> {
    let has = || names("column", schema.fields().iter().map(|field| field.name().as_str()));
    if let Some(name) = name {
        let index = schema.fields().iter().position(|field| field.name() == name);
        let index = index.ok_or_else(|| Problem::missing("column", name, has()))?;
        let found = schema.field(index).data_type();
        if !fits(found) {
            return Err(unreadable(format!(
                "column {name} has the type {found}, expected {expected}"
            )));
        }
        return Ok(index);
    }
    let all: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let candidates: Vec<usize> =
        (0..all.len()).filter(|index| fits(schema.field(*index).data_type())).collect();
    if fits(&DataType::Int64) {
        let possible: Vec<usize> = candidates
            .into_iter()
            .filter(|index| {
                columns::is_label(all[*index]) || is_surely_labels(schema.field(*index).data_type())
            })
            .collect();
        let label = columns::label(&all, &possible);
        return label.ok_or_else(|| match possible[..] {
            [] => unreadable(format!("no column has {expected}; it has {}", has())),
            _ => Problem::ambiguous(has()),
        });
    }
    match candidates[..] {
        [only] => Ok(only),
        [] => Err(unreadable(format!("no column has {expected}; it has {}", has()))),
        _ => Err(Problem::ambiguous(has())),
    }
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
    let of = |(values, lengths): (ArrayRef, Vec<usize>)| {
        let first = lengths.first().copied().unwrap_or(0);
        let ragged =
            lengths.iter().position(|length| *length != first).map(|row| (row, lengths[row]));
        Lists { values, first, ragged, null }
    };
    match array.data_type() {
        DataType::List(_) => Some(of(values_and_lengths(array.as_list_opt::<i32>()?))),
        DataType::LargeList(_) => Some(of(values_and_lengths(array.as_list_opt::<i64>()?))),
        DataType::FixedSizeList(_, length) => {
            let list = array.as_fixed_size_list_opt()?;
            let length = usize::try_from(*length).ok()?;
            Some(of((
                list.values().slice(list.value_offset_at(0), list.len() * length),
                vec![length; list.len()],
            )))
        }
        _ => None,
    }
}

fn values_and_lengths<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> (ArrayRef, Vec<usize>) {
    let ends: Vec<usize> = list.value_offsets().iter().map(|offset| offset.as_usize()).collect();
    let values = list.values().slice(ends[0], ends[list.len()] - ends[0]);
    (values, ends.windows(2).map(|pair| pair[1] - pair[0]).collect())
}

struct ParquetLogits {
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
        self.column.bytes / self.column.rows.max(1)
    }

    fn next(&mut self, most: usize) -> Result<Block, ArrayError> {
        self.block(most).map_err(|problem| problem.in_file(&self.column.path))
    }
}

struct ParquetLabels {
    column: Column,
}

impl ParquetLabels {
    fn labels(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, Problem> {
        let Some((row, taken)) = self.column.take(most)? else { return Ok(0) };
        let nulls = taken.logical_nulls();
        if let Some(index) = nulls.and_then(|nulls| nulls.iter().position(|valid| !valid)) {
            return Err(self.column.no_value(row + index as u64, ""));
        }
        let wrong = |(index, found): (usize, String)| {
            let (row, name) = (row + index as u64, excerpt(&self.column.name));
            Problem::cell(row, &name, found, "an integer of 64 bits")
        };
        widen(&taken, into).map_err(wrong)?;
        Ok(taken.len())
    }
}

/// Labels of any type as integers of 64 bits, or the first one that is none.
fn widen(array: &dyn Array, into: &mut Vec<i64>) -> Result<(), (usize, String)> {
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
    let text = |label: &&str| columns::text_label(label.trim());
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
        DataType::LargeUtf8 => each(array.as_string::<i64>().iter().flatten(), text, into),
        DataType::Utf8View => each(array.as_string_view().iter().flatten(), text, into),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let keys = dictionary.normalized_keys();
            // Values that no row has may be anything.
            let mut values = std::collections::HashMap::new();
            for (row, key) in keys.into_iter().enumerate() {
                let label = match values.get(&key) {
                    Some(label) => *label,
                    None => {
                        let mut label = Vec::new();
                        widen(&dictionary.values().slice(key, 1), &mut label)
                            .map_err(|(_, found)| (row, found))?;
                        *values.entry(key).or_insert(label[0])
                    }
                };
                into.push(label);
            }
            Ok(())
        }
        other => Err((0, other.to_string())),
    }
}

impl LabelRows for ParquetLabels {
    fn rows(&self) -> Option<u64> {
        Some(self.column.rows)
    }

    fn next(&mut self, most: usize, into: &mut Vec<i64>) -> Result<usize, ArrayError> {
        self.labels(most, into).map_err(|problem| problem.in_file(&self.column.path))
    }
}
