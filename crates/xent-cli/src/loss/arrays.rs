//! Arrays that belong to the logits: their shapes are checked against the logits', and their
//! entries become what xent takes.

use half::{bf16, f16};
use xent::host::LogitsShape;
use xent_arrays::npy::{Array, Header, Values};
use xent_arrays::{ClassNames, Columns, Floats, Place, open_labels, open_logits, read_array};

use crate::data::is_distribution;
use crate::error::{Error, Result};

/// What messages call the array of a file.
pub const ARRAY: &str = "the array";

/// Rows of a table that are read at a time.
const BLOCK: usize = 1 << 10;

/// Reads an array of numbers or truth values.
pub fn read(place: &Place) -> Result<Array> {
    array(place, |_| true)?.ok_or_else(|| {
        Error::in_file(
            &place.file,
            "it is a table, expected an array (.npy, .npz or .safetensors); of tables only logits and class indices are read",
        )
    })
}

/// Reads logits: an array, or the class columns of a table. `targets` says which column of a table
/// is no class. Of a table come the names of its classes, too.
pub fn logits(place: &Place, targets: &Place) -> Result<(Array, ClassNames)> {
    if let Some(array) = array(place, |header| header.dtype.is_float())? {
        return Ok((array, ClassNames::default()));
    }
    let mut rows =
        open_logits(place, Some(targets), &Columns::default(), None).map_err(Error::input)?;
    let (classes, mut single, mut double) = (rows.classes(), Vec::new(), Vec::new());
    loop {
        let block = rows.next(BLOCK).map_err(Error::input)?;
        match block.floats.decode() {
            _ if block.rows == 0 => break,
            Floats::F32(values) => single.extend(values),
            Floats::F64(values) => double.extend(values),
            Floats::Encoded(..) => {}
        }
    }
    let values = if double.is_empty() { Values::F32(single) } else { Values::F64(double) };
    let shape = vec![values.len() / classes, classes];
    Ok((in_c_order(place, shape, values)?, ClassNames::new(rows.class_names())))
}

/// Reads targets: an array, or the label column of a table.
pub fn targets(place: &Place, classes: &ClassNames) -> Result<Array> {
    let fits = |header: &Header| !header.dtype.is_float();
    if let Some(array) = array(place, fits)? {
        return Ok(array);
    }
    let (mut rows, mut labels) = (open_labels(place, classes).map_err(Error::input)?, Vec::new());
    while rows.next(BLOCK, &mut labels).map_err(Error::input)? > 0 {}
    in_c_order(place, vec![labels.len()], Values::I64(labels))
}

fn in_c_order(place: &Place, shape: Vec<usize>, values: Values) -> Result<Array> {
    Array::in_c_order(shape, values)
        .ok_or_else(|| Error::in_file(&place.file, "rows of different lengths"))
}

fn array(place: &Place, fits: fn(&Header) -> bool) -> Result<Option<Array>> {
    read_array(place, fits).map_err(|error| Error::reading(&place.file, error.problem))
}

/// Reads an array whose shape is checked.
pub fn read_shaped<T>(
    place: &Place,
    check: impl FnOnce(&[usize]) -> xent::Result<T>,
) -> Result<(Array, T)> {
    let array = read(place)?;
    let checked = check(array.shape()).map_err(|error| Error::in_file(&place.file, error))?;
    Ok((array, checked))
}

/// Reads an array with one entry per row; the entries are in the order of the rows.
pub fn read_rows(place: &Place, shape: &LogitsShape) -> Result<Values> {
    let (array, ()) = read_shaped(place, |found| shape.expect_rows(ARRAY, found))?;
    Ok(array.into_values())
}

