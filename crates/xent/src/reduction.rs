//! From rows to a batch: none, sum, mean, and what the mean divides by. See SEMANTICS.md S6.

/// How the rows' losses become the batch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Reduction {
    /// One loss a row.
    None,
    /// Their sum.
    Sum,
    /// Their sum over the [`Denominator`].
    #[default]
    Mean,
}

/// What [`Reduction::Mean`] divides by, unless the batch gives a number ([`Batch::denominator`](crate::Batch::denominator)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Denominator {
    /// PyTorch's: the sum of the kept rows' class weights w_y (their number without weights); for probability targets the number of kept rows.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "pytorch"))]
    PyTorch,
    /// The number of rows that are not ignored.
    KeptRows,
    /// The number of all rows, ignored ones too: `batchmean` of an `[N, K]` batch.
    Rows,
}

/// The mean when the denominator is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum EmptyMean {
    /// NaN, as PyTorch.
    #[default]
    Nan,
    /// 0, and every gradient 0.
    Zero,
    /// [`InputError::EmptyMean`](crate::InputError::EmptyMean).
    Error,
}
