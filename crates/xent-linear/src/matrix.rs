//! Views of matrices with any strides. A view is validated once, when it is made.

use std::ops::Range;

use xent::{Rows, RowsMut};

use crate::error::{Error, Result};

/// A read-only view of a matrix.
///
/// ```
/// use xent_linear::Matrix;
/// let buffer = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let matrix = Matrix::new(&buffer, 3)?; // [[1, 2, 3], [4, 5, 6]]
/// assert_eq!((matrix.rows(), matrix.columns(), matrix.get(1, 0)), (2, 3, Some(4.0)));
/// assert_eq!(matrix.transposed().get(0, 1), Some(4.0)); // nothing is copied
/// let first_two_columns = Matrix::strided(&buffer, [2, 2], [3, 1], 0)?;
/// assert_eq!(first_two_columns.get(1, 1), Some(5.0));
/// # Ok::<(), xent_linear::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) layout: Layout,
}

/// A view of a matrix for writing: [`Matrix`] in which no two positions are the same element.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    pub(crate) data: &'a mut [T],
    pub(crate) layout: Layout,
}

/// Where an element lies: at `offset + row·row_stride + column·column_stride`, inside the buffer it
/// was checked against for every row and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: isize,
    pub(crate) column_stride: isize,
    pub(crate) offset: usize,
}

impl Layout {
    fn contiguous(len: usize, columns: usize) -> Result<Self> {
        if columns == 0 || !len.is_multiple_of(columns) {
            let expected = match columns {
                0 => "at least 1 column".to_owned(),
                _ => format!("rows of {columns}, so a multiple of that"),
            };
            return Err(Error::Length { name: "a matrix", len, expected });
        }
        let (rows, row_stride) = (len / columns, columns as isize);
        Ok(Self { rows, columns, row_stride, column_stride: 1, offset: 0 })
    }

    fn strided(
        shape: [usize; 2],
        strides: [isize; 2],
        offset: usize,
        check: impl FnOnce() -> xent::Result<()>,
    ) -> Result<Self> {
        let ([rows, columns], [row_stride, column_stride]) = (shape, strides);
        if columns == 0 {
            let expected = "at least 1 column".to_owned();
            return Err(Error::Shape { name: "a matrix", found: shape, expected });
        }
        check()?;
        // An offset outside of the buffer does no harm where there are no elements.
        let offset = if rows == 0 { 0 } else { offset };
        Ok(Self { rows, columns, row_stride, column_stride, offset })
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Whether columns are farther apart than rows.
    pub(crate) fn is_by_column(self) -> bool {
        self.column_stride.unsigned_abs() > self.row_stride.unsigned_abs()
    }

    /// Some of the rows, of which there is at least one.
    pub(crate) fn of_rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start < rows.end && rows.end <= self.rows, "internal error: {rows:?}");
        Self { rows: rows.len(), offset: self.index(rows.start, 0), ..self }
    }

    /// `row` and `column` exist.
    pub(crate) fn index(self, row: usize, column: usize) -> usize {
        let [row, column] = [row as isize, column as isize];
        (self.offset as isize + row * self.row_stride + column * self.column_stride) as usize
    }

    /// The elements of a row, if its columns are neighbours.
    pub(crate) fn row(self, row: usize) -> Option<Range<usize>> {
        let start = self.index(row, 0);
        (self.column_stride == 1 || self.columns == 1).then_some(start..start + self.columns)
    }
}

macro_rules! constructors {
    ($view:ident, $slice:ty, $rows:ident) => {
        impl<'a, T> $view<'a, T> {
            /// A contiguous buffer in C order: rows of `columns` columns. Their number follows from
            /// the length of the buffer.
            ///
            /// # Errors
            /// [`Error::Length`] if there are no columns, or the buffer's length is not a multiple
            /// of their number.
            pub fn new(data: $slice, columns: usize) -> Result<Self> {
                Ok(Self { layout: Layout::contiguous(data.len(), columns)?, data })
            }

            /// Any view of a buffer: row i, column j is element `offset + i·strides[0] +
            /// j·strides[1]`. Strides count elements and may be negative.
            ///
            /// # Errors
            /// [`Error::Xent`] if the view reaches outside the buffer, or (for writing) positions
            /// overlap; [`Error::Shape`] if there are no columns.
            pub fn strided(
                data: $slice,
                shape: [usize; 2],
                strides: [isize; 2],
                offset: usize,
            ) -> Result<Self> {
                #[allow(clippy::redundant_slicing)] // Reborrows what is written.
                let layout = Layout::strided(shape, strides, offset, || {
                    $rows::strided(reborrow!($view, data), &shape, &strides, offset, 1).map(drop)
                })?;
                Ok(Self { data, layout })
            }

            /// The transposed matrix, of the same elements.
            pub fn transposed(self) -> Self {
                Self { layout: self.layout.transposed(), ..self }
            }

            /// Number of rows.
            pub fn rows(&self) -> usize {
                self.layout.rows
            }

            /// Number of columns.
            pub fn columns(&self) -> usize {
                self.layout.columns
            }

            pub(crate) fn shape(&self) -> [usize; 2] {
                [self.layout.rows, self.layout.columns]
            }
        }
    };
}

