//! Rows to write.

use std::marker::PhantomData;
use std::ops::Range;

use fearless_simd::Simd;

use super::source::Source;
use super::stream::{stream, write_scaled};
use crate::view::Layout;
use crate::{Element, RowsMut};

/// Gradients of this many bytes or more are written past the cache: they would not stay in it, and a line that is overwritten whole need not be read first.
const STREAMED: usize = 8 << 20;

/// Rows to write, each by one thread at a time.
pub(in crate::cpu) struct Sink<'a, T> {
    first: *mut T,
    layout: &'a Layout,
    streamed: bool,
    _buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: writing is unsafe and demands that no two threads use the same entries at once; different rows, and different classes of one, share no element.
unsafe impl<T: Send> Sync for Sink<'_, T> {}

impl<'a, T: Element> Sink<'a, T> {
    pub(in crate::cpu) fn new<'v: 'a>(rows: &'a mut RowsMut<'v, T>) -> Self {
        let first = rows.data_mut().as_mut_ptr();
        let layout = rows.layout();
        let bytes = layout.rows.saturating_mul(layout.classes).saturating_mul(size_of::<T>());
        Self { first, layout, streamed: bytes >= STREAMED, _buffer: PhantomData }
    }

    /// The same rows to read: for gradients written over their logits.
    pub(in crate::cpu) fn as_source(&self) -> Source<'a, T> {
        Source { first: self.first, layout: self.layout, _buffer: PhantomData }
    }

    /// Rounds and writes classes `start..start + values.len()` of a row. `rounded` is room for as many, in cache.
    ///
    /// # Safety
    /// `row` is a row of the layout, the classes are classes of it, and no other thread reads or writes them meanwhile. Before another thread may look at what was written,
    /// this one calls [`finish`](Self::finish).
    #[inline(always)]
    pub(in crate::cpu) unsafe fn write<S: Simd>(&self, simd: S, row: usize, start: usize, values: &[T::Real], rounded: &mut [T]) {
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
    pub(in crate::cpu) unsafe fn write_scaled<S: Simd>(
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
    pub(in crate::cpu) unsafe fn write_tile<S: Simd>(
        &self,
        simd: S,
        rows: Range<usize>,
        width: usize,
        values: &[T::Real],
        flat: &mut [T::Real],
        rounded: &mut [T],
    ) {
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
    pub(in crate::cpu) fn finish(&self) {
        #[cfg(target_arch = "x86_64")]
        if self.streamed {
            // SAFETY: SSE is part of the target.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }
}
