//! For bindings to other frameworks: the shape of logits, and an owned batch.
//!
//! **Exempt from the stability promise**: it changes with the bindings of this repository, in any
//! version.
//!
//! A binding reads the arrays or tensors that accompany the logits into a [`HostBatch`], validates
//! their shapes with a [`LogitsShape`], and [lends](HostBatch::lend) the batch to a
//! [`Criterion`](crate::Criterion), which validates the values. [`on_this_thread`] computes a small
//! batch where it is, [`helped_by`] a large one with the threads of a pool, and [`stopped_by`] one that
//! somebody may interrupt. [`Pieces`] computes a batch whose logits do not all exist at the same time.
//!
//! ```
//! use xent::host::{HostBatch, HostTargets, LogitsShape};
//! use xent::{Config, Rows};
//!
//! let logits = [0.0f32; 24];
//! let shape = LogitsShape::new([2, 3, 4], 1)?; // classes on axis 1
//! assert_eq!((shape.rows(), shape.classes(), shape.row_dims()), (8, 3, vec![2, 4]));
//!
//! shape.expect_rows("the tensor of targets", &[2, 4])?;
//! let mut batch = HostBatch::new(HostTargets::Classes(vec![2i64; 8].into()));
//! batch.row_weights = Some(vec![1.0; 8].into());
//! let logits = Rows::with_axis(&logits, shape.dims(), 1)?;
//! let output = Config::new().build()?.forward(&logits, batch.lend(None))?;
//! assert_eq!(format!("{:.4}", output.loss), "1.0986"); // ln 3
//!
//! let error = shape.expect_rows("the tensor of targets", &[4, 2]).unwrap_err().to_string();
//! assert!(error.starts_with("the tensor of targets has shape [4, 2], expected [2, 4], one entry"));
//! # Ok::<(), xent::Error>(())
//! ```

use std::borrow::Cow;

pub use crate::pieces::{Pieces, PiecesOutput};
#[cfg(feature = "rayon")]
pub use crate::threads::helped_by;
pub use crate::threads::{on_this_thread, rayon_threads, stopped_by};
use crate::view::axis_of;
use crate::{
    AllowedClasses, Batch, ClassIndices, Error, Lambda, Numbers, Result, Targets, ViewError,
};

/// The shape of logits of N rows and K ≥ 1 classes, with the classes on any axis. Rows are numbered
/// in C order of the other axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogitsShape {
    dims: Vec<usize>,
    axis: usize,
}

impl LogitsShape {
    /// A shape whose classes are on `axis`. A negative axis counts from the end.
    ///
    /// # Errors
    /// [`Error::View`] if the axis does not exist or has length 0, or there are more positions than
    /// can be counted.
    pub fn new(dims: impl Into<Vec<usize>>, axis: isize) -> Result<Self> {
        let dims = dims.into();
        let axis = axis_of(axis, dims.len())?;
        if dims[axis] == 0 {
            return Err(ViewError::NoClasses.into());
        }
        // A broadcast view may have any number of positions.
        if dims.iter().try_fold(1usize, |product, &length| product.checked_mul(length)).is_none() {
            return Err(ViewError::TooLarge { shape: dims }.into());
        }
        Ok(Self { dims, axis })
    }

    /// The length of each axis.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The class axis, from the start.
    pub fn axis(&self) -> usize {
        self.axis
    }

    /// N.
    pub fn rows(&self) -> usize {
        self.dims
            .iter()
            .enumerate()
            .filter(|(axis, _)| *axis != self.axis)
            .map(|(_, length)| length)
            .product()
    }

    /// K.
    pub fn classes(&self) -> usize {
        self.dims[self.axis]
    }

    /// The shape of per-row values: that of the logits without the class axis.
    pub fn row_dims(&self) -> Vec<usize> {
        let mut dims = self.dims.clone();
        dims.remove(self.axis);
        dims
    }

    /// The axes in the order that puts the classes last: a permutation that makes `[…, K]`, hence
    /// `[N, K]`, of the logits.
    pub fn class_axis_last(&self) -> Vec<usize> {
        (0..self.dims.len()).filter(|&axis| axis != self.axis).chain([self.axis]).collect()
    }

