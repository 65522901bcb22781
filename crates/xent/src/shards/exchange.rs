//! The exchange: all statistics to everyone, or one error to everyone.

use std::ops::Range;

use crate::Error;

/// What a vocabulary in shards asks of whatever connects its ranks: one collective. MPI, NCCL or
/// threads implement it in a few lines ([the module](super) has an example).
pub trait AllGather {
    /// What can go wrong with the connection.
    type Error;

    /// Which of the ranks this is: less than [`size`](Self::size), and the same in every call.
    fn rank(&self) -> usize;

    /// How many ranks there are: at least 1, and the same in every call.
    fn size(&self) -> usize;

    /// Writes what every rank gave to `all`, in the order of ranks. All ranks call it with the same
    /// length of `mine`; `all` is [`size`](Self::size) times as long.
    ///
    /// # Errors
    /// What the connection says. The ranks have lost each other then: make new [`Shards`].
    fn all_gather(&self, mine: &[f64], all: &mut [f64]) -> Result<(), Self::Error>;
}

/// The classes of each rank, and what connects the ranks: made once, used in every step.
///
/// A collective needs buffers of one length, which nobody can know alone. So an exchange has the
/// length that all ranks agreed on in the one before, and begins with a header: whether this rank
/// failed, its rows, and how long a buffer it needs. All decide alike by all headers: to take what
/// came, to exchange again with more room, or to return an error. The first step thus takes two
/// exchanges, and so does one with more rows than any before; all others take one.
#[derive(Debug)]
pub struct Shards<G> {
    group: G,
    /// By rank.
    ranges: Vec<Range<usize>>,
    /// The ranks in the order of their classes.
    order: Vec<usize>,
    /// The length of the next exchange, the same on every rank.
    length: usize,
}

/// Why there is no loss. Unless the connection failed, every rank returns an error, and
/// nothing has been written on any.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError<E> {
    /// The call of this rank is wrong.
    #[error("rank {rank}: {error}")]
    Call {
        /// This rank.
        rank: usize,
        /// What is wrong.
        error: Error,
    },
    /// The call of another rank is wrong, which says there what it is.
    #[error("the call of rank {rank} is wrong, and returns why: there is no loss on any rank")]
    OtherRank {
        /// The first such rank.
        rank: usize,
    },
    /// Ranks whose calls do not go together.
    #[error("rank {rank} has {found} {what}, expected {expected}, as rank 0")]
    Disagreement {
        /// The first rank that differs from rank 0.
        rank: usize,
        /// What differs.
        what: &'static str,
        /// What the rank has.
        found: usize,
        /// What rank 0 has.
        expected: usize,
    },
    /// Ranges that are not all classes, each once.
    #[error("the classes of the ranks are {ranges:?}, expected all classes once, from 0 on")]
    Ranges {
        /// By rank.
        ranges: Vec<Range<usize>>,
    },
    /// A connection without ranks, or one that says that this is a rank that it does not have.
    #[error("rank {rank} of {size} ranks, expected one less than their number")]
    Rank {
        /// This rank.
        rank: usize,
        /// The number of ranks.
        size: usize,
    },
    /// What the connection said.
    #[error("the exchange with the other ranks failed: {0}")]
    Exchange(E),
}

/// What a rank brings to an exchange.
pub(super) struct Sent {
    pub(super) rows: usize,
    /// Numbers per row.
    pub(super) columns: usize,
    /// Of the type that is computed with.
    pub(super) bits: usize,
    pub(super) numbers: Vec<f64>,
}

/// What everyone sent.
pub(super) struct Everyone {
    all: Vec<f64>,
    length: usize,
    used: usize,
}

/// Status, rows, columns, bits.
const HEADER: usize = 4;
/// The status of a rank whose call is wrong.
const FAILED: f64 = 1.0;

impl<G: AllGather> Shards<G> {
    /// A vocabulary of which this rank has the logits of the classes `here`, which may be none. A
    /// collective: every rank of `group` calls it, and all ranges together are all classes once.
    ///
    /// # Errors
    /// [`ShardError::Ranges`] on every rank if they are not.
    pub fn new(group: G, here: Range<usize>) -> Result<Self, ShardError<G::Error>> {
        Self::gathered(group, [here.start, here.end], |given| {
            given.iter().map(|&[start, end]| start..end).collect()
        })
    }

    /// The same where each rank has `classes` classes, those of rank 0 first.
    ///
    /// # Errors
    /// As [`new`](Self::new): if there is no class at all.
    pub fn in_rank_order(group: G, classes: usize) -> Result<Self, ShardError<G::Error>> {
        Self::gathered(group, [0, classes], |given| {
            let mut end = 0usize;
            let after = |&[_, classes]: &[usize; 2]| {
                let start = end;
                end = end.saturating_add(classes);
                start..end
            };
            given.iter().map(after).collect()
        })
    }

