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

/// A sum whose error does not grow with the number of terms: what each addition rounds away is
/// summed beside it (Knuth's TwoSum). Order matters to the last bit, so callers keep theirs fixed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    sum: f64,
    compensation: f64,
}

impl Sum {
    #[inline]
    pub(crate) fn add(&mut self, term: f64) {
        let sum = self.sum + term;
        let taken = sum - self.sum;
        self.compensation += (self.sum - (sum - taken)) + (term - taken);
        self.sum = sum;
    }

    /// An infinite sum has no compensation to speak of: ∞ − ∞.
    pub(crate) fn total(self) -> f64 {
        if self.compensation.is_finite() { self.sum + self.compensation } else { self.sum }
    }
}

impl FromIterator<f64> for Sum {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let mut sum = Self::default();
        terms.into_iter().for_each(|term| sum.add(term));
        sum
    }
}
