//! Arrays that belong to the logits: their shapes are checked against the logits', and their
//! entries become what xent takes.

use std::path::Path;

use xent::host::LogitsShape;
use xent_arrays::npy::{self, Array, Values};

use crate::error::{Error, Result};

/// What messages call the array of a file.
pub const ARRAY: &str = "the array";

/// Reads an array.
pub fn read(path: &Path) -> Result<Array> {
    npy::read(path).map_err(|error| Error::reading(path, error))
}

/// Reads an array whose shape is checked.
pub fn read_shaped<T>(
    path: &Path,
    check: impl FnOnce(&[usize]) -> xent::Result<T>,
) -> Result<(Array, T)> {
    let array = read(path)?;
    let checked = check(array.shape()).map_err(|error| Error::in_file(path, error))?;
    Ok((array, checked))
}

/// Reads an array with one entry per row; the entries are in the order of the rows.
pub fn read_rows(path: &Path, shape: &LogitsShape) -> Result<Values> {
    let (array, ()) = read_shaped(path, |found| shape.expect_rows(ARRAY, found))?;
    Ok(array.into_values())
}

/// Integers and floats of any type as `float64`, exactly.
pub fn numbers(path: &Path, values: Values) -> Result<Vec<f64>> {
    let exact = |(entry, integer): (usize, i128)| {
        let float = integer as f64;
        let inexact = || {
            Error::in_file(
                path,
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
        other => {
            Err(Error::in_file(path, format!("dtype {}, expected numbers", other.dtype().name())))
        }
    }
}

/// Class indices, from integers of any type. An index outside of `int64` is an error, except in an
/// ignored row, which is never read.
pub fn class_indices(path: &Path, values: &Values, ignored: Option<&[bool]>) -> Result<Vec<i64>> {
    let integers = values.integers().ok_or_else(|| {
        Error::in_file(
            path,
            format!("dtype {}, expected integers (class indices)", values.dtype().name()),
        )
    })?;
    let index = |(row, label): (usize, i128)| match i64::try_from(label) {
        Ok(label) => Ok(label),
        Err(_) if ignored.is_some_and(|ignored| ignored[row]) => Ok(i64::MAX),
        Err(_) => Err(Error::in_file(
            path,
            format!("target {label} in row {row} is outside of int64, expected a class index"),
        )),
    };
    integers.into_iter().enumerate().map(index).collect()
}

/// Truth values.
pub fn truths(path: &Path, values: Values) -> Result<Vec<bool>> {
    match values {
        Values::Bool(truths) => Ok(truths),
        other => {
            Err(Error::in_file(path, format!("dtype {}, expected bool", other.dtype().name())))
        }
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

    fn path() -> &'static Path {
        Path::new("y.npy")
    }

    #[test]
    fn labels_are_never_narrowed() {
        let labels = |values: Values, ignored: Option<&[bool]>| {
            class_indices(path(), &values, ignored).map_err(|error| error.to_string())
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
        let numbers = |values| numbers(path(), values).map_err(|error| error.to_string());
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