    fn gathered(
        group: G,
        mine: [usize; 2],
        ranges: impl FnOnce(&[[usize; 2]]) -> Vec<Range<usize>>,
    ) -> Result<Self, ShardError<G::Error>> {
        let (rank, size) = (group.rank(), group.size());
        if rank >= size {
            return Err(ShardError::Rank { rank, size });
        }
        let mut all = vec![0.0; 2 * size];
        group
            .all_gather(&mine.map(|number| number as f64), &mut all)
            .map_err(ShardError::Exchange)?;
        let given: Vec<[usize; 2]> =
            all.as_chunks::<2>().0.iter().map(|pair| pair.map(|number| number as usize)).collect();
        let ranges = ranges(&given);
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by_key(|&rank| (ranges[rank].start, ranges[rank].end));
        let mut end = 0;
        for range in order.iter().map(|&rank| &ranges[rank]) {
            if range.start != end || range.end < range.start {
                return Err(ShardError::Ranges { ranges });
            }
            end = range.end;
        }
        if end == 0 {
            return Err(ShardError::Ranges { ranges });
        }
        Ok(Self { group, ranges, order, length: HEADER })
    }

    /// What connects the ranks.
    pub fn group(&self) -> &G {
        &self.group
    }

    /// The classes of this rank.
    pub fn here(&self) -> Range<usize> {
        self.ranges[self.group.rank()].clone()
    }

    /// The classes of each rank.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// K, the number of all classes.
    pub fn classes(&self) -> usize {
        self.ranges.iter().map(|range| range.end).max().unwrap_or(0)
    }

    /// Takes part in an exchange to say that the call of this rank is wrong.
    pub(super) fn fail(&mut self, error: Error) -> ShardError<G::Error> {
        let rank = self.group.rank();
        match self.gather([FAILED, 0.0, 0.0, 0.0], &[]) {
            Ok(_) => ShardError::Call { rank, error },
            Err(error) => error,
        }
    }

    /// Gives everyone what each rank has, or an error to everyone.
    pub(super) fn exchange(&mut self, mine: &Sent) -> Result<Everyone, ShardError<G::Error>> {
        let header = [0.0, mine.rows as f64, mine.columns as f64, mine.bits as f64];
        let used = mine.numbers.len();
        loop {
            let length = self.length;
            let all = self.gather(header, &mine.numbers)?;
            let headers: Vec<&[f64]> = all.chunks_exact(length).collect();
            if let Some(rank) = headers.iter().position(|header| header[0] == FAILED) {
                return Err(ShardError::OtherRank { rank });
            }
            expect_agreement(&headers)?;
            // Long buffers do not stay for ever.
            if used + HEADER > length || length > 2 * (used + HEADER) {
                self.length = used + HEADER;
            }
            if used + HEADER <= length {
                return Ok(Everyone { all, length, used });
            }
        }
    }

    /// A collective of the agreed length. Numbers for which there is no room wait for the next.
    fn gather(
        &self,
        header: [f64; HEADER],
        numbers: &[f64],
    ) -> Result<Vec<f64>, ShardError<G::Error>> {
        let mut mine = vec![0.0; self.length];
        mine[..HEADER].copy_from_slice(&header);
        if let Some(place) = mine[HEADER..].get_mut(..numbers.len()) {
            place.copy_from_slice(numbers);
        }
        let mut all = vec![0.0; self.length * self.ranges.len()];
        self.group.all_gather(&mine, &mut all).map_err(ShardError::Exchange)?;
        Ok(all)
    }

    /// What each rank sent, with its classes, in their order.
    pub(super) fn in_order<'e>(&self, everyone: &'e Everyone) -> Vec<(Range<usize>, &'e [f64])> {
        let of = |&rank: &usize| {
            let start = rank * everyone.length + HEADER;
            (self.ranges[rank].clone(), &everyone.all[start..][..everyone.used])
        };
        self.order.iter().map(of).collect()
    }
}

/// An error on all ranks, or on none.
fn expect_agreement<E>(headers: &[&[f64]]) -> Result<(), ShardError<E>> {
    let what = ["rows", "numbers per row, which follow from its options", "bits of arithmetic"];
    for (rank, header) in headers.iter().enumerate() {
        for (i, what) in (1..).zip(what) {
            let (found, expected) = (header[i] as usize, headers[0][i] as usize);
            if found != expected {
                return Err(ShardError::Disagreement { rank, what, found, expected });
            }
        }
    }
    Ok(())
}
