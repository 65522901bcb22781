//! The targets of rows: class indices, two labels with shares, or probabilities. See SEMANTICS.md
//! S2.

use half::{bf16, f16};

use crate::{Numbers, Rows};

/// Class indices, one per row, `[N]`, in the integer type of the caller. They are never narrowed,
/// so an index out of range cannot alias a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClassIndices<'a> {
    /// `u8`
    U8(&'a [u8]),
    /// `u16`
    U16(&'a [u16]),
    /// `u32`
    U32(&'a [u32]),
    /// `u64`
    U64(&'a [u64]),
    /// `usize`
    Usize(&'a [usize]),
    /// `i8`
    I8(&'a [i8]),
    /// `i16`
    I16(&'a [i16]),
    /// `i32`
    I32(&'a [i32]),
    /// `i64`
    I64(&'a [i64]),
}

/// Runs one expression for whichever type the indices have.
macro_rules! with_indices {
    ($indices:expr, $slice:ident => $body:expr) => {
        match $indices {
            $crate::ClassIndices::U8($slice) => $body,
            $crate::ClassIndices::U16($slice) => $body,
            $crate::ClassIndices::U32($slice) => $body,
            $crate::ClassIndices::U64($slice) => $body,
            $crate::ClassIndices::Usize($slice) => $body,
            $crate::ClassIndices::I8($slice) => $body,
            $crate::ClassIndices::I16($slice) => $body,
            $crate::ClassIndices::I32($slice) => $body,
            $crate::ClassIndices::I64($slice) => $body,
        }
    };
}
pub(crate) use with_indices;

impl ClassIndices<'_> {
    /// Number of indices.
    pub fn len(&self) -> usize {
        with_indices!(self, indices => indices.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, row: usize) -> i64 {
        with_indices!(self, indices => indices[row].index())
    }

    /// The class of a row; `None` if its index is outside `0..classes`.
    #[inline]
    pub(crate) fn class(&self, row: usize, classes: usize) -> Option<usize> {
        with_indices!(self, indices => indices[row].class(classes))
    }

    /// Whether all are surely in `0..classes`. A quick pass that may err to the safe side: on
    /// 32-bit indices beyond i32.
    pub(crate) fn all_below(&self, classes: usize) -> bool {
        with_indices!(self, indices => Index::all_below(indices, classes))
    }

    /// As [`get`](Self::get), for the rows from `start` on.
    pub(crate) fn widen(&self, start: usize, out: &mut [i64]) {
        with_indices!(self, indices => out.iter_mut().zip(&indices[start..]).for_each(|(out, index)| *out = index.index()));
    }
}

/// An integer type of class indices.
pub(crate) trait Index: Copy {
    /// What i64 does not hold is out of range either way.
    fn index(self) -> i64;
    fn class(self, classes: usize) -> Option<usize>;
    fn all_below(indices: &[Self], classes: usize) -> bool;
}

/// `$signed` has the integer's width: a sign bit shows what is below 0 or, turned round, above the
/// last class.
macro_rules! index {
    ($integer:ty, $signed:ty) => {
        impl Index for $integer {
            #[inline]
            fn index(self) -> i64 {
                i64::try_from(self).unwrap_or(i64::MAX)
            }
            #[inline]
            fn class(self, classes: usize) -> Option<usize> {
                // What is negative is huge then.
                let class = self as u64;
                (class < classes as u64).then_some(class as usize)
            }
            fn all_below(indices: &[Self], classes: usize) -> bool {
                let last = <$signed>::try_from(classes.saturating_sub(1)).unwrap_or(<$signed>::MAX);
                indices.iter().fold(0, |signs, &index| {
                    signs | index as $signed | last.wrapping_sub(index as $signed)
                }) >= 0
            }
        }
    };
}
index!(u32, i32);
index!(u64, i64);
index!(usize, isize);
index!(i8, i8);
index!(i16, i16);
index!(i32, i32);
index!(i64, i64);

/// For the short ones without a sign, whose upper half is too likely to be used for its sign bit to
/// be a sign of anything.
macro_rules! short_index {
    ($integer:ty) => {
        impl Index for $integer {
            #[inline]
            fn index(self) -> i64 {
                i64::from(self)
            }
            #[inline]
            fn class(self, classes: usize) -> Option<usize> {
                Some(usize::from(self)).filter(|&class| class < classes)
            }
            fn all_below(indices: &[Self], classes: usize) -> bool {
                indices
                    .iter()
                    .fold(0, |largest, &index| largest.max(index))
                    .class(classes)
                    .is_some()
            }
        }
    };
}
short_index!(u8);
short_index!(u16);

/// Target probabilities `[N, K]`. Their dtype, strides and class axis may differ from those of the
/// logits.
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
#[derive(Debug, Clone, PartialEq)]
pub enum Lambda<'a> {
    /// One for all rows.
    Scalar(f64),
    /// One per row, `[N]`.
    Rows(Numbers<'a>),
}

/// The targets of a batch.
///
/// Slices of class indices and views of probabilities convert into it, so most calls need not name
/// it.
///
/// ```
/// use xent::{Config, Rows};
/// let criterion = Config::new().build()?;
/// let logits = [1.0f32, 0.0];
/// let (logits, shares) = (Rows::new(&logits, 2)?, [0.25f32, 0.75]);
/// let label = criterion.forward(&logits, &[1u16])?; // ln(1 + e)
/// let distribution = criterion.forward(&logits, &Rows::new(&shares, 2)?)?; // ln(1 + e) − 0.25
/// assert_eq!(format!("{:.4} {:.4}", label.loss, distribution.loss), "1.3133 1.0633");
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Targets<'a> {
    /// One class per row.
    Classes(ClassIndices<'a>),
    /// One distribution per row, finite and ≥ 0. The sum need not be 1; probabilities are not
    /// normalised. A criterion with an ignore index does not take them; mark padding with
    /// [`Batch::ignored_rows`](crate::Batch::ignored_rows).
    Probabilities(Probabilities<'a>),
    /// Two labels per row, as mixup and cutmix make them: λ on `a`, 1−λ on `b`.
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
    /// How many rows they are of.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Classes(indices) | Self::Mix { a: indices, .. } => indices.len(),
            Self::Probabilities(probabilities) => {
                with_probabilities!(probabilities, rows => rows.rows())
            }
        }
    }

    /// Two labels per row with the share of the first, as mixup and cutmix make them.
    ///
    /// ```
    /// use xent::{Config, Rows, Targets};
    /// let criterion = Config::new().build()?;
    /// let logits = Rows::new(&[1.0_f64, 0.0, 0.0], 3)?;
    /// let mixed = criterion.forward(&logits, Targets::mix(&[0usize], &[2usize], 0.75))?;
    /// assert_eq!(format!("{:.10}", mixed.loss), "0.8014447139"); // ln(e + 2) − 0.75·1 − 0.25·0
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn mix(
        a: impl Into<ClassIndices<'a>>,
        b: impl Into<ClassIndices<'a>>,
        lambda: impl Into<Lambda<'a>>,
    ) -> Self {
        Self::Mix { a: a.into(), b: b.into(), lambda: lambda.into() }
    }
}

impl From<f64> for Lambda<'_> {
    fn from(lambda: f64) -> Self {
        Self::Scalar(lambda)
    }
}

impl<'a, T: Into<Numbers<'a>>> From<T> for Lambda<'a> {
    fn from(lambda: T) -> Self {
        Self::Rows(lambda.into())
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
from_indices!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, usize => Usize, i8 => I8, i16 => I16, i32 => I32, i64 => I64);

macro_rules! from_probabilities {
    ($($float:ty => $variant:ident),*) => {$(
        impl<'a> From<Rows<'a, $float>> for Probabilities<'a> {
            fn from(rows: Rows<'a, $float>) -> Self {
                Self::$variant(rows)
            }
        }
        impl<'a> From<Rows<'a, $float>> for Targets<'a> {
            fn from(rows: Rows<'a, $float>) -> Self {
                Self::Probabilities(rows.into())
            }
        }
        impl<'a> From<&Rows<'a, $float>> for Targets<'a> {
            fn from(rows: &Rows<'a, $float>) -> Self {
                Self::Probabilities(rows.clone().into())
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