/// Integers and floats of any type as `float64`, exactly.
pub fn numbers(place: &Place, values: Values) -> Result<Vec<f64>> {
    let exact = |(entry, integer): (usize, i128)| {
        let float = integer as f64;
        let inexact = || {
            Error::in_file(
                &place.file,
                format!("entry {entry} is {integer}, expected a number that float64 holds exactly"),
            )
        };
        if float as i128 == integer { Ok(float) } else { Err(inexact()) }
    };
    if let Some(integers) = values.integers() {
        return integers.into_iter().enumerate().map(exact).collect();
    }
    match values {
        Values::F64(numbers) => Ok(numbers),
        Values::F32(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::F16(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::Bf16(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        other => Err(Error::in_file(
            &place.file,
            format!("dtype {}, expected numbers", other.dtype().name()),
        )),
    }
}

/// Class indices, from integers of any type. An index outside of `int64` is an error, except in an
/// ignored row, which is never read.
pub fn class_indices(place: &Place, values: &Values, ignored: Option<&[bool]>) -> Result<Vec<i64>> {
    let integers = values.integers().ok_or_else(|| {
        Error::in_file(
            &place.file,
            format!("dtype {}, expected integers (class indices)", values.dtype().name()),
        )
    })?;
    let index = |(row, label): (usize, i128)| match i64::try_from(label) {
        Ok(label) => Ok(label),
        Err(_) if ignored.is_some_and(|ignored| ignored[row]) => Ok(i64::MAX),
        Err(_) => Err(Error::in_file(
            &place.file,
            format!("target {label} in row {row} is outside of int64, expected a class index"),
        )),
    };
    integers.into_iter().enumerate().map(index).collect()
}

/// Truth values.
pub fn truths(place: &Place, values: Values) -> Result<Vec<bool>> {
    match values {
        Values::Bool(truths) => Ok(truths),
        other => Err(Error::in_file(
            &place.file,
            format!("dtype {}, expected bool", other.dtype().name()),
        )),
    }
}

/// The first row that is no distribution over the classes, with its sum. Rows that are `ignored` are
/// not looked at.
pub fn no_distribution(
    array: &Array,
    shape: &LogitsShape,
    ignored: Option<&[bool]>,
) -> Option<(usize, f64)> {
    let (axis, strides) = (shape.axis(), array.strides());
    let entry = |index: usize| match array.values() {
        Values::F16(entries) => f64::from(entries[index]),
        Values::Bf16(entries) => f64::from(entries[index]),
        Values::F32(entries) => f64::from(entries[index]),
        Values::F64(entries) => entries[index],
        _ => f64::NAN,
    };
    let row_axes = (0..shape.dims().len()).rev().filter(|other| *other != axis);
    let first = |mut row: usize| -> isize {
        row_axes
            .clone()
            .map(|axis| {
                let length = shape.dims()[axis];
                let at = row % length;
                row /= length;
                at as isize * strides[axis]
            })
            .sum()
    };
    (0..shape.rows()).filter(|row| ignored.is_none_or(|ignored| !ignored[*row])).find_map(|row| {
        let start = first(row);
        let entries: Vec<f64> = (0..shape.classes() as isize)
            .map(|class| entry((start + class * strides[axis]) as usize))
            .collect();
        (!is_distribution(&entries)).then(|| (row, entries.iter().sum()))
    })
}

/// Logarithms in place of floats.
pub fn take_logarithms(values: &mut Values) {
    match values {
        Values::F16(p) => p.iter_mut().for_each(|p| *p = f16::from_f64(f64::from(*p).ln())),
        Values::Bf16(p) => p.iter_mut().for_each(|p| *p = bf16::from_f64(f64::from(*p).ln())),
        Values::F32(p) => p.iter_mut().for_each(|p| *p = p.ln()),
        Values::F64(p) => p.iter_mut().for_each(|p| *p = p.ln()),
        _ => {}
    }
}

/// The position of a row on the row axes, if there are several.
pub fn position(shape: &LogitsShape, mut row: usize) -> Option<Vec<usize>> {
    let mut position = shape.row_dims();
    for index in position.iter_mut().rev() {
        let length = *index;
        *index = row.checked_rem(length)?;
        row /= length;
    }
    (position.len() > 1).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { file: "y.npy".into(), name: None }
    }

    #[test]
    fn labels_are_never_narrowed() {
        let labels = |values: Values, ignored: Option<&[bool]>| {
            class_indices(&place(), &values, ignored).map_err(|error| error.to_string())
        };
        assert_eq!(
            labels(Values::I64(vec![i64::MIN, i64::MAX]), None),
            Ok(vec![i64::MIN, i64::MAX])
        );
        assert_eq!(labels(Values::U16(vec![0, u16::MAX]), None), Ok(vec![0, 65535]));
        assert_eq!(labels(Values::I8(vec![-128, 127]), None), Ok(vec![-128, 127]));
        let large = || Values::U64(vec![1, u64::MAX]);
        assert_eq!(labels(large(), None), Err("y.npy: target 18446744073709551615 in row 1 is outside of int64, expected a class index".to_owned()));
        assert!(labels(large(), Some(&[true, false])).is_err());
        assert!(labels(large(), Some(&[false, true])).is_ok());
        assert!(labels(Values::Bool(vec![true]), None).is_err());
    }

    #[test]
    fn numbers_are_exact() {
        let numbers = |values| numbers(&place(), values).map_err(|error| error.to_string());
        assert_eq!(
            numbers(Values::I64(vec![-3, 1 << 53, 1 << 60])),
            Ok(vec![-3.0, 9007199254740992.0, 1152921504606846976.0])
        );
        assert!(numbers(Values::I64(vec![(1 << 53) + 1])).is_err());
        assert!(numbers(Values::U64(vec![u64::MAX])).is_err());
        assert!(numbers(Values::I64(vec![i64::MAX])).is_err());
        assert_eq!(numbers(Values::F32(vec![0.1])), Ok(vec![f64::from(0.1f32)]));
    }

    #[test]
    fn rows_have_a_position_on_several_axes() {
        let shape = |dims: &[usize], axis| LogitsShape::new(dims, axis).unwrap();
        assert_eq!(position(&shape(&[2, 3, 4], 1), 7), Some(vec![1, 3]));
        assert_eq!(position(&shape(&[2, 3], -1), 1), None);
        assert_eq!(position(&shape(&[0, 2, 3], -1), 0), None);
    }
}
