//! Per-row and per-class numbers, converted from what the caller has.

use std::borrow::Cow;
use std::ops::Deref;

/// One number per row or per class, in `f64`: borrowed if it was `f64`, widened exactly if it was
/// `f32`.
///
/// Row weights, ε per row, λ, upstream gradients, class weights and priors are taken as `impl
/// Into<Numbers>`. Slices, arrays and vectors of `f32` and `f64` convert into it, so calls rarely
/// name it.
///
/// ```
/// use xent::{Batch, Config, Numbers};
/// let weights: Vec<f32> = vec![1.0, 0.5];
/// let batch = Batch::new(&[0i64, 3]).row_weights(&weights).label_smoothing_rows(&[0.1, 0.2]);
/// let config = Config::new().class_weights(&[1.0f32, 1.0, 2.0, 4.0]);
/// assert_eq!(config.class_weights.as_deref(), Some(&[1.0, 1.0, 2.0, 4.0][..]));
/// assert_eq!(Numbers::from(&weights)[1], 0.5);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers<'a>(Cow<'a, [f64]>);

impl Numbers<'_> {
    /// Borrows the numbers.
    pub fn borrow(&self) -> Numbers<'_> {
        Numbers(Cow::Borrowed(&self.0))
    }

    /// Converts into a vector, without a copy if it owns one.
    pub fn into_vec(self) -> Vec<f64> {
        self.0.into_owned()
    }
}

impl Deref for Numbers<'_> {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.0
    }
}

fn widened(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&number| f64::from(number)).collect()
}

macro_rules! from {
    ($(@$n:ident)? $numbers:ty, $given:ident => $cow:expr) => {
        impl<'a, $(const $n: usize)?> From<$numbers> for Numbers<'a> {
            fn from($given: $numbers) -> Self {
                Self($cow)
            }
        }
    };
}
from!(&'a [f64], numbers => Cow::Borrowed(numbers));
from!(&'a Vec<f64>, numbers => Cow::Borrowed(numbers));
from!(@N &'a [f64; N], numbers => Cow::Borrowed(numbers));
from!(Vec<f64>, numbers => Cow::Owned(numbers));
from!(Cow<'a, [f64]>, numbers => numbers);
from!(&[f32], numbers => Cow::Owned(widened(numbers)));
from!(&Vec<f32>, numbers => Cow::Owned(widened(numbers)));
from!(@N &[f32; N], numbers => Cow::Owned(widened(numbers)));
from!(Vec<f32>, numbers => Cow::Owned(widened(&numbers)));

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers<'a>(given: impl Into<Numbers<'a>>) -> Numbers<'a> {
        given.into()
    }

    #[test]
    fn every_container_gives_the_same_numbers() {
        let (wide, narrow) = ([0.5, -0.1, f64::MAX], [0.5f32, -0.1, f32::MAX]);
        let (wide_vec, narrow_vec) = (wide.to_vec(), narrow.to_vec());
        for from_f64 in [
            numbers(&wide),
            numbers(&wide[..]),
            numbers(&wide_vec),
            numbers(wide_vec.clone()),
            numbers(Cow::from(&wide[..])),
        ] {
            assert_eq!(from_f64[..], wide);
        }
        for from_f32 in [
            numbers(&narrow),
            numbers(&narrow[..]),
            numbers(&narrow_vec),
            numbers(narrow_vec.clone()),
        ] {
            assert_eq!(from_f32[..], [0.5, f64::from(-0.1f32), f64::from(f32::MAX)]);
        }
        assert_eq!(numbers(&[0.25, 0.75]).borrow().into_vec(), [0.25, 0.75]);
        assert!(numbers(&[0f32; 0]).is_empty());
    }

    #[test]
    fn f64_is_not_copied() {
        let wide = vec![0.5; 3];
        assert!(std::ptr::eq(wide.as_ptr(), numbers(&wide).as_ptr()));
        let kept = wide.as_ptr();
        assert!(std::ptr::eq(kept, numbers(wide).into_vec().as_ptr()));
    }
}
