//! A batch that is computed a few rows at a time, by somebody who never has all of its logits.

use crate::host::{HostAllowed, HostBatch, HostTargets};
use crate::rules::sum::Sum;
use crate::rules::{GradientFactors, Plan};
use crate::targets::{ClassIndices, Lambda, with_probabilities};
use crate::{
    AllowedClasses, Batch, Criterion, Element, InputError, Numbers, Output, Real, Reduced, Rows,
    Targets, Upstream,
};

/// A batch that is computed in pieces, each of some of its kept rows, whose logits need not exist
/// at the same time.
///
/// The whole batch is checked first. What a mean divides by follows from its targets alone, so that
/// the gradient of each piece is final: to the last bit that of the same rows in one call. The loss
/// and its parts are summed over the pieces in f64.
///
/// ```
/// use xent::host::Pieces;
/// use xent::{Batch, Config, RowsMut, Upstream};
///
/// let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).build()?;
/// let mut logits = [2.0f32, -1.0, 0.5, 0.0, 9.0, 9.0, 9.0, 9.0, 0.0, 1.0, -2.0, 3.0];
/// let (batch, upstream) = (Batch::new(&[0i64, -100, 3]), Upstream::Scalar(1.0));
/// let pieces = Pieces::new(&criterion, &batch, &upstream, 3, 4)?;
/// assert_eq!(pieces.kept(), [0, 2]);
///
/// let mut output = pieces.output();
/// for row in pieces.kept() {
///     let mut logits = RowsMut::new(&mut logits[4 * row..][..4], 4)?;
///     let piece = pieces.with(&[row], |batch, upstream| {
///         criterion.forward_backward_in_place(&mut logits, batch, upstream)
///     });
///     output.add(&[row], piece?);
/// }
/// assert_eq!(format!("{:.6}", output.finish().loss), "0.465182"); // (0.504850 + 0.425515) / 2
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug)]
pub struct Pieces<'a> {
    plan: Plan<'a>,
    batch: &'a Batch<'a>,
    upstream: &'a Upstream<'a>,
    factors: GradientFactors<'a>,
}

/// What the pieces of a batch contributed so far. Made by [`Pieces::output`].
#[derive(Debug, Clone)]
pub struct PiecesOutput<F> {
    /// Of the whole batch, with the rows that are still missing as if they were ignored.
    output: Output<F>,
    sums: [Sum; 5],
}

impl<'a> Pieces<'a> {
    /// Checks a batch against a criterion and logits of `rows` rows and `classes` ≥ 1 classes, and
    /// `upstream` as [`Criterion::forward_backward`] takes it.
    ///
    /// # Errors
    /// [`InputError`]: the first one found, by kind and then by row.
    pub fn new(
        criterion: &'a Criterion,
        batch: &'a Batch<'a>,
        upstream: &'a Upstream<'a>,
        rows: usize,
        classes: usize,
    ) -> Result<Self, InputError> {
        let plan = Plan::new(criterion, batch, rows, classes)?;
        let factors = plan.gradient_factors(upstream)?;
        Ok(Self { plan, batch, upstream, factors })
    }

    /// The rows that are not ignored, in order. The others contribute nothing, and their gradients
    /// are 0.
    pub fn kept(&self) -> Vec<usize> {
        let rows = 0..self.plan.rows();
        match self.plan.ignored() {
            0 => rows.collect(),
            _ => rows.filter(|&row| self.plan.row(row).is_some()).collect(),
        }
    }

    /// Whether every gradient is 0, because the mean is over nothing and
    /// [`EmptyMean::Zero`](crate::EmptyMean::Zero).
    pub fn is_without_gradient(&self) -> bool {
        self.plan.rows() == 0 || self.factors.of(0).is_none()
    }

