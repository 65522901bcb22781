//! Sums whose error does not grow with the number of terms.

/// The rounding error of each addition is summed separately (Knuth's TwoSum). The last bit depends
/// on the order, so callers keep a fixed order.
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

    /// An infinite sum has no finite compensation: ∞ − ∞.
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
