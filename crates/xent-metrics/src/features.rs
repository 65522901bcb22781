//! How a model's features lie around the means of their classes.

/// Sums of features by class, from which class separation and variances follow.
///
/// ```
/// use xent_metrics::Features;
/// let mut features = Features::new(2, 2).unwrap();
/// for (label, row) in [(0, [1.0, 0.0]), (0, [3.0, 0.0]), (1, [0.0, 2.0])] {
///     features.add(label, &row);
/// }
/// // Rows of a class have one direction, those of different classes are orthogonal.
/// assert_eq!(features.separation(), Some(1.0));
/// // Σ (x − mean of its class)² = 1 + 1 + 0.
/// assert_eq!(features.within(), 2.0 / 3.0);
/// ```
#[derive(Debug, Clone)]
pub struct Features {
    width: usize,
    rows: Vec<u64>,
    /// The first row: sums are of differences from it, so that they keep their digits where the
    /// features are far from 0.
    origin: Vec<f64>,
    /// For each class, Σ x.
    sums: Vec<f64>,
    /// For each class, Σ x/‖x‖.
    directions: Vec<f64>,
    /// Σ ‖x‖².
    squares: f64,
}

impl Features {
    /// Of no rows, each of which will have `width` features; none if there is no memory for them.
    pub fn new(classes: usize, width: usize) -> Option<Self> {
        let zeros = || {
            let mut zeros = Vec::new();
            zeros.try_reserve_exact(classes.checked_mul(width)?).ok()?;
            zeros.resize(classes * width, 0.0);
            Some(zeros)
        };
        let (sums, directions) = (zeros()?, zeros()?);
        let (rows, origin) = (vec![0; classes], Vec::new());
        Some(Self { width, rows, origin, sums, directions, squares: 0.0 })
    }

