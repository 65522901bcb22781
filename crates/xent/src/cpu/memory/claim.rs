//! Who may read and write what: see [the module](super).

use std::ops::Range;

use fearless_simd::Simd;

use super::ahead::{Ahead, TileAhead};
use super::sink::Sink;
use super::source::Source;
use super::stream::{FenceOnDrop, ScaledRow};
use crate::buffer::Buffer;
use crate::cpu::logit::Logit;
use crate::view::Layout;
use crate::{Element, InputError, Rows, RowsMut};

/// The logits of a call and the place of its gradient, if it makes one: memory of its own, or the
/// logits'.
pub(crate) struct Memory<'a, T> {
    logits: Source<'a, T>,
    gradient: Option<Sink<'a, T>>,
}

// SAFETY: through a shared `Memory` nothing is read or written but by claims, of which no two have
// an element in common that one of them may write. What a claim reads and writes is `T`s, from
// whichever thread has the claim, as `&[T]` and `&mut [T]` do.
unsafe impl<T: Send + Sync> Sync for Memory<'_, T> {}

impl<'a, T: Element> Memory<'a, T> {
    /// Logits without a gradient.
    pub(crate) fn logits(logits: &'a Rows<'_, T>) -> Self {
        Self { logits: Source::new(logits), gradient: None }
    }

    /// Logits, and a gradient beside them.
    ///
    /// # Errors
    /// [`InputError::Shape`] where these are of two shapes.
    pub(crate) fn with_gradient(
        logits: &'a Rows<'_, T>,
        gradient: &'a mut RowsMut<'_, T>,
    ) -> Result<Self, InputError> {
        if (gradient.rows(), gradient.classes()) != (logits.rows(), logits.classes()) {
            return Err(InputError::Shape {
                name: "the gradient",
                rows: gradient.rows(),
                classes: gradient.classes(),
                expected_rows: logits.rows(),
                expected_classes: logits.classes(),
            });
        }
        Ok(Self { logits: Source::new(logits), gradient: Some(Sink::new(gradient)) })
    }

    /// Logits over which the gradient is written.
    pub(crate) fn in_place(logits: &'a mut RowsMut<'_, T>) -> Self {
        let gradient = Sink::new(logits);
        Self { logits: gradient.as_source(), gradient: Some(gradient) }
    }

    pub(crate) fn rows(&self) -> usize {
        self.logits_layout().rows
    }

    pub(crate) fn classes(&self) -> usize {
        self.logits_layout().classes
    }

    pub(in crate::cpu) fn logits_layout(&self) -> &Layout {
        self.logits.layout()
    }

    pub(in crate::cpu) fn has_gradient(&self) -> bool {
        self.gradient.is_some()
    }

    fn fence(&self) -> FenceOnDrop {
        FenceOnDrop { streamed: self.gradient.as_ref().is_some_and(Sink::is_streamed) }
    }

    /// All rows. There is no other claim while this one lives.
    pub(in crate::cpu) fn claim(&mut self) -> ClaimedRows<'_, T> {
        ClaimedRows { rows: 0..self.rows(), _fence: self.fence(), memory: self }
    }
}

/// Some neighbouring rows, which one task has for itself. When it is dropped, what the task wrote
/// is visible to whomever its thread tells next.
pub(in crate::cpu) struct ClaimedRows<'m, T> {
    memory: &'m Memory<'m, T>,
    /// Rows of the memory.
    rows: Range<usize>,
    _fence: FenceOnDrop,
}

impl<'m, T: Logit> ClaimedRows<'m, T> {
    /// The rows that are left.
    pub(in crate::cpu) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Takes the first rows away, for another task: as many, or all that are left.
    pub(in crate::cpu) fn split_front(&mut self, rows: usize) -> Self {
        Self { memory: self.memory, rows: self.take_front(rows), _fence: self.memory.fence() }
    }

