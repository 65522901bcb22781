//! From rows to a batch: none, sum, mean, and what the mean divides by. See SEMANTICS.md S6.

/// How the losses of the rows are reduced to that of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reduction {
    /// `none`: one loss per row.
    None,
    /// `sum`: their sum.
    Sum,
    /// `mean`: their sum over the [`Denominator`].
    #[default]
    Mean,
}

/// What [`Reduction::Mean`] divides by, unless the batch provides a number
/// ([`Batch::denominator`](crate::Batch::denominator)). [S6](crate::semantics#s6-reduction).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Denominator {
    /// `pytorch`: the sum of the class weights w_c of the kept rows, which without weights is their
    /// number; for probability targets the number of kept rows. The z-loss, which is not weighted,
    /// is averaged over the kept rows.
    #[default]
    PyTorch,
    /// `kept_rows`: the number of rows that are not ignored.
    KeptRows,
    /// `rows`: the number of all rows, including ignored ones; `batchmean` of an `[N, K]` batch.
    Rows,
}

/// The value of a mean whose denominator is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EmptyMean {
    /// `nan`: NaN, as in PyTorch.
    #[default]
    Nan,
    /// `zero`: 0, and every gradient 0.
    Zero,
    /// `error`: [`InputError::EmptyMean`](crate::InputError::EmptyMean).
    Error,
}
