//! Means of weighted rows, with their standard errors.

use crate::sum::ExactSum;

/// A mean of numbers with weights. The sums are exact, so they have the same bits in any order and
/// on any number of threads.
///
/// ```
/// use xent_metrics::Mean;
/// let mut mean = Mean::default();
/// [(1.0, 1.0), (4.0, 2.0)].into_iter().for_each(|(x, weight)| mean.add(x, weight));
/// assert_eq!((mean.rows(), mean.value()), (2, 3.0));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Mean {
    rows: u64,
    /// Σ w, Σ w².
    weights: [ExactSum; 2],
    /// Σ wx.
    sum: ExactSum,
    /// Σ w²x, Σ w²x².
    squares: [ExactSum; 2],
}

impl Mean {
    /// Adds a number. One with the weight 0 does not count.
    pub fn add(&mut self, x: f64, weight: f64) {
        if weight == 0.0 {
            return;
        }
        self.rows += 1;
        self.weights[0].add(weight);
        self.weights[1].add(weight * weight);
        self.sum.add(weight * x);
        self.squares[0].add(weight * weight * x);
        self.squares[1].add((weight * x) * (weight * x));
    }

    /// Adds the numbers of another thread.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum.merge(&other.sum);
        for (sums, others) in
            [(&mut self.weights, &other.weights), (&mut self.squares, &other.squares)]
        {
            sums.iter_mut().zip(others).for_each(|(sum, other)| sum.merge(other));
        }
    }

    /// The number of numbers with a weight above 0.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Σ w.
    pub fn weight(&self) -> f64 {
        self.weights[0].value()
    }

    /// Σ wx / Σ w; NaN without rows.
    pub fn value(&self) -> f64 {
        self.sum.value() / self.weight()
    }

    /// The standard error of the mean of n rows, `√(n/(n−1) · Σ w²(x − mean)²) / Σ w`. With equal
    /// weights it is the standard deviation (with n − 1) over √n. NaN with fewer than two rows, or
    /// if a number is not finite.
    pub fn error(&self) -> f64 {
        let (n, mean) = (self.rows as f64, self.value());
        let [first, second] = self.squares.each_ref().map(ExactSum::value);
        let squares = second - 2.0 * mean * first + mean * mean * self.weights[1].value();
        // A NaN stays one.
        let squares = if squares < 0.0 { 0.0 } else { squares };
        (squares * n / (n - 1.0)).sqrt() / self.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(numbers: &[(f64, f64)]) -> Mean {
        let mut mean = Mean::default();
        numbers.iter().for_each(|(x, weight)| mean.add(*x, *weight));
        mean
    }

    #[test]
    fn by_hand() {
        // Equal weights: mean 3, squared deviations 4 + 1 + 9 = 14, sd √7, over √3.
        let equal = mean(&[(1.0, 2.0), (2.0, 2.0), (6.0, 2.0)]);
        assert_eq!((equal.value(), equal.weight()), (3.0, 6.0));
        assert!((equal.error() - (7.0f64 / 3.0).sqrt()).abs() < 1e-15, "{}", equal.error());
        // Weights 1, 3: mean 2.5, Σ w²(x − mean)² = 2.25 + 2.25, n/(n−1) = 2, Σ w = 4.
        let unequal = mean(&[(1.0, 1.0), (3.0, 3.0), (7.0, 0.0)]);
        assert_eq!((unequal.value(), unequal.rows()), (2.5, 2));
        assert!((unequal.error() - 9f64.sqrt() / 4.0).abs() < 1e-15, "{}", unequal.error());
    }

    #[test]
    fn ends() {
        assert!(mean(&[]).value().is_nan() && mean(&[]).error().is_nan());
        assert!(mean(&[(1.0, 1.0)]).error().is_nan());
        let infinite = mean(&[(f64::INFINITY, 1.0), (1.0, 1.0)]);
        assert_eq!(infinite.value(), f64::INFINITY);
        assert!(infinite.error().is_nan());
        // A row with the weight 0 may be infinite.
        assert_eq!(mean(&[(f64::INFINITY, 0.0), (1.0, 1.0)]).value(), 1.0);
    }

    #[test]
    fn any_split_has_the_same_bits() {
        let numbers: Vec<(f64, f64)> =
            (0..50).map(|i| (f64::from(i * i % 17) / 3.0, f64::from(i % 5) / 7.0)).collect();
        let whole = mean(&numbers);
        let mut parts = mean(&numbers[20..]);
        parts.merge(&mean(&numbers[..20]));
        assert_eq!(
            (parts.value().to_bits(), parts.error().to_bits(), parts.rows()),
            (whole.value().to_bits(), whole.error().to_bits(), whole.rows())
        );
    }
}
