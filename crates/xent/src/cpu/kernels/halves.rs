//! f16 and bf16 to f32 and back in registers, thirty-two at a time, on any instruction set.

use fearless_simd::{
    ExtractToken, Select, Simd, SimdBase, SimdFloat, SimdNarrow, SimdWiden, f32x16, u16x32, u32x16,
};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

const CHUNK: usize = 32;

/// A half type, by what its bits mean.
pub(in crate::cpu) trait Half: Sized + Copy {
    fn bits(values: &[Self]) -> &[u16];
    fn bits_mut(values: &mut [Self]) -> &mut [u16];
    fn widen<S: Simd>(bits: u32x16<S>) -> f32x16<S>;
    /// Rounded to nearest, ties to even, in the low half.
    fn narrow<S: Simd>(value: f32x16<S>) -> u32x16<S>;
}

/// Widens whole chunks; exact.
#[inline(always)]
pub(in crate::cpu) fn widen<S: Simd, H: Half>(
    simd: S,
    from: &[H],
    to: &mut [f32],
    one: impl Fn(H) -> f32,
) {
    let (from, from_rest) = from.as_chunks::<CHUNK>();
    let (to, to_rest) = to.as_chunks_mut::<CHUNK>();
    simd.vectorize(
        #[inline(always)]
        || {
            for (from, to) in from.iter().zip(to) {
                let (low, high) = u16x32::from_slice(simd, H::bits(from)).widen();
                H::widen(low).store_slice(&mut to[..16]);
                H::widen(high).store_slice(&mut to[16..]);
            }
        },
    );
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = one(*from));
}

/// Rounds whole chunks.
#[inline(always)]
pub(in crate::cpu) fn narrow<S: Simd, H: Half>(
    simd: S,
    from: &[f32],
    to: &mut [H],
    one: impl Fn(f32) -> H,
) {
    let (from, from_rest) = from.as_chunks::<CHUNK>();
    let (to, to_rest) = to.as_chunks_mut::<CHUNK>();
    simd.vectorize(
        #[inline(always)]
        || {
            for (from, to) in from.iter().zip(to) {
                let low = H::narrow(f32x16::from_slice(simd, &from[..16]));
                let high = H::narrow(f32x16::from_slice(simd, &from[16..]));
                low.narrow(high).store_slice(H::bits_mut(to));
            }
        },
    );
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = one(*from));
}

impl Half for bf16 {
    #[inline(always)]
    fn bits(values: &[Self]) -> &[u16] {
        values.reinterpret_cast()
    }

    #[inline(always)]
    fn bits_mut(values: &mut [Self]) -> &mut [u16] {
        values.reinterpret_cast_mut()
    }

    #[inline(always)]
    fn widen<S: Simd>(bits: u32x16<S>) -> f32x16<S> {
        f32x16::from_bits(bits << 16)
    }

    #[inline(always)]
    fn narrow<S: Simd>(value: f32x16<S>) -> u32x16<S> {
        let bits = value.to_bits();
        let rounded = (bits + ((bits >> 16) & 1) + 0x7fff) >> 16;
        value.is_nan().select((bits >> 16) | 0x40, rounded)
    }
}

impl Half for f16 {
    #[inline(always)]
    fn bits(values: &[Self]) -> &[u16] {
        values.reinterpret_cast()
    }

    #[inline(always)]
    fn bits_mut(values: &mut [Self]) -> &mut [u16] {
        values.reinterpret_cast_mut()
    }

    #[inline(always)]
    fn widen<S: Simd>(bits: u32x16<S>) -> f32x16<S> {
        // The exponent's bias by a product, which makes subnormals normal, too.
        let size = f32x16::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        let special = size.simd_ge(65536.0).select(size.to_bits() | 0x7f80_0000, size.to_bits());
        f32x16::from_bits(special | ((bits & 0x8000) << 16))
    }

    #[inline(always)]
    fn narrow<S: Simd>(value: f32x16<S>) -> u32x16<S> {
        let size = value.abs();
        let bits = size.to_bits();
        // Below 2⁻¹⁴: adding ½ rounds to the spacing of subnormals, 2⁻²⁴.
        let subnormal = (size + 0.5).to_bits() - 0.5f32.to_bits();
        let normal = (bits + ((bits >> 13) & 1) + 0xfff - (112 << 23)) >> 13;
        let finite = size.simd_lt(f32::from_bits((127 - 14) << 23)).select(subnormal, normal);
        let infinite = size.simd_ge(65520.0).select(u32x16::splat(value.token(), 0x7c00), finite);
        let magnitude = value.is_nan().select(((bits >> 13) & 0x3ff) | 0x7e00, infinite);
        magnitude | ((value.to_bits() >> 16) & 0x8000)
    }
}
