//! An array: entries, a shape, and the order of the entries in memory.

use std::fmt;

use super::values::{Dtype, Values};

/// An array in C order (last axis fastest) or in Fortran order (first axis fastest), as it was
/// read.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    fortran_order: bool,
    values: Values,
}

impl Array {
    /// The reader has checked that the number of values matches the shape and that no product of
    /// its lengths overflows.
    pub(crate) fn new(shape: Vec<usize>, fortran_order: bool, values: Values) -> Self {
        Self { shape, fortran_order, values }
    }

    /// Of values in C order; none if they are not as many as the shape has.
    pub fn in_c_order(shape: Vec<usize>, values: Values) -> Option<Self> {
        let entries = shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length));
        (entries == Some(values.len())).then(|| Self::new(shape, false, values))
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether the first axis is the fastest.
    pub(super) fn fortran_order(&self) -> bool {
        self.fortran_order
    }

    /// For each axis, the number of entries between neighbours.
    pub fn strides(&self) -> Vec<isize> {
        let mut strides = vec![1; self.shape.len()];
        let mut stride = 1;
        let mut step = |axis: usize| {
            strides[axis] = stride;
            stride *= self.shape[axis].max(1) as isize;
        };
        if self.fortran_order {
            (0..self.shape.len()).for_each(&mut step)
        } else {
            (0..self.shape.len()).rev().for_each(&mut step)
        }
        strides
    }

    /// The type of the entries.
    pub fn dtype(&self) -> Dtype {
        self.values.dtype()
    }

    /// The entries in the file's order.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The entries in the file's order, mutable.
    pub fn values_mut(&mut self) -> &mut Values {
        &mut self.values
    }

    /// The entries in C order.
    pub fn into_values(self) -> Values {
        let axes: Vec<usize> = (0..self.shape.len()).collect();
        self.into_values_along(&axes)
    }

    /// The entries in C order of the transposed array, whose axis `i` is axis `axes[i]` of this
    /// one.
    pub fn into_values_along(self, axes: &[usize]) -> Values {
        let strides = self.strides();
        let axes: Vec<(usize, usize)> =
            axes.iter().map(|&axis| (self.shape[axis], strides[axis] as usize)).collect();
        let mut stride = 1;
        let in_order = axes.iter().rev().all(|&(length, actual)| {
            let fits = length == 1 || actual == stride;
            stride *= length.max(1);
            fits
        });
        if in_order { self.values } else { self.values.gather(positions(&axes)) }
    }
}

/// The offsets of the entries of a shape, in C order, given the length and stride of each axis.
fn positions(axes: &[(usize, usize)]) -> impl Iterator<Item = usize> {
    let mut index = vec![0; axes.len()];
    let mut next = if axes.iter().any(|&(length, _)| length == 0) { None } else { Some(0) };
    std::iter::from_fn(move || {
        let position = next?;
        next = axes
            .iter()
            .enumerate()
            .rev()
            .try_fold(position, |position, (axis, &(length, stride))| {
                index[axis] += 1;
                if index[axis] < length {
                    Err(position + stride)
                } else {
                    index[axis] = 0;
                    Ok(position - (length - 1) * stride)
                }
            })
            .err();
        Some(position)
    })
}

/// A shape as Python writes it: `()`, `(3,)`, `(3, 4)`.
pub struct Shape<'a>(pub &'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [length] => write!(f, "({length},)"),
            lengths => {
                write!(f, "(")?;
                for (axis, length) in lengths.iter().enumerate() {
                    write!(f, "{}{length}", if axis == 0 { "" } else { ", " })?;
                }
                write!(f, ")")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(shape: &[usize], fortran_order: bool) -> Array {
        let len = shape.iter().product::<usize>() as i64;
        Array::new(shape.to_vec(), fortran_order, Values::I64((0..len).collect()))
    }

    #[test]
    fn orders_are_numpys() {
        // numpy.arange(6).reshape((2, 3), order="F") is [[0, 2, 4], [1, 3, 5]].
        assert_eq!(counting(&[2, 3], true).into_values(), Values::I64(vec![0, 2, 4, 1, 3, 5]));
        assert_eq!(counting(&[2, 3], false).into_values(), Values::I64((0..6).collect()));
        assert_eq!(
            counting(&[2, 3], false).into_values_along(&[1, 0]),
            Values::I64(vec![0, 3, 1, 4, 2, 5])
        );
        assert_eq!(
            counting(&[2, 3], true).into_values_along(&[1, 0]),
            Values::I64((0..6).collect())
        );
        // numpy.arange(12).reshape((2, 3, 2)).transpose(0, 2, 1).ravel()
        assert_eq!(
            counting(&[2, 3, 2], false).into_values_along(&[0, 2, 1]),
            Values::I64(vec![0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11])
        );
    }

    #[test]
    fn edges_of_shapes() {
        for fortran_order in [false, true] {
            assert_eq!(counting(&[], fortran_order).into_values(), Values::I64(vec![0]));
            assert_eq!(
                counting(&[1, 3, 1], fortran_order).into_values(),
                Values::I64(vec![0, 1, 2])
            );
            assert_eq!(counting(&[2, 0, 3], fortran_order).into_values(), Values::I64(vec![]));
            assert_eq!(
                counting(&[2, 0, 3], fortran_order).into_values_along(&[2, 0, 1]),
                Values::I64(vec![])
            );
        }
    }

    #[test]
    fn shapes_print_as_in_python() {
        let printed: Vec<String> = [&[][..], &[3], &[3, 4], &[0, 4, 5]]
            .iter()
            .map(|shape| Shape(shape).to_string())
            .collect();
        assert_eq!(printed, ["()", "(3,)", "(3, 4)", "(0, 4, 5)"]);
    }
}
