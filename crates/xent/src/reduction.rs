//! From rows to a batch: none, sum, mean, and what the mean divides by. See SEMANTICS.md S6.

/// How the rows' losses become the batch's.
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

/// What [`Reduction::Mean`] divides by, unless the batch gives a number
/// ([`Batch::denominator`](crate::Batch::denominator)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Denominator {
    /// `pytorch`: the sum of the kept rows' class weights w_y (their number without weights); for
    /// probability targets the number of kept rows.
    #[default]
    PyTorch,
    /// `kept_rows`: the number of rows that are not ignored.
    KeptRows,
    /// `rows`: the number of all rows, ignored ones too; `batchmean` of an `[N, K]` batch.
    Rows,
}

/// The mean when the denominator is 0.
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
