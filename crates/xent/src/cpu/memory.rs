//! Where rows are read and written. The only unsafe code of the crate: logits and gradient may be one buffer, rows are written by several threads, and stores go past the cache.
//!
//! What makes it sound: a layout was checked against its buffer when its view was made, a view for writing has no element at two positions (`view.rs`), and the engine
//! hands each row, or each piece of a row, to one task, which reads and writes that only.

use std::marker::PhantomData;
use std::ops::Range;

use fearless_simd::{Simd, SimdBase, SimdFloat};

use crate::view::Layout;
use crate::{Element, Real, Rows, RowsMut};

/// Bytes of a cache line, by which stores past the cache and prefetches go.
const LINE: usize = 64;

/// Gradients of this many bytes or more are written past the cache: they would not stay in it, and a line that is overwritten whole need not be read first.
const STREAMED: usize = 8 << 20;

/// Rows to read.
#[doc(hidden)]
pub struct Source<'a, T> {
    first: *const T,
    layout: &'a Layout,
    _buffer: PhantomData<&'a [T]>,
}

/// Rows to write, each by one thread at a time.
pub(super) struct Sink<'a, T> {
    first: *mut T,
    layout: &'a Layout,
    streamed: bool,
    _buffer: PhantomData<&'a mut [T]>,
}

/// Logits that will be needed soon, to be fetched while there is something else to do.
pub(super) struct Ahead<T> {
    first: *const T,
    len: usize,
}

// SAFETY: a source is only read, as a `&[T]` is; where it shares its buffer with a sink, see `Sink`.
unsafe impl<T: Sync> Sync for Source<'_, T> {}
// SAFETY: writing is unsafe and demands that no two threads use the same entries at once; different rows, and different classes of one, share no element.
unsafe impl<T: Send> Sync for Sink<'_, T> {}

impl<'a, T: Element> Source<'a, T> {
    pub(super) fn new(rows: &'a Rows<'_, T>) -> Self {
        Self { first: rows.data().as_ptr(), layout: rows.layout(), _buffer: PhantomData }
    }

    pub(super) fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Classes `start..start + len` of a row where they lie, if they are neighbours.
    ///
    /// # Safety
    /// `row` is less than the layout's rows, the classes are less than its classes, and nobody writes them while the reference lives.
    #[inline(always)]
    pub(super) unsafe fn neighbours(&self, row: usize, start: usize, len: usize) -> Option<&[T]> {
        debug_assert!(row < self.layout.rows && start + len <= self.layout.classes);
        let first = self.layout.row_start(row) + start as isize;
        // SAFETY: the layout's positions lie in the buffer, and with stride 1 these are neighbours.
        (self.layout.class_stride == 1).then(|| unsafe { std::slice::from_raw_parts(self.first.offset(first), len) })
    }

    /// Widens classes `start..start + out.len()` of a row.
    ///
    /// # Safety
    /// `row` is less than the layout's rows, the classes are less than its classes, and no other thread writes them meanwhile.
    #[inline(always)]
    pub(super) unsafe fn read<S: Simd>(&self, simd: S, row: usize, start: usize, out: &mut [T::Real]) {
        debug_assert!(row < self.layout.rows && start + out.len() <= self.layout.classes);
        // SAFETY: nobody writes them meanwhile (contract), and the reference ends before this thread writes them.
        if let Some(block) = unsafe { self.neighbours(row, start, out.len()) } {
            T::widen(simd, block, out);
        } else {
            let stride = self.layout.class_stride;
            let first = self.layout.row_start(row) + start as isize * stride;
            for (k, out) in out.iter_mut().enumerate() {
                // SAFETY: the layout's positions lie in the buffer, and nobody writes them meanwhile (contract).
                *out = unsafe { self.first.offset(first + k as isize * stride).read() }.to_real();
            }
        }
    }

