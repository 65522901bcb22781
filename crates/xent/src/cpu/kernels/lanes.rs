//! Vectors of f32 and of f64 as one type to the kernels, with the elementary functions on them.
//!
//! A vector is 512 bits wide on every instruction set (several registers where those are narrower),
//! so that sums are taken in the same order everywhere; instruction sets differ only in whether a
//! product and a sum are rounded once or twice.

use fearless_simd::{
    Bytes, Select, Simd, SimdBase, SimdFloat, SimdFloatElement, SimdInt, SimdWiden, f32x4, f32x16,
    f64x2, f64x8, i32x16,
};

use crate::Real;

/// What the kernels need of `f32` and `f64`.
pub(in crate::cpu) trait Lane: Real + SimdFloatElement {
    /// Sixteen of `f32`, eight of `f64`.
    type Lanes<S: Simd>: Lanes<S, Element = Self>;
    const ONE: Self;
    const NEG_INFINITY: Self;
    const SMALLEST_NORMAL: Self;
    fn is_normal(self) -> bool;
    fn from_class(class: i32) -> Self;
    /// As many rows and columns as [`transpose`](Self::transpose) takes.
    const SIDE: usize;
    /// A row of them.
    type Side: Copy;
    /// A square whose rows become its columns.
    fn transpose<S: Simd>(
        simd: S,
        row: impl Fn(usize) -> Self::Side,
        put: impl Fn(usize, Self::Side),
    );
}

impl Lane for f32 {
    type Lanes<S: Simd> = f32x16<S>;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    const SMALLEST_NORMAL: Self = f32::MIN_POSITIVE;
    fn is_normal(self) -> bool {
        f32::is_normal(self)
    }
    fn from_class(class: i32) -> Self {
        class as Self
    }
    const SIDE: usize = 4;
    type Side = [f32; 4];
    #[inline(always)]
    fn transpose<S: Simd>(simd: S, row: impl Fn(usize) -> [f32; 4], put: impl Fn(usize, [f32; 4])) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| f32x4::load_array(simd, row(i)));
        let (ac, bd) = (simd.interleave_f32x4(a, c), simd.interleave_f32x4(b, d));
        let (low, high) = (simd.interleave_f32x4(ac.0, bd.0), simd.interleave_f32x4(ac.1, bd.1));
        [low.0, low.1, high.0, high.1].into_iter().enumerate().for_each(
            #[inline(always)]
            |(k, column)| put(k, column.to_array()),
        );
    }
}

impl Lane for f64 {
    type Lanes<S: Simd> = f64x8<S>;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    const SMALLEST_NORMAL: Self = f64::MIN_POSITIVE;
    fn is_normal(self) -> bool {
        f64::is_normal(self)
    }
    fn from_class(class: i32) -> Self {
        class as Self
    }
    const SIDE: usize = 2;
    type Side = [f64; 2];
    #[inline(always)]
    fn transpose<S: Simd>(simd: S, row: impl Fn(usize) -> [f64; 2], put: impl Fn(usize, [f64; 2])) {
        let [a, b] = [0, 1].map(|i| f64x2::load_array(simd, row(i)));
        let (low, high) = simd.interleave_f64x2(a, b);
        put(0, low.to_array());
        put(1, high.to_array());
    }
}

