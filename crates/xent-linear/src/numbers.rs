//! From the type of a matrix to the type that is computed in, and back.

use std::any::TypeId;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use xent::Element;

use crate::matrix::{Matrix, MatrixMut};

/// A slice as what it is, if `A` and `B` are the same type.
pub(crate) fn same<A: 'static, B: 'static>(values: &[A]) -> Option<&[B]> {
    // SAFETY: the same type, pointer and length.
    (TypeId::of::<A>() == TypeId::of::<B>())
        .then(|| unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) })
}

/// [`same`] for writing.
pub(crate) fn same_mut<A: 'static, B: 'static>(values: &mut [A]) -> Option<&mut [B]> {
    // SAFETY: the same type, pointer and length, and borrowed as long.
    (TypeId::of::<A>() == TypeId::of::<B>()).then(|| unsafe {
        std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len())
    })
}

/// The matrix, if it is of the type that is computed in.
pub(crate) fn as_real<'a, T: Element>(matrix: Matrix<'a, T>) -> Option<Matrix<'a, T::Real>> {
    Some(Matrix { data: same(matrix.data)?, layout: matrix.layout })
}

/// [`as_real`] for writing.
pub(crate) fn as_real_mut<T: Element>(matrix: MatrixMut<'_, T>) -> Option<MatrixMut<'_, T::Real>> {
    Some(MatrixMut { data: same_mut(matrix.data)?, layout: matrix.layout })
}

/// Writes a row in the type that is computed in; exact.
pub(crate) fn widen_row<T: Element>(from: &Matrix<'_, T>, row: usize, to: &mut [T::Real]) {
    let Some(elements) = from.layout.row(row) else {
        for (column, to) in to.iter_mut().enumerate() {
            *to = from.data[from.layout.index(row, column)].to_real();
        }
        return;
    };
    let from = &from.data[elements];
    if let Some(from) = same::<T, T::Real>(from) {
        to.copy_from_slice(from);
    } else if let (Some(from), Some(to)) = (same::<T, f16>(from), same_mut::<_, f32>(to)) {
        from.convert_to_f32_slice(to);
    } else if let (Some(from), Some(to)) = (same::<T, bf16>(from), same_mut::<_, f32>(to)) {
        from.iter().zip(to).for_each(|(from, to)| *to = from.to_f32());
    }
}

/// Writes a row in the type of the matrix; rounds once.
pub(crate) fn round_row<T: Element>(from: &[T::Real], to: &mut MatrixMut<'_, T>, row: usize) {
    let Some(elements) = to.layout.row(row) else {
        for (column, from) in from.iter().enumerate() {
            to.data[to.layout.index(row, column)] = T::from_real(*from);
        }
        return;
    };
    let to = &mut to.data[elements];
    if let Some(to) = same_mut::<T, T::Real>(to) {
        to.copy_from_slice(from);
    } else if let (Some(from), Some(to)) = (same::<_, f32>(from), same_mut::<T, f16>(to)) {
        to.convert_from_f32_slice(from);
    } else if let (Some(from), Some(to)) = (same::<_, f32>(from), same_mut::<T, bf16>(to)) {
        from.iter().zip(to).for_each(|(from, to)| *to = bf16::from_f32(*from));
    }
}