    /// Checks that `found` is the shape of one entry per row.
    ///
    /// # Errors
    /// [`Error::Shape`] with what came and what was expected.
    pub fn expect_rows(&self, name: &'static str, found: &[usize]) -> Result<()> {
        let expected = self.row_dims();
        self.expect(found == expected, name, found, || format!("{expected:?}, one entry per row,"))
    }

    /// Checks that `found` is the shape of the logits: one entry per row and class.
    ///
    /// # Errors
    /// [`Error::Shape`] with what came and what was expected.
    pub fn expect_logits(&self, name: &'static str, found: &[usize]) -> Result<()> {
        self.expect(found == self.dims, name, found, || {
            format!("{:?}, one entry per row and class,", self.dims)
        })
    }

    /// Checks that `found` is the shape of one entry per class.
    ///
    /// # Errors
    /// [`Error::Shape`] with what came and what was expected.
    pub fn expect_classes(&self, name: &'static str, found: &[usize]) -> Result<()> {
        self.expect(found == [self.classes()], name, found, || {
            format!("[{}], one entry per class,", self.classes())
        })
    }

    /// Checks that `found` is the shape of one entry per class (`true`: shared by all rows) or of
    /// one per row and class (`false`).
    ///
    /// # Errors
    /// [`Error::Shape`] with what came and what was expected.
    pub fn expect_classes_or_logits(&self, name: &'static str, found: &[usize]) -> Result<bool> {
        let shared = found == [self.classes()];
        let expected = || {
            format!(
                "[{}], one entry per class, or {:?}, one per row and class,",
                self.classes(),
                self.dims
            )
        };
        self.expect(shared || found == self.dims, name, found, expected)?;
        Ok(shared)
    }

    fn expect(
        &self,
        good: bool,
        name: &'static str,
        found: &[usize],
        expected: impl FnOnce() -> String,
    ) -> Result<()> {
        if good {
            return Ok(());
        }
        Err(Error::Shape {
            name,
            found: found.to_vec(),
            expected: expected(),
            logits: self.dims.clone(),
            axis: self.axis,
        })
    }
}

/// What a batch carries in addition to its logits, owned or borrowed from the arrays of the
/// binding: O(N), except for a mask per row and class.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch<'a> {
    /// The targets.
    pub targets: HostTargets<'a>,
    /// ε, `[N]`.
    pub label_smoothing: Option<Numbers<'a>>,
    /// Row weights, `[N]`.
    pub row_weights: Option<Numbers<'a>>,
    /// `[N]`, `true` where a row is ignored.
    pub ignored_rows: Option<Vec<bool>>,
    /// The classes that are allowed.
    pub allowed_classes: Option<HostAllowed>,
    /// The denominator of a mean.
    pub denominator: Option<f64>,
}

/// The targets of a [`HostBatch`].
#[derive(Debug, Clone, PartialEq)]
pub enum HostTargets<'a> {
    /// One class per row.
    Classes(HostIndices<'a>),
    /// Two labels per row.
    Mix {
        /// The first labels.
        a: HostIndices<'a>,
        /// The second labels.
        b: HostIndices<'a>,
        /// The share of the first.
        lambda: Lambda<'a>,
    },
    /// Probabilities, as many as the logits. They are not held here, but lent with each call.
    Probabilities,
}

/// A mask of allowed classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAllowed {
    /// `[K]` if it is shared by all rows, otherwise `[N, K]`; `true` where allowed.
    pub entries: Vec<bool>,
    /// Whether it is shared by all rows, as [`LogitsShape::expect_classes_or_logits`] says.
    pub shared: bool,
}

impl<'a> HostBatch<'a> {
    /// Targets alone.
    pub fn new(targets: HostTargets<'a>) -> Self {
        Self {
            targets,
            label_smoothing: None,
            row_weights: None,
            ignored_rows: None,
            allowed_classes: None,
            denominator: None,
        }
    }

