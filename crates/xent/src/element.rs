//! The number types of logits, and the two in which xent computes.

use fearless_simd::Simd;
use half::{bf16, f16};

use crate::cpu::{Call, Instructions, Lane, ReadTarget, halves, run};
use crate::rules::Parts;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A number type of logits, gradients and target probabilities: `f32`, `f64`, [`struct@f16`], [`struct@bf16`].
pub trait Element: sealed::Sealed + Copy + Send + Sync + std::fmt::Debug + 'static {
    /// What its rows are computed and reported in: `f64` for `f64`, `f32` for all others.
    type Real: Real;

    /// Widens; exact.
    fn to_real(self) -> Self::Real;
    /// Rounds once, to nearest, ties to even.
    fn from_real(value: Self::Real) -> Self;
    /// Rounds once, to nearest, ties to even.
    fn from_f64(value: f64) -> Self;

    /// Whether it is finite and ≥ 0, −0 too.
    #[doc(hidden)]
    fn is_probability(self) -> bool;
    /// The number to compute with that [`from_real`](Self::from_real) makes the nearest to `value`.
    #[doc(hidden)]
    fn to_be_rounded(value: f64) -> Self::Real;
    /// The same numbers, where these are what is computed with.
    #[doc(hidden)]
    fn as_real(_: &[Self]) -> Option<&[Self::Real]> {
        None
    }
    /// As [`as_real`](Self::as_real).
    #[doc(hidden)]
    fn as_real_mut(_: &mut [Self]) -> Option<&mut [Self::Real]> {
        None
    }
    /// Widens a slice. Both have the same length.
    #[doc(hidden)]
    fn widen<S: Simd>(simd: S, from: &[Self], to: &mut [Self::Real]);
    /// Rounds a slice. Both have the same length.
    #[doc(hidden)]
    fn narrow<S: Simd>(simd: S, from: &[Self::Real], to: &mut [Self]);
    /// The engine. A method, so that its kernels are compiled with this crate and not again in every crate that calls them.
    #[doc(hidden)]
    fn run(instructions: Instructions, call: &Call<'_, Self>) -> Parts<Self::Real>;
}

/// A type that rows are computed in: `f32` or `f64`.
pub trait Real: Element<Real = Self> + Lane + ReadTarget + std::ops::Mul<Output = Self> + PartialOrd {
    /// Widens; exact.
    fn to_f64(self) -> f64;
}

impl Element for f64 {
    type Real = f64;
    fn to_real(self) -> f64 {
        self
    }
    #[inline]
    fn is_probability(self) -> bool {
        (0.0..=f64::MAX).contains(&self)
    }
    fn from_real(value: f64) -> f64 {
        value
    }
    fn from_f64(value: f64) -> f64 {
        value
    }
    fn to_be_rounded(value: f64) -> f64 {
        value
    }
    fn as_real(values: &[Self]) -> Option<&[f64]> {
        Some(values)
    }
    fn as_real_mut(values: &mut [Self]) -> Option<&mut [f64]> {
        Some(values)
    }
    #[inline(always)]
    fn widen<S: Simd>(_: S, from: &[Self], to: &mut [f64]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    fn narrow<S: Simd>(_: S, from: &[f64], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
    fn run(instructions: Instructions, call: &Call<'_, Self>) -> Parts<f64> {
        run(instructions, call)
    }
}

impl Real for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

impl Element for f32 {
    type Real = f32;
    fn to_real(self) -> f32 {
        self
    }
    #[inline]
    fn is_probability(self) -> bool {
        (0.0..=f32::MAX).contains(&self)
    }
    fn from_real(value: f32) -> f32 {
        value
    }
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
    fn to_be_rounded(value: f64) -> f32 {
        value as f32
    }
    fn as_real(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
    fn as_real_mut(values: &mut [Self]) -> Option<&mut [f32]> {
        Some(values)
    }
    #[inline(always)]
    fn widen<S: Simd>(_: S, from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    fn narrow<S: Simd>(_: S, from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
    fn run(instructions: Instructions, call: &Call<'_, Self>) -> Parts<f32> {
        run(instructions, call)
    }
}

impl Real for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

macro_rules! half_element {
    ($half:ty) => {
        impl Element for $half {
            type Real = f32;
            fn to_real(self) -> f32 {
                self.to_f32()
            }
            #[inline]
            fn is_probability(self) -> bool {
                (self.to_bits() < <$half>::INFINITY.to_bits()) | (self.to_bits() == <$half>::NEG_ZERO.to_bits())
            }
            fn from_real(value: f32) -> Self {
                Self::from_f32(value)
            }
            fn from_f64(value: f64) -> Self {
                Self::from_f32(round_to_odd(value))
            }
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
            fn run(instructions: Instructions, call: &Call<'_, Self>) -> Parts<f32> {
                run(instructions, call)
            }
        }
    };
}
half_element!(f16);
half_element!(bf16);

/// The nearest `f32` whose last bit is odd unless `value` is exact: rounding that to a half then rounds `value` only once.
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    if back == value || !nearest.is_finite() || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    let outwards = back.abs() < value.abs();
    f32::from_bits(if outwards { nearest.to_bits() + 1 } else { nearest.to_bits() - 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_once() {
        // Just above the midpoint of 1 and the next bf16: rounding through f32 would land on the tie and go to even.
        let above_tie = 1.0 + f64::from(bf16::EPSILON) / 2.0 + 1e-12;
        assert_eq!(bf16::from_f64(above_tie).to_bits(), bf16::ONE.to_bits());
        assert_eq!(<bf16 as Element>::from_f64(above_tie).to_bits(), bf16::ONE.to_bits() + 1);
        assert_eq!(<bf16 as Element>::from_f64(-above_tie).to_bits(), (-bf16::ONE).to_bits() + 1);
        let tie = 1.0 + f64::from(f16::EPSILON) / 2.0;
        assert_eq!(<f16 as Element>::from_f64(tie), f16::ONE);
        assert_eq!(<f16 as Element>::from_f64(tie + 1e-12).to_bits(), f16::ONE.to_bits() + 1);
        assert!(<f16 as Element>::from_f64(f64::NAN).is_nan());
        assert_eq!(<f16 as Element>::from_f64(1e300), f16::INFINITY);
    }
}
