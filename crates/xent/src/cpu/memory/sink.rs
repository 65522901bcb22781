//! Rows to write.

use std::marker::PhantomData;
use std::ops::Range;

use fearless_simd::Simd;

use super::source::Source;
use super::stream::{ScaledRow, stream, write_scaled};
use super::transpose::Transposed;
use crate::buffer::Buffer;
use crate::cpu::logit::Logit;
use crate::element::sealed::Sealed;
use crate::view::Layout;
use crate::{Element, RowsMut};

/// Gradients of this many bytes or more are written past the cache: they would not stay in it, and
/// a line that is overwritten whole need not be read first.
const STREAMED: usize = 8 << 20;

/// Rows to write, each by one thread at a time.
pub(super) struct Sink<'a, T> {
    first: *mut T,
    layout: &'a Layout,
    streamed: bool,
    _buffer: PhantomData<&'a mut [T]>,
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
        // SAFETY: the layout was checked against this buffer when the view was made.
        unsafe { Source::at(self.first, self.layout) }
    }

    /// Whether it is written past the cache, so that other threads see it only after a fence.
    pub(super) fn is_streamed(&self) -> bool {
        self.streamed
    }
}

impl<T: Logit> Sink<'_, T> {
    /// Rounds and writes classes `start..start + values.len()` of a row. `rounded` is room for as
    /// many, in cache.
    ///
    /// # Safety
    /// `row` is a row of the layout, the classes are classes of it, no reference to these entries
    /// is alive, and no other thread reads or writes them meanwhile. Where the sink is
    /// [streamed](Self::is_streamed), this thread makes a fence before another may look at what was
    /// written.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(
        &self,
        simd: S,
        row: usize,
        start: usize,
        values: &[T::Real],
        rounded: &mut Buffer<T>,
    ) {
        debug_assert!(row < self.layout.rows && start + values.len() <= self.layout.classes);
        let stride = self.layout.class_stride;
        let first = self.layout.row_start(row) + start as isize * stride;
        if stride != 1 {
            for (k, &value) in values.iter().enumerate() {
                // SAFETY: the layout's positions lie in the buffer, and no other reference to them
                // is alive (contract).
                unsafe {
                    self.first.offset(first + k as isize * stride).write(T::from_real(value))
                };
            }
            return;
        }
        // SAFETY: as above; with stride 1 these positions are neighbours.
        let block =
            unsafe { std::slice::from_raw_parts_mut(self.first.offset(first), values.len()) };
        self.round(simd, values, block, rounded);
    }

    /// Writes entries over neighbouring classes of a row; `false`, and nothing is written, where
    /// that needs rounding or the classes are not neighbours. `ahead` is told which entries are
    /// being written.
    ///
    /// # Safety
    /// As [`write`](Self::write).
    #[inline(always)]
    pub(super) unsafe fn write_scaled<S: Simd>(
        &self,
        simd: S,
        row: usize,
        classes: Range<usize>,
        entries: ScaledRow<'_, T::Real>,
        ahead: impl Fn(usize, usize),
    ) -> bool {
        debug_assert!(row < self.layout.rows && classes.end <= self.layout.classes);
        if self.layout.class_stride != 1 {
            return false;
        }
        let first = self.layout.row_start(row) + classes.start as isize;
        // SAFETY: the layout's positions lie in the buffer, with stride 1 these are neighbours, and
        // no other reference to them is alive (contract).
        let Some(out) = T::as_real_mut(unsafe {
            std::slice::from_raw_parts_mut(self.first.offset(first), classes.len())
        }) else {
            return false;
        };
        simd.vectorize(
            #[inline(always)]
            || write_scaled(simd, out, entries, self.streamed, ahead),
        );
        true
    }

    /// Rounds and writes all classes of some rows from where [`read_tile`](Source::read_tile) puts
    /// them. `flat` and `rounded` are room for as many.
    ///
    /// # Safety
    /// The rows are rows of the layout, and no other thread reads or writes them meanwhile.
    /// Otherwise as [`write`](Self::write).
    #[inline(always)]
    pub(super) unsafe fn write_tile<S: Simd>(
        &self,
        simd: S,
        rows: Range<usize>,
        width: usize,
        values: &[T::Real],
        flat: &mut Buffer<T::Real>,
        rounded: &mut Buffer<T>,
    ) {
        let (classes, class_stride) = (self.layout.classes, self.layout.class_stride);
        debug_assert!(rows.end <= self.layout.rows);
        assert!(rows.len() <= width && values.len() == classes * width);
        let mut row = rows.start;
        while row < rows.end {
            let run = self.layout.run(row);
            let (lane, len) = (row - rows.start, run.len.min(rows.end - row));
            if run.stride == 1 {
                for (k, values) in values.chunks_exact(width).enumerate() {
                    // SAFETY: the layout's positions lie in the buffer, these are neighbours, and
                    // no other reference to them is alive (contract).
                    let out = unsafe {
                        std::slice::from_raw_parts_mut(
                            self.first.offset(run.start + k as isize * class_stride),
                            len,
                        )
                    };
                    self.round(simd, &values[lane..][..len], out, rounded);
                }
            } else if class_stride == 1 && run.stride == classes as isize {
                // SAFETY: as above.
                let out = unsafe {
                    std::slice::from_raw_parts_mut(self.first.offset(run.start), len * classes)
                };
                let transposed = Transposed { rows: len, classes, width };
                match T::as_real_mut(out).filter(|_| !self.streamed) {
                    Some(out) => transposed.to_rows(simd, &values[lane..], out),
                    None => {
                        let flat = flat.room(len * classes, T::Real::ZERO);
                        transposed.to_rows(simd, &values[lane..], flat);
                        self.round(simd, flat, out, rounded);
                    }
                }
            } else {
                for i in 0..len {
                    let start = run.start + i as isize * run.stride;
                    for (k, values) in values.chunks_exact(width).enumerate() {
                        // SAFETY: as above, one position at a time.
                        unsafe {
                            self.first
                                .offset(start + k as isize * class_stride)
                                .write(T::from_real(values[lane + i]))
                        };
                    }
                }
            }
            row += len;
        }
    }

    /// Rounds neighbours; past the cache where that pays.
    #[inline(always)]
    fn round<S: Simd>(&self, simd: S, values: &[T::Real], out: &mut [T], rounded: &mut Buffer<T>) {
        if !self.streamed {
            T::narrow(simd, values, out);
        } else if let Some(out) = T::as_real_mut(out) {
            stream(simd, values, out);
        } else {
            let rounded = rounded.room(values.len(), T::ZERO);
            T::narrow(simd, values, rounded);
            stream(simd, rounded, out);
        }
    }
}
