//! Stores past the cache.

use fearless_simd::{Simd, SimdBase, SimdFloat};

use crate::Element;
use crate::buffer::LINE;
use crate::cpu::kernels::lanes::Lane;

/// Lines of a gradient that are written between looks ahead.
const LINES: usize = 8;

/// Entries of a row's gradient: `a·e + b`, and at two places at most the value that stands there.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct ScaledRow<'e, R> {
    /// Goes on to the end of its last chunk.
    pub(in crate::cpu) e: &'e [R],
    pub(in crate::cpu) a: R,
    pub(in crate::cpu) b: R,
    pub(in crate::cpu) hot: [Option<(usize, R)>; 2],
}

/// Past the cache, if `streamed`: whole lines of `out` are; the ends of it go through the cache.
#[inline(always)]
pub(super) fn write_scaled<S: Simd, R: Lane>(
    simd: S,
    out: &mut [R],
    entries: ScaledRow<'_, R>,
    streamed: bool,
    ahead: impl Fn(usize, usize),
) {
    let ScaledRow { e, a, b, hot } = entries;
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
    let (out_lines, e_lines) = (&mut out[head..body], &e[head..]);
    let count = out_lines.len() / lanes;
    let mut special =
        hot.map(|hot| hot.map_or(count, |(class, _)| class.wrapping_sub(head) / lanes).min(count));
    special.sort_unstable();
    let mut done = 0;
    for line in special.into_iter().chain([count]) {
        // Both hot classes may be in one line.
        for start in (done..line).step_by(LINES) {
            let elements = start * lanes..line.min(start + LINES) * lanes;
            ahead(head + elements.start, elements.len());
            let pairs = out_lines[elements.clone()]
                .chunks_exact_mut(lanes)
                .zip(e_lines[elements].chunks_exact(lanes));
            for (out, e) in pairs {
                put(simd, R::Lanes::<S>::from_slice(simd, e).mul_add(a, b), out, streamed);
            }
        }
        if line < count && line >= done {
            let elements = line * lanes..(line + 1) * lanes;
            let mut entries =
                R::Lanes::<S>::from_slice(simd, &e_lines[elements.clone()]).mul_add(a, b);
            for (class, value) in hot.into_iter().flatten() {
                let place = class.wrapping_sub(head + elements.start);
                if let Some(entry) = entries.as_mut_slice().get_mut(place) {
                    *entry = value;
                }
            }
            put(simd, entries, &mut out_lines[elements], streamed);
        }
        done = done.max(line + 1);
    }
    for (class, value) in hot.into_iter().flatten() {
        if class < head || class >= body {
            out[class] = value;
        }
    }
}

#[inline(always)]
fn put<S: Simd, R: Lane>(simd: S, line: R::Lanes<S>, out: &mut [R], streamed: bool) {
    if streamed { stream_line(simd, line.as_slice(), out) } else { line.store_slice(out) }
}

/// Copies past the cache, line by line; the ends that are not whole lines go through the cache.
///
/// The lines are arrays, not `chunks_exact`, whose length is a value at run time. If the compiler
/// does not inline the `zip` of two of those, it passes them on the stack and loads them in other
/// pieces than they were stored in. Such a load waits until every store before it has left the
/// core, and here those before it are on their way to memory.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(super) fn stream<S: Simd, T: Element>(simd: S, from: &[T], to: &mut [T]) {
    assert_eq!(from.len(), to.len());
    // SAFETY: numbers are bytes without padding, of any value.
    let (to_head, to_lines, to_tail) = unsafe { to.align_to_mut::<AlignedLine>() };
    let (from_head, from) = from.split_at(to_head.len());
    let (from_body, from_tail) = from.split_at(from.len() - to_tail.len());
    // SAFETY: as above; the body has as many elements as the lines.
    let from_lines: &[[u8; LINE]] =
        unsafe { std::slice::from_raw_parts(from_body.as_ptr().cast(), to_lines.len()) };
    to_head.copy_from_slice(from_head);
    to_tail.copy_from_slice(from_tail);
    for (from, to) in from_lines.iter().zip(to_lines) {
        Line { from, to }.stream(simd);
    }
}

/// Copies a line past the cache; `to` starts at a multiple of one.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
fn stream_line<S: Simd, T: Element>(simd: S, from: &[T], to: &mut [T]) {
    Line::new(from, to).stream(simd);
}

