//! A vocabulary in shards: each rank of a group, a process or a thread, has the logits of some
//! classes of every row.
//!
//! Statistics of two parts of a row merge
//! ([S13.3](crate::semantics#s133-the-statistics-of-a-row)). So each rank reads its own logits once
//! and sends a few numbers per row, in one all-gather; all ranks merge what all sent, in the order of
//! classes, so that the loss has the same bits everywhere; and each forms the gradient of its own
//! logits, for which nothing is sent.
//!
//! - [`AllGather`] is what connects the ranks. Implement it for your MPI, NCCL or threads.
//! - [`Shards`] is made once, by all ranks, and says which has which classes.
//! - [`Criterion::forward_sharded`], [`Criterion::forward_backward_sharded`] and
//!   [`Criterion::forward_backward_sharded_in_place`] are the calls, which all ranks make together.
//! - [`Shard`] has their phases, for an exchange of your own.
//!
//! Every rank has the same criterion, class weights and priors `[K]` included, and the same batch:
//! targets count all classes, and masks alone are of the rank's own. Shards may have any sizes, 0
//! included. Everything in a [`Config`](crate::Config) works, with the same meaning as for one
//! process, and so do all of [`Batch`] but targets that are probabilities.
//!
//! If the call of one rank is wrong (a label, a shape, a number of rows), all ranks return a
//! [`ShardError`] that names it, instead of waiting for each other. A rank that does not make the
//! call at all leaves the others waiting, as in any collective.
//!
//! ```
//! use std::sync::{Barrier, Mutex};
//! use xent::shards::{AllGather, Shards};
//! use xent::{Config, Rows, RowsMut};
//!
//! /// A rank among threads.
//! struct Thread<'a> {
//!     rank: usize,
//!     size: usize,
//!     board: &'a Mutex<Vec<f64>>,
//!     barrier: &'a Barrier,
//! }
//!
//! impl AllGather for Thread<'_> {
//!     type Error = std::convert::Infallible;
//!
//!     fn rank(&self) -> usize {
//!         self.rank
//!     }
//!
//!     fn size(&self) -> usize {
//!         self.size
//!     }
//!
//!     fn all_gather(&self, mine: &[f64], all: &mut [f64]) -> Result<(), Self::Error> {
//!         let at = self.rank * mine.len();
//!         {
//!             let mut board = self.board.lock().unwrap();
//!             board.resize(all.len(), 0.0);
//!             board[at..at + mine.len()].copy_from_slice(mine);
//!         }
//!         self.barrier.wait();
//!         all.copy_from_slice(&self.board.lock().unwrap());
//!         self.barrier.wait();
//!         Ok(())
//!     }
//! }
//!
//! // Two rows of four classes, of which rank 0 has three.
//! let logits = [vec![2.0_f64, -1.0, 0.5, 0.0, 1.0, -2.0], vec![0.0, 3.0]];
//! let (board, barrier) = (Mutex::new(Vec::new()), Barrier::new(2));
//! std::thread::scope(|scope| {
//!     for (rank, logits) in logits.iter().enumerate() {
//!         let group = Thread { rank, size: 2, board: &board, barrier: &barrier };
//!         scope.spawn(move || {
//!             let classes = logits.len() / 2;
//!             let criterion = Config::new().label_smoothing(0.1).build().unwrap();
//!             let mut shards = Shards::in_rank_order(group, classes).unwrap();
//!             let (view, mut gradient) = (Rows::new(logits, classes).unwrap(), vec![0.0; logits.len()]);
//!             let mut place = RowsMut::new(&mut gradient, classes).unwrap();
//!             let output = criterion
//!                 .forward_backward_sharded(Some((&view, &mut place)), &[0i64, 3], 1.0, &mut shards)
//!                 .unwrap();
//!             assert_eq!(format!("{:.10}", output.loss), "0.4651824725"); // on both
//!         });
//!     }
//! });
//! ```

mod exchange;
mod phases;

pub use exchange::{AllGather, ShardError, Shards};
pub use phases::{Shard, WholeRows};

use crate::cpu::Memory;
use crate::{Batch, Criterion, Element, Error, Output, Rows, RowsMut, Upstream};
use exchange::Sent;