/// A vector, its constants and functions.
pub(in crate::cpu) trait Lanes<S: Simd>: SimdFloat<S> {
    const ONE: Self::Element;
    const TWO: Self::Element;
    /// ln 2 in two parts; the first has so few bits that its product with any exponent is exact.
    const LN_2: [Self::Element; 2];
    const LOG2_E: Self::Element;
    const MANTISSA_BITS: u32;
    /// 1.5·2^[`MANTISSA_BITS`](Self::MANTISSA_BITS), which rounds what is added to it to an
    /// integer, and in its low bits the exponent's bias.
    const ROUND: Self::Element;
    /// The same for 2^n/[`SCALE`](Self::SCALE).
    const ROUND_SCALED: Self::Element;
    /// Taken out of 2^n, so that n stays among the normal exponents where e^x is subnormal.
    const SCALE: Self::Element;
    /// Where 2^n/[`SCALE`](Self::SCALE) is 0. Results are 0 from higher up, but by a product that
    /// underflows, for which processors take some hundred cycles; masked classes must not cost
    /// that.
    const EXP_ENDS: Self::Element;
    /// tanh(x/2) is ±1 to the last bit from here down.
    const TANH_ENDS: Self::Element;
    /// e^r = 1 + r + r²·(…), highest power first.
    const EXP_SERIES: &'static [Self::Element];
    /// artanh(s) = s + s³·(…) in s², highest power first.
    const ARTANH_SERIES: &'static [Self::Element];

    /// x = 2^k·(1+f) with 1+f in [√½, √2), for positive normal x: k and f.
    fn split(self) -> (Self, Self);

    fn add_to(self, sum: &mut Wide<S>);

    /// As [`add_to`](Self::add_to) where the lanes' own sums are of no interest: the halves of an
    /// f32 vector are added up first.
    fn total_to(self, sum: &mut Total<S>);

    /// The larger of x and `end`, NaN for NaN.
    #[inline(always)]
    fn at_least(self, end: Self) -> Self {
        // In this order of operands x86 hands a NaN through, and NEON and WebAssembly do in any;
        // scalar code takes the number, relaxed WebAssembly what it likes.
        if self.token().level().is_fallback() || cfg!(target_feature = "relaxed-simd") {
            self.simd_lt(end).select(end, self)
        } else {
            end.max(self)
        }
    }

    /// e^r − 1 and 2^n times a power of two that the rounding constant brings in, for x ≤ 0,
    /// x = n·ln 2 + r, |r| ≤ ½ ln 2 (Cody and Waite 1980); x below the constants' end is that.
    #[inline(always)]
    fn exp_parts(self, constants: &ExpConstants<Self>) -> (Self, Self) {
        let x = self.at_least(constants.end);
        let shifted = x.mul_add(constants.log2_e, constants.round);
        let n = constants.round - shifted;
        let r = n.mul_add(constants.ln_2[0], x);
        let r = n.mul_add(constants.ln_2[1], r);
        let mut p = constants.series[0];
        for &coefficient in &constants.series[1..Self::EXP_SERIES.len()] {
            p = p.mul_add(r, coefficient);
        }
        // The shift drops all but the biased exponent.
        (p.mul_add(r * r, r), Self::from_bits(shifted.to_bits() << Self::MANTISSA_BITS))
    }

    /// e^x for x ≤ 0, subnormal results too: to 1 ulp; 0 for −∞, NaN for NaN.
    #[inline(always)]
    fn exp(self) -> Self {
        self.exp_with(&ExpConstants::new(self.token()))
    }

    /// [`exp`](Self::exp) with its constants.
    #[inline(always)]
    fn exp_with(self, constants: &ExpConstants<Self>) -> Self {
        let (tail, power) = self.exp_parts(constants);
        tail.mul_add(power, power) * constants.scale
    }

    /// tanh(x/2) by x, to 3 ulp, near 0 too.
    #[inline(always)]
    fn tanh_of_half(self) -> Self {
        let of = |value| Self::splat(self.token(), value);
        let (end, round) = (of(Self::TANH_ENDS), of(Self::ROUND));
        let constants = ExpConstants { end, round, ..ExpConstants::new(self.token()) };
        let (tail, power) = (-self.abs()).exp_parts(&constants);
        // e^y − 1 = 2^n·(e^r − 1) + (2^n − 1): nothing cancels near y = 0, where n is 0.
        let below = tail.mul_add(power, power - Self::ONE);
        (below / (below + Self::TWO)).copysign(self)
    }

    /// ln of a positive normal number, to 1 ulp.
    #[inline(always)]
    fn ln(self) -> Self {
        let (k, f) = self.split();
        Self::log_of(k, f)
    }

