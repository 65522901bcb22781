//! From the entries of a file to what xent takes: class indices, numbers, truth values.

use xent::ClassIndices;

use xent_arrays::npy::Values;

/// Class indices, in a type that holds all that the file has.
#[derive(Debug)]
pub enum Labels {
    /// `uint8`
    U8(Vec<u8>),
    /// `uint16`, `uint32`
    U32(Vec<u32>),
    /// `int8`, `int16`, `int32`
    I32(Vec<i32>),
    /// `int64`, `uint64`
    I64(Vec<i64>),
}

impl Labels {
    /// `None` if the entries are no integers. Nothing is narrowed: what `int64` does not hold is an error, but in rows that are masked and never looked at.
    pub fn new(values: Values, ignored: Option<&[bool]>) -> Option<Result<Self, String>> {
        Some(Ok(match values {
            Values::U8(labels) => Self::U8(labels),
            Values::U32(labels) => Self::U32(labels),
            Values::I32(labels) => Self::I32(labels),
            Values::I64(labels) => Self::I64(labels),
            Values::U16(labels) => Self::U32(labels.into_iter().map(u32::from).collect()),
            Values::I8(labels) => Self::I32(labels.into_iter().map(i32::from).collect()),
            Values::I16(labels) => Self::I32(labels.into_iter().map(i32::from).collect()),
            Values::U64(labels) => return Some(signed(labels, ignored).map(Self::I64)),
            Values::Bool(_) | Values::F16(_) | Values::Bf16(_) | Values::F32(_) | Values::F64(_) => return None,
        }))
    }

    /// As xent takes them.
    pub fn indices(&self) -> ClassIndices<'_> {
        match self {
            Self::U8(labels) => labels.into(),
            Self::U32(labels) => labels.into(),
            Self::I32(labels) => labels.into(),
            Self::I64(labels) => labels.into(),
        }
    }

    /// The label of a row that exists.
    pub fn get(&self, row: usize) -> i64 {
        match self {
            Self::U8(labels) => labels[row].into(),
            Self::U32(labels) => labels[row].into(),
            Self::I32(labels) => labels[row].into(),
            Self::I64(labels) => labels[row],
        }
    }
}

fn signed(labels: Vec<u64>, ignored: Option<&[bool]>) -> Result<Vec<i64>, String> {
    let signed = |(row, label)| match i64::try_from(label) {
        Ok(label) => Ok(label),
        Err(_) if ignored.is_some_and(|ignored| ignored[row]) => Ok(i64::MAX),
        Err(_) => Err(format!("target {label} in row {row} is outside of int64, expected a class index")),
    };
    labels.into_iter().enumerate().map(signed).collect()
}

/// Integers and floats of any type as `float64`, exactly.
pub fn numbers(values: Values) -> Result<Vec<f64>, String> {
    match values {
        Values::F64(numbers) => Ok(numbers),
        Values::F32(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::F16(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::Bf16(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::U8(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::U16(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::U32(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::I8(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::I16(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::I32(numbers) => Ok(numbers.into_iter().map(f64::from).collect()),
        Values::U64(numbers) => exact(numbers.into_iter().map(i128::from)),
        Values::I64(numbers) => exact(numbers.into_iter().map(i128::from)),
        Values::Bool(_) => Err("dtype bool, expected numbers".to_owned()),
    }
}

fn exact(numbers: impl Iterator<Item = i128>) -> Result<Vec<f64>, String> {
    let exact = |(entry, number)| {
        let float = number as f64;
        if float as i128 == number { Ok(float) } else { Err(format!("entry {entry} is {number}, expected a number that float64 holds exactly")) }
    };
    numbers.enumerate().map(exact).collect()
}

/// `bool` alone.
pub fn truths(values: Values) -> Result<Vec<bool>, String> {
    match values {
        Values::Bool(truths) => Ok(truths),
        other => Err(format!("dtype {}, expected bool", other.dtype().name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_never_narrowed() {
        let labels =
            |values, ignored: Option<&[bool]>| Labels::new(values, ignored).unwrap().map(|labels| (0..2).map(|row| labels.get(row)).collect::<Vec<_>>());
        assert_eq!(labels(Values::I64(vec![i64::MIN, i64::MAX]), None), Ok(vec![i64::MIN, i64::MAX]));
        assert_eq!(labels(Values::U16(vec![0, u16::MAX]), None), Ok(vec![0, 65535]));
        assert_eq!(labels(Values::I8(vec![-128, 127]), None), Ok(vec![-128, 127]));
        let large = || Values::U64(vec![1, u64::MAX]);
        assert_eq!(labels(large(), None), Err("target 18446744073709551615 in row 1 is outside of int64, expected a class index".to_owned()));
        assert!(labels(large(), Some(&[true, false])).is_err());
        assert!(labels(large(), Some(&[false, true])).is_ok());
        assert!(Labels::new(Values::Bool(vec![true]), None).is_none());
    }

    #[test]
    fn numbers_are_exact() {
        assert_eq!(numbers(Values::I64(vec![-3, 1 << 53, 1 << 60])), Ok(vec![-3.0, 9007199254740992.0, 1152921504606846976.0]));
        assert!(numbers(Values::I64(vec![(1 << 53) + 1])).is_err());
        assert!(numbers(Values::U64(vec![u64::MAX])).is_err());
        assert!(numbers(Values::I64(vec![i64::MAX])).is_err());
        assert_eq!(numbers(Values::F32(vec![0.1])), Ok(vec![f64::from(0.1f32)]));
    }
}