    /// Takes the first rows away: as many, or all that are left; `None` if there are none.
    #[inline(always)]
    pub(in crate::cpu) fn next_tile(&mut self, rows: usize) -> Option<ClaimedTile<'_, T>> {
        let rows = self.take_front(rows);
        (!rows.is_empty()).then_some(ClaimedTile { memory: self.memory, rows })
    }

    /// Takes the first row away, if there is one.
    #[inline(always)]
    pub(in crate::cpu) fn next_row(&mut self) -> Option<ClaimedClasses<'_, T>> {
        let row = self.rows.next()?;
        Some(ClaimedClasses { memory: self.memory, row, classes: 0..self.memory.classes() })
    }

    #[inline(always)]
    fn take_front(&mut self, rows: usize) -> Range<usize> {
        let middle = self.rows.start + rows.min(self.rows.len());
        let front = self.rows.start..middle;
        self.rows.start = middle;
        front
    }
}

/// Some neighbouring rows that are worked on at a time.
pub(in crate::cpu) struct ClaimedTile<'c, T> {
    memory: &'c Memory<'c, T>,
    /// Rows of the memory.
    rows: Range<usize>,
}

impl<T: Logit> ClaimedTile<'_, T> {
    #[inline(always)]
    pub(in crate::cpu) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The `i`-th of the rows.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    pub(in crate::cpu) fn row(&mut self, i: usize) -> ClaimedClasses<'_, T> {
        assert!(i < self.rows.len());
        let classes = 0..self.memory.classes();
        ClaimedClasses { memory: self.memory, row: self.rows.start + i, classes }
    }

    /// Widens all logits, class by class: class k of the i-th row goes to `out[k·width + i]`.
    /// `flat` is grown to hold as many, if it has to.
    #[inline(always)]
    pub(in crate::cpu) fn read<S: Simd>(
        &self,
        simd: S,
        width: usize,
        flat: &mut Buffer<T::Real>,
        out: &mut [T::Real],
    ) {
        // SAFETY: a claim's rows are rows of the memory, and nobody else has them.
        unsafe { self.memory.logits.read_tile(simd, self.rows(), width, flat, out) };
    }

    /// Rounds and writes the gradient from where [`read`](Self::read) puts logits, if there is to
    /// be one. `flat` and `rounded` are room for as many.
    #[inline(always)]
    pub(in crate::cpu) fn write<S: Simd>(
        &mut self,
        simd: S,
        width: usize,
        values: &[T::Real],
        flat: &mut Buffer<T::Real>,
        rounded: &mut Buffer<T>,
    ) {
        if let Some(gradient) = &self.memory.gradient {
            // SAFETY: a claim's rows are rows of the memory, nobody else has them, and no reference
            // into them outlives a call of `read`.
            unsafe { gradient.write_tile(simd, self.rows(), width, values, flat, rounded) };
        }
    }

    /// The tile of up to `rows` rows after this one, to be fetched ahead of time.
    pub(in crate::cpu) fn next_ahead(&self, rows: usize) -> TileAhead<T> {
        self.memory.logits.tile_ahead(self.rows.end, rows)
    }
}

/// Some neighbouring classes of a row, often all.
pub(in crate::cpu) struct ClaimedClasses<'c, T> {
    memory: &'c Memory<'c, T>,
    /// A row of the memory.
    row: usize,
    /// Classes of the memory.
    classes: Range<usize>,
}

