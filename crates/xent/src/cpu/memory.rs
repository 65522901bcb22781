//! Where rows are read and written. The only unsafe code of the crate: logits and gradient may be one buffer, and rows are written by several threads.
//!
//! What makes it sound: a layout was checked against its buffer when its view was made, a view for writing has no element at two positions (`view.rs`), and the engine
//! hands each row to one task, which reads and writes that row only.

use std::marker::PhantomData;

use crate::view::Layout;
use crate::{Element, Rows, RowsMut};

/// Rows to read.
pub(super) struct Source<'a, T> {
    first: *const T,
    layout: &'a Layout,
    _buffer: PhantomData<&'a [T]>,
}

/// Rows to write, each by one thread at a time.
pub(super) struct Sink<'a, T> {
    first: *mut T,
    layout: &'a Layout,
    _buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: a source is only read, as a `&[T]` is; where it shares its buffer with a sink, see `Sink`.
unsafe impl<T: Sync> Sync for Source<'_, T> {}
// SAFETY: `write` and `put` are unsafe and demand that no two threads use the same row at once; different rows share no element.
unsafe impl<T: Send> Sync for Sink<'_, T> {}

impl<'a, T: Element> Source<'a, T> {
    pub(super) fn new(rows: &'a Rows<'_, T>) -> Self {
        Self { first: rows.data().as_ptr(), layout: rows.layout(), _buffer: PhantomData }
    }

    pub(super) fn rows(&self) -> usize {
        self.layout.rows
    }

    pub(super) fn classes(&self) -> usize {
        self.layout.classes
    }

    /// Widens classes `start..start + out.len()` of a row.
    ///
    /// # Safety
    /// `row` is less than `rows()`, the classes are less than `classes()`, and no other thread writes the row meanwhile.
    pub(super) unsafe fn read(&self, row: usize, start: usize, out: &mut [T::Real]) {
        debug_assert!(row < self.layout.rows && start + out.len() <= self.layout.classes);
        let stride = self.layout.class_stride;
        let first = self.layout.row_start(row) + start as isize * stride;
        if stride == 1 {
            // SAFETY: the layout's positions lie in the buffer, and with stride 1 these are neighbours. Nobody writes them meanwhile (contract), and this reference
            // ends before this thread writes the row.
            let block = unsafe { std::slice::from_raw_parts(self.first.offset(first), out.len()) };
            T::widen(block, out);
        } else {
            for (k, out) in out.iter_mut().enumerate() {
                // SAFETY: as above, one position at a time.
                *out = unsafe { self.first.offset(first + k as isize * stride).read() }.to_real();
            }
        }
    }
}

impl<'a, T: Element> Sink<'a, T> {
    pub(super) fn new<'v: 'a>(rows: &'a mut RowsMut<'v, T>) -> Self {
        let first = rows.data_mut().as_mut_ptr();
        Self { first, layout: rows.layout(), _buffer: PhantomData }
    }

    /// The same rows to read: for gradients written over their logits.
    pub(super) fn as_source(&self) -> Source<'a, T> {
        Source { first: self.first, layout: self.layout, _buffer: PhantomData }
    }

    /// Rounds and writes classes `start..start + values.len()` of a row.
    ///
    /// # Safety
    /// `row` is a row of the layout, the classes are classes of it, and no other thread reads or writes the row meanwhile.
    pub(super) unsafe fn write(&self, row: usize, start: usize, values: &[T::Real]) {
        debug_assert!(row < self.layout.rows && start + values.len() <= self.layout.classes);
        let stride = self.layout.class_stride;
        let first = self.layout.row_start(row) + start as isize * stride;
        if stride == 1 {
            // SAFETY: the layout's positions lie in the buffer, with stride 1 these are neighbours, and no other reference to them is alive (contract).
            let block = unsafe { std::slice::from_raw_parts_mut(self.first.offset(first), values.len()) };
            T::narrow(values, block);
        } else {
            for (k, &value) in values.iter().enumerate() {
                // SAFETY: as above, one position at a time.
                unsafe { self.first.offset(first + k as isize * stride).write(T::from_real(value)) };
            }
        }
    }

    /// Rounds and writes one class of a row.
    ///
    /// # Safety
    /// As [`write`](Self::write).
    pub(super) unsafe fn put(&self, row: usize, class: usize, value: f64) {
        debug_assert!(row < self.layout.rows && class < self.layout.classes);
        let position = self.layout.row_start(row) + class as isize * self.layout.class_stride;
        // SAFETY: the position lies in the buffer, and no other reference to it is alive (contract).
        unsafe { self.first.offset(position).write(T::from_f64(value)) };
    }
}
