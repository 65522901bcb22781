//! Products of matrices, by the crate `gemm`: `to = left·right`, or `to += left·right`.

use std::mem::swap;

use gemm_common::Parallelism;
use xent::Real;

use crate::matrix::{Layout, Matrix, MatrixMut};
use crate::numbers::{same, same_mut};
use crate::threads::parallelism;

/// Writes `left·right`, or adds it to what is there. Sums over the columns of `left` in the type of
/// the matrices, in an order that does not depend on the number of threads.
///
/// # Panics
/// If the shapes do not go together, which is an error of this crate's.
pub(crate) fn multiply<R: Real>(
    to: MatrixMut<'_, R>,
    add: bool,
    left: Matrix<'_, R>,
    right: Matrix<'_, R>,
) {
    assert!(
        left.shape() == [to.rows(), right.rows()] && to.columns() == right.columns(),
        "internal error: [{:?}] = [{:?}]·[{:?}]",
        to.shape(),
        left.shape(),
        right.shape()
    );
    let layouts = (to.layout, left.layout, right.layout);
    if let (Some(to), Some(left), Some(right)) =
        (same_mut(to.data), same(left.data), same(right.data))
    {
        call(gemm_f32::gemm::f32::get_gemm_fn(), 1.0f32, (to, left, right), add, layouts);
    } else if let (Some(to), Some(left), Some(right)) =
        (same_mut(to.data), same(left.data), same(right.data))
    {
        call(gemm_f64::gemm::f64::get_gemm_fn(), 1.0f64, (to, left, right), add, layouts);
    }
}

/// `dst := alpha·dst + beta·lhs·rhs`, `[m, n]` of `[m, k]` and `[k, n]`: for each of the matrices
/// the distance of its columns comes before that of its rows. `read_dst` is whether dst counts.
type Gemm<R> = unsafe fn(
    m: usize,
    n: usize,
    k: usize,
    dst: *mut R,
    dst_cs: isize,
    dst_rs: isize,
    read_dst: bool,
    lhs: *const R,
    lhs_cs: isize,
    lhs_rs: isize,
    rhs: *const R,
    rhs_cs: isize,
    rhs_rs: isize,
    alpha: R,
    beta: R,
    conj_dst: bool,
    conj_lhs: bool,
    conj_rhs: bool,
    parallelism: Parallelism,
);

fn call<R: Real>(
    gemm: Gemm<R>,
    one: R,
    (to, left, right): (&mut [R], &[R], &[R]),
    add: bool,
    (mut dst, mut lhs, mut rhs): (Layout, Layout, Layout),
) {
    if dst.rows == 0 || dst.columns == 0 {
        return;
    }
    let (mut left, mut right) = (left, right);
    // The kernels write down columns, so these are to be neighbours: (A·B)ᵀ = Bᵀ·Aᵀ.
    if !dst.is_by_column() {
        (dst, lhs, rhs) = (dst.transposed(), rhs.transposed(), lhs.transposed());
        swap(&mut left, &mut right);
    }
    // And everything upwards in memory.
    if dst.row_stride < 0 {
        (dst, lhs) = (dst.reversed(), lhs.reversed());
    }
    if dst.column_stride < 0 {
        dst = dst.transposed().reversed().transposed();
        rhs = rhs.transposed().reversed().transposed();
    }
    if lhs.column_stride < 0 {
        lhs = lhs.transposed().reversed().transposed();
        rhs = rhs.reversed();
    }
    // SAFETY: every position of a layout is inside of its slice, which the view was checked against.
    // The shapes go together (`multiply`). `to` is borrowed for writing, so no other matrix has its
    // elements, and no two of its positions are the same element: that was checked, too.
    unsafe {
        gemm(
            dst.rows,
            dst.columns,
            lhs.columns,
            to.as_mut_ptr().add(dst.offset),
            dst.column_stride,
            dst.row_stride,
            add,
            left.as_ptr().add(lhs.offset),
            lhs.column_stride,
            lhs.row_stride,
            right.as_ptr().add(rhs.offset),
            rhs.column_stride,
            rhs.row_stride,
            one,
            one,
            false,
            false,
            false,
            parallelism(),
        );
    }
}

impl Layout {
    /// The rows in reverse order. There is at least one.
    fn reversed(self) -> Self {
        Self { offset: self.index(self.rows - 1, 0), row_stride: -self.row_stride, ..self }
    }
}
