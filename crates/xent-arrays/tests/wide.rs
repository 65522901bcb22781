//! Parquet files with a column per class: the columns that are classes, their order and their rows;
//! what may be no class is refused by its name. Labels may be the names of the classes.

use std::sync::Arc;

use arrow_array::types::{Float16Type, Int32Type};
use arrow_array::{
    ArrayRef, BooleanArray, Decimal32Array, Decimal64Array, Decimal128Array, DictionaryArray,
    Float32Array, Float64Array, Int64Array, PrimitiveArray, RecordBatch, StringArray,
};
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use xent_arrays::{ArrayError, ClassNames, Columns, Floats, Place, open_labels, open_logits};

const ROWS: usize = 300;

/// A logit, exact in half precision.
fn logit(row: usize, class: usize) -> f64 {
    ((row * 7 + class * 5) % 64) as f64 / 4.0 - 7.75
}

fn floats(class: usize) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| logit(row, class))))
}

fn texts(text: impl Fn(usize) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..ROWS).map(text)))
}

fn integers(number: impl Fn(i64) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(number)))
}

struct Files(tempfile::TempDir);

impl Files {
    fn write(&self, columns: Vec<(&str, ArrayRef)>) -> Place {
        let file = self.0.path().join("wide.parquet");
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(70)).build();
        let to = std::fs::File::create(&file).unwrap();
        let mut writer = ArrowWriter::try_new(to, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        Place { file, name: None }
    }
}

fn files() -> Files {
    Files(tempfile::tempdir().unwrap())
}

fn wanted(classes: &[&str], drop: &[&str]) -> Columns {
    let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    Columns { chosen: owned(classes), drop: owned(drop) }
}

/// The names of the classes and all rows, read as labels of the same file or of none.
fn read(
    place: &Place,
    labels: Option<&Place>,
    wanted: &Columns,
) -> Result<(Vec<String>, Vec<f64>), ArrayError> {
    let mut rows = open_logits(place, labels, wanted, None)?;
    let (names, mut all) = (rows.class_names().to_vec(), Vec::new());
    loop {
        let block = rows.next(41)?;
        assert!(block.rows <= 41);
        match block.floats.decode() {
            _ if block.rows == 0 => return Ok((names, all)),
            Floats::F64(values) => all.extend(values),
            _ => panic!("double precision"),
        }
    }
}

fn refused(place: &Place, labels: Option<&Place>, wanted: &Columns, says: &str) {
    let message = read(place, labels, wanted).expect_err(says).to_string();
    assert!(message.contains(says), "{message:?} does not say {says:?}");
}

fn labels(place: &Place, names: &[String]) -> Result<Vec<i64>, ArrayError> {
    let (mut rows, mut all) = (open_labels(place, &ClassNames::new(names))?, Vec::new());
    while rows.next(17, &mut all)? > 0 {}
    Ok(all)
}

#[test]
fn classes_of_any_number_type_are_in_the_order_of_their_numbers() {
    let half = PrimitiveArray::<Float16Type>::from_iter_values(
        (0..ROWS).map(|row| f16::from_f64(logit(row, 2))),
    );
    let single = Float32Array::from_iter_values((0..ROWS).map(|row| logit(row, 10) as f32));
    let mut columns: Vec<(String, ArrayRef)> =
        (0..12).map(|class| (format!("p_{class}"), floats(class))).collect();
    columns[2].1 = Arc::new(half);
    columns[10].1 = Arc::new(single);
    // As DuckDB has numbers that are written with a point.
    let decimal = (0..ROWS).map(|row| (logit(row, 11) * 1e4) as i128);
    let decimal = Decimal128Array::from_iter_values(decimal).with_precision_and_scale(18, 4);
    columns[11].1 = Arc::new(decimal.unwrap());
    columns.sort_by(|a, b| a.0.cmp(&b.0));
    let mut columns: Vec<(&str, ArrayRef)> =
        columns.iter().map(|(name, column)| (name.as_str(), column.clone())).collect();
    columns.insert(3, ("label", integers(|row| row % 12)));
    let files = files();
    let place = files.write(columns);
    let expected: Vec<f64> = (0..ROWS * 12).map(|entry| logit(entry / 12, entry % 12)).collect();
    for labels in [None, Some(&place)] {
        let (names, rows) = read(&place, labels, &Columns::default()).unwrap();
        assert_eq!((names[10].as_str(), &rows), ("p_10", &expected));
    }
    let (names, rows) = read(&place, None, &wanted(&["p_11", "p_0..p_1"], &[])).unwrap();
    assert_eq!(names, ["p_11", "p_0", "p_1"]);
    assert_eq!(rows[..3], [logit(0, 11), logit(0, 0), logit(0, 1)]);
    assert_eq!(labels(&place, &[]).unwrap()[..13], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0]);
}

