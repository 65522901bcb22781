//! Where logits are read and gradients are written: the only unsafe code of the crate, and what
//! makes it sound.
//!
//! Logits and gradient may be one buffer, and several threads work on it at a time, so that neither
//! can be borrowed as a slice. The proof that no element is read or written by two tasks at once,
//! and none outside its buffer, goes three steps, each in the types:
//!
//! ```text
//! Rows, RowsMut       a layout never leaves its buffer; one for writing has no element twice
//!    │
//! Memory              logits and gradient have one shape; nothing is read or written through it
//!    │ claim()
//! ClaimedRows         rows that one task has for itself; split, never copied
//!    ├─ next_tile()
//!    │  ClaimedTile       some of them             ┐ read by &self,
//!    └─ next_row(), a tile's row()                 │ written by &mut self
//!       ClaimedClasses    classes of one of them   ┘
//!          └─ pieces(), shared_pieces()
//!             ClaimedClasses    some of these classes
//! ```
//!
//! A claim is made from a larger one that it borrows from, or that is smaller by it afterwards, as
//! slices are split; the first is made from `&mut Memory`. So two claims that can be used at a time
//! have no element in common, and a row and class that a claim has is one of the layout's. That is
//! what [`Source`](source::Source) and [`Sink`](sink::Sink), which take any position whatever and
//! are unsafe to call, ask of their callers, all of which are in `claim.rs`.
//!
//! Stores past the cache are seen by other threads only after a fence, which a task's claim makes
//! when it is dropped.

mod ahead;
mod claim;
mod sink;
mod source;
mod stream;
mod transpose;

pub(super) use ahead::Ahead;
pub(crate) use claim::Memory;
pub(super) use claim::{ClaimedClasses, ClaimedRows, ClaimedTile};
pub(super) use stream::ScaledRow;
