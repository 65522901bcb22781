//! Sums that are exact, and therefore the same in any order.
//!
//! Every f64 is an integer multiple of 2^−1074, so a sum of them is a long integer. It is held in
//! limbs of 32 bits, each in an i64, whose upper half collects carries:
//!
//! ```text
//! limb 2         limb 1         limb 0
//! ·2^(64−1074)   ·2^(32−1074)   ·2^−1074
//! ```
//!
//! A number adds its 53 bits to at most three limbs. Carries are propagated only after 2³⁰
//! additions or when the value is read, and only the limbs in use are stored. (Kulisch's long
//! accumulator; Neal, *Fast exact summation using small and large superaccumulators*, 2015, arXiv
//! 1505.05571.)

use serde::{Deserialize, Serialize};

/// Bits of a limb; the other bits of its i64 collect carries.
const BITS: usize = 32;
/// Carries are propagated after this many additions, safely before an i64 can overflow (2³¹).
const CARRY_AFTER: u32 = 1 << 30;
/// The weight of the lowest bit of limb 0 is 2^−LOWEST: the smallest number that f64 has.
const LOWEST: i32 = 1074;

/// An exact sum of f64 numbers.
///
/// Addition is commutative and associative, so any order, any number of threads and any split over
/// machines lead to the same bits. Infinities and NaN are counted separately.
///
/// ```
/// use xent_metrics::ExactSum;
/// let sum = |numbers: &[f64]| numbers.iter().fold(ExactSum::default(), |mut sum, x| { sum.add(*x); sum }).value();
/// assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
/// assert_eq!(sum(&[1.0, f64::INFINITY]), f64::INFINITY);
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(into = "Canonical", try_from = "Canonical")]
pub struct ExactSum {
    /// The index of the first of `limbs`.
    first: usize,
    limbs: Vec<i64>,
    additions: u32,
    infinities: [u64; 2],
    nan: bool,
}

