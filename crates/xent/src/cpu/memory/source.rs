//! Rows to read.

use std::marker::PhantomData;
use std::ops::Range;

use fearless_simd::Simd;

use super::ahead::{Ahead, TileAhead};
use super::transpose::Transposed;
use crate::buffer::Buffer;
use crate::cpu::logit::Logit;
use crate::element::sealed::Sealed;
use crate::view::Layout;
use crate::{Element, Rows};

/// Rows to read.
pub(super) struct Source<'a, T> {
    first: *const T,
    layout: &'a Layout,
    _buffer: PhantomData<&'a [T]>,
}

impl<'a, T: Element> Source<'a, T> {
    pub(super) fn new(rows: &'a Rows<'_, T>) -> Self {
        // SAFETY: the layout was checked against this buffer when the view was made.
        unsafe { Self::at(rows.data().as_ptr(), rows.layout()) }
    }

    /// # Safety
    /// The layout's positions lie in the buffer that starts at `first`, which is good for reading
    /// for `'a`.
    pub(super) unsafe fn at(first: *const T, layout: &'a Layout) -> Self {
        Self { first, layout, _buffer: PhantomData }
    }

    pub(super) fn layout(&self) -> &'a Layout {
        self.layout
    }
}

impl<T: Logit> Source<'_, T> {
    /// Classes `start..start + len` of a row where they lie, if they are neighbours.
    ///
    /// # Safety
    /// `row` is less than the layout's rows, the classes are less than its classes, and nobody
    /// writes them while the reference lives.
    #[inline(always)]
    pub(super) unsafe fn neighbours(&self, row: usize, start: usize, len: usize) -> Option<&[T]> {
        debug_assert!(row < self.layout.rows && start + len <= self.layout.classes);
        let first = self.layout.row_start(row) + start as isize;
        // SAFETY: the layout's positions lie in the buffer, and with stride 1 these are neighbours.
        (self.layout.class_stride == 1)
            .then(|| unsafe { std::slice::from_raw_parts(self.first.offset(first), len) })
    }

    /// Widens classes `start..start + out.len()` of a row.
    ///
    /// # Safety
    /// `row` is less than the layout's rows, the classes are less than its classes, and no other
    /// thread writes them meanwhile.
    #[inline(always)]
    pub(super) unsafe fn read<S: Simd>(
        &self,
        simd: S,
        row: usize,
        start: usize,
        out: &mut [T::Real],
    ) {
        debug_assert!(row < self.layout.rows && start + out.len() <= self.layout.classes);
        // SAFETY: nobody writes them meanwhile (contract), and the reference ends before this
        // thread writes them.
        if let Some(block) = unsafe { self.neighbours(row, start, out.len()) } {
            T::widen(simd, block, out);
        } else {
            let stride = self.layout.class_stride;
            let first = self.layout.row_start(row) + start as isize * stride;
            for (k, out) in out.iter_mut().enumerate() {
                // SAFETY: the layout's positions lie in the buffer, and nobody writes them
                // meanwhile (contract).
                *out = unsafe { self.first.offset(first + k as isize * stride).read() }.to_real();
            }
        }
    }

    /// Widens all classes of some rows, class by class: class k of the i-th row goes to
    /// `out[k·width + i]`. `flat` is room for as many.
    ///
    /// # Safety
    /// The rows are rows of the layout, and no other thread writes them meanwhile.
    #[inline(always)]
    pub(super) unsafe fn read_tile<S: Simd>(
        &self,
        simd: S,
        rows: Range<usize>,
        width: usize,
        flat: &mut Buffer<T::Real>,
        out: &mut [T::Real],
    ) {
        let (classes, class_stride) = (self.layout.classes, self.layout.class_stride);
        debug_assert!(rows.end <= self.layout.rows);
        assert!(rows.len() <= width && out.len() == classes * width);
        let mut row = rows.start;
        while row < rows.end {
            let run = self.layout.run(row);
            let (lane, len) = (row - rows.start, run.len.min(rows.end - row));
            if run.stride == 1 {
                for (k, out) in out.chunks_exact_mut(width).enumerate() {
                    // SAFETY: the layout's positions lie in the buffer, these are neighbours, and
                    // nobody writes them meanwhile (contract).
                    let values = unsafe {
                        std::slice::from_raw_parts(
                            self.first.offset(run.start + k as isize * class_stride),
                            len,
                        )
                    };
                    T::widen(simd, values, &mut out[lane..][..len]);
                }
            } else if class_stride == 1 && run.stride == classes as isize {
                // SAFETY: as above.
                let values = unsafe {
                    std::slice::from_raw_parts(self.first.offset(run.start), len * classes)
                };
                let values = T::as_real(values).unwrap_or_else(
                    #[inline(always)]
                    || {
                        let flat = flat.room(len * classes, T::Real::ZERO);
                        T::widen(simd, values, flat);
                        flat
                    },
                );
                Transposed { rows: len, classes, width }.to_tile(simd, values, &mut out[lane..]);
            } else {
                for i in 0..len {
                    let start = run.start + i as isize * run.stride;
                    for (k, out) in out.chunks_exact_mut(width).enumerate() {
                        // SAFETY: as above, one position at a time.
                        out[lane + i] =
                            unsafe { self.first.offset(start + k as isize * class_stride).read() }
                                .to_real();
                    }
                }
            }
            row += len;
        }
    }

    /// See [`TileAhead::new`].
    pub(super) fn tile_ahead(&self, row: usize, rows: usize) -> TileAhead<T> {
        TileAhead::new(self.first, self.layout, row, rows)
    }

    /// See [`Ahead::new`].
    pub(super) fn ahead(&self, row: usize, start: usize, len: usize) -> Ahead<T> {
        Ahead::new(self.first, self.layout, row, start, len)
    }
}