impl<T: Logit> ClaimedClasses<'_, T> {
    #[inline(always)]
    pub(in crate::cpu) fn row(&self) -> usize {
        self.row
    }

    #[inline(always)]
    pub(in crate::cpu) fn classes(&self) -> Range<usize> {
        self.classes.clone()
    }

    /// As several claims of `len` classes each; the last may have fewer.
    #[inline(always)]
    pub(in crate::cpu) fn pieces(
        &mut self,
        len: usize,
    ) -> impl Iterator<Item = ClaimedClasses<'_, T>> {
        let (memory, row, mut left) = (self.memory, self.row, self.classes());
        std::iter::from_fn(
            #[inline(always)]
            move || {
                let start = left.start;
                left.start += len.min(left.len());
                (start < left.start).then_some(ClaimedClasses {
                    memory,
                    row,
                    classes: start..left.start,
                })
            },
        )
    }

    /// As [`pieces`](Self::pieces), each for a task of its own: what that wrote is visible to
    /// whomever its thread tells next, once its piece is dropped.
    pub(in crate::cpu) fn shared_pieces(
        &mut self,
        len: usize,
    ) -> impl Iterator<Item = SharedPiece<'_, T>> {
        let memory = self.memory;
        self.pieces(len).map(move |classes| SharedPiece { classes, _fence: memory.fence() })
    }

    /// Logits of classes `start..start + len` where they lie, if they are neighbours and need no
    /// widening.
    ///
    /// # Panics
    /// If these are not all the claim's.
    #[inline(always)]
    pub(in crate::cpu) fn logits(&self, start: usize, len: usize) -> Option<&[T::Real]> {
        self.check(start, len);
        // SAFETY: a claim's row and classes are those of the memory, nobody else has them, and this
        // claim writes by `&mut self` only.
        T::as_real(unsafe { self.memory.logits.neighbours(self.row, start, len) }?)
    }

    /// Widens the logits of classes `start..start + out.len()`.
    ///
    /// # Panics
    /// If these are not all the claim's.
    #[inline(always)]
    pub(in crate::cpu) fn read<S: Simd>(&self, simd: S, start: usize, out: &mut [T::Real]) {
        self.check(start, out.len());
        // SAFETY: as in `logits`.
        unsafe { self.memory.logits.read(simd, self.row, start, out) };
    }

    /// Rounds and writes the gradient of classes `start..start + values.len()`, if there is to be
    /// one. `rounded` is grown to hold as many, if it has to.
    ///
    /// # Panics
    /// If these are not all the claim's.
    #[inline(always)]
    pub(in crate::cpu) fn write<S: Simd>(
        &mut self,
        simd: S,
        start: usize,
        values: &[T::Real],
        rounded: &mut Buffer<T>,
    ) {
        self.check(start, values.len());
        if let Some(gradient) = &self.memory.gradient {
            // SAFETY: a claim's row and classes are those of the memory, nobody else has them, and
            // `&mut self` says that no reference from `logits` is alive.
            unsafe { gradient.write(simd, self.row, start, values, rounded) };
        }
    }

    /// As [`Sink::write_scaled`] for classes `start..start + len`; `false`, and nothing is written,
    /// if there is to be no gradient, too.
    ///
    /// # Panics
    /// If these are not all the claim's.
    #[inline(always)]
    pub(in crate::cpu) fn write_scaled<S: Simd>(
        &mut self,
        simd: S,
        start: usize,
        len: usize,
        entries: ScaledRow<'_, T::Real>,
        ahead: impl Fn(usize, usize),
    ) -> bool {
        self.check(start, len);
        // SAFETY: as in `write`.
        self.memory.gradient.as_ref().is_some_and(|gradient| unsafe {
            gradient.write_scaled(simd, self.row, start..start + len, entries, ahead)
        })
    }

    /// Logits of classes `start..` of any row, to be fetched ahead of time: see [`Ahead::new`].
    pub(in crate::cpu) fn ahead(&self, row: usize, start: usize, len: usize) -> Ahead<T> {
        self.memory.logits.ahead(row, start, len)
    }

    #[inline(always)]
    fn check(&self, start: usize, len: usize) {
        assert!(
            self.classes.start <= start
                && start <= self.classes.end
                && len <= self.classes.end - start
        );
    }
}

/// [`ClaimedClasses`] of a task that shares a row with others.
pub(in crate::cpu) struct SharedPiece<'c, T> {
    pub(in crate::cpu) classes: ClaimedClasses<'c, T>,
    _fence: FenceOnDrop,
}

#[cfg(test)]
mod tests {
    use fearless_simd::Level;

    use super::*;

    /// Runs an expression with whatever token.
    macro_rules! with_simd {
        ($simd:ident => $body:expr) => {
            fearless_simd::dispatch!(Level::baseline(), $simd => $body)
        };
    }

    #[test]
    fn a_row_belongs_to_one_claim() {
        let mut buffer: Vec<f32> = (0..20).map(|x| x as f32).collect();
        let mut rows = RowsMut::new(&mut buffer, 4).unwrap();
        let mut memory = Memory::in_place(&mut rows);
        let mut all = memory.claim();
        let seen: Vec<usize> = std::iter::from_fn(|| all.next_row().map(|row| row.row())).collect();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        let mut all = memory.claim();
        assert_eq!(all.next_tile(2).map(|tile| tile.rows()), Some(0..2));
        assert_eq!(all.next_tile(9).map(|tile| tile.rows()), Some(2..5));
        assert!(all.next_tile(1).is_none());
        assert!(all.next_row().is_none());
    }