/// The calls for a vocabulary in shards: see [`shards`](crate::shards).
impl Criterion {
    /// [`forward`](Self::forward) where each rank of a group has the logits of some classes, `[N,
    /// H]`; `None` where a rank has no class. Every rank returns the same output, to the last bit.
    ///
    /// # Errors
    /// [`ShardError`], on every rank.
    pub fn forward_sharded<'b, T: Element, G: AllGather>(
        &self,
        logits: Option<&Rows<'_, T>>,
        batch: impl Into<Batch<'b>>,
        shards: &mut Shards<G>,
    ) -> Result<Output<T::Real>, ShardError<G::Error>> {
        self.run_sharded(Ok(logits.map(Memory::logits)), &batch.into(), None, shards)
    }

    /// [`forward_backward`](Self::forward_backward) where each rank of a group has the logits of some
    /// classes, `[N, H]`, and a place for their gradient; `None` where a rank has no class. Every
    /// rank returns the same output, to the last bit; nothing is exchanged for the gradient.
    /// `upstream` is the same on all ranks.
    ///
    /// # Errors
    /// [`ShardError`], on every rank; nothing has been written then.
    pub fn forward_backward_sharded<'b, T: Element, G: AllGather>(
        &self,
        logits: Option<(&Rows<'_, T>, &mut RowsMut<'_, T>)>,
        batch: impl Into<Batch<'b>>,
        upstream: impl Into<Upstream<'b>>,
        shards: &mut Shards<G>,
    ) -> Result<Output<T::Real>, ShardError<G::Error>> {
        let memory = logits
            .map(|(logits, grad)| Memory::with_gradient(logits, grad))
            .transpose()
            .map_err(Error::from);
        self.run_sharded(memory, &batch.into(), Some(&upstream.into()), shards)
    }

    /// [`forward_backward_sharded`](Self::forward_backward_sharded) with the gradient written over
    /// the logits.
    ///
    /// # Errors
    /// [`ShardError`], on every rank; the logits are as they were then.
    pub fn forward_backward_sharded_in_place<'b, T: Element, G: AllGather>(
        &self,
        logits: Option<&mut RowsMut<'_, T>>,
        batch: impl Into<Batch<'b>>,
        upstream: impl Into<Upstream<'b>>,
        shards: &mut Shards<G>,
    ) -> Result<Output<T::Real>, ShardError<G::Error>> {
        let memory = Ok(logits.map(Memory::in_place));
        self.run_sharded(memory, &batch.into(), Some(&upstream.into()), shards)
    }

    fn run_sharded<T: Element, G: AllGather>(
        &self,
        memory: Result<Option<Memory<'_, T>>, Error>,
        batch: &Batch<'_>,
        upstream: Option<&Upstream<'_>>,
        shards: &mut Shards<G>,
    ) -> Result<Output<T::Real>, ShardError<G::Error>> {
        let (here, classes, rank) = (shards.here(), shards.classes(), shards.group().rank());
        let made = memory.and_then(|mut memory| {
            let rows = memory.as_ref().map_or_else(|| batch.targets.rows(), Memory::rows);
            let shard = Shard::new(self, batch, rows, classes, here.clone())?;
            upstream.map_or(Ok(()), |upstream| shard.expect_upstream(upstream))?;
            let numbers = match &mut memory {
                Some(memory) => shard.statistics_of(memory)?,
                None => shard.statistics_of_nothing()?,
            };
            Ok((shard, memory, rows, numbers))
        });
        let (shard, mut memory, rows, numbers) = match made {
            Ok(made) => made,
            Err(error) => return Err(shards.fail(error)),
        };
        let (columns, bits) = (shard.columns(), 8 * size_of::<T::Real>());
        let everyone = shards.exchange(&Sent { rows, columns, bits, numbers })?;
        let call = |error| ShardError::Call { rank, error };
        let rows = shard.merge(&shards.in_order(&everyone)).map_err(call)?;
        if let (Some(upstream), Some(memory)) = (upstream, &mut memory) {
            shard.gradient_of(&rows, upstream, memory).map_err(call)?;
        }
        Ok(shard.output(&rows))
    }
}