    /// ln(1+x) for x ≥ 0, to 3 ulp, near 0 too.
    #[inline(always)]
    fn ln_1p(self) -> Self {
        let (k, f) = (self + Self::ONE).split();
        // Below √2 the rounding of that sum would be most of a small x.
        Self::log_of(k, k.simd_eq(Self::Element::default()).select(self, f))
    }

    /// k ln 2 + 2 artanh(s), s = f/(2+f).
    #[inline(always)]
    fn log_of(k: Self, f: Self) -> Self {
        let of = |value| Self::splat(f.token(), value);
        let s = f / (f + Self::TWO);
        let square = s * s;
        let mut p = of(Self::ARTANH_SERIES[0]);
        for &coefficient in &Self::ARTANH_SERIES[1..] {
            p = p.mul_add(square, of(coefficient));
        }
        // 2s = f − s·f, so that f itself is added last and is exact.
        let rest = (p * square * s).mul_add(of(Self::TWO), -(s * f));
        k.mul_add(of(Self::LN_2[0]), f + k.mul_add(of(Self::LN_2[1]), rest))
    }
}

impl<S: Simd> Lanes<S> for f32x16<S> {
    const ONE: f32 = 1.0;
    const TWO: f32 = 2.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const MANTISSA_BITS: u32 = 23;
    const ROUND: f32 = 12_582_912.0 + 127.0;
    const ROUND_SCALED: f32 = Self::ROUND + 64.0;
    const SCALE: f32 = f32::from_bits((127 - 64) << 23);
    const EXP_ENDS: f32 = -132.4;
    const TANH_ENDS: f32 = -20.0;
    /// Minimax on |r| ≤ ½ ln 2, the cubic term a few last places lower: the largest errors, where r
    /// is near −½ ln 2, then stay within 1 ulp with and without fused products.
    const EXP_SERIES: &'static [f32] =
        &[1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666e-1, 5e-1];
    const ARTANH_SERIES: &'static [f32] = &[1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0];

    #[inline(always)]
    fn split(self) -> (Self, Self) {
        const ROOT: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
        let bits = self.to_bits() - ROOT;
        let exponent: i32x16<S> = bits.bitcast();
        let mantissa = Self::from_bits((bits & 0x007f_ffff) + ROOT);
        ((exponent >> 23).to_float(), mantissa - 1.0)
    }

    #[inline(always)]
    fn add_to(self, sum: &mut Wide<S>) {
        let (low, high) = self.widen();
        sum.0[0] += low;
        sum.0[1] += high;
    }

    #[inline(always)]
    fn total_to(self, sum: &mut Total<S>) {
        let (low, high) = self.widen();
        sum.0 += low + high;
    }
}

impl<S: Simd> Lanes<S> for f64x8<S> {
    const ONE: f64 = 1.0;
    const TWO: f64 = 2.0;
    const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const MANTISSA_BITS: u32 = 52;
    const ROUND: f64 = 6_755_399_441_055_744.0 + 1023.0;
    const ROUND_SCALED: f64 = Self::ROUND + 512.0;
    const SCALE: f64 = f64::from_bits((1023 - 512) << 52);
    const EXP_ENDS: f64 = -1064.0;
    const TANH_ENDS: f64 = -40.0;
    /// 1/k!, to the last term that counts.
    const EXP_SERIES: &'static [f64] = &[
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
    ];
    const ARTANH_SERIES: &'static [f64] = &[
        1.0 / 21.0,
        1.0 / 19.0,
        1.0 / 17.0,
        1.0 / 15.0,
        1.0 / 13.0,
        1.0 / 11.0,
        1.0 / 9.0,
        1.0 / 7.0,
        1.0 / 5.0,
        1.0 / 3.0,
    ];

    #[inline(always)]
    fn split(self) -> (Self, Self) {
        const ROOT: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
        /// 2⁵²: an integer below it in its low bits is added to it, without a conversion that few
        /// instruction sets have.
        const INTEGER: f64 = 4_503_599_627_370_496.0;
        let bits = self.to_bits() - ROOT;
        let k =
            Self::from_bits(((bits + (1024 << 52)) >> 52) | INTEGER.to_bits()) - (INTEGER + 1024.0);
        let mantissa = Self::from_bits((bits & 0x000f_ffff_ffff_ffff) + ROOT);
        (k, mantissa - 1.0)
    }

    #[inline(always)]
    fn add_to(self, sum: &mut Wide<S>) {
        sum.0[0] += self;
    }

    #[inline(always)]
    fn total_to(self, sum: &mut Total<S>) {
        sum.0 += self;
    }
}