    /// Borrows the batch in the form that a [`Criterion`](crate::Criterion) takes. `probabilities`
    /// are its targets if these are [`HostTargets::Probabilities`]. Without them such a batch has
    /// no targets, which is an error of the criterion.
    pub fn lend<'b>(&'b self, probabilities: Option<Targets<'b>>) -> Batch<'b> {
        let targets = match (&self.targets, probabilities) {
            (HostTargets::Probabilities, Some(probabilities)) => probabilities,
            (HostTargets::Probabilities, None) => Targets::from(&[0u8; 0]),
            (HostTargets::Classes(indices), _) => indices.lend().into(),
            (HostTargets::Mix { a, b, lambda }, _) => {
                let lambda = match lambda {
                    Lambda::Scalar(lambda) => Lambda::Scalar(*lambda),
                    Lambda::Rows(lambda) => Lambda::Rows(lambda.borrow()),
                };
                Targets::mix(a.lend(), b.lend(), lambda)
            }
        };
        let mut batch = Batch::new(targets);
        batch.epsilon = self.label_smoothing.as_ref().map(Numbers::borrow);
        batch.row_weights = self.row_weights.as_ref().map(Numbers::borrow);
        batch.ignored = self.ignored_rows.as_deref();
        batch.allowed =
            self.allowed_classes.as_ref().map(|HostAllowed { entries, shared }| match shared {
                true => AllowedClasses::Shared(entries),
                false => AllowedClasses::PerRow(entries),
            });
        batch.denominator = self.denominator;
        batch
    }
}

