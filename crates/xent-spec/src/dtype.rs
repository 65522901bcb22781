//! Number formats: which values a dtype holds, and how a value is rounded into it.

use serde::{Deserialize, Serialize};

/// The format of logits, probabilities and gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE binary64.
    #[default]
    F64,
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Dtype {
    /// All formats, the widest first.
    pub const ALL: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16];

    /// The nearest value of this format, ties to even; ±∞ past its largest value.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Dtype::F64 => value,
            Dtype::F32 => f64::from(value as f32),
            Dtype::F16 | Dtype::Bf16 => {
                if value == 0.0 || !value.is_finite() {
                    return value;
                }
                // Quotient and product by a power of two are exact in f64.
                let ulp = self.ulp(value);
                let rounded = (value / ulp).round_ties_even() * ulp;
                if rounded.abs() > self.largest() { f64::INFINITY.copysign(value) } else { rounded }
            }
        }
    }

    /// Whether `value` needs no rounding in this format. NaN counts as held.
    pub fn holds(self, value: f64) -> bool {
        value.is_nan() || self.round(value) == value
    }

    /// The distance between neighbours of this format around `value` (the larger one at a power of
    /// two).
    pub fn ulp(self, value: f64) -> f64 {
        let (significand_bits, least_exponent) = match self {
            Dtype::F64 => (53, -1022),
            Dtype::F32 => (24, -126),
            Dtype::F16 => (11, -14),
            Dtype::Bf16 => (8, -126),
        };
        let exponent = if value.is_normal() {
            (((value.to_bits() >> 52) & 0x7ff) as i32 - 1023).max(least_exponent)
        } else {
            least_exponent
        };
        // Two factors, so that the smallest f64 subnormal is reached without underflow on the way.
        2f64.powi(exponent) * 2f64.powi(1 - significand_bits)
    }

    /// The largest finite value.
    pub fn largest(self) -> f64 {
        match self {
            Dtype::F64 => f64::MAX,
            Dtype::F32 => f64::from(f32::MAX),
            Dtype::F16 => 65504.0,
            Dtype::Bf16 => 255.0 * 2f64.powi(120),
        }
    }

    /// The format that arithmetic on this dtype is done and reported in (S11): f64 for f64, f32 for
    /// all others.
    pub fn compute(self) -> Dtype {
        match self {
            Dtype::F64 => Dtype::F64,
            _ => Dtype::F32,
        }
    }

    /// `u`, the largest relative error of one rounding in [`Dtype::compute`]: 2⁻⁵³ or 2⁻²⁴.
    pub fn unit(self) -> f64 {
        match self.compute() {
            Dtype::F64 => 2f64.powi(-53),
            _ => 2f64.powi(-24),
        }
    }

    /// Whether values are stored in fewer bits than they are computed in.
    pub fn is_half(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::Bf16)
    }
}

/// The format of class indices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexDtype {
    /// 0 to 255.
    U8,
    /// 0 to 2¹⁶ − 1.
    U16,
    /// 0 to 2³² − 1.
    U32,
    /// 0 to 2⁶⁴ − 1, of which a case has those below 2⁶³.
    U64,
    /// −2³¹ to 2³¹ − 1.
    I32,
    /// −2⁶³ to 2⁶³ − 1.
    #[default]
    I64,
}

impl IndexDtype {
    /// All formats.
    pub const ALL: [IndexDtype; 6] = [
        IndexDtype::U8,
        IndexDtype::U16,
        IndexDtype::U32,
        IndexDtype::U64,
        IndexDtype::I32,
        IndexDtype::I64,
    ];

    /// Whether this format can hold `index`.
    pub fn holds(self, index: i64) -> bool {
        match self {
            IndexDtype::U8 => u8::try_from(index).is_ok(),
            IndexDtype::U16 => u16::try_from(index).is_ok(),
            IndexDtype::U32 => u32::try_from(index).is_ok(),
            IndexDtype::U64 => u64::try_from(index).is_ok(),
            IndexDtype::I32 => i32::try_from(index).is_ok(),
            IndexDtype::I64 => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every f16 and bf16 bit pattern is a fixed point, and the midpoint of two neighbours goes to
    /// the even one.
    #[test]
    fn rounding_agrees_with_every_half() {
        let f16 = |bits| half::f16::from_bits(bits).to_f64();
        let bf16 = |bits| half::bf16::from_bits(bits).to_f64();
        for dtype in [Dtype::F16, Dtype::Bf16] {
            let value = |bits| if dtype == Dtype::F16 { f16(bits) } else { bf16(bits) };
            for bits in 0..u16::MAX {
                let here = value(bits);
                assert!(dtype.holds(here), "{dtype:?} {bits:#x}");
                let next = value(bits + 1);
                if here.is_finite() && next.is_finite() && here.signum() == next.signum() {
                    let even = if bits % 2 == 0 { here } else { next };
                    assert_eq!(dtype.round((here + next) / 2.0), even, "{dtype:?} {bits:#x}");
                    if here > 0.0 {
                        assert_eq!(dtype.ulp(here), next - here, "{dtype:?} {bits:#x}");
                    }
                }
            }
            assert_eq!(dtype.round(dtype.largest() * 1.01), f64::INFINITY);
        }
    }

    #[test]
    fn ulp_of_the_ieee_formats() {
        assert_eq!(Dtype::F32.ulp(1.0), f64::from(f32::EPSILON));
        assert_eq!(Dtype::F32.ulp(0.0), f64::from(f32::from_bits(1)));
        assert_eq!(Dtype::F64.ulp(-1.5), f64::EPSILON);
        assert_eq!(Dtype::F64.ulp(0.0), f64::from_bits(1));
    }
}