/// What e^x is computed with.
pub(in crate::cpu) struct ExpConstants<V> {
    end: V,
    log2_e: V,
    round: V,
    ln_2: [V; 2],
    /// As many as [`Lanes::EXP_SERIES`] has.
    series: [V; 12],
    scale: V,
}

impl<V> ExpConstants<V> {
    #[inline(always)]
    pub(super) fn new<S: Simd>(simd: S) -> Self
    where
        V: Lanes<S>,
    {
        let of = |value| V::splat(simd, value);
        Self {
            end: of(V::EXP_ENDS),
            log2_e: of(V::LOG2_E),
            round: of(V::ROUND_SCALED),
            ln_2: V::LN_2.map(of),
            series: std::array::from_fn(|i| of(V::EXP_SERIES[i.min(V::EXP_SERIES.len() - 1)])),
            scale: of(V::SCALE),
        }
    }

    /// The same for loops, in which sixteen registers do not hold them all. Where they are known
    /// the compiler then loads each by an instruction of its own; where they are not, it has them
    /// read from memory by the product that they are for.
    #[inline(always)]
    pub(super) fn for_loops<S: Simd>(&self, simd: S) -> &Self {
        let few_registers = cfg!(target_arch = "x86_64") && simd.level().as_avx512().is_none();
        if few_registers { std::hint::black_box(self) } else { self }
    }
}

/// ln(1+x) of each number, a multiple of eight of them.
#[inline(always)]
pub(in crate::cpu) fn ln_1p_of<S: Simd>(simd: S, x: &[f64], out: &mut [f64]) {
    for (x, out) in x.chunks_exact(8).zip(out.chunks_exact_mut(8)) {
        f64x8::from_slice(simd, x).ln_1p().store_slice(out);
    }
}

/// e^−x of each number x ≥ 0, a multiple of eight of them.
#[inline(always)]
pub(in crate::cpu) fn exp_of_minus<S: Simd>(simd: S, x: &[f64], out: &mut [f64]) {
    for (x, out) in x.chunks_exact(8).zip(out.chunks_exact_mut(8)) {
        (-f64x8::from_slice(simd, x)).exp().store_slice(out);
    }
}

/// A sum of vectors in f64: of f32 lanes, the lower eight and the upper eight.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Wide<S: Simd>([f64x8<S>; 2]);

impl<S: Simd> Wide<S> {
    #[inline(always)]
    pub(super) fn zero(simd: S) -> Self {
        Self([f64x8::splat(simd, 0.0); 2])
    }

    /// Every lane's sum: sixteen of f32's, eight of f64's.
    #[inline(always)]
    pub(super) fn store(self, out: &mut [f64]) {
        out.chunks_exact_mut(8).zip(self.0).for_each(|(out, sums)| sums.store_slice(out));
    }
}

/// The sum of all lanes of vectors, in f64.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Total<S: Simd>(f64x8<S>);

impl<S: Simd> Total<S> {
    #[inline(always)]
    pub(super) fn zero(simd: S) -> Self {
        Self(f64x8::splat(simd, 0.0))
    }

    #[inline(always)]
    pub(super) fn total(self) -> f64 {
        let lanes = self.0.to_array();
        let [a, b, c, d] =
            [lanes[0] + lanes[4], lanes[1] + lanes[5], lanes[2] + lanes[6], lanes[3] + lanes[7]];
        (a + c) + (b + d)
    }
}
