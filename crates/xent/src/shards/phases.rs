//! The phases of a vocabulary in shards, without the exchange between them.

use std::ops::Range;

use crate::cpu::{Memory, gradient_of_shard, merge_shards, statistics_of_shard};
use crate::rules::{Plan, ShardStats};
use crate::{Batch, Criterion, Element, InputError, Output, Real, Result, Rows, RowsMut, Upstream};

/// A batch whose logits are those of some classes: the phases of its loss, for an exchange of one's
/// own. [`Criterion::forward_backward_sharded`] is all of them.
///
/// ```
/// use xent::shards::Shard;
/// use xent::{Batch, Config, Rows, RowsMut, Upstream};
///
/// let criterion = Config::new().label_smoothing(0.1).build()?;
/// let batch = Batch::new(&[0i64, 3]);
/// // Two rows of four classes: three of these in one place, one in another.
/// let [first, last] = [[2.0_f64, -1.0, 0.5, 0.0, 1.0, -2.0].as_slice(), &[0.0, 3.0]];
/// let shards = [0..3, 3..4].map(|classes| Shard::new(&criterion, &batch, 2, 4, classes));
/// let [a, b] = [shards[0].as_ref().unwrap(), shards[1].as_ref().unwrap()];
///
/// // 1. Each reads its own logits once, and sends a few numbers per row.
/// let sent = [a.statistics(&Rows::new(first, 3)?)?, b.statistics(&Rows::new(last, 1)?)?];
/// // 2. Each merges those of all, in the order of classes: the loss has the same bits everywhere.
/// let rows = b.merge(&[(0..3, &sent[0]), (3..4, &sent[1])])?;
/// assert_eq!(format!("{:.10}", b.output::<f64>(&rows).loss), "0.4651824725");
/// // 3. Each forms the gradient of its own logits.
/// let mut gradient = [0.0; 2];
/// b.gradient(&rows, &Upstream::Scalar(1.0), &Rows::new(last, 1)?, &mut RowsMut::new(&mut gradient, 1)?)?;
/// assert_eq!(format!("{:.10} {:.10}", gradient[0], gradient[1]), "0.0355507871 -0.0429877463"); // (p − y)/2
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug)]
pub struct Shard<'a> {
    plan: Plan<'a>,
}

/// The statistics of whole rows, of all classes: what [`Shard::merge`] makes.
#[derive(Debug, Clone, PartialEq)]
pub struct WholeRows {
    rows: Vec<ShardStats>,
}

impl<'a> Shard<'a> {
    /// Checks a batch of `rows` rows against a criterion and a vocabulary of `classes` classes, of
    /// which the logits have those in `here`, which may be none.
    ///
    /// Targets, class weights and priors are those of all classes; the mask of allowed classes is of
    /// those in `here`: `[H]` or `[N, H]`.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input): as [`Criterion::forward`]; if `here` is not within
    /// `0..classes`; if the targets are probabilities, which shards do not have.
    pub fn new(
        criterion: &'a Criterion,
        batch: &'a Batch<'a>,
        rows: usize,
        classes: usize,
        here: Range<usize>,
    ) -> Result<Self> {
        if here.start > here.end || here.end > classes || classes == 0 {
            return Err(InputError::ShardRange { start: here.start, end: here.end, classes }.into());
        }
        Ok(Self { plan: Plan::of_shard(criterion, batch, rows, classes, here)? })
    }

    /// How many numbers are sent of a row: 4 for one label, one more for two, four more with
    /// smoothing, and two more for a prior by true class or masks that renormalise a prior that is
    /// not uniform.
    pub fn columns(&self) -> usize {
        self.plan.shard_columns().len()
    }

    /// Reads the logits `[N, H]`, and returns what is to be sent to all: [`columns`](Self::columns)
    /// numbers per row, row by row.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if the logits have another shape.
    pub fn statistics<T: Element>(&self, logits: &Rows<'_, T>) -> Result<Vec<f64>> {
        self.statistics_of(&mut Memory::logits(logits))
    }

    /// What a shard without classes sends in place of its [`statistics`](Self::statistics).
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if it has classes.
    pub fn statistics_of_nothing(&self) -> Result<Vec<f64>> {
        self.expect_shape((self.plan.rows(), 0))?;
        Ok(self.sent(&vec![ShardStats::EMPTY; self.plan.rows()]))
    }

