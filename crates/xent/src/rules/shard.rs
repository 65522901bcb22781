//! A vocabulary in shards: what is sent of a row, and how whole rows are made of it
//! ([S13.3](crate::semantics#s133-the-statistics-of-a-row)).
//!
//! ```text
//! max   rest   argmax   z at each hot class      always; z is 0 where a hot class is not in the shard
//! S     Σ v             Σ v masked, how many     with smoothing, after class weights
//! S     Σ v             Σ v open, Σ v closed     the same where masks renormalise; the last two before class weights
//! Σ v   Σ v ln v                                 where the floor needs more than scalars
//! ```

use std::ops::Range;

use super::floor::{FloorOf, floor_of_sums};
use super::fold::{Coefficients, Folded};
use super::plan::Plan;
use super::row::RowPlan;
use super::stats::RowStats;
use crate::{Output, Real, Targets};

/// The statistics of some classes of a row, and the sums that its floor may ask for: Σ v and
/// Σ v ln v.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ShardStats {
    pub(crate) stats: RowStats,
    pub(crate) prior_sums: [f64; 2],
}

impl ShardStats {
    pub(crate) const EMPTY: Self = Self { stats: RowStats::EMPTY, prior_sums: [0.0; 2] };

    fn merge(self, next: Self) -> Self {
        let ([mass, xlogx], [more_mass, more_xlogx]) = (self.prior_sums, next.prior_sums);
        Self {
            stats: self.stats.merge(next.stats),
            prior_sums: [mass + more_mass, xlogx + more_xlogx],
        }
    }
}

/// Which columns are sent: the same on every shard, since it follows from the criterion and from
/// what the batch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShardColumns {
    labels: usize,
    smooths: bool,
    renormalises: bool,
    /// Whether floors need the sums of the prior.
    pub(crate) prior_sums: bool,
}

const SMOOTHING: usize = 4;

impl ShardColumns {
    pub(crate) fn len(self) -> usize {
        let of_prior = if self.smooths { SMOOTHING } else { 0 };
        3 + self.labels + of_prior + if self.prior_sums { 2 } else { 0 }
    }

    /// Writes what is sent of a row to `out`, which has room for [`len`](Self::len) numbers.
    pub(crate) fn write(self, of: &ShardStats, out: &mut [f64]) {
        let (stats, prior) = (&of.stats, &of.stats.prior);
        let mut columns = out.iter_mut();
        let mut put = |numbers: &[f64]| {
            columns.by_ref().zip(numbers).for_each(|(out, number)| *out = *number)
        };
        put(&[stats.max]);
        put(&[stats.rest]);
        put(&[stats.argmax as f64]);
        for (z, is_here) in stats.hot.iter().zip(stats.has_hot).take(self.labels) {
            put(&[if is_here { *z } else { 0.0 }]);
        }
        if self.smooths && self.renormalises {
            put(&[prior.shifted, prior.mass, stats.open_prior, stats.closed_prior]);
        } else if self.smooths {
            put(&[prior.shifted, prior.mass, prior.masked_mass, prior.masked as f64]);
        }
        if self.prior_sums {
            put(&of.prior_sums);
        }
    }

    /// What the shard of the classes `of` sent of a row.
    fn read(self, row: &RowPlan, of: &Range<usize>, columns: &[f64]) -> ShardStats {
        let mut columns = columns.iter().copied();
        let mut next = || columns.next().unwrap_or(0.0);
        let (max, rest, argmax) = (next(), next(), next());
        let mut stats = RowStats::new(max, argmax as usize, rest);
        for j in 0..self.labels {
            let z = next();
            if row.hot().get(j).is_some_and(|hot| of.contains(&hot.class)) {
                stats.put_hot(j, z);
            }
        }
        if self.smooths {
            (stats.prior.shifted, stats.prior.mass) = (next(), next());
            if self.renormalises {
                (stats.open_prior, stats.closed_prior) = (next(), next());
            } else {
                (stats.prior.masked_mass, stats.prior.masked) = (next(), next() as usize);
            }
        }
        let prior_sums = if self.prior_sums { [next(), next()] } else { [0.0; 2] };
        ShardStats { stats, prior_sums }
    }
}

impl Plan<'_> {
    /// What shards send of a row.
    pub(crate) fn shard_columns(&self) -> ShardColumns {
        let smooths = self.labels.epsilons.is_some() || self.table.config().label_smoothing > 0.0;
        ShardColumns {
            labels: if matches!(self.labels.batch.targets, Targets::Mix { .. }) { 2 } else { 1 },
            smooths,
            renormalises: self.table.renormalises(),
            prior_sums: smooths && !self.table.has_closed_floors(),
        }
    }

    /// The statistics of some whole rows; of ignored ones, those of no class. `shards` has, in the
    /// order of classes, the classes of each shard and what it sent of all rows, row by row.
    ///
    /// Whoever merges the same shards gets the same bits.
    pub(crate) fn merge_shards(
        &self,
        shards: &[(Range<usize>, &[f64])],
        rows: Range<usize>,
    ) -> Vec<ShardStats> {
        let (columns, mut plan) = (self.shard_columns(), RowPlan::default());
        let len = columns.len();
        let merged = |row: usize| {
            if !self.row_into(row, &mut plan) {
                return ShardStats::EMPTY;
            }
            let of = |(of, sent): &(Range<usize>, &[f64])| {
                columns.read(&plan, of, &sent[row * len..][..len])
            };
            shards.iter().map(of).fold(ShardStats::EMPTY, ShardStats::merge)
        };
        rows.map(merged).collect()
    }

    /// The output from the statistics of whole rows.
    pub(crate) fn output_of_rows<F: Real>(&self, rows: &[ShardStats]) -> Output<F> {
        let (mut parts, mut memo, mut plan) = (self.parts(), self.floor_memo(), RowPlan::default());
        let mut all = parts.all();
        for (row, ShardStats { stats, prior_sums }) in rows.iter().enumerate() {
            all.push(self.row_into(row, &mut plan).then(|| {
                let folded = self.fold(&plan, stats, &mut memo);
                let floor = folded
                    .floor
                    .unwrap_or_else(|| self.floor_of_row(&plan, &folded, stats, *prior_sums));
                folded.parts(floor)
            }));
        }
        self.finish(parts)
    }

    /// The floor where it is no function of scalars: masks that renormalise leave their classes out.
    fn floor_of_row(
        &self,
        row: &RowPlan,
        folded: &Folded,
        stats: &RowStats,
        prior_sums: [f64; 2],
    ) -> f64 {
        let Coefficients { gamma, beta, .. } = folded.coefficients;
        let mut prior = [0.0; 2];
        for ((prior, hot), z) in prior.iter_mut().zip(row.hot()).zip(stats.hot) {
            if !(self.table.renormalises() && z == f64::NEG_INFINITY) {
                let mut v = [0.0];
                self.fill_prior(row, hot.class, &mut v);
                *prior = gamma * v[0] * hot.weight;
            }
        }
        floor_of_sums(FloorOf { gamma, beta, total: folded.target_mass() }, prior, prior_sums)
    }
}