    /// Adds a row of finite features. A row of zeros has no direction; its similarity to every row
    /// is 0.
    ///
    /// # Panics
    /// If the label is not one of the classes or the row has another width.
    pub fn add(&mut self, label: usize, row: &[f64]) {
        assert_eq!(row.len(), self.width, "a row of another width");
        if self.origin.is_empty() {
            self.origin = row.to_vec();
        }
        self.rows[label] += 1;
        let largest = row.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let squares: f64 = row.iter().map(|x| (x / largest) * (x / largest)).sum();
        let norm = largest * squares.sqrt();
        let place = label * self.width..(label + 1) * self.width;
        let sums = &mut self.sums[place.clone()];
        for ((sum, x), origin) in sums.iter_mut().zip(row).zip(&self.origin) {
            *sum += x - origin;
            self.squares += (x - origin) * (x - origin);
        }
        if largest > 0.0 {
            let directions = self.directions[place].iter_mut();
            directions.zip(row).for_each(|(sum, x)| *sum += x / norm);
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// The number of features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The class separation of Kornblith et al. 2021 (arXiv 2010.16402): 1 less the mean cosine
    /// distance of rows of one class over that of rows of any two classes (or the same one), each
    /// class counting alike. None unless two classes have rows, or if all rows have one direction.
    pub fn separation(&self) -> Option<f64> {
        let means = || self.means(&self.directions);
        let classes = means().count() as f64;
        // The mean similarity of all pairs from two sets of unit vectors is the product of the
        // sets' means.
        let within = 1.0 - means().map(|(_, mean)| square(&mean)).sum::<f64>() / classes;
        let mut all = vec![0.0; self.width];
        for (_, mean) in means() {
            all.iter_mut().zip(mean).for_each(|(sum, x)| *sum += x / classes);
        }
        let total = 1.0 - square(&all);
        (classes > 1.0 && total > 0.0).then_some(1.0 - within / total)
    }

    /// The mean of ‖x − mean of its class‖².
    pub fn within(&self) -> f64 {
        let of_means: f64 = self.means(&self.sums).map(|(rows, mean)| rows * square(&mean)).sum();
        ((self.squares - of_means) / self.rows() as f64).max(0.0)
    }

    /// The mean over the rows of ‖mean of its class − mean of all‖².
    pub fn between(&self) -> f64 {
        let n = self.rows() as f64;
        let mut all = vec![0.0; self.width];
        for (rows, mean) in self.means(&self.sums) {
            all.iter_mut().zip(mean).for_each(|(sum, x)| *sum += rows / n * x);
        }
        let apart =
            |mean: &[f64]| mean.iter().zip(&all).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        self.means(&self.sums).map(|(rows, mean)| rows / n * apart(&mean)).sum()
    }

    /// The number of rows of each class that has any, and the mean of its sums.
    fn means(&self, sums: &[f64]) -> impl Iterator<Item = (f64, Vec<f64>)> {
        let each = self.rows.iter().zip(sums.chunks(self.width));
        each.filter(|(rows, _)| **rows > 0).map(|(rows, sums)| {
            let rows = *rows as f64;
            (rows, sums.iter().map(|sum| sum / rows).collect())
        })
    }
}

fn square(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<(usize, Vec<f64>)>;

    /// Rows of three of four classes, of different sizes.
    fn rows(shift: f64) -> Rows {
        let row = |i: usize| {
            let label = [0, 1, 1, 3, 3, 3][i % 6];
            let x = |d: usize| ((i * 37 + d * 23) % 19) as f64 / 5.0 + (label * d) as f64 + shift;
            (label, (0..4).map(x).collect())
        };
        (0..50).map(row).collect()
    }

    fn features(rows: &Rows) -> Features {
        let mut features = Features::new(4, 4).unwrap();
        rows.iter().for_each(|(label, row)| features.add(*label, row));
        features
    }

    /// Mean cosine distance of all pairs of rows of two classes, by the definition.
    fn distance(rows: &Rows, one: usize, other: usize) -> f64 {
        let of = |label: usize| rows.iter().filter(move |row| row.0 == label).map(|row| &row.1);
        let cosine = |a: &[f64], b: &[f64]| {
            let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            dot / (square(a) * square(b)).sqrt()
        };
        let pairs: Vec<f64> =
            of(one).flat_map(|a| of(other).map(move |b| 1.0 - cosine(a, b))).collect();
        pairs.iter().sum::<f64>() / pairs.len() as f64
    }

    #[test]
    fn separation_is_that_of_all_pairs() {
        let rows = rows(0.3);
        let classes = [0, 1, 3];
        let within = classes.map(|class| distance(&rows, class, class)).iter().sum::<f64>() / 3.0;
        let all = classes.map(|a| classes.map(|b| distance(&rows, a, b)).iter().sum::<f64>());
        let expected = 1.0 - within / (all.iter().sum::<f64>() / 9.0);
        let found = features(&rows).separation().unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn variances_are_those_of_two_passes() {
        for shift in [0.0, 1e6] {
            let rows = rows(shift);
            let mean = |label: Option<usize>| -> Vec<f64> {
                let of: Vec<&Vec<f64>> = rows
                    .iter()
                    .filter(|row| label.is_none_or(|label| row.0 == label))
                    .map(|row| &row.1)
                    .collect();
                (0..4).map(|d| of.iter().map(|x| x[d]).sum::<f64>() / of.len() as f64).collect()
            };
            let apart = |a: &[f64], b: &[f64]| {
                a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / 50.0
            };
            let all = mean(None);
            let within: f64 = rows.iter().map(|(label, x)| apart(x, &mean(Some(*label)))).sum();
            let between: f64 = rows.iter().map(|(label, _)| apart(&mean(Some(*label)), &all)).sum();
            let features = features(&rows);
            assert!((features.within() / within - 1.0).abs() < 1e-8, "{within}");
            assert!((features.between() / between - 1.0).abs() < 1e-8, "{between}");
        }
    }

    #[test]
    fn ends() {
        let of = |rows: &[(usize, [f64; 4])]| {
            features(&rows.iter().map(|(label, row)| (*label, row.to_vec())).collect())
        };
        assert_eq!(of(&[(0, [1.0; 4]), (0, [1.0, 2.0, 3.0, 4.0])]).separation(), None);
        assert_eq!(of(&[]).separation(), None);
        // Large and small features have a direction, zeros have none.
        let wide = of(&[(0, [1e200, 0.0, 0.0, 0.0]), (1, [0.0, 1e-200, 0.0, 0.0])]);
        assert_eq!(wide.separation(), Some(1.0));
        let zeros = of(&[(0, [0.0; 4]), (1, [0.0, 1.0, 0.0, 0.0])]);
        assert!(zeros.separation().unwrap().is_finite());
        assert_eq!((zeros.within(), zeros.between()), (0.0, 0.25));
        assert!(Features::new(usize::MAX, 2).is_none());
    }
}
