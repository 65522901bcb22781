//! Scratch memory that starts at a cache line, so that no vector in it lies on two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// As many elements as were asked for, all of them a given value at first.
#[derive(Default)]
pub(super) struct Buffer<E> {
    memory: Vec<E>,
    start: usize,
    len: usize,
}

impl<E: Copy> Buffer<E> {
    pub(super) fn new(len: usize, value: E) -> Self {
        let memory = vec![value; if len == 0 { 0 } else { len + LINE / size_of::<E>() }];
        let start = if len == 0 {
            0
        } else {
            memory.as_ptr().align_offset(LINE).min(LINE / size_of::<E>())
        };
        Self { memory, start, len }
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
