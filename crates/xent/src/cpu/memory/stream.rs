//! Stores past the cache.

use fearless_simd::{Simd, SimdBase, SimdFloat};

use crate::cpu::buffer::LINE;
use crate::{Element, Real};

/// out ← a·e + b, but for `hot`. Past the cache, if `streamed`: whole lines of `out` are; the ends of it go through the cache.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn write_scaled<S: Simd, R: Real>(
    simd: S,
    out: &mut [R],
    e: &[R],
    a: R,
    b: R,
    hot: [Option<(usize, R)>; 2],
    streamed: bool,
    ahead: impl Fn(usize, usize),
) {
    let lanes = R::Lanes::<S>::LEN;
    let (a, b) = (R::Lanes::<S>::splat(simd, a), R::Lanes::<S>::splat(simd, b));
    let head = if streamed { out.as_ptr().align_offset(LINE).min(out.len()) } else { 0 };
    let body = head + (out.len() - head) / lanes * lanes;
    for (from, to) in [(0, head), (body, out.len())] {
        if from < to {
            // `e` goes on to the end of its last chunk, but that need not be a vector away.
            let start = from.min(e.len() - lanes);
            let vector = R::Lanes::<S>::from_slice(simd, &e[start..][..lanes]).mul_add(a, b);
            out[from..to].copy_from_slice(&vector.as_slice()[from - start..][..to - from]);
        }
    }
    let line_of = |hot: Option<(usize, R)>| hot.map_or(usize::MAX, |(class, _)| class.wrapping_sub(head) / lanes);
    let special = [line_of(hot[0]), line_of(hot[1])];
    for (i, (out, e)) in out[head..body].chunks_exact_mut(lanes).zip(e[head..].chunks_exact(lanes)).enumerate() {
        let from = head + i * lanes;
        ahead(from, lanes);
        let line = R::Lanes::<S>::from_slice(simd, e).mul_add(a, b);
        let put = |line: R::Lanes<S>, out: &mut [R]| if streamed { stream_line(simd, line.as_slice(), out) } else { line.store_slice(out) };
        if i != special[0] && i != special[1] {
            put(line, out);
            continue;
        }
        let mut line = line;
        for (class, value) in hot.into_iter().flatten() {
            if let Some(entry) = class.checked_sub(from).and_then(|k| line.as_mut_slice().get_mut(k)) {
                *entry = value;
            }
        }
        put(line, out);
    }
    for (class, value) in hot.into_iter().flatten() {
        if class < head || class >= body {
            out[class] = value;
        }
    }
}

/// Copies past the cache, line by line.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(super) fn stream<S: Simd, T: Element>(simd: S, from: &[T], to: &mut [T]) {
    let per_line = LINE / size_of::<T>();
    let head = to.as_ptr().align_offset(LINE).min(to.len());
    let lines = (to.len() - head) / per_line;
    let tail = head + lines * per_line;
    to[..head].copy_from_slice(&from[..head]);
    to[tail..].copy_from_slice(&from[tail..]);
    for (from, to) in from[head..tail].chunks_exact(per_line).zip(to[head..tail].chunks_exact_mut(per_line)) {
        stream_line(simd, from, to);
    }
}

/// Copies a line past the cache; `to` starts at a multiple of one.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
fn stream_line<S: Simd, T: Copy>(simd: S, from: &[T], to: &mut [T]) {
    assert!(size_of_val(from) == LINE && size_of_val(to) == LINE && to.as_ptr().addr().is_multiple_of(LINE));
    let line = Line { from: from.as_ptr().cast(), to: to.as_mut_ptr().cast() };
    if let Some(avx512) = simd.level().as_avx512() {
        stream_512(avx512, line);
    } else if let Some(avx2) = simd.level().as_avx2() {
        stream_256(avx2, line);
    } else {
        stream_128(line);
    }
}

#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
fn stream_line<S: Simd, T: Copy>(_: S, from: &[T], to: &mut [T]) {
    to.copy_from_slice(from);
}

/// A line to copy: both pointers are good for [`LINE`] bytes, and `to` is a multiple of that.
#[cfg(target_arch = "x86_64")]
struct Line {
    from: *const u8,
    to: *mut u8,
}

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn stream_512(avx512: Avx512, line: Line) {
        use std::arch::x86_64::{_mm512_loadu_si512, _mm512_stream_si512};
        // SAFETY: a `Line` is what these ask for. `finish` orders the store before what follows it.
        unsafe { _mm512_stream_si512(line.to.cast(), _mm512_loadu_si512(line.from.cast())) };
    }
);

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn stream_256(avx2: Avx2, line: Line) {
        use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_stream_si256};
        let (from, to): (*const __m256i, *mut __m256i) = (line.from.cast(), line.to.cast());
        for half in 0..2 {
            // SAFETY: as above.
            unsafe { _mm256_stream_si256(to.add(half), _mm256_loadu_si256(from.add(half))) };
        }
    }
);

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stream_128(line: Line) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    let (from, to): (*const __m128i, *mut __m128i) = (line.from.cast(), line.to.cast());
    for quarter in 0..4 {
        // SAFETY: as above; SSE2 is part of the target.
        unsafe { _mm_stream_si128(to.add(quarter), _mm_loadu_si128(from.add(quarter))) };
    }
}

#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn stream<S: Simd, T: Element>(_: S, from: &[T], to: &mut [T]) {
    to.copy_from_slice(from);
}
