//! Elementary functions to some 94 bits, to judge those in f64 by: slow and simple.

/// An unevaluated sum of two f64, the second no more than half an ulp of the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
    hi: f64,
    lo: f64,
}

/// ln 2.
const LN_2: Exact = Exact { hi: std::f64::consts::LN_2, lo: 2.319_046_813_846_299_6e-17 };

impl From<f64> for Exact {
    fn from(hi: f64) -> Self {
        Self { hi, lo: 0.0 }
    }
}

impl Exact {
    /// a + b without error (Knuth).
    fn sum(a: f64, b: f64) -> Self {
        let hi = a + b;
        let of_b = hi - a;
        Self { hi, lo: (a - (hi - of_b)) + (b - of_b) }
    }

    fn plus(self, other: Self) -> Self {
        let (high, low) = (Self::sum(self.hi, other.hi), Self::sum(self.lo, other.lo));
        let first = Self::sum(high.hi, high.lo + low.hi);
        Self::sum(first.hi, first.lo + low.lo)
    }

    fn times(self, other: Self) -> Self {
        let hi = self.hi * other.hi;
        let lo = self.hi.mul_add(other.hi, -hi) + (self.hi * other.lo + self.lo * other.hi);
        Self::sum(hi, lo)
    }

    fn over(self, other: Self) -> Self {
        let first = self.hi / other.hi;
        let rest = self.plus(other.times(Self::from(-first)));
        let second = rest.hi / other.hi;
        let rest = rest.plus(other.times(Self::from(-second)));
        Self::sum(first, second).plus(Self::from(rest.hi / other.hi))
    }

    fn scaled(self, exponent: i32) -> Self {
        Self { hi: scaled(self.hi, exponent), lo: scaled(self.lo, exponent) }
    }

    /// Distance of `got` from this times 2^`exponent`, in ulps of f64 there; among the subnormals
    /// these are 2⁻¹⁰⁷⁴.
    pub(super) fn ulps(self, got: f64, exponent: i32) -> f64 {
        let error = ((scaled(got, -exponent) - self.hi) - self.lo).abs();
        let ulp = f64::from_bits(self.hi.to_bits() & 0x7ff0_0000_0000_0000) * f64::EPSILON;
        error / ulp.max(scaled(1.0, -1074 - exponent))
    }
}

/// x·2^exponent, in steps that neither overflow nor underflow before the result does.
fn scaled(x: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    x * 2f64.powi(half) * 2f64.powi(exponent - half)
}

/// e^x = 2^n·(1+m): m and n. m has the same relative accuracy near 0 as elsewhere.
fn exp_parts(x: f64) -> (Exact, i32) {
    const HALVINGS: i32 = 10;
    let n = (x / LN_2.hi).round();
    let r = Exact::from(x).plus(LN_2.times(Exact::from(-n))).scaled(-HALVINGS);
    let mut m = Exact::from(0.0);
    for k in (1..=9).rev() {
        // r/k·(1 + what follows)
        m = r.over(Exact::from(f64::from(k))).times(m.plus(Exact::from(1.0)));
    }
    for _ in 0..HALVINGS {
        m = m.times(m.plus(Exact::from(2.0)));
    }
    (m, n as i32)
}

/// e^x: a number in [0.7, 1.5] and the exponent of 2 that it is to be multiplied by.
pub(super) fn exp(x: f64) -> (Exact, i32) {
    let (m, n) = exp_parts(x);
    (m.plus(Exact::from(1.0)), n)
}

/// ln(x), for positive normal x.
pub(super) fn ln(x: f64) -> Exact {
    log_of(Exact::sum(x, -1.0))
}

/// ln(1+x), for x ≥ 0.
pub(super) fn ln_1p(x: f64) -> Exact {
    log_of(Exact::from(x))
}

/// ln(1+f): one step of Newton's from the library's logarithm.
fn log_of(f: Exact) -> Exact {
    let y = (f.hi + f.lo).ln_1p();
    let (m, n) = exp_parts(-y);
    let step = match n {
        0 => f.plus(m).plus(f.times(m)),
        _ => f
            .plus(Exact::from(1.0))
            .scaled(n)
            .times(m.plus(Exact::from(1.0)))
            .plus(Exact::from(-1.0)),
    };
    step.plus(Exact::from(y))
}

/// tanh(x).
pub(super) fn tanh(x: f64) -> Exact {
    let (m, n) = exp_parts(-2.0 * x.abs());
    let below = if n == 0 { m } else { m.plus(Exact::from(1.0)).scaled(n).plus(Exact::from(-1.0)) };
    below.over(below.plus(Exact::from(2.0))).times(Exact::from(-1f64.copysign(x)))
}

#[test]
fn known_digits() {
    let near = |got: Exact, hi: f64, lo: f64| {
        assert!(((got.hi - hi) + (got.lo - lo)).abs() < hi.abs() * 2f64.powi(-90), "{got:?}")
    };
    // e and 1/e, ln 10 and tanh 1, each as the nearest f64 and what is left.
    let (e, n) = exp(1.0);
    near(e.scaled(n), std::f64::consts::E, 1.445_646_891_729_250_2e-16);
    near(ln(10.0), std::f64::consts::LN_10, -2.170_756_223_382_249_4e-16);
    near(ln_1p(1.0), LN_2.hi, LN_2.lo);
    near(tanh(0.5), 0.462_117_157_260_009_74, 2.191_660_323_826_092_8e-17);
    // Where nothing may cancel.
    near(ln_1p(1e-9), 9.999_999_995e-10, 7.493_897_403_823_754e-26);
    near(tanh(1e-3), 9.999_996_666_668e-4, 1.780_061_379_916_655_7e-20);
}