    pub(super) fn statistics_of<T: Element>(&self, memory: &mut Memory<'_, T>) -> Result<Vec<f64>> {
        self.expect_shape((memory.rows(), memory.classes()))?;
        Ok(self.sent(&statistics_of_shard(&self.plan, memory)?))
    }

    fn sent(&self, rows: &[ShardStats]) -> Vec<f64> {
        let columns = self.plan.shard_columns();
        let mut sent = vec![0.0; rows.len() * columns.len()];
        let places = sent.chunks_exact_mut(columns.len());
        rows.iter().zip(places).for_each(|(row, place)| columns.write(row, place));
        sent
    }

    /// Merges what all shards sent, each with its classes. They are merged in the order given, which
    /// must be that of the classes; the bits of the result depend on nothing else.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if a shard sent another number of numbers.
    pub fn merge(&self, shards: &[(Range<usize>, &[f64])]) -> Result<WholeRows> {
        let expected = self.plan.rows() * self.columns();
        match shards.iter().find(|(_, sent)| sent.len() != expected) {
            None => Ok(WholeRows { rows: merge_shards(&self.plan, shards) }),
            Some((_, sent)) => Err(InputError::Length {
                name: "the statistics of a shard",
                len: sent.len(),
                expected,
                what: "as many per row as there are columns",
            }
            .into()),
        }
    }

    /// The output of all classes: `F` is f64 for logits in f64, f32 for others.
    ///
    /// # Panics
    /// If the rows are those of another batch.
    pub fn output<F: Real>(&self, rows: &WholeRows) -> Output<F> {
        assert_eq!(rows.rows.len(), self.plan.rows(), "the rows of another batch");
        self.plan.output_of_rows(&rows.rows)
    }

    /// Writes the gradient of the logits of this shard, in one more sweep over them. `upstream` is
    /// that of [`Criterion::forward_backward`], the same on all shards.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if logits or gradient have another shape, or upstream
    /// is not one of this batch; nothing has been written then.
    pub fn gradient<T: Element>(
        &self,
        rows: &WholeRows,
        upstream: &Upstream<'_>,
        logits: &Rows<'_, T>,
        grad: &mut RowsMut<'_, T>,
    ) -> Result<()> {
        self.gradient_of(rows, upstream, &mut Memory::with_gradient(logits, grad)?)
    }

    /// [`gradient`](Self::gradient) written over the logits.
    ///
    /// # Errors
    /// As [`gradient`](Self::gradient).
    pub fn gradient_in_place<T: Element>(
        &self,
        rows: &WholeRows,
        upstream: &Upstream<'_>,
        logits: &mut RowsMut<'_, T>,
    ) -> Result<()> {
        self.gradient_of(rows, upstream, &mut Memory::in_place(logits))
    }

    pub(super) fn gradient_of<T: Element>(
        &self,
        rows: &WholeRows,
        upstream: &Upstream<'_>,
        memory: &mut Memory<'_, T>,
    ) -> Result<()> {
        self.expect_shape((memory.rows(), memory.classes()))?;
        let factors = self.plan.gradient_factors(upstream)?;
        if rows.rows.len() != self.plan.rows() {
            let (len, expected) = (rows.rows.len(), self.plan.rows());
            let name = "the statistics of whole rows";
            return Err(InputError::Length { name, len, expected, what: "one per row" }.into());
        }
        gradient_of_shard(&self.plan, factors, &rows.rows, memory);
        Ok(())
    }

    /// Checks upstream before anything is exchanged.
    pub(super) fn expect_upstream(&self, upstream: &Upstream<'_>) -> Result<()> {
        Ok(self.plan.gradient_factors(upstream).map(drop)?)
    }

    fn expect_shape(&self, (rows, classes): (usize, usize)) -> Result<()> {
        let here = self.plan.here();
        if classes != here.len() {
            let (start, end) = (here.start, here.end);
            return Err(InputError::ShardClasses { found: classes, start, end }.into());
        }
        if rows != self.plan.rows() {
            let (name, len, expected) = ("the logits", rows, self.plan.rows());
            return Err(InputError::Length { name, len, expected, what: "the batch's rows" }.into());
        }
        Ok(())
    }
}