    /// Widens all classes of some rows, class by class: class k of the i-th row goes to `out[k·width + i]`. `flat` is room for as many.
    ///
    /// # Safety
    /// The rows are rows of the layout, and no other thread writes them meanwhile.
    #[inline(always)]
    pub(super) unsafe fn read_tile<S: Simd>(&self, simd: S, rows: Range<usize>, width: usize, flat: &mut [T::Real], out: &mut [T::Real]) {
        let (classes, class_stride) = (self.layout.classes, self.layout.class_stride);
        debug_assert!(rows.end <= self.layout.rows && rows.len() <= width && out.len() == classes * width);
        let mut row = rows.start;
        while row < rows.end {
            let run = self.layout.run(row);
            let (lane, len) = (row - rows.start, run.len.min(rows.end - row));
            if run.stride == 1 {
                for (k, out) in out.chunks_exact_mut(width).enumerate() {
                    // SAFETY: the layout's positions lie in the buffer, these are neighbours, and nobody writes them meanwhile (contract).
                    let values = unsafe { std::slice::from_raw_parts(self.first.offset(run.start + k as isize * class_stride), len) };
                    T::widen(simd, values, &mut out[lane..][..len]);
                }
            } else if class_stride == 1 && run.stride == classes as isize {
                // SAFETY: as above.
                let values = unsafe { std::slice::from_raw_parts(self.first.offset(run.start), len * classes) };
                let flat = &mut flat[..len * classes];
                T::widen(simd, values, flat);
                for (k, out) in out.chunks_exact_mut(width).enumerate() {
                    out[lane..][..len].iter_mut().zip(flat.chunks_exact(classes)).for_each(|(out, row)| *out = row[k]);
                }
            } else {
                for i in 0..len {
                    let start = run.start + i as isize * run.stride;
                    for (k, out) in out.chunks_exact_mut(width).enumerate() {
                        // SAFETY: as above, one position at a time.
                        out[lane + i] = unsafe { self.first.offset(start + k as isize * class_stride).read() }.to_real();
                    }
                }
            }
            row += len;
        }
    }

    /// The tile of up to `rows` rows from `row` on, to be fetched ahead of time; nothing where it is neither rows side by side nor one after another.
    pub(super) fn tile_ahead(&self, row: usize, rows: usize) -> TileAhead<T> {
        let (classes, nothing) = (self.layout.classes, TileAhead { first: self.first, class_stride: 0, classes: 0, len: 0 });
        if row >= self.layout.rows {
            return nothing;
        }
        let run = self.layout.run(row);
        let (first, rows) = (self.first.wrapping_offset(run.start), rows.min(run.len));
        match (run.stride, self.layout.class_stride) {
            (1, class_stride) => TileAhead { first, class_stride, classes, len: rows },
            (stride, 1) if stride == classes as isize => TileAhead { first, class_stride: 0, classes, len: rows * classes },
            _ => nothing,
        }
    }

    /// Classes `start..` of a row, up to `len`, to be fetched ahead of time; those of the next row from the last class on; nothing where classes are not neighbours.
    pub(super) fn ahead(&self, row: usize, start: usize, len: usize) -> Ahead<T> {
        let (row, start) = if start < self.layout.classes { (row, start) } else { (row + 1, 0) };
        if row >= self.layout.rows || self.layout.class_stride != 1 {
            return Ahead::NOTHING;
        }
        Ahead { first: self.first.wrapping_offset(self.layout.row_start(row) + start as isize), len: len.min(self.layout.classes - start) }
    }
}

/// A tile that will be needed soon, where it lies in runs.
pub(super) struct TileAhead<T> {
    first: *const T,
    /// From one class to the next, or 0 where rows lie one after another.
    class_stride: isize,
    classes: usize,
    len: usize,
}

impl<T> TileAhead<T> {
    /// What to fetch beside the sixteen rows from `column` on: as many elements for each class, these rows' or as much of the tile if rows lie one after another.
    #[inline(always)]
    pub(super) fn column(&self, column: usize) -> Steps<T> {
        const ROWS: isize = 16;
        if self.class_stride == 0 {
            // Nothing at all: the same line again and again.
            let step = if self.len == 0 { 0 } else { ROWS };
            Steps { next: self.first.wrapping_add(column * self.classes.min(self.len)), step }
        } else {
            Steps { next: self.first.wrapping_add(column), step: self.class_stride }
        }
    }
}

