//! Sums that do not lose the small terms.

/// Neumaier's compensated sum: as if summed in twice the precision. With NaN or ±∞ among the terms
/// it is what IEEE addition gives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    total: f64,
    lost: f64,
    plain: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, term: f64) {
        self.plain += term;
        let next = self.total + term;
        self.lost += if self.total.abs() >= term.abs() {
            (self.total - next) + term
        } else {
            (term - next) + self.total
        };
        self.total = next;
    }

    pub(crate) fn value(self) -> f64 {
        if self.plain.is_finite() { self.total + self.lost } else { self.plain }
    }
}

/// The compensated sum of `terms`.
pub(crate) fn sum(terms: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = Sum::default();
    terms.into_iter().for_each(|term| sum.add(term));
    sum.value()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn keeps_what_plain_addition_loses() {
        assert_eq!(sum([1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(sum(std::iter::repeat_n(0.1, 10)), 1.0);
        assert_eq!(sum([1.0, f64::INFINITY]), f64::INFINITY);
        assert!(sum([1.0, f64::NAN, 2.0]).is_nan());
        assert_eq!(sum([]), 0.0);
    }
}