    /// Calls with the piece of the batch, and of the upstream gradient, that belongs to `rows`, which
    /// are kept rows. The call passes both to the criterion, with the logits of these rows.
    pub fn with<R>(&self, rows: &[usize], call: impl FnOnce(Batch<'_>, Upstream<'_>) -> R) -> R {
        let upstream = match self.upstream {
            Upstream::Scalar(upstream) => Upstream::Scalar(*upstream),
            Upstream::Rows(all) => Upstream::Rows(of_rows(all, rows)),
        };
        let host = self.host_batch(rows);
        let lend = |probabilities| {
            let mut batch = host.lend(probabilities);
            batch.denominators = Some(self.plan.denominators);
            batch.predictions = self.batch.predictions;
            batch
        };
        match &self.batch.targets {
            Targets::Probabilities(all) if rows.len() == self.plan.rows() => {
                call(lend(Some(Targets::Probabilities(all.clone()))), upstream)
            }
            Targets::Probabilities(all) => with_probabilities!(all, all => {
                let values = copied(all, rows);
                let layout = Rows::new(&values, self.plan.classes());
                let probabilities = layout.expect("internal error: rows of all classes");
                call(lend(Some(probabilities.into())), upstream)
            }),
            _ => call(lend(None), upstream),
        }
    }

    /// The place where the outputs of the pieces are added up.
    pub fn output<F: Real>(&self) -> PiecesOutput<F> {
        PiecesOutput { output: self.plan.finish(self.plan.parts()), sums: Default::default() }
    }

    /// What the batch carries for some kept rows, except for probabilities.
    fn host_batch(&self, rows: &[usize]) -> HostBatch<'static> {
        let classes = |indices: &ClassIndices<'_>| {
            rows.iter().map(|&row| indices.get(row)).collect::<Vec<i64>>().into()
        };
        let targets = match &self.batch.targets {
            Targets::Classes(indices) => HostTargets::Classes(classes(indices)),
            Targets::Mix { a, b, lambda } => HostTargets::Mix {
                a: classes(a),
                b: classes(b),
                lambda: match lambda {
                    Lambda::Scalar(lambda) => Lambda::Scalar(*lambda),
                    Lambda::Rows(all) => Lambda::Rows(of_rows(all, rows)),
                },
            },
            Targets::Probabilities(_) => HostTargets::Probabilities,
        };
        HostBatch {
            label_smoothing: self.batch.epsilon.as_ref().map(|all| of_rows(all, rows)),
            row_weights: self.batch.row_weights.as_ref().map(|all| of_rows(all, rows)),
            allowed_classes: self.batch.allowed.map(|allowed| match allowed {
                AllowedClasses::Shared(classes) => {
                    HostAllowed { entries: classes.to_vec(), shared: true }
                }
                AllowedClasses::PerRow(all) => {
                    let row =
                        |&row: &usize| &all[row * self.plan.classes()..][..self.plan.classes()];
                    let entries = rows.iter().flat_map(row).copied().collect();
                    HostAllowed { entries, shared: false }
                }
            }),
            ..HostBatch::new(targets)
        }
    }
}

impl<F: Real> PiecesOutput<F> {
    /// Adds what the criterion returned for `rows`.
    ///
    /// # Panics
    /// If it is the output of another number of rows, or of another reduction.
    pub fn add(&mut self, rows: &[usize], piece: Output<F>) {
        assert_eq!(rows.len(), piece.rows, "the output of {} rows for other rows", piece.rows);
        let parts = [piece.loss, piece.nll, piece.smoothing, piece.z_loss, piece.floor];
        for ((part, whole), sum) in
            parts.into_iter().zip(self.output.parts_mut()).zip(&mut self.sums)
        {
            match (part, whole) {
                (Reduced::Scalar(part), Reduced::Scalar(_)) => sum.add(part.to_f64()),
                (Reduced::Rows(part), Reduced::Rows(whole)) => put(rows, part, whole),
                _ => panic!("an output of another reduction"),
            }
        }
        put(rows, piece.lse, &mut self.output.lse);
        put(rows, piece.predicted, &mut self.output.predicted);
        put(rows, piece.correct_rows, &mut self.output.correct_rows);
        self.output.correct += piece.correct;
        self.output.non_finite += piece.non_finite;
        let first = piece.first_non_finite.map(|row| rows[row]);
        self.output.first_non_finite = self.output.first_non_finite.into_iter().chain(first).min();
    }

