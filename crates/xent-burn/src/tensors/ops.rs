//! The operations in which the formulas are written. Tensors are `[N, K]`, columns `[N, 1]` (`[N,
//! H]` for hot classes) and rows `[1, K]`; columns and rows broadcast.

use std::borrow::Borrow;
use std::ops::{Add, Div, Mul};

use burn::tensor::kind::Basic;
use burn::tensor::{Bool, DType, Int, Tensor};

/// Per-row values (a column) or per-class values (a row). A number that all of them share stays on
/// the host, and arithmetic with 0 and 1 is left out: an option that was not chosen costs no
/// operation.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "boxing the usual case would only add an allocation")]
pub(super) enum Value {
    Same(f64),
    Each(Tensor<2>),
}

use Value::{Each, Same};

macro_rules! operators {
    ($($operator:ident $method:ident $sign:tt: $($shortcut:pat => $result:expr),*;)*) => {$(
        impl<T: Borrow<Value>> $operator<T> for &Value {
            type Output = Value;

            fn $method(self, other: T) -> Value {
                match (self, other.borrow()) {
                    (Same(a), Same(b)) => Same(a $sign b),
                    $($shortcut => $result,)*
                    (Same(a), Each(b)) => Each(b.full_like(*a) $sign b.clone()),
                    (Each(a), Same(b)) => Each(a.clone() $sign *b),
                    (Each(a), Each(b)) => Each(a.clone() $sign b.clone()),
                }
            }
        }

        impl<T: Borrow<Value>> $operator<T> for Value {
            type Output = Value;

            fn $method(self, other: T) -> Value {
                (&self).$method(other)
            }
        }
    )*};
}
operators! {
    Add add +: (Same(0.0), x) | (x, Same(0.0)) => x.clone();
    Mul mul *: (Same(0.0), _) | (_, Same(0.0)) => Same(0.0), (Same(1.0), x) | (x, Same(1.0)) => x.clone();
    Div div /: (x, Same(1.0)) => x.clone();
}

impl Value {
    /// `self·other`, where 0·∞ is 0 if the 0 is `self`'s (SEMANTICS.md S1).
    pub(super) fn times(&self, other: &Self) -> Self {
        match (self, self * other) {
            (Each(a), Each(product)) => Each(zero_where(&a.clone().equal_elem(0.0), &product)),
            (_, product) => product,
        }
    }

    /// 1 − x.
    pub(super) fn complement(&self) -> Self {
        self * Same(-1.0) + Same(1.0)
    }

    /// As a tensor, in the shape of `like` if it is one number.
    pub(super) fn tensor(&self, like: &Tensor<2>) -> Tensor<2> {
        match self {
            Same(number) => like.full_like(*number),
            Each(tensor) => tensor.clone(),
        }
    }

    /// 0 where `mask` is true; in the shape of `like` if it is one number.
    pub(super) fn zero_where(&self, mask: &Tensor<2, Bool>, like: &Tensor<2>) -> Self {
        match self {
            Same(0.0) => Same(0.0),
            _ => Each(zero_where(mask, &self.tensor(like))),
        }
    }

    /// Per-class values at class indices `[N, H]`.
    pub(super) fn at(&self, classes: &Tensor<2, Int>) -> Self {
        let Each(row) = self else { return self.clone() };
        Each(row.clone().select(1, classes.clone().reshape([-1])).reshape(classes.dims()))
    }

    /// The sum over the hot classes, `[N, 1]`. One number is that of a single one.
    pub(super) fn sum(&self) -> Self {
        match self {
            Each(values) if values.dims()[1] > 1 => Each(values.clone().sum_dim(1)),
            _ => self.clone(),
        }
    }
}

/// The largest finite number of a dtype: what is larger is ∞. f64's is ∞ in f32.
pub(super) fn largest(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::MAX } else { f64::from(f32::MAX) }
}

/// `yes` where `mask` is true, else `no`, broadcast to their common shape. A product with the mask
/// would keep NaN.
pub(super) fn select<K: Basic>(
    mask: &Tensor<2, Bool>,
    yes: &Tensor<2, K>,
    no: &Tensor<2, K>,
) -> Tensor<2, K> {
    let shape = [0, 1].map(|axis| mask.dims()[axis].max(yes.dims()[axis]).max(no.dims()[axis]));
    no.clone().expand(shape).mask_where(mask.clone().expand(shape), yes.clone().expand(shape))
}

/// `tensor`, 0 where `mask` is true, broadcast to their common shape. No mask is false everywhere.
pub(super) fn zero_where<'a>(
    mask: impl Into<Option<&'a Tensor<2, Bool>>>,
    tensor: &Tensor<2>,
) -> Tensor<2> {
    let Some(mask) = mask.into() else { return tensor.clone() };
    let shape = [0, 1].map(|axis| mask.dims()[axis].max(tensor.dims()[axis]));
    tensor.clone().expand(shape).mask_fill(mask.clone().expand(shape), 0.0)
}

/// ln(1 + x) of x ≥ 0. Shading languages have none, and what stands in for it rounds x away: ln(1 +
/// x) is corrected by what 1 + x lost (Kahan).
pub(super) fn log1p(x: &Tensor<2>) -> Tensor<2> {
    let rounded = x.clone() + 1.0;
    let lost = rounded.clone().equal_elem(1.0);
    select(&lost, x, &(rounded.clone().log() * x.clone() / (rounded - 1.0)))
}

/// Where a number is −∞: only −∞ is below every finite number.
pub(super) fn minus_infinite(z: &Tensor<2>) -> Tensor<2, Bool> {
    z.clone().lower_elem(-largest(z.dtype()))
}

/// Where a number is neither NaN nor infinite: comparisons with NaN are false.
pub(super) fn finite(z: &Tensor<2>) -> Tensor<2, Bool> {
    z.clone().abs().lower_equal_elem(largest(z.dtype()))
}

/// The sum of each row, `[N, 1]`: of blocks first, so that rounding errors do not grow with K on
/// devices that add one by one.
pub(super) fn sum(values: &Tensor<2>) -> Tensor<2> {
    const BLOCK: usize = 64;
    let [rows, classes] = values.dims();
    let blocks = classes / BLOCK;
    if blocks < 2 {
        return values.clone().sum_dim(1);
    }
    let whole = values
        .clone()
        .narrow(1, 0, blocks * BLOCK)
        .reshape([rows, blocks, BLOCK])
        .sum_dim(2)
        .reshape([rows, blocks]);
    match classes % BLOCK {
        0 => sum(&whole),
        left => sum(&Tensor::cat(
            vec![whole, values.clone().narrow(1, classes - left, left).sum_dim(1)],
            1,
        )),
    }
}

/// The first class at which each row reaches its largest value, `[N, 1]`, and that value. K where
/// none does: NaN. `numbers` are the classes, `[1, K]`.
pub(super) fn first_of(
    values: &Tensor<2>,
    numbers: &Tensor<2, Int>,
) -> (Tensor<2, Int>, Tensor<2>) {
    let max = values.clone().max_dim(1);
    let at_max = values.clone().equal(max.clone().expand(values.dims()));
    (select(&at_max, numbers, &numbers.full_like(values.dims()[1] as i64)).min_dim(1), max)
}