/// Sixteen elements at a time, to be fetched ahead of time. Where there are fewer left it goes on into what follows.
pub(super) struct Steps<T> {
    next: *const T,
    step: isize,
}

impl<T> Steps<T> {
    #[inline(always)]
    pub(super) fn fetch(&mut self) {
        prefetch(self.next.cast());
        self.next = self.next.wrapping_offset(self.step);
    }
}

/// A hint for any address whatever.
#[inline(always)]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of the target, and nothing is read.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

impl<T> Ahead<T> {
    pub(super) const NOTHING: Self = Self { first: std::ptr::null(), len: 0 };

    /// Fetches elements `start..start + len` as far as there are any.
    #[inline(always)]
    pub(super) fn fetch(&self, start: usize, len: usize) {
        if cfg!(target_arch = "x86_64") && start < self.len {
            let first = self.first.wrapping_add(start);
            (0..(len * size_of::<T>()).div_ceil(LINE)).for_each(|line| prefetch(first.wrapping_byte_add(line * LINE).cast()));
        }
    }
}

impl<'a, T: Element> Sink<'a, T> {
    pub(super) fn new<'v: 'a>(rows: &'a mut RowsMut<'v, T>) -> Self {
        let first = rows.data_mut().as_mut_ptr();
        let layout = rows.layout();
        let bytes = layout.rows.saturating_mul(layout.classes).saturating_mul(size_of::<T>());
        Self { first, layout, streamed: bytes >= STREAMED, _buffer: PhantomData }
    }

