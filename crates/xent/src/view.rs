//! Rows of logits in a buffer of any shape, strides and class axis. A view is validated once, when
//! it is made.

use crate::{Result, ViewError};

/// A read-only view of N rows of K classes.
///
/// The class axis may be any axis of the shape. The rows are numbered in C order of the remaining
/// axes. `[N, K]`, `[B, T, K]` with class axis 2 (or −1) and `[N, K, H, W]` with class axis 1 are
/// all such views, and none is copied.
///
/// ```
/// use xent::Rows;
/// let buffer: Vec<f32> = (0..24).map(|x| x as f32).collect();
/// assert_eq!(Rows::new(&buffer, 3)?.rows(), 8); // 24 / 3
/// let rows = Rows::with_axis(&buffer, &[2, 3, 4], 1)?; // 2·4 rows of 3 classes
/// assert_eq!((rows.rows(), rows.classes()), (8, 3));
/// assert_eq!(rows.get(5, 2), Some(21.0)); // row 5 is [1, :, 1]
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Rows<'a, T> {
    data: &'a [T],
    layout: Layout,
}

/// A view of N rows of K classes for writing: [`Rows`] in which no two positions are the same
/// element.
#[derive(Debug)]
pub struct RowsMut<'a, T> {
    data: &'a mut [T],
    layout: Layout,
}

/// Where row n, class k lies: `offset + outer(n) + k·class_stride`, never outside the buffer it was
/// checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) rows: usize,
    pub(crate) classes: usize,
    pub(crate) class_stride: isize,
    offset: isize,
    /// Length and stride of the other axes, outermost first, neighbours merged where they are
    /// contiguous.
    outer: Vec<(usize, isize)>,
}

/// Equally spaced rows: the start of the first, their number, and the distance.
pub(crate) struct Run {
    pub(crate) start: isize,
    pub(crate) len: usize,
    pub(crate) stride: isize,
}

impl Layout {
    fn new(
        len: usize,
        shape: &[usize],
        strides: &[isize],
        offset: usize,
        axis: isize,
    ) -> Result<Self, ViewError> {
        let axis = axis_of(axis, shape.len())?;
        if strides.len() != shape.len() {
            return Err(ViewError::Strides { strides: strides.len(), rank: shape.len() });
        }
        if shape[axis] == 0 {
            return Err(ViewError::NoClasses);
        }
        let too_large = |reaches| ViewError::OutOfBounds { shape: shape.to_vec(), reaches, len };
        if shape.contains(&0) {
            return Ok(Self {
                rows: 0,
                classes: shape[axis],
                class_stride: strides[axis],
                offset: 0,
                outer: Vec::new(),
            });
        }
        let (mut lowest, mut highest) = (offset as i128, offset as i128);
        for (&length, &stride) in shape.iter().zip(strides) {
            let reach = (length as i128 - 1).saturating_mul(stride as i128);
            if reach < 0 {
                lowest = lowest.saturating_add(reach);
            } else {
                highest = highest.saturating_add(reach);
            }
        }
        if lowest < 0 || highest >= len as i128 {
            return Err(too_large(if lowest < 0 { lowest } else { highest }));
        }
        let mut outer: Vec<(usize, isize)> = Vec::with_capacity(shape.len() - 1);
        let mut rows = 1usize;
        for (i, (&length, &stride)) in shape.iter().zip(strides).enumerate() {
            if i == axis || length == 1 {
                continue;
            }
            rows = rows.checked_mul(length).ok_or_else(|| too_large(i128::MAX))?;
            match outer.last_mut() {
                Some((outer_length, outer_stride))
                    if stride.checked_mul(length as isize) == Some(*outer_stride) =>
                {
                    *outer_length *= length;
                    *outer_stride = stride;
                }
                _ => outer.push((length, stride)),
            }
        }
        Ok(Self {
            rows,
            classes: shape[axis],
            class_stride: strides[axis],
            offset: offset as isize,
            outer,
        })
    }