macro_rules! reborrow {
    (Matrix, $data:ident) => {
        $data
    };
    (MatrixMut, $data:ident) => {
        &mut $data[..]
    };
}

constructors!(Matrix, &'a [T], Rows);
constructors!(MatrixMut, &'a mut [T], RowsMut);

impl<'a, T> Matrix<'a, T> {
    /// The element of a row and column, if both exist.
    pub fn get(&self, row: usize, column: usize) -> Option<T>
    where
        T: Copy,
    {
        let exists = row < self.rows() && column < self.columns();
        exists.then(|| self.data[self.layout.index(row, column)])
    }

    pub(crate) fn of_rows(self, rows: Range<usize>) -> Self {
        Self { layout: self.layout.of_rows(rows), ..self }
    }
}

impl<T> MatrixMut<'_, T> {
    pub(crate) fn of_rows(&mut self, rows: Range<usize>) -> MatrixMut<'_, T> {
        MatrixMut { layout: self.layout.of_rows(rows), data: self.data }
    }

    pub(crate) fn expect(&self, name: &'static str, shape: [usize; 2], what: &str) -> Result<()> {
        if self.shape() == shape {
            return Ok(());
        }
        let expected = format!("{shape:?}, {what}");
        Err(Error::Shape { name, found: self.shape(), expected })
    }

    pub(crate) fn reborrow(&mut self) -> MatrixMut<'_, T> {
        MatrixMut { layout: self.layout, data: self.data }
    }

    pub(crate) fn fill_row(&mut self, row: usize, value: T)
    where
        T: Copy,
    {
        match self.layout.row(row) {
            Some(elements) => self.data[elements].fill(value),
            None => (0..self.columns())
                .for_each(|column| self.data[self.layout.index(row, column)] = value),
        }
    }

    pub(crate) fn fill(&mut self, value: T)
    where
        T: Copy,
    {
        (0..self.rows()).for_each(|row| self.fill_row(row, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_outside_their_buffer_or_over_themselves_are_refused() {
        let mut buffer = [0f32; 12];
        let message = |error: Error| error.to_string();
        assert!(Matrix::strided(&buffer, [3, 4], [-4, 1], 8).is_ok());
        assert!(Matrix::strided(&buffer, [3, 4], [0, 1], 8).is_ok());
        assert_eq!(
            message(Matrix::strided(&buffer, [3, 4], [4, 1], 1).unwrap_err()),
            "shape [3, 4] reaches element 12 of a buffer of 12 elements"
        );
        assert_eq!(
            message(MatrixMut::strided(&mut buffer, [3, 4], [2, 1], 0).unwrap_err()),
            "strides [2, 1] over shape [3, 4] may write an element twice, expected strides that never overlap"
        );
        assert_eq!(
            message(Matrix::new(&buffer, 5).unwrap_err()),
            "a matrix: 12 entries, expected rows of 5, so a multiple of that"
        );
        assert_eq!(
            message(Matrix::new(&buffer[..0], 0).unwrap_err()),
            "a matrix: 0 entries, expected at least 1 column"
        );
        assert_eq!(
            message(Matrix::strided(&buffer, [3, 0], [4, 1], 0).unwrap_err()),
            "a matrix has shape [3, 0], expected at least 1 column"
        );
        assert_eq!(Matrix::strided(&buffer[..0], [0, 4], [4, 1], 99).unwrap().rows(), 0);
    }

    #[test]
    fn parts_are_where_they_were() {
        let buffer: Vec<f64> = (0..24).map(f64::from).collect();
        let matrix = Matrix::strided(&buffer, [3, 4], [-8, 2], 17).unwrap();
        let at = |row: usize, column: usize| (17 + 2 * column) as f64 - 8.0 * row as f64;
        for (row, column) in [(0, 0), (0, 3), (2, 0), (2, 3)] {
            assert_eq!(matrix.get(row, column), Some(at(row, column)));
            assert_eq!(matrix.transposed().get(column, row), Some(at(row, column)));
        }
        assert_eq!((matrix.get(3, 0), matrix.get(0, 4)), (None, None));
        assert_eq!(matrix.of_rows(1..3).get(1, 1), Some(at(2, 1)));
        assert_eq!((matrix.layout.row(0), matrix.of_rows(0..1).rows()), (None, 1));
        assert_eq!(Matrix::new(&buffer, 6).unwrap().layout.row(2), Some(12..18));
    }
}