    /// The same rows to read: for gradients written over their logits.
    pub(super) fn as_source(&self) -> Source<'a, T> {
        Source { first: self.first, layout: self.layout, _buffer: PhantomData }
    }

    /// Rounds and writes classes `start..start + values.len()` of a row. `rounded` is room for as many, in cache.
    ///
    /// # Safety
    /// `row` is a row of the layout, the classes are classes of it, and no other thread reads or writes them meanwhile. Before another thread may look at what was written,
    /// this one calls [`finish`](Self::finish).
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, simd: S, row: usize, start: usize, values: &[T::Real], rounded: &mut [T]) {
        debug_assert!(row < self.layout.rows && start + values.len() <= self.layout.classes);
        let stride = self.layout.class_stride;
        let first = self.layout.row_start(row) + start as isize * stride;
        if stride != 1 {
            for (k, &value) in values.iter().enumerate() {
                // SAFETY: the layout's positions lie in the buffer, and no other reference to them is alive (contract).
                unsafe { self.first.offset(first + k as isize * stride).write(T::from_real(value)) };
            }
            return;
        }
        // SAFETY: as above; with stride 1 these positions are neighbours.
        let block = unsafe { std::slice::from_raw_parts_mut(self.first.offset(first), values.len()) };
        self.round(simd, values, block, rounded);
    }

    /// Writes `a·e + b` over some classes of a row, and `hot`'s values at their places from the first of these; `false`, and nothing is written, where that needs rounding or the
    /// classes are not neighbours. `e` goes on to the end of its last chunk.
    ///
    /// # Safety
    /// As [`write`](Self::write).
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub(super) unsafe fn write_scaled<S: Simd>(
        &self,
        simd: S,
        row: usize,
        classes: Range<usize>,
        e: &[T::Real],
        a: T::Real,
        b: T::Real,
        hot: [Option<(usize, T::Real)>; 2],
        ahead: impl Fn(usize, usize),
    ) -> bool {
        debug_assert!(row < self.layout.rows && classes.end <= self.layout.classes && e.len() >= classes.len());
        if self.layout.class_stride != 1 {
            return false;
        }
        let first = self.layout.row_start(row) + classes.start as isize;
        // SAFETY: the layout's positions lie in the buffer, with stride 1 these are neighbours, and no other reference to them is alive (contract).
        let Some(out) = T::as_real_mut(unsafe { std::slice::from_raw_parts_mut(self.first.offset(first), classes.len()) }) else { return false };
        simd.vectorize(
            #[inline(always)]
            || write_scaled(simd, out, e, a, b, hot, self.streamed, ahead),
        );
        true
    }

    /// Rounds and writes all classes of some rows from where [`read_tile`](Source::read_tile) puts them. `flat` and `rounded` are room for as many.
    ///
    /// # Safety
    /// The rows are rows of the layout, and no other thread reads or writes them meanwhile. Otherwise as [`write`](Self::write).
    #[inline(always)]
    pub(super) unsafe fn write_tile<S: Simd>(&self, simd: S, rows: Range<usize>, width: usize, values: &[T::Real], flat: &mut [T::Real], rounded: &mut [T]) {
        let (classes, class_stride) = (self.layout.classes, self.layout.class_stride);
        debug_assert!(rows.end <= self.layout.rows && rows.len() <= width && values.len() == classes * width);
        let mut row = rows.start;
        while row < rows.end {
            let run = self.layout.run(row);
            let (lane, len) = (row - rows.start, run.len.min(rows.end - row));
            if run.stride == 1 {
                for (k, values) in values.chunks_exact(width).enumerate() {
                    // SAFETY: the layout's positions lie in the buffer, these are neighbours, and no other reference to them is alive (contract).
                    let out = unsafe { std::slice::from_raw_parts_mut(self.first.offset(run.start + k as isize * class_stride), len) };
                    self.round(simd, &values[lane..][..len], out, rounded);
                }
            } else if class_stride == 1 && run.stride == classes as isize {
                let flat = &mut flat[..len * classes];
                for (k, values) in values.chunks_exact(width).enumerate() {
                    flat.chunks_exact_mut(classes).zip(&values[lane..]).for_each(|(row, value)| row[k] = *value);
                }
                // SAFETY: as above.
                let out = unsafe { std::slice::from_raw_parts_mut(self.first.offset(run.start), len * classes) };
                self.round(simd, flat, out, rounded);
            } else {
                for i in 0..len {
                    let start = run.start + i as isize * run.stride;
                    for (k, values) in values.chunks_exact(width).enumerate() {
                        // SAFETY: as above, one position at a time.
                        unsafe { self.first.offset(start + k as isize * class_stride).write(T::from_real(values[lane + i])) };
                    }
                }
            }
            row += len;
        }
    }

    /// Rounds neighbours; past the cache where that pays.
    #[inline(always)]
    fn round<S: Simd>(&self, simd: S, values: &[T::Real], out: &mut [T], rounded: &mut [T]) {
        if !self.streamed {
            T::narrow(simd, values, out);
        } else if let Some(out) = T::as_real_mut(out) {
            stream(simd, values, out);
        } else {
            let rounded = &mut rounded[..values.len()];
            T::narrow(simd, values, rounded);
            stream(simd, rounded, out);
        }
    }

    /// Makes what this thread wrote visible to whoever it tells next.
    pub(super) fn finish(&self) {
        #[cfg(target_arch = "x86_64")]
        if self.streamed {
            // SAFETY: SSE is part of the target.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }
}

/// out ← a·e + b, but for `hot`. Past the cache, if `streamed`: whole lines of `out` are; the ends of it go through the cache.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn write_scaled<S: Simd, R: Real>(simd: S, out: &mut [R], e: &[R], a: R, b: R, hot: [Option<(usize, R)>; 2], streamed: bool, ahead: impl Fn(usize, usize)) {
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
fn stream<S: Simd, T: Element>(simd: S, from: &[T], to: &mut [T]) {
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
fn stream<S: Simd, T: Element>(_: S, from: &[T], to: &mut [T]) {
    to.copy_from_slice(from);
}