    /// The output of the batch.
    pub fn finish(mut self) -> Output<F> {
        for (part, sum) in self.output.parts_mut().into_iter().zip(self.sums) {
            if let Reduced::Scalar(of_none) = part {
                // NaN for a mean over nothing.
                *of_none = F::from_f64(of_none.to_f64() + sum.total());
            }
        }
        self.output
    }
}

impl<F> Output<F> {
    fn parts_mut(&mut self) -> [&mut Reduced<F>; 5] {
        [&mut self.loss, &mut self.nll, &mut self.smoothing, &mut self.z_loss, &mut self.floor]
    }
}

/// What is empty was not asked for.
fn put<V>(rows: &[usize], piece: Vec<V>, whole: &mut [V]) {
    piece.into_iter().zip(rows).for_each(|(value, &row)| whole[row] = value);
}

fn of_rows(all: &[f64], rows: &[usize]) -> Numbers<'static> {
    rows.iter().map(|&row| all[row]).collect::<Vec<f64>>().into()
}

/// Some rows, one after another.
fn copied<T: Element>(all: &Rows<'_, T>, rows: &[usize]) -> Vec<T> {
    let (data, layout) = (all.data(), all.layout());
    let mut values = Vec::with_capacity(rows.len() * layout.classes);
    for &row in rows {
        let start = layout.row_start(row);
        let entry = |class| data[(start + class as isize * layout.class_stride) as usize];
        values.extend((0..layout.classes).map(entry));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, EmptyMean, RowsMut};

    const CLASSES: usize = 7;

    fn logits(rows: usize) -> Vec<f32> {
        (0..rows * CLASSES).map(|i| (i * 37 % 101) as f32 / 20.0 - 2.5).collect()
    }

    /// In one call, and three rows at a time: the gradient to the last bit, and both outputs.
    fn both(
        criterion: &Criterion,
        batch: Batch<'_>,
        upstream: Upstream<'_>,
        rows: usize,
    ) -> [Output<f32>; 2] {
        let mut whole = logits(rows);
        let mut view = RowsMut::new(&mut whole, CLASSES).unwrap();
        let output = criterion
            .forward_backward_in_place(&mut view, batch.clone(), upstream.clone())
            .unwrap();
        let pieces = Pieces::new(criterion, &batch, &upstream, rows, CLASSES).unwrap();
        let (all, mut gradient) = (logits(rows), vec![0.0f32; rows * CLASSES]);
        let mut of_pieces = pieces.output();
        for rows in pieces.kept().chunks(3) {
            let row = |row: &usize| &all[row * CLASSES..][..CLASSES];
            let mut piece: Vec<f32> = rows.iter().flat_map(row).copied().collect();
            let mut view = RowsMut::new(&mut piece, CLASSES).unwrap();
            let output = pieces.with(rows, |batch, upstream| {
                criterion.forward_backward_in_place(&mut view, batch, upstream).unwrap()
            });
            of_pieces.add(rows, output);
            for (row, piece) in rows.iter().zip(piece.chunks(CLASSES)) {
                gradient[row * CLASSES..][..CLASSES].copy_from_slice(piece);
            }
        }
        assert!(pieces.is_without_gradient() || gradient.iter().any(|g| *g != 0.0));
        let bits = |gradient: &[f32]| gradient.iter().map(|g| g.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&gradient), bits(&whole));
        [output, of_pieces.finish()]
    }

    fn check(criterion: &Criterion, batch: Batch<'_>, upstream: Upstream<'_>) {
        let [whole, pieces] = both(criterion, batch, upstream, 11);
        for (whole, pieces) in whole.clone().parts_mut().into_iter().zip(pieces.clone().parts_mut())
        {
            assert_eq!(whole.as_slice().len(), pieces.as_slice().len());
            for (whole, pieces) in whole.iter().zip(pieces.iter()) {
                let near = whole == pieces || (whole - pieces).abs() <= 2e-7 * whole.abs();
                assert!(near, "{whole} {pieces}");
            }
        }
        assert_eq!(whole.lse, pieces.lse);
        assert_eq!(whole.predicted, pieces.predicted);
        assert_eq!(whole.correct_rows, pieces.correct_rows);
        let counts = |output: &Output<f32>| (output.correct, output.rows, output.ignored);
        assert_eq!(counts(&whole), counts(&pieces));
        assert_eq!(whole.denominator, pieces.denominator);
    }

    #[test]
    fn pieces_add_up_to_the_whole() {
        let labels: Vec<i64> =
            (0..11).map(|row| if row % 4 == 0 { -100 } else { row % 7 }).collect();
        let others: Vec<u8> = (0..11).map(|row| (row * 3 % 7) as u8).collect();
        let numbers: Vec<f64> = (0..11).map(|row| f64::from(row % 5) / 4.0).collect();
        let allowed: Vec<bool> = (0..11 * CLASSES).map(|i| i % 6 != 5).collect();
        let mask: Vec<bool> = (0..11).map(|row| row % 3 == 1).collect();
        let probabilities: Vec<f32> = (0..11 * CLASSES).map(|i| (i % 4) as f32 / 10.0).collect();
        let weights: Vec<f64> = (0..CLASSES).map(|class| class as f64 / 3.0).collect();
        let config = || Config::new().label_smoothing(0.1).class_weights(&weights).z_loss(0.01);
        for reduction in [crate::Reduction::Mean, crate::Reduction::Sum, crate::Reduction::None] {
            let upstream = || match reduction {
                crate::Reduction::None => Upstream::from(&numbers),
                _ => Upstream::Scalar(3.7),
            };
            let criterion = config().reduction(reduction).ignore_index(-100).build().unwrap();
            check(&criterion, Batch::new(&labels).predictions(true), upstream());
            let batch = Batch::new(&labels).row_weights(&numbers).ignored_rows(&mask);
            check(&criterion, batch.label_smoothing_rows(&numbers), upstream());
            let mix = Targets::mix(&labels, &others, &numbers);
            let batch = Batch::new(mix).allowed_classes(AllowedClasses::PerRow(&allowed));
            check(&criterion, batch, upstream());
            let mix = Targets::mix(&labels, &others, 0.25);
            let batch = Batch::new(mix).allowed_classes(AllowedClasses::Shared(&allowed[..7]));
            check(&criterion, batch.denominator(5.0), upstream());
            let criterion = config().reduction(reduction).build().unwrap();
            let dense = Rows::with_axis(&probabilities, &[CLASSES, 11], 0).unwrap();
            check(&criterion, Batch::new(&dense).ignored_rows(&mask), upstream());
            check(&criterion, Batch::new(&dense), upstream());
        }
    }

    #[test]
    fn a_mean_over_nothing_is_so_in_pieces() {
        let weights = [0.0; CLASSES];
        for (empty, is_nan) in [(EmptyMean::Nan, true), (EmptyMean::Zero, false)] {
            let config = Config::new().class_weights(&weights).empty_mean(empty);
            let criterion = config.build().unwrap();
            let [whole, pieces] = both(&criterion, Batch::new(&[1u8; 5]), 1.0.into(), 5);
            for output in [whole, pieces] {
                assert_eq!(output.loss.scalar().unwrap().is_nan(), is_nan);
                assert_eq!((output.denominator, output.ignored), (0.0, 0));
            }
        }
    }

    #[test]
    fn the_whole_batch_is_checked_at_once() {
        let criterion = Config::new().build().unwrap();
        let refuse = |batch: Batch<'_>, upstream: Upstream<'_>| {
            Pieces::new(&criterion, &batch, &upstream, 3, CLASSES).unwrap_err().to_string()
        };
        assert!(refuse(Batch::new(&[0, 1, 7]), 1.0.into()).starts_with("target 7 in row 2"));
        assert!(refuse(Batch::new(&[0, 1]), 1.0.into()).starts_with("targets: 2 entries"));
        assert!(refuse(Batch::new(&[0, 1, 2]), (&[1.0; 3]).into()).contains("need reduction none"));
    }
}