#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
fn stream_line<S: Simd, T: Element>(_: S, from: &[T], to: &mut [T]) {
    to.copy_from_slice(from);
}

/// A line to copy, and where to.
#[cfg(target_arch = "x86_64")]
struct Line<'l> {
    from: &'l [u8; LINE],
    to: &'l mut AlignedLine,
}

#[cfg(target_arch = "x86_64")]
#[repr(align(64))]
struct AlignedLine([u8; LINE]);

#[cfg(target_arch = "x86_64")]
impl<'l> Line<'l> {
    #[inline(always)]
    fn new<T: Element>(from: &'l [T], to: &'l mut [T]) -> Self {
        assert!(
            size_of_val(from) == LINE
                && size_of_val(to) == LINE
                && to.as_ptr().addr().is_multiple_of(align_of::<AlignedLine>())
        );
        // SAFETY: they have a line's length, `to` its alignment, and numbers are bytes without
        // padding, of any value.
        unsafe { Self { from: &*from.as_ptr().cast(), to: &mut *to.as_mut_ptr().cast() } }
    }

    #[inline(always)]
    fn stream<S: Simd>(self, simd: S) {
        if let Some(avx512) = simd.level().as_avx512() {
            stream_512(avx512, self);
        } else if let Some(avx2) = simd.level().as_avx2() {
            stream_256(avx2, self);
        } else {
            stream_128(self);
        }
    }
}

// Each stores a whole line, and a `FenceOnDrop` orders that before what follows.

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn stream_512(avx512: Avx512, line: Line<'_>) {
        use std::arch::x86_64::{_mm512_loadu_si512, _mm512_stream_si512};
        // SAFETY: both are 64 bytes, `to` at a multiple of that.
        unsafe {
            _mm512_stream_si512(
                line.to.0.as_mut_ptr().cast(),
                _mm512_loadu_si512(line.from.as_ptr().cast()),
            )
        };
    }
);

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn stream_256(avx2: Avx2, line: Line<'_>) {
        use std::arch::x86_64::{_mm256_loadu_si256, _mm256_stream_si256};
        let (from, to) = (line.from.as_ptr(), line.to.0.as_mut_ptr());
        for half in [0, 32] {
            // SAFETY: both have 32 bytes from here on, `to` at a multiple of that.
            unsafe {
                _mm256_stream_si256(to.add(half).cast(), _mm256_loadu_si256(from.add(half).cast()))
            };
        }
    }
);

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stream_128(line: Line<'_>) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};
    let (from, to) = (line.from.as_ptr(), line.to.0.as_mut_ptr());
    for quarter in [0, 16, 32, 48] {
        // SAFETY: both have 16 bytes from here on, `to` at a multiple of that; SSE2 is part of the
        // target.
        unsafe {
            _mm_stream_si128(to.add(quarter).cast(), _mm_loadu_si128(from.add(quarter).cast()))
        };
    }
}

#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn stream<S: Simd, T: Element>(_: S, from: &[T], to: &mut [T]) {
    to.copy_from_slice(from);
}

/// When it is dropped, what its thread wrote past the cache is visible to whomever that tells next.
pub(super) struct FenceOnDrop {
    pub(super) streamed: bool,
}

impl Drop for FenceOnDrop {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.streamed {
            // SAFETY: SSE is part of the target.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::Real;
    use crate::cpu::instructions::{Instructions, on_level};

    /// Copies into a buffer of -1 at every distance from the start of a line.
    fn check<T: Element>() {
        let per_line = LINE / size_of::<T>();
        let values: Vec<T> = (0..4 * per_line).map(|i| T::from_f64(i as f64)).collect();
        for instructions in Instructions::available() {
            for start in 0..per_line {
                for len in 0..=3 * per_line {
                    let mut to = vec![T::from_f64(-1.0); start + len + per_line];
                    let written = start..start + len;
                    on_level!(instructions.level_or_baseline(), simd => {
                        stream(simd, &values[..len], &mut to[written.clone()]);
                    });
                    drop(FenceOnDrop { streamed: true });
                    for (i, value) in to.into_iter().enumerate() {
                        let expected = if written.contains(&i) { (i - start) as f64 } else { -1.0 };
                        assert_eq!(
                            value.to_real().to_f64(),
                            expected,
                            "{instructions}: element {i} of {len} from {start} on"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn copies_start_and_end_anywhere() {
        check::<f32>();
        check::<f64>();
        check::<bf16>();
    }
}
