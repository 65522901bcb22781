//! What will be needed soon, to be fetched while there is something else to do.

use crate::buffer::LINE;
use crate::view::Layout;

/// Logits that will be needed soon, to be fetched while there is something else to do.
pub(in crate::cpu) struct Ahead<T> {
    first: *const T,
    len: usize,
}

impl<T> Ahead<T> {
    pub(in crate::cpu) const NOTHING: Self = Self { first: std::ptr::null(), len: 0 };

    /// Of a buffer that starts at `first`, classes `start..` of a row, up to `len`; those of the
    /// next row from the last class on; nothing where classes are not neighbours.
    pub(in crate::cpu) fn new(
        first: *const T,
        layout: &Layout,
        row: usize,
        start: usize,
        len: usize,
    ) -> Self {
        let (row, start) = if start < layout.classes { (row, start) } else { (row + 1, 0) };
        if row >= layout.rows || layout.class_stride != 1 {
            return Self::NOTHING;
        }
        Self {
            first: first.wrapping_offset(layout.row_start(row) + start as isize),
            len: len.min(layout.classes - start),
        }
    }

    /// Fetches elements `start..start + len` as far as there are any.
    #[inline(always)]
    pub(in crate::cpu) fn fetch(&self, start: usize, len: usize) {
        if cfg!(target_arch = "x86_64") && start < self.len {
            let first = self.first.wrapping_add(start);
            (0..(len * size_of::<T>()).div_ceil(LINE))
                .for_each(|line| prefetch(first.wrapping_byte_add(line * LINE).cast()));
        }
    }
}

/// A tile that will be needed soon, where it lies in runs.
pub(in crate::cpu) struct TileAhead<T> {
    first: *const T,
    /// From one class to the next, or 0 where rows lie one after another.
    class_stride: isize,
    classes: usize,
    len: usize,
}

impl<T> TileAhead<T> {
    /// Of a buffer that starts at `first`, the tile of up to `rows` rows from `row` on; nothing
    /// where it is neither rows side by side nor one after another.
    pub(super) fn new(first: *const T, layout: &Layout, row: usize, rows: usize) -> Self {
        let (classes, nothing) =
            (layout.classes, Self { first, class_stride: 0, classes: 0, len: 0 });
        if row >= layout.rows {
            return nothing;
        }
        let run = layout.run(row);
        let (first, rows) = (first.wrapping_offset(run.start), rows.min(run.len));
        match (run.stride, layout.class_stride) {
            (1, class_stride) => Self { first, class_stride, classes, len: rows },
            (stride, 1) if stride == classes as isize => {
                Self { first, class_stride: 0, classes, len: rows * classes }
            }
            _ => nothing,
        }
    }

    /// What fetches sixteen elements at each call, to be called for each class beside the sixteen
    /// rows from `column` on: those of these rows or, where rows lie one after another, as much of
    /// the tile. Past the tile's end it goes on into what follows.
    #[inline(always)]
    pub(in crate::cpu) fn column(&self, column: usize) -> impl FnMut() + use<T> {
        const ROWS: isize = 16;
        let (mut next, step) = if self.class_stride == 0 {
            // Nothing at all: the same line again and again.
            let step = if self.len == 0 { 0 } else { ROWS };
            (self.first.wrapping_add(column * self.classes.min(self.len)), step)
        } else {
            (self.first.wrapping_add(column), self.class_stride)
        };
        #[inline(always)]
        move || {
            prefetch(next.cast());
            next = next.wrapping_offset(step);
        }
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