/// Makes [`HostIndices`] and the ways in and out of it.
macro_rules! host_indices {
    ($($integer:ident => $variant:ident),*) => {
        /// Class indices, one per row, owned or borrowed, in the integer type of the caller.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum HostIndices<'a> {
            $(#[doc = concat!("`", stringify!($integer), "`")] $variant(Cow<'a, [$integer]>),)*
        }

        impl HostIndices<'_> {
            /// The indices as targets take them.
            pub fn lend(&self) -> ClassIndices<'_> {
                match self {
                    $(Self::$variant(indices) => ClassIndices::$variant(indices),)*
                }
            }
        }

        $(
            impl From<Vec<$integer>> for HostIndices<'_> {
                fn from(indices: Vec<$integer>) -> Self {
                    Self::$variant(Cow::Owned(indices))
                }
            }
            impl<'a> From<&'a [$integer]> for HostIndices<'a> {
                fn from(indices: &'a [$integer]) -> Self {
                    Self::$variant(Cow::Borrowed(indices))
                }
            }
            impl<'a> From<Cow<'a, [$integer]>> for HostIndices<'a> {
                fn from(indices: Cow<'a, [$integer]>) -> Self {
                    Self::$variant(indices)
                }
            }
        )*
    };
}
host_indices!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, usize => Usize, i8 => I8, i16 => I16, i32 => I32, i64 => I64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Criterion, InputError, Reduction, Rows};

    #[test]
    fn a_shape_counts_and_permutes() {
        let shape = LogitsShape::new(vec![2, 3, 4, 5], 1).unwrap();
        assert_eq!(shape, LogitsShape::new([2, 3, 4, 5], -3).unwrap());
        assert_eq!(
            (shape.dims(), shape.axis(), shape.rows(), shape.classes()),
            (&[2, 3, 4, 5][..], 1, 40, 3)
        );
        assert_eq!((shape.row_dims(), shape.class_axis_last()), (vec![2, 4, 5], vec![0, 2, 3, 1]));
        let flat = LogitsShape::new([7], -1).unwrap();
        assert_eq!(
            (flat.rows(), flat.classes(), flat.row_dims(), flat.class_axis_last()),
            (1, 7, vec![], vec![0])
        );
        assert_eq!(LogitsShape::new([0, 3], 1).unwrap().rows(), 0);
    }

    #[test]
    fn shapes_without_classes_are_refused() {
        let refusal = |dims: &[usize], axis| match LogitsShape::new(dims, axis).unwrap_err() {
            Error::View(error) => error,
            other => panic!("{other}"),
        };
        assert_eq!(refusal(&[2, 3], 2), ViewError::Axis { axis: 2, rank: 2 });
        assert_eq!(refusal(&[2, 3], -3), ViewError::Axis { axis: -3, rank: 2 });
        assert_eq!(refusal(&[], 0), ViewError::Axis { axis: 0, rank: 0 });
        assert_eq!(refusal(&[2, 0], -1), ViewError::NoClasses);
        assert_eq!(
            refusal(&[usize::MAX, 3], 1),
            ViewError::TooLarge { shape: vec![usize::MAX, 3] }
        );
    }

    #[test]
    fn shapes_that_do_not_go_with_the_logits_are_named() {
        let shape = LogitsShape::new([2, 3, 4], 1).unwrap();
        shape.expect_rows("x", &[2, 4]).unwrap();
        shape.expect_logits("x", &[2, 3, 4]).unwrap();
        shape.expect_classes("x", &[3]).unwrap();
        assert!(shape.expect_classes_or_logits("x", &[3]).unwrap());
        assert!(!shape.expect_classes_or_logits("x", &[2, 3, 4]).unwrap());
        let end = "for logits of shape [2, 3, 4] with the classes on axis 1";
        for (result, expected) in [
            (shape.expect_rows("x", &[8]), "x has shape [8], expected [2, 4], one entry per row,"),
            (
                shape.expect_logits("x", &[2, 4, 3]),
                "x has shape [2, 4, 3], expected [2, 3, 4], one entry per row and class,",
            ),
            (
                shape.expect_classes("x", &[4]),
                "x has shape [4], expected [3], one entry per class,",
            ),
            (
                shape.expect_classes_or_logits("x", &[]).map(drop),
                "x has shape [], expected [3], one entry per class, or [2, 3, 4], one per row and class,",
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), format!("{expected} {end}"));
        }
    }

    fn criterion() -> Criterion {
        Config::new().label_smoothing(0.1).ignore_index(-100).build().unwrap()
    }

    const LOGITS: [f64; 6] = [2.0, -1.0, 0.5, 0.0, 1.0, -2.0];

    fn loss(batch: Batch<'_>) -> Result<crate::Output<f64>> {
        criterion().forward(&Rows::new(&LOGITS, 3).unwrap(), batch)
    }

    #[test]
    fn what_is_lent_is_what_was_given() {
        let (epsilon, weights, ignored, allowed) =
            ([0.2, 0.3], [1.0f32, 0.5], [false, true], [true, true, false, true, false, true]);
        let (a, b) = ([0i64, 2], [1u8, 1]);
        let plain = loss(Batch::new(&a)).unwrap();
        assert_eq!(
            loss(HostBatch::new(HostTargets::Classes(a[..].into())).lend(None)).unwrap(),
            plain
        );
        let shared = HostAllowed { entries: vec![true, true, false], shared: true };
        let full = HostBatch {
            targets: HostTargets::Mix {
                a: a.to_vec().into(),
                b: b[..].into(),
                lambda: (&[0.25, 0.75]).into(),
            },
            label_smoothing: Some((&epsilon).into()),
            row_weights: Some((&weights).into()),
            ignored_rows: Some(ignored.to_vec()),
            allowed_classes: Some(HostAllowed { entries: allowed.to_vec(), shared: false }),
            denominator: Some(7.0),
        };
        let direct = |allowed| {
            let mix = Targets::mix(&a, &b, &[0.25, 0.75]);
            let batch = Batch::new(mix)
                .label_smoothing_rows(&epsilon)
                .row_weights(&weights)
                .ignored_rows(&ignored)
                .denominator(7.0);
            loss(batch.allowed_classes(allowed)).unwrap()
        };
        assert_eq!(loss(full.lend(None)).unwrap(), direct(AllowedClasses::PerRow(&allowed)));
        let full = HostBatch { allowed_classes: Some(shared.clone()), ..full };
        assert_eq!(loss(full.lend(None)).unwrap(), direct(AllowedClasses::Shared(&shared.entries)));
    }

    #[test]
    fn probabilities_are_lent_with_the_call() {
        let shares = [0.25, 0.5, 0.25, 1.0, 0.0, 0.0];
        let shares = Rows::new(&shares, 3).unwrap();
        let criterion = Config::new().reduction(Reduction::None).build().unwrap();
        let logits = Rows::new(&LOGITS, 3).unwrap();
        let batch = HostBatch::new(HostTargets::Probabilities);
        assert_eq!(
            criterion.forward(&logits, batch.lend(Some((&shares).into()))).unwrap(),
            criterion.forward(&logits, &shares).unwrap()
        );
        // Not lent, they are missed.
        let missing = criterion.forward(&logits, batch.lend(None)).unwrap_err();
        assert!(
            matches!(
                missing,
                Error::Input(InputError::Length { name: "targets", len: 0, expected: 2, .. })
            ),
            "{missing}"
        );
    }
}
