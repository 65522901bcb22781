//! Small operations that the formulas are written in. Tensors are `[N, K]`, or columns `[N, 1]` and rows `[1, K]` that are broadcast.

use burn::tensor::kind::Basic;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

/// A float's largest finite number: what is larger is ∞. f64's is given to f32 as ∞, so that each dtype has its own.
pub(super) fn largest(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::MAX } else { f64::from(f32::MAX) }
}

/// A number as a tensor `[1, 1]`. Uploaded rather than written into a shader: not every shading language has words for NaN and ∞.
pub(super) fn constant(value: f64, dtype: DType, device: &Device) -> Tensor<2> {
    row(&[value], dtype, device)
}

/// Host numbers as a row `[1, K]`, each rounded once.
pub(super) fn row(numbers: &[f64], dtype: DType, device: &Device) -> Tensor<2> {
    floats(numbers, [1, numbers.len()], dtype, device)
}

/// Host numbers as a tensor, each rounded once.
pub(super) fn floats(numbers: &[f64], shape: [usize; 2], dtype: DType, device: &Device) -> Tensor<2> {
    let data = match dtype {
        DType::F64 => TensorData::new(numbers.to_vec(), shape),
        _ => TensorData::new(numbers.iter().map(|&number| number as f32).collect(), shape),
    };
    Tensor::from_data(data, (device, dtype))
}

/// `yes` where `mask` is true, else `no`, all broadcast to their common shape. Not a product with the mask: what is not selected may be NaN.
pub(super) fn select<K: Basic>(mask: &Tensor<2, Bool>, yes: &Tensor<2, K>, no: &Tensor<2, K>) -> Tensor<2, K> {
    let shapes = [mask.dims(), yes.dims(), no.dims()];
    let shape = [0, 1].map(|axis| shapes.iter().map(|shape| shape[axis]).find(|&length| length != 1).unwrap_or(1));
    widen(no, shape).mask_where(widen(mask, shape), widen(yes, shape))
}

fn widen<K: Basic>(tensor: &Tensor<2, K>, shape: [usize; 2]) -> Tensor<2, K> {
    if tensor.dims() == shape { tensor.clone() } else { tensor.clone().expand(shape) }
}

/// `tensor`, 0 where `mask` is true.
pub(super) fn zero_where(mask: &Tensor<2, Bool>, tensor: &Tensor<2>) -> Tensor<2> {
    select(mask, &tensor.zeros_like(), tensor)
}

/// a·b, where 0·∞ is 0 if the 0 is a's.
pub(super) fn times(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    zero_where(&a.clone().equal_elem(0.0), &(a.clone() * b.clone()))
}

/// ln(1 + x) of x ≥ 0. Shading languages have none, and what stands in for it rounds x away: here ln(1 + x) is put right by what 1 + x lost (Kahan).
pub(super) fn log1p(x: &Tensor<2>) -> Tensor<2> {
    let rounded = x.clone() + 1.0;
    let lost = rounded.clone().equal_elem(1.0);
    select(&lost, x, &(rounded.clone().log() * x.clone() / (rounded - 1.0)))
}

/// Where a number is −∞. Only −∞ is below every finite number.
pub(super) fn minus_infinite(z: &Tensor<2>) -> Tensor<2, Bool> {
    z.clone().lower_elem(-largest(z.dtype()))
}

/// Where a number is neither NaN nor infinite: what comparisons say is true only of numbers.
pub(super) fn finite(z: &Tensor<2>) -> Tensor<2, Bool> {
    z.clone().abs().lower_equal_elem(largest(z.dtype()))
}

/// Each row's sum, `[N, 1]`: of blocks first, so that rounding errors do not grow with K on devices that add up one by one.
pub(super) fn sum(values: &Tensor<2>) -> Tensor<2> {
    const BLOCK: usize = 64;
    let [rows, classes] = values.dims();
    let blocks = classes / BLOCK;
    if blocks < 2 {
        return values.clone().sum_dim(1);
    }
    let whole = values.clone().narrow(1, 0, blocks * BLOCK).reshape([rows, blocks, BLOCK]).sum_dim(2).reshape([rows, blocks]);
    match classes % BLOCK {
        0 => sum(&whole),
        left => sum(&Tensor::cat(vec![whole, values.clone().narrow(1, classes - left, left).sum_dim(1)], 1)),
    }
}

/// The first class at which each row reaches its largest value, `[N, 1]`, and that value. The number of classes where none does: NaN.
pub(super) fn first_of(values: &Tensor<2>, numbers: &Tensor<2, Int>) -> (Tensor<2, Int>, Tensor<2>) {
    let classes = values.dims()[1];
    let max = values.clone().max_dim(1);
    let at_max = values.clone().equal(widen(&max, values.dims()));
    let nowhere = numbers.full_like(classes as i64);
    (select(&at_max, numbers, &nowhere).min_dim(1), max)
}
