//! Between rows of neighbouring classes, as they may lie in memory, and a tile.

use fearless_simd::Simd;

use crate::cpu::kernels::lanes::Lane;

/// Rows that lie one after another, and a tile of them: class k of the i-th row is at
/// `i·classes + k` of the one and at `k·width + i` of the other.
#[derive(Clone, Copy)]
pub(super) struct Transposed {
    pub(super) rows: usize,
    pub(super) classes: usize,
    pub(super) width: usize,
}

impl Transposed {
    /// Rows to a tile.
    ///
    /// # Panics
    /// If they do not fit.
    #[inline(always)]
    pub(super) fn to_tile<S: Simd, R: Lane>(self, simd: S, rows: &[R], tile: &mut [R]) {
        self.check(rows.len(), tile.len());
        let (from, to) = ((rows.as_ptr(), self.classes), (tile.as_mut_ptr(), self.width));
        // SAFETY: `check` has found all places to be in both.
        unsafe {
            self.copy(
                simd,
                from,
                to,
                #[inline(always)]
                |in_rows, in_tile| (in_rows, in_tile),
            );
        }
    }

    /// A tile to rows.
    ///
    /// # Panics
    /// If they do not fit.
    #[inline(always)]
    pub(super) fn to_rows<S: Simd, R: Lane>(self, simd: S, tile: &[R], rows: &mut [R]) {
        self.check(rows.len(), tile.len());
        let (from, to) = ((tile.as_ptr(), self.width), (rows.as_mut_ptr(), self.classes));
        // SAFETY: as in `to_tile`.
        unsafe {
            self.copy(
                simd,
                from,
                to,
                #[inline(always)]
                |in_rows, in_tile| (in_tile, in_rows),
            );
        }
    }

    /// From one of both to the other, each with its stride; `ends` puts a place in the rows and one in
    /// the tile in this order.
    ///
    /// # Safety
    /// All places can be read and written.
    #[inline(always)]
    unsafe fn copy<S: Simd, R: Lane>(
        self,
        simd: S,
        (from, from_stride): (*const R, usize),
        (to, to_stride): (*mut R, usize),
        ends: impl Fn(usize, usize) -> (usize, usize),
    ) {
        if R::SIDE <= self.rows && R::SIDE <= self.classes {
            self.squares(
                R::SIDE,
                #[inline(always)]
                |in_rows, in_tile| {
                    let (at, there) = ends(in_rows, in_tile);
                    // SAFETY: by contract.
                    unsafe { transpose(simd, from.add(at), from_stride, to.add(there), to_stride) };
                },
            );
        } else {
            self.entries(
                #[inline(always)]
                |in_rows, in_tile| {
                    let (at, there) = ends(in_rows, in_tile);
                    // SAFETY: by contract.
                    unsafe { to.add(there).write(from.add(at).read()) };
                },
            );
        }
    }

    #[inline(always)]
    fn check(self, rows: usize, tile: usize) {
        let Self { rows: n, classes, width } = self;
        assert!(n <= width && n * classes <= rows && (classes - 1) * width + n <= tile);
    }

    /// Calls with the places in both of the first entry of each square. The last squares end where
    /// rows or classes do, over what was there before.
    #[inline(always)]
    fn squares(self, side: usize, mut square: impl FnMut(usize, usize)) {
        let Self { rows, classes, width } = self;
        for row in (0..rows).step_by(side) {
            let row = row.min(rows - side);
            for class in (0..classes).step_by(side) {
                let class = class.min(classes - side);
                square(row * classes + class, class * width + row);
            }
        }
    }

    /// Calls with the places in both of each entry.
    #[inline(always)]
    fn entries(self, entry: impl FnMut(usize, usize)) {
        // Compiled for the numbers of classes that are too few for squares.
        match self.classes {
            2 => self.entries_of(2, entry),
            3 => self.entries_of(3, entry),
            classes => self.entries_of(classes, entry),
        }
    }

    #[inline(always)]
    fn entries_of(self, classes: usize, mut entry: impl FnMut(usize, usize)) {
        for row in 0..self.rows {
            (0..classes).for_each(|class| entry(row * classes + class, class * self.width + row));
        }
    }
}

/// The columns of a square become rows.
///
/// # Safety
/// All of its entries can be read, and written where they go.
#[inline(always)]
unsafe fn transpose<S: Simd, R: Lane>(
    simd: S,
    from: *const R,
    from_stride: usize,
    to: *mut R,
    to_stride: usize,
) {
    const { assert!(size_of::<R::Side>() == R::SIDE * size_of::<R>()) };
    R::transpose(
        simd,
        #[inline(always)]
        |i| {
            let side = from.wrapping_add(i * from_stride).cast::<R::Side>();
            // SAFETY: by contract; a side is SIDE numbers, which need not be aligned here.
            unsafe { side.read_unaligned() }
        },
        #[inline(always)]
        |k, side| {
            let to = to.wrapping_add(k * to_stride).cast::<R::Side>();
            // SAFETY: as above.
            unsafe { to.write_unaligned(side) };
        },
    );
}
