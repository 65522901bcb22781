//! What a row is to be classified as: a class index, two labels with shares, or probabilities. See SEMANTICS.md S2.

use half::{bf16, f16};

use crate::Rows;

/// Class indices, one a row in the rows' order, in the integer type in which they come. They are never narrowed: `i64::MIN` stays out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClassIndices<'a> {
    /// `u8`
    U8(&'a [u8]),
    /// `u32`
    U32(&'a [u32]),
    /// `i32`
    I32(&'a [i32]),
    /// `i64`
    I64(&'a [i64]),
    /// `usize`
    Usize(&'a [usize]),
}

impl ClassIndices<'_> {
    /// Number of indices.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(indices) => indices.len(),
            Self::U32(indices) => indices.len(),
            Self::I32(indices) => indices.len(),
            Self::I64(indices) => indices.len(),
            Self::Usize(indices) => indices.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, row: usize) -> i64 {
        match self {
            Self::U8(indices) => i64::from(indices[row]),
            Self::U32(indices) => i64::from(indices[row]),
            Self::I32(indices) => i64::from(indices[row]),
            Self::I64(indices) => indices[row],
            // What i64 does not hold is out of range either way.
            Self::Usize(indices) => i64::try_from(indices[row]).unwrap_or(i64::MAX),
        }
    }
}

/// Target probabilities `[rows, classes]`, in a view of their own: their strides and class axis need not be those of the logits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Probabilities<'a> {
    /// `f32`
    F32(Rows<'a, f32>),
    /// `f64`
    F64(Rows<'a, f64>),
    /// `f16`
    F16(Rows<'a, f16>),
    /// `bf16`
    Bf16(Rows<'a, bf16>),
}

/// Runs one expression for whichever type the probabilities have.
macro_rules! with_probabilities {
    ($probabilities:expr, $rows:ident => $body:expr) => {
        match $probabilities {
            $crate::targets::Probabilities::F32($rows) => $body,
            $crate::targets::Probabilities::F64($rows) => $body,
            $crate::targets::Probabilities::F16($rows) => $body,
            $crate::targets::Probabilities::Bf16($rows) => $body,
        }
    };
}
pub(crate) use with_probabilities;

/// λ of a two-label mix, the share of the first label, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lambda<'a> {
    /// One for all rows.
    Scalar(f64),
    /// One a row.
    Rows(&'a [f64]),
}

/// The targets of a batch.
///
/// Slices of class indices and views of probabilities convert into it, so that most calls never name it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Targets<'a> {
    /// One class a row.
    Classes(ClassIndices<'a>),
    /// A distribution a row. Finite and ≥ 0; the sum need not be 1 and is used as it is.
    Probabilities(Probabilities<'a>),
    /// Two labels a row, as mixup and cutmix make them: λ on `a`, 1−λ on `b`.
    Mix {
        /// The first labels.
        a: ClassIndices<'a>,
        /// The second labels.
        b: ClassIndices<'a>,
        /// The share of the first.
        lambda: Lambda<'a>,
    },
}

impl<'a> Targets<'a> {
    /// Two labels a row with the share of the first, as mixup and cutmix make them.
    ///
    /// ```
    /// use xent::{Config, Rows, Targets};
    /// let criterion = Config::new().build()?;
    /// let logits = Rows::new(&[1.0_f64, 0.0, 0.0], 1, 3)?;
    /// let mixed = criterion.forward(&logits, Targets::mix(&[0usize], &[2usize], 0.75))?;
    /// // ln(e + 2) − 0.75·1 − 0.25·0
    /// assert!((mixed.loss.scalar().unwrap() - 0.8014447139320511).abs() < 1e-15);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mix(a: impl Into<ClassIndices<'a>>, b: impl Into<ClassIndices<'a>>, lambda: impl Into<Lambda<'a>>) -> Self {
        Self::Mix { a: a.into(), b: b.into(), lambda: lambda.into() }
    }
}

impl From<f64> for Lambda<'_> {
    fn from(lambda: f64) -> Self {
        Self::Scalar(lambda)
    }
}

impl<'a> From<&'a [f64]> for Lambda<'a> {
    fn from(lambda: &'a [f64]) -> Self {
        Self::Rows(lambda)
    }
}

impl<'a> From<&'a Vec<f64>> for Lambda<'a> {
    fn from(lambda: &'a Vec<f64>) -> Self {
        Self::Rows(lambda)
    }
}

macro_rules! from_indices {
    ($($integer:ty => $variant:ident),*) => {$(
        impl<'a> From<&'a [$integer]> for ClassIndices<'a> {
            fn from(indices: &'a [$integer]) -> Self {
                Self::$variant(indices)
            }
        }
        impl<'a> From<&'a Vec<$integer>> for ClassIndices<'a> {
            fn from(indices: &'a Vec<$integer>) -> Self {
                Self::$variant(indices)
            }
        }
        impl<'a, const N: usize> From<&'a [$integer; N]> for ClassIndices<'a> {
            fn from(indices: &'a [$integer; N]) -> Self {
                Self::$variant(indices)
            }
        }
    )*};
}
from_indices!(u8 => U8, u32 => U32, i32 => I32, i64 => I64, usize => Usize);

macro_rules! from_probabilities {
    ($($float:ty => $variant:ident),*) => {$(
        impl<'a> From<Rows<'a, $float>> for Targets<'a> {
            fn from(rows: Rows<'a, $float>) -> Self {
                Self::Probabilities(Probabilities::$variant(rows))
            }
        }
    )*};
}
from_probabilities!(f32 => F32, f64 => F64, f16 => F16, bf16 => Bf16);

impl<'a, I: Into<ClassIndices<'a>>> From<I> for Targets<'a> {
    fn from(indices: I) -> Self {
        Self::Classes(indices.into())
    }
}