/// The canonical form of a sum: limbs within 0..2³², except the last, which has the sign and is as
/// short as possible; no limb at either end is 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Canonical {
    first: usize,
    limbs: Vec<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    infinities: [u64; 2],
    #[serde(default, skip_serializing_if = "is_default")]
    nan: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ExactSum {
    /// Adds a number.
    pub fn add(&mut self, x: f64) {
        let bits = x.to_bits();
        let (biased, mantissa) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
        if biased == 0x7ff {
            match (mantissa == 0, x > 0.0) {
                (false, _) => self.nan = true,
                (true, positive) => self.infinities[usize::from(!positive)] += 1,
            }
            return;
        }
        if biased == 0 && mantissa == 0 {
            return;
        }
        let (mantissa, position) =
            if biased == 0 { (mantissa, 0) } else { (mantissa | 1 << 52, biased as usize - 1) };
        let (limb, wide) = (position / BITS, u128::from(mantissa) << (position % BITS));
        let limbs = self.reach(limb, 3);
        for (i, limb) in limbs.iter_mut().enumerate() {
            let part = ((wide >> (BITS * i)) & 0xffff_ffff) as i64;
            *limb += if x < 0.0 { -part } else { part };
        }
        self.additions += 1;
        if self.additions >= CARRY_AFTER {
            self.carry();
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        other.carry();
        self.carry();
        let limbs = self.reach(other.first, other.limbs.len());
        limbs.iter_mut().zip(&other.limbs).for_each(|(a, b)| *a += b);
        self.infinities
            .iter_mut()
            .zip(other.infinities)
            .for_each(|(a, b)| *a = a.saturating_add(b));
        self.nan |= other.nan;
        self.carry();
    }

    /// The sum, rounded once, to the nearest f64; NaN if a NaN or both infinities were added.
    pub fn value(&self) -> f64 {
        match self.infinities {
            _ if self.nan => return f64::NAN,
            [0, 0] => {}
            [_, 0] => return f64::INFINITY,
            [0, _] => return f64::NEG_INFINITY,
            _ => return f64::NAN,
        }
        let mut sum = self.clone();
        sum.carry();
        let negative = sum.limbs.last().is_some_and(|limb| *limb < 0);
        if negative {
            sum.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            sum.carry();
        }
        // The last four limbs hold at least 97 bits of the number; lower limbs only decide how a
        // half is rounded.
        let top = sum.limbs.len().saturating_sub(4);
        let (below, above) = sum.limbs.split_at(top);
        let mut digits =
            above.iter().rev().fold(0u128, |digits, limb| digits << BITS | *limb as u128);
        digits |= u128::from(below.iter().any(|limb| *limb != 0));
        let magnitude = libm::scalbn(digits as f64, ((sum.first + top) * BITS) as i32 - LOWEST);
        if negative { -magnitude } else { magnitude }
    }

    /// `len` limbs from `first` on, created if necessary.
    fn reach(&mut self, first: usize, len: usize) -> &mut [i64] {
        if self.limbs.is_empty() {
            self.first = first;
        }
        if first < self.first {
            self.limbs.splice(0..0, std::iter::repeat_n(0, self.first - first));
            self.first = first;
        }
        let end = first + len - self.first;
        if self.limbs.len() < end {
            self.limbs.resize(end, 0);
        }
        &mut self.limbs[end - len..end]
    }

    /// Propagates carries, which leaves the limbs in canonical form.
    fn carry(&mut self) {
        let mut carry = 0;
        for limb in &mut self.limbs {
            let sum = *limb + carry;
            *limb = sum & 0xffff_ffff;
            carry = sum >> BITS;
        }
        while carry != 0 && carry != -1 {
            self.limbs.push(carry & 0xffff_ffff);
            carry >>= BITS;
        }
        if carry == -1 {
            self.limbs.push(-1);
        }
        while let Some(0) = self.limbs.last() {
            self.limbs.pop();
        }
        // A limb of −1 above another is the same as that limb less 2³².
        while let [.., limb, -1] = self.limbs[..]
            && limb != 0
        {
            self.limbs.pop();
            if let Some(last) = self.limbs.last_mut() {
                *last = limb - (1 << BITS);
            }
        }
        let empty = self.limbs.iter().take_while(|limb| **limb == 0).count();
        self.limbs.drain(..empty);
        self.first = if self.limbs.is_empty() { 0 } else { self.first + empty };
        self.additions = 0;
    }

    fn canonical(&self) -> Canonical {
        let mut sum = self.clone();
        sum.carry();
        Canonical { first: sum.first, limbs: sum.limbs, infinities: sum.infinities, nan: sum.nan }
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl From<ExactSum> for Canonical {
    fn from(sum: ExactSum) -> Self {
        sum.canonical()
    }
}

impl TryFrom<Canonical> for ExactSum {
    type Error = &'static str;

    fn try_from(canonical: Canonical) -> Result<Self, Self::Error> {
        // f64 reaches limb 66, and a sum of 2³² of the largest numbers one limb more.
        if canonical.first > 70
            || canonical.limbs.len() > 70
            || canonical.limbs.iter().any(|limb| limb.unsigned_abs() > 1 << BITS)
        {
            return Err("limbs that no sum of f64 numbers has");
        }
        let mut sum = Self {
            first: canonical.first,
            limbs: canonical.limbs,
            additions: 0,
            infinities: canonical.infinities,
            nan: canonical.nan,
        };
        sum.carry();
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(numbers: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        numbers.iter().for_each(|x| sum.add(*x));
        sum
    }

    #[test]
    fn one_number_is_itself() {
        for x in [
            0.0,
            1.0,
            -1.0,
            f64::MIN_POSITIVE,
            5e-324,
            -5e-324,
            f64::MAX,
            f64::MIN,
            0.1,
            -1e-300,
            2f64.powi(-1022),
            4294967296.0,
        ] {
            assert_eq!(sum(&[x]).value(), x, "{x:e}");
        }
    }

    #[test]
    fn cancellation_leaves_what_is_left() {
        assert_eq!(sum(&[1e308, 1e-300, -1e308]).value(), 1e-300);
        assert_eq!(
            sum(&[1.0, 2f64.powi(-53), 2f64.powi(-1074)]).value(),
            1.0 + f64::EPSILON,
            "just above a half rounds up"
        );
        assert_eq!(sum(&[1.0, 2f64.powi(-53)]).value(), 1.0, "a half rounds to even");
        assert_eq!(sum(&[f64::MAX, f64::MAX]).value(), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]).value(), f64::MAX);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
        assert!(sum(&[f64::NAN]).value().is_nan());
        assert_eq!(sum(&[]).value(), 0.0);
        assert_eq!(sum(&[3.0, -3.0]), ExactSum::default());
    }

    proptest! {
        #[test]
        fn integers_agree_with_integers(numbers in prop::collection::vec(any::<i64>(), 0..50)) {
            let numbers: Vec<f64> = numbers.iter().map(|x| *x as f64).collect();
            let exact: i128 = numbers.iter().map(|x| *x as i128).sum();
            prop_assert_eq!(sum(&numbers).value(), exact as f64);
        }

        #[test]
        fn any_order_and_any_split(mut numbers in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL, 1..40), at in 0..40usize) {
            let whole = sum(&numbers);
            let (left, right) = numbers.split_at(at % numbers.len());
            let mut parts = sum(right);
            parts.merge(&sum(left));
            prop_assert_eq!(&parts, &whole);
            let json = serde_json::to_string(&whole).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&parts).unwrap());
            prop_assert_eq!(&serde_json::from_str::<ExactSum>(&json).unwrap(), &whole);
            numbers.reverse();
            prop_assert_eq!(sum(&numbers).value().to_bits(), whole.value().to_bits());
        }

        #[test]
        fn two_numbers_round_as_the_processor_does(a in prop::num::f64::NORMAL, b in prop::num::f64::NORMAL) {
            prop_assert_eq!(sum(&[a, b]).value(), a + b);
        }
    }
}