    fn contiguous(len: usize, shape: &[usize], axis: isize) -> Result<Self, ViewError> {
        let expected = shape
            .iter()
            .try_fold(1u128, |product, &length| product.checked_mul(length as u128))
            .unwrap_or(u128::MAX);
        if expected != len as u128 {
            return Err(ViewError::Length { shape: shape.to_vec(), expected, len });
        }
        Self::new(len, shape, &c_strides(shape), 0, axis)
    }

    /// The longest run of equally spaced rows that starts at `row`.
    pub(crate) fn run(&self, row: usize) -> Run {
        let (len, stride) =
            self.outer.last().map_or((1, 0), |&(length, stride)| (length - row % length, stride));
        Run { start: self.row_start(row), len, stride }
    }

    /// The element of row `row`, class 0. `row` is less than `rows`.
    pub(crate) fn row_start(&self, row: usize) -> isize {
        let (mut rest, mut start) = (row, self.offset);
        for &(length, stride) in self.outer.iter().rev() {
            start += (rest % length) as isize * stride;
            rest /= length;
        }
        start
    }
}

/// The axis of a shape with `rank` axes, counted from the end if `axis` is negative.
pub(crate) fn axis_of(axis: isize, rank: usize) -> Result<usize, ViewError> {
    let from_start = if axis < 0 { axis.checked_add_unsigned(rank) } else { Some(axis) };
    from_start
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|&axis| axis < rank)
        .ok_or(ViewError::Axis { axis, rank })
}

/// The number of rows of `classes` classes in `len` elements.
fn rows_in(len: usize, classes: usize) -> Result<usize, ViewError> {
    match classes {
        0 => Err(ViewError::NoClasses),
        _ if len.is_multiple_of(classes) => Ok(len / classes),
        _ => Err(ViewError::Ragged { len, classes }),
    }
}

fn c_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i].max(1) as isize);
    }
    strides
}

/// Sufficient for no two positions to coincide, and necessary for all layouts that slicing,
/// transposing and reversing make: each stride steps over everything that the smaller ones reach.
fn never_overlaps(shape: &[usize], strides: &[isize]) -> bool {
    let mut axes: Vec<(u128, u128)> = shape
        .iter()
        .zip(strides)
        .filter(|(length, _)| **length > 1)
        .map(|(&length, &stride)| (stride.unsigned_abs() as u128, length as u128))
        .collect();
    axes.sort_unstable();
    let mut reach = 0u128;
    shape.contains(&0)
        || axes.into_iter().all(|(stride, length)| {
            let clear = stride > reach;
            reach += stride * (length - 1);
            clear
        })
}

macro_rules! constructors {
    ($view:ident, $slice:ty, $check:expr) => {
        impl<'a, T> $view<'a, T> {
            /// A contiguous `[N, K]` buffer: rows of `classes` classes. N follows from the length
            /// of the buffer.
            ///
            /// # Errors
            /// [`Error::View`](crate::Error::View) if there are no classes, or the buffer's length
            /// is not a multiple of their number.
            pub fn new(data: $slice, classes: usize) -> Result<Self> {
                let rows = rows_in(data.len(), classes)?;
                Self::with_axis(data, &[rows, classes], 1)
            }

            /// A contiguous buffer in C order of `shape`, with the classes on `class_axis`. A
            /// negative axis counts from the end.
            ///
            /// # Errors
            /// [`Error::View`](crate::Error::View) if the buffer's length is not the product of the
            /// shape, or the axis does not exist or has length 0.
            pub fn with_axis(data: $slice, shape: &[usize], class_axis: isize) -> Result<Self> {
                Ok(Self { layout: Layout::contiguous(data.len(), shape, class_axis)?, data })
            }

            /// Any view of a buffer: position `(i, j, …)` is element `offset + i·strides[0] +
            /// j·strides[1] + …`. Strides count elements and may be negative. A negative
            /// `class_axis` counts from the end.
            ///
            /// # Errors
            /// [`Error::View`](crate::Error::View) if the view reaches outside the buffer, the axis
            /// does not exist or has length 0, the number of strides differs from the number of
            /// axes, or (for writing) positions overlap.
            pub fn strided(
                data: $slice,
                shape: &[usize],
                strides: &[isize],
                offset: usize,
                class_axis: isize,
            ) -> Result<Self> {
                let layout = Layout::new(data.len(), shape, strides, offset, class_axis)?;
                let check: fn(&[usize], &[isize]) -> Result<(), ViewError> = $check;
                check(shape, strides)?;
                Ok(Self { data, layout })
            }

            /// Number of rows N.
            pub fn rows(&self) -> usize {
                self.layout.rows
            }

            /// Number of classes K, at least 1.
            pub fn classes(&self) -> usize {
                self.layout.classes
            }

            pub(crate) fn layout(&self) -> &Layout {
                &self.layout
            }
        }
    };
}