#[test]
fn what_may_be_no_class_is_refused_by_its_name() {
    let files = files();
    let any = Columns::default();
    let base = || vec![("cat", floats(0)), ("dog", floats(1))];
    let with = |name: &'static str, column: ArrayRef| [base(), vec![(name, column)]].concat();
    for (column, says) in [
        (with("__index_level_0__", integers(|row| row)), "column __index_level_0__ is not a class"),
        (
            with("n", integers(|row| row)),
            "column n has the type Int64, where classes have floats; --drop n",
        ),
        (with("text", texts(|row| format!("row {row}"))), "column text has the type Utf8"),
        (
            with("n", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| row as f64)))),
            "column n is an index: it counts the rows; --drop n",
        ),
        (
            with(
                "kind",
                Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| (row % 2) as f64))),
            ),
            "column kind has whole numbers only",
        ),
    ] {
        let place = files.write(column);
        refused(&place, None, &any, says);
        assert_eq!(read(&place, None, &wanted(&["cat", "dog"], &[])).unwrap().0, ["cat", "dog"]);
    }
    // The only column that can be labels is the labels', if they are in this file.
    let place = files.write(with("kind", integers(|row| row % 2)));
    assert_eq!(read(&place, Some(&place), &any).unwrap().0, ["cat", "dog"]);
    refused(&place, None, &any, "column kind has the type Int64");
    assert_eq!(read(&place, None, &wanted(&[], &["kind"])).unwrap().0, ["cat", "dog"]);
    refused(&place, None, &wanted(&[], &["kin"]), "no column 'kin'");
    let place = files.write(with("right", Arc::new(BooleanArray::from(vec![true; ROWS]))));
    refused(&place, None, &wanted(&["cat", "right"], &[]), "type Boolean, expected numbers");
    let place = files.write(vec![("a", floats(0)), ("text", texts(|_| "a".into()))]);
    refused(&place, None, &any, "no column has a list of floats, and no two have one number per");
    let missing = Float64Array::from_iter((0..ROWS).map(|row| (row != 150).then_some(0.5)));
    let place = files.write(vec![("p0", floats(0)), ("p1", Arc::new(missing))]);
    refused(&place, None, &any, "row 150, column p1: no value");
}

/// What Arrow's writers say about types beyond Parquet's own is left aside.
#[test]
fn types_of_arrow_are_read_as_those_of_parquet() {
    let files = files();
    let keys = PrimitiveArray::from_iter_values(0..ROWS as i32);
    let dictionary = DictionaryArray::<Int32Type>::new(keys, floats(0));
    let hundredths = |row| (100.0 * logit(row, 1)) as i32;
    let short = Decimal32Array::from_iter_values((0..ROWS).map(hundredths));
    let long = Decimal64Array::from_iter_values((0..ROWS).map(|row| hundredths(row).into()));
    let decimals: [ArrayRef; 2] = [
        Arc::new(short.with_precision_and_scale(6, 2).unwrap()),
        Arc::new(long.with_precision_and_scale(12, 2).unwrap()),
    ];
    let expected: Vec<f64> = (0..ROWS).flat_map(|row| [logit(row, 0), logit(row, 1)]).collect();
    for decimals in decimals {
        let place =
            files.write(vec![("a", Arc::new(dictionary.clone()) as ArrayRef), ("b", decimals)]);
        let (_, rows) = read(&place, None, &Columns::default()).unwrap();
        assert_eq!(rows, expected);
    }
}

#[test]
fn labels_may_be_the_names_of_the_classes() {
    let files = files();
    let names = ["cat", "dog", "12"];
    let name = |row: usize| names[row % 3].to_string();
    let expected: Vec<i64> = (0..ROWS as i64).map(|row| [0, 1, 12][row as usize % 3]).collect();
    let dictionary: DictionaryArray<Int32Type> =
        (0..ROWS).map(|row| Some(names[row % 3])).collect();
    for column in [texts(name), Arc::new(dictionary) as ArrayRef] {
        let place = files.write(vec![("label", column)]);
        let called = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            labels(&place, &names)
        };
        assert_eq!(called(&["cat", "dog"]).unwrap(), expected);
        assert_eq!(called(&["logit_cat", "logit_dog"]).unwrap(), expected);
        let message = called(&["bird", "dog"]).unwrap_err().to_string();
        assert!(
            message.contains(
                "row 0, column label: 'cat', expected an integer or a class, one of bird, dog"
            ),
            "{message}"
        );
    }
}