    #[test]
    fn what_is_split_off_is_gone() {
        let buffer = [0f32; 20];
        let rows = Rows::new(&buffer, 4).unwrap();
        let mut memory = Memory::logits(&rows);
        let mut all = memory.claim();
        let front = all.split_front(3);
        let back = all.split_front(usize::MAX);
        assert_eq!((front.rows(), back.rows(), all.rows()), (0..3, 3..5, 5..5));
    }

    #[test]
    fn pieces_read_and_write_their_own_classes() {
        let mut buffer: Vec<f32> = (0..10).map(|x| x as f32).collect();
        let mut rows = RowsMut::new(&mut buffer, 5).unwrap();
        let mut memory = Memory::in_place(&mut rows);
        let mut all = memory.claim();
        all.next_row().unwrap();
        let mut row = all.next_row().unwrap();
        let mut pieces: Vec<_> = row.pieces(2).collect();
        assert_eq!(
            pieces.iter().map(ClaimedClasses::classes).collect::<Vec<_>>(),
            [0..2, 2..4, 4..5]
        );
        assert_eq!(pieces[1].logits(2, 2), Some(&[7.0, 8.0][..]));
        with_simd!(simd => pieces[1].write(simd, 3, &[-1.0], &mut Buffer::default()));
        assert_eq!(pieces[1].logits(2, 2), Some(&[7.0, -1.0][..]));
        drop(all);
        assert_eq!(buffer, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -1.0, 9.0]);
    }

    /// What is done with a claim on classes `start..start + len`.
    type Access = fn(&mut ClaimedClasses<'_, f32>, start: usize, len: usize);

    /// Whether it panics where the claim is on classes 2..4 of 6.
    fn is_refused(access: Access, start: usize, len: usize) -> bool {
        let mut buffer = [0f32; 12];
        let mut rows = RowsMut::new(&mut buffer, 6).unwrap();
        let mut memory = Memory::in_place(&mut rows);
        let mut all = memory.claim();
        let mut row = all.next_row().unwrap();
        let mut piece = row.pieces(2).nth(1).unwrap();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| access(&mut piece, start, len)))
            .is_err()
    }

    #[test]
    fn classes_of_others_are_refused() {
        let scaled: Access = |piece, start, len| {
            let entries = ScaledRow { e: &[0.0; 32], a: 1.0, b: 0.0, hot: [None; 2] };
            with_simd!(simd => piece.write_scaled(simd, start, len, entries, |_, _| ()));
        };
        let logits: Access = |piece, start, len| {
            piece.logits(start, len);
        };
        let read: Access =
            |piece, start, len| with_simd!(simd => piece.read(simd, start, &mut [0.0; 8][..len]));
        let write: Access = |piece, start, len| with_simd!(simd => piece.write(simd, start, &[0.0; 8][..len], &mut Buffer::default()));
        for (name, access) in
            [("write_scaled", scaled), ("logits", logits), ("read", read), ("write", write)]
        {
            for (start, len) in [(2, 2), (2, 0), (4, 0), (3, 1)] {
                assert!(
                    !is_refused(access, start, len),
                    "{name} of {len} classes from {start} on is refused"
                );
            }
            for (start, len) in [(1, 1), (1, 2), (2, 3), (3, 2), (4, 1), (5, 0)] {
                assert!(
                    is_refused(access, start, len),
                    "{name} of {len} classes from {start} on is not refused"
                );
            }
        }
        assert!(is_refused(logits, 2, usize::MAX));
    }

    #[test]
    fn gradients_of_another_shape_are_refused() {
        let (logits, mut gradient) = ([0f32; 12], [0f32; 12]);
        let logits = Rows::new(&logits, 4).unwrap();
        for classes in [3, 6, 1] {
            let mut gradient = RowsMut::new(&mut gradient, classes).unwrap();
            assert!(matches!(
                Memory::with_gradient(&logits, &mut gradient),
                Err(InputError::Shape { .. })
            ));
        }
    }
}
