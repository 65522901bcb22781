//! Columns of one length in one piece of memory, since a small batch is done sooner than some dozen
//! allocations.

use crate::buffer::{Buffer, LINE};

/// `N` columns. Where their length is a multiple of a line's, each begins at a line.
pub(crate) struct Columns<E, const N: usize> {
    memory: Buffer<E>,
    len: usize,
}

impl<E: Copy, const N: usize> Columns<E, N> {
    /// Between two columns. Where all began at multiples of a power of two, their entries of a row
    /// would be at odds for the same few lines of the cache.
    const GAP: usize = LINE / size_of::<E>();

    /// Columns of `len` entries, all of them a given value at first.
    pub(crate) fn new(len: usize, value: E) -> Self {
        Self { memory: Buffer::new(N * (len + Self::GAP), value), len }
    }

    #[inline(always)]
    pub(crate) fn all(&self) -> [&[E]; N] {
        std::array::from_fn(|i| &self.memory[i * (self.len + Self::GAP)..][..self.len])
    }

    #[inline(always)]
    pub(crate) fn all_mut(&mut self) -> [&mut [E]; N] {
        let mut rest = &mut self.memory[..];
        std::array::from_fn(|_| {
            let (column, others) = std::mem::take(&mut rest).split_at_mut(self.len + Self::GAP);
            rest = others;
            &mut column[..self.len]
        })
    }
}
