//! The number types of logits, and the two in which xent computes.

use half::{bf16, f16};

/// What seals [`Element`], and what the crate needs of it beyond what users see.
///
/// Nothing here knows the engine, which has a trait of its own for what it does with these types.
pub(crate) mod sealed {
    use super::Element;

    pub trait Sealed: Copy {
        const ZERO: Self;

        /// Whether it is finite and ≥ 0, −0 too.
        fn is_probability(self) -> bool;

        /// `F`'s function for this type.
        fn call<F: ForEachType>(input: F::Input<Self>) -> F::Output<Self>
        where
            Self: Element;
    }

    /// A function for each of the four types, called through [`Sealed::call`].
    ///
    /// Code that is generic in its caller's crate gets to code that was compiled in this crate,
    /// once for each type, and needs to know nothing of that code's own bounds.
    pub trait ForEachType {
        type Input<T: Element>;
        type Output<T: Element>;
        fn f64(input: Self::Input<f64>) -> Self::Output<f64>;
        fn f32(input: Self::Input<f32>) -> Self::Output<f32>;
        fn f16(input: Self::Input<half::f16>) -> Self::Output<half::f16>;
        fn bf16(input: Self::Input<half::bf16>) -> Self::Output<half::bf16>;
    }
}

/// A number type of logits, gradients and target probabilities: `f32`, `f64`, [`struct@f16`],
/// [`struct@bf16`].
pub trait Element: sealed::Sealed + Copy + Send + Sync + std::fmt::Debug + 'static {
    /// The type in which its rows are computed and reported: `f64` for `f64`, `f32` for all others.
    type Real: Real;

    /// Widens; exact.
    fn to_real(self) -> Self::Real;
    /// Rounds once, to nearest, ties to even.
    fn from_real(value: Self::Real) -> Self;
    /// Rounds once, to nearest, ties to even.
    fn from_f64(value: f64) -> Self;
}

/// A type that rows are computed in: `f32` or `f64`.
pub trait Real: Element<Real = Self> + std::ops::Mul<Output = Self> + PartialOrd {
    /// Widens; exact.
    fn to_f64(self) -> f64;
}

macro_rules! real {
    ($real:ident) => {
        impl sealed::Sealed for $real {
            const ZERO: Self = 0.0;

            #[inline]
            fn is_probability(self) -> bool {
                (0.0..=$real::MAX).contains(&self)
            }

            fn call<F: sealed::ForEachType>(input: F::Input<Self>) -> F::Output<Self> {
                F::$real(input)
            }
        }

        impl Element for $real {
            type Real = $real;
            fn to_real(self) -> $real {
                self
            }
            fn from_real(value: $real) -> $real {
                value
            }
            fn from_f64(value: f64) -> $real {
                value as $real
            }
        }

        impl Real for $real {
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
        }
    };
}
real!(f64);
real!(f32);

macro_rules! half {
    ($half:ident) => {
        impl sealed::Sealed for $half {
            const ZERO: Self = $half::ZERO;

            #[inline]
            fn is_probability(self) -> bool {
                (self.to_bits() < $half::INFINITY.to_bits())
                    | (self.to_bits() == $half::NEG_ZERO.to_bits())
            }

            fn call<F: sealed::ForEachType>(input: F::Input<Self>) -> F::Output<Self> {
                F::$half(input)
            }
        }

        impl Element for $half {
            type Real = f32;
            fn to_real(self) -> f32 {
                self.to_f32()
            }
            fn from_real(value: f32) -> Self {
                Self::from_f32(value)
            }
            fn from_f64(value: f64) -> Self {
                Self::from_f32(round_to_odd(value))
            }
        }
    };
}
half!(f16);
half!(bf16);

/// The nearest `f32` whose last bit is odd unless `value` is exact: rounding that to a half then
/// rounds `value` only once.
pub(crate) fn round_to_odd(value: f64) -> f32 {
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
        // Just above the midpoint of 1 and the next bf16: rounding through f32 would land on the
        // tie and go to even.
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
