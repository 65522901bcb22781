//! What the engine does with types of logits, beyond what [`Element`] says of them.

use fearless_simd::Simd;
use half::{bf16, f16};

use super::kernels::halves;
use super::kernels::lanes::Lane;
use crate::element::round_to_odd;
use crate::targets::Probabilities;
use crate::{Element, Rows};

/// A type of logits, and of dense targets.
pub(super) trait Logit: Element<Real: DenseTarget> {
    /// The number to compute with that [`from_real`](Element::from_real) makes the nearest to
    /// `value`.
    fn to_be_rounded(value: f64) -> Self::Real;
    /// The same numbers, where these are what is computed with.
    fn as_real(_: &[Self]) -> Option<&[Self::Real]> {
        None
    }
    /// As [`as_real`](Self::as_real).
    fn as_real_mut(_: &mut [Self]) -> Option<&mut [Self::Real]> {
        None
    }
    /// Widens a slice. Both have the same length.
    fn widen<S: Simd>(simd: S, from: &[Self], to: &mut [Self::Real]);
    /// Rounds a slice. Both have the same length.
    fn narrow<S: Simd>(simd: S, from: &[Self::Real], to: &mut [Self]);
}

macro_rules! real_number {
    ($real:ty) => {
        impl Logit for $real {
            fn to_be_rounded(value: f64) -> $real {
                value as $real
            }
            fn as_real(values: &[Self]) -> Option<&[$real]> {
                Some(values)
            }
            fn as_real_mut(values: &mut [Self]) -> Option<&mut [$real]> {
                Some(values)
            }
            #[inline(always)]
            fn widen<S: Simd>(_: S, from: &[Self], to: &mut [$real]) {
                to.copy_from_slice(from);
            }
            #[inline(always)]
            fn narrow<S: Simd>(_: S, from: &[$real], to: &mut [Self]) {
                to.copy_from_slice(from);
            }
        }
    };
}
real_number!(f64);
real_number!(f32);

macro_rules! half_number {
    ($half:ty) => {
        impl Logit for $half {
            fn to_be_rounded(value: f64) -> f32 {
                round_to_odd(value)
            }
            #[inline(always)]
            fn widen<S: Simd>(simd: S, from: &[Self], to: &mut [f32]) {
                halves::widen(simd, from, to, Self::to_f32);
            }
            #[inline(always)]
            fn narrow<S: Simd>(simd: S, from: &[f32], to: &mut [Self]) {
                halves::narrow(simd, from, to, Self::from_f32);
            }
        }
    };
}
half_number!(f16);
half_number!(bf16);

/// A type that is computed in, by the probabilities that can be read in it.
pub(super) trait DenseTarget: Lane {
    /// The targets, if they are of this very type.
    fn own<'a>(probabilities: &'a Probabilities<'_>) -> Option<&'a Rows<'a, Self>>;
    /// Classes `start..start + out.len()` of a row's target before class weights; `false`, and
    /// nothing is read, if they have to be narrowed from f64.
    fn read<S: Simd>(
        simd: S,
        probabilities: &Probabilities<'_>,
        row: usize,
        start: usize,
        out: &mut [Self],
    ) -> bool;
}

macro_rules! dense_target {
    ($real:ty, $own:ident: $($variant:ident),*) => {
        impl DenseTarget for $real {
            #[inline(always)]
            fn own<'a>(probabilities: &'a Probabilities<'_>) -> Option<&'a Rows<'a, Self>> {
                match probabilities {
                    Probabilities::$own(rows) => Some(rows),
                    _ => None,
                }
            }

            #[inline(always)]
            fn read<S: Simd>(simd: S, probabilities: &Probabilities<'_>, row: usize, start: usize, out: &mut [Self]) -> bool {
                match probabilities {
                    $(Probabilities::$variant(rows) => read_row(simd, rows, row, start, out),)*
                    _ => return false,
                }
                true
            }
        }
    };
}
dense_target!(f32, F32: F32, F16, Bf16);
dense_target!(f64, F64: F64);

/// Widens classes `start..start + out.len()` of a row.
#[inline(always)]
fn read_row<S: Simd, P: Logit>(
    simd: S,
    rows: &Rows<'_, P>,
    row: usize,
    start: usize,
    out: &mut [P::Real],
) {
    let (data, stride) = (rows.data(), rows.layout().class_stride);
    let first = rows.layout().row_start(row) + start as isize * stride;
    if stride == 1 {
        P::widen(simd, &data[first as usize..][..out.len()], out);
    } else {
        out.iter_mut()
            .enumerate()
            .for_each(|(k, out)| *out = data[(first + k as isize * stride) as usize].to_real());
    }
}
