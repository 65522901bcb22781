//! Scratch memory that starts at a cache line, so that no vector in it lies on two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// As many elements as were asked for, all of them a given value at first.
pub(crate) struct Buffer<E> {
    memory: Vec<E>,
    start: usize,
    len: usize,
}

impl<E> Default for Buffer<E> {
    fn default() -> Self {
        Self { memory: Vec::new(), start: 0, len: 0 }
    }
}

impl<E: Copy> Buffer<E> {
    pub(crate) fn new(len: usize, value: E) -> Self {
        let memory = vec![value; if len == 0 { 0 } else { len + LINE / size_of::<E>() }];
        let start = if len == 0 {
            0
        } else {
            memory.as_ptr().align_offset(LINE).min(LINE / size_of::<E>())
        };
        Self { memory, start, len }
    }

    /// The first `len` elements; the buffer is made as long as that first, if it is not.
    #[inline(always)]
    pub(crate) fn room(&mut self, len: usize, value: E) -> &mut [E] {
        if self.len < len {
            *self = Self::new(len, value);
        }
        &mut self[..len]
    }
}

impl<E> Deref for Buffer<E> {
    type Target = [E];
    #[inline(always)]
    fn deref(&self) -> &[E] {
        &self.memory[self.start..][..self.len]
    }
}

impl<E> DerefMut for Buffer<E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.memory[self.start..][..self.len]
    }
}