constructors!(Rows, &'a [T], |_, _| Ok(()));
constructors!(RowsMut, &'a mut [T], |shape, strides| {
    if never_overlaps(shape, strides) {
        Ok(())
    } else {
        Err(ViewError::Overlap { shape: shape.to_vec(), strides: strides.to_vec() })
    }
});

impl<'a, T: Copy> Rows<'a, T> {
    /// The logit of a row and class, if both exist.
    pub fn get(&self, row: usize, class: usize) -> Option<T> {
        if row >= self.layout.rows || class >= self.layout.classes {
            return None;
        }
        let index = self.layout.row_start(row) + class as isize * self.layout.class_stride;
        Some(self.data[index as usize])
    }

    pub(crate) fn data(&self) -> &'a [T] {
        self.data
    }
}

impl<T> RowsMut<'_, T> {
    pub(crate) fn data_mut(&mut self) -> &mut [T] {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn rows_are_numbered_in_c_order_of_the_other_axes() {
        let buffer: Vec<f64> = (0..120).map(f64::from).collect();
        let shape = [2, 3, 4, 5];
        for axis in 0..4usize {
            let rows = Rows::with_axis(&buffer, &shape, axis as isize).unwrap();
            assert_eq!(
                rows.layout(),
                Rows::with_axis(&buffer, &shape, axis as isize - 4).unwrap().layout()
            );
            let mut others: Vec<usize> = (0..4).collect();
            others.remove(axis);
            let mut row = 0;
            for a in 0..shape[others[0]] {
                for b in 0..shape[others[1]] {
                    for c in 0..shape[others[2]] {
                        for k in 0..shape[axis] {
                            let mut index = [0; 4];
                            (index[others[0]], index[others[1]], index[others[2]], index[axis]) =
                                (a, b, c, k);
                            let flat = index
                                .iter()
                                .zip(shape)
                                .fold(0, |flat, (i, length)| flat * length + i);
                            assert_eq!(
                                rows.get(row, k),
                                Some(buffer[flat]),
                                "axis {axis} row {row} class {k}"
                            );
                        }
                        row += 1;
                    }
                }
            }
            assert_eq!(row, rows.rows());
        }
    }

    #[test]
    fn views_outside_their_buffer_are_refused() {
        let buffer = [0f32; 12];
        assert!(Rows::strided(&buffer, &[3, 4], &[4, 1], 0, 1).is_ok());
        assert!(Rows::strided(&buffer, &[3, 4], &[-4, 1], 8, 1).is_ok());
        assert!(matches!(
            Rows::strided(&buffer, &[3, 4], &[4, 1], 1, 1),
            Err(Error::View(ViewError::OutOfBounds { reaches: 12, .. }))
        ));
        assert!(matches!(
            Rows::strided(&buffer, &[3, 4], &[-4, 1], 7, 1),
            Err(Error::View(ViewError::OutOfBounds { reaches: -1, .. }))
        ));
        assert!(matches!(
            Rows::strided(&buffer, &[usize::MAX, 4], &[isize::MAX, 1], 0, 1),
            Err(Error::View(ViewError::OutOfBounds { .. }))
        ));
        assert!(matches!(
            Rows::strided(&buffer, &[usize::MAX, 4, usize::MAX], &[0, 1, 0], 0, 1),
            Err(Error::View(ViewError::OutOfBounds { .. }))
        ));
        assert!(matches!(
            Rows::new(&buffer, 5),
            Err(Error::View(ViewError::Ragged { len: 12, classes: 5 }))
        ));
        assert!(matches!(
            Rows::with_axis(&buffer, &[3, 5], 1),
            Err(Error::View(ViewError::Length { expected: 15, .. }))
        ));
        assert!(matches!(
            Rows::with_axis(&buffer, &[usize::MAX, usize::MAX], 1),
            Err(Error::View(ViewError::Length { .. }))
        ));
        assert!(matches!(
            Rows::with_axis(&buffer, &[3, 4], 2),
            Err(Error::View(ViewError::Axis { axis: 2, rank: 2 }))
        ));
        assert!(matches!(
            Rows::with_axis(&buffer[..0], &[3, 0], 1),
            Err(Error::View(ViewError::NoClasses))
        ));
        assert!(matches!(
            Rows::strided(&buffer, &[3, 4], &[1], 0, 1),
            Err(Error::View(ViewError::Strides { strides: 1, rank: 2 }))
        ));
        assert_eq!(Rows::with_axis(&buffer[..0], &[0, 4], 1).unwrap().rows(), 0);
        assert_eq!(Rows::with_axis(&buffer[..0], &[0, 1 << 40, 1 << 40, 4], 3).unwrap().rows(), 0);
    }

    #[test]
    fn rows_follow_from_the_classes() {
        let mut buffer = [0f32; 12];
        for (classes, rows) in [(1, 12), (4, 3), (12, 1)] {
            let layout = Rows::new(&buffer, classes).unwrap().layout().clone();
            assert_eq!(&layout, RowsMut::new(&mut buffer, classes).unwrap().layout());
            assert_eq!((layout.rows, layout.classes), (rows, classes));
        }
        assert_eq!(Rows::new(&buffer[..0], usize::MAX).unwrap().rows(), 0);
        assert_eq!(
            Rows::new(&buffer, 24).unwrap_err().to_string(),
            "12 elements do not split into rows of 24 classes, expected a multiple of 24"
        );
        assert!(matches!(
            RowsMut::new(&mut buffer, 5),
            Err(Error::View(ViewError::Ragged { len: 12, classes: 5 }))
        ));
        assert!(matches!(Rows::new(&buffer, 0), Err(Error::View(ViewError::NoClasses))));
    }

    #[test]
    fn axes_count_from_either_end() {
        for (axis, rank, expected) in [(0, 1, 0), (2, 3, 2), (-1, 3, 2), (-3, 3, 0)] {
            assert_eq!(axis_of(axis, rank), Ok(expected));
        }
        for (axis, rank) in [(0, 0), (-1, 0), (3, 3), (-4, 3), (isize::MAX, 3), (isize::MIN, 3)] {
            assert_eq!(axis_of(axis, rank), Err(ViewError::Axis { axis, rank }));
        }
        let message = |axis, rank| axis_of(axis, rank).unwrap_err().to_string();
        assert_eq!(message(-4, 3), "class axis -4 of a shape with 3 axes, expected -3 to 2");
        assert_eq!(message(0, 0), "class axis 0 of a shape with 0 axes, expected at least 1 axis");
    }

    #[test]
    fn views_for_writing_never_overlap() {
        let mut buffer = [0f32; 12];
        assert!(RowsMut::strided(&mut buffer, &[3, 4], &[1, 3], 0, 1).is_ok());
        assert!(RowsMut::strided(&mut buffer, &[3, 4], &[-1, 3], 2, 1).is_ok());
        assert!(RowsMut::strided(&mut buffer, &[3, 1], &[4, 0], 0, 1).is_ok());
        assert!(matches!(
            RowsMut::strided(&mut buffer, &[3, 4], &[0, 1], 0, 1),
            Err(Error::View(ViewError::Overlap { .. }))
        ));
        assert!(matches!(
            RowsMut::strided(&mut buffer, &[3, 4], &[2, 1], 0, 1),
            Err(Error::View(ViewError::Overlap { .. }))
        ));
    }
}
