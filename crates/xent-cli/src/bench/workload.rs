//! A batch and the four steps that are timed on it.

use std::hint::black_box;

use half::{bf16, f16};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use xent::{Criterion, Element, Output, Rows, RowsMut};

use super::cases::Case;
use crate::error::{Error, Result};
use crate::seed::{Purpose, stream};

/// The standard deviation of the logits: some rows are confident and others are not.
const SCALE: f64 = 3.0;
/// The number of random numbers; the logits are copied from them in pieces, because drawing each
/// logit would take longer than timing it.
const DRAWN: usize = 1 << 20;
/// The length of a piece: a prime, so that it is not a multiple of a row's length.
const PIECE: usize = 4099;
/// The class axis of [N, K] and of [B, K, S].
const CLASS_AXIS: isize = 1;
/// The fewest bytes for which a thread is used.
const LEAST_SHARE: usize = 1 << 16;

/// Logits that can be read as fast as memory delivers them.
pub trait Logit: Element {
    /// The sum of the bits as integers: the compiler may add them in any order, many at a time, and
    /// half-precision numbers need no conversion.
    fn sum_of_bits(logits: &[Self]) -> u64;
}

macro_rules! logit {
    ($($type:ty: $bits:ty),*) => {$(
        impl Logit for $type {
            fn sum_of_bits(logits: &[Self]) -> u64 {
                logits.iter().fold(0 as $bits, |sum, logit| sum.wrapping_add(logit.to_bits())).into()
            }
        }
    )*};
}
logit!(f32: u32, f64: u64, f16: u16, bf16: u16);

/// A batch of a case, in memory.
pub struct Workload<'a, T> {
    criterion: &'a Criterion,
    shape: Vec<usize>,
    logits: Vec<T>,
    targets: Vec<i64>,
    /// Copies and gradients are written to the same buffer, so that the placement of its pages
    /// favours neither.
    written: Vec<T>,
    /// Elements that a thread reads or copies in one piece.
    share: usize,
}

impl<'a, T: Logit> Workload<'a, T> {
    /// Random logits and targets. Every page has been written by the threads of the current pool.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn new(case: &Case, criterion: &'a Criterion) -> Result<Self> {
        let mut rng = stream(0, Purpose::Bench);
        let drawn: Vec<T> = (0..DRAWN + PIECE)
            .map(|_| T::from_f64(SCALE * Distribution::<f64>::sample(&StandardNormal, &mut rng)))
            .collect();
        let mut logits = filled(T::from_f64(0.0), case.elements(), case)?;
        logits.par_chunks_mut(PIECE).enumerate().for_each(|(index, piece)| {
            // An odd multiplier visits every start before it repeats one.
            let start = index.wrapping_mul(0x9E37_79B1) % DRAWN;
            piece.copy_from_slice(&drawn[start..start + piece.len()]);
        });
        let mut targets = filled(0i64, case.rows, case)?;
        targets.fill_with(|| rng.random_range(0..case.classes as i64));
        let written = filled(T::from_f64(0.0), case.elements(), case)?;
        let share = case.elements().div_ceil(case.threads).max(LEAST_SHARE / size_of::<T>());
        Ok(Self { criterion, shape: case.shape(), logits, targets, written, share })
    }

    /// Reads the logits once.
    pub fn read(&mut self) -> Result<()> {
        black_box(
            self.logits.par_chunks(self.share).map(T::sum_of_bits).reduce(|| 0, u64::wrapping_add),
        );
        Ok(())
    }

    /// Reads the logits and writes as many bytes.
    pub fn copy(&mut self) -> Result<()> {
        self.written
            .par_chunks_mut(self.share)
            .zip(self.logits.par_chunks(self.share))
            .for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&mut self.written);
        Ok(())
    }

    /// The loss.
    pub fn forward(&mut self) -> Result<()> {
        black_box(self.loss()?);
        Ok(())
    }

    /// The loss and its gradient.
    pub fn forward_backward(&mut self) -> Result<()> {
        black_box(self.loss_and_gradient()?);
        Ok(())
    }

    fn loss(&self) -> Result<Output<T::Real>> {
        self.criterion.forward(&self.rows(&self.logits)?, &self.targets).map_err(Error::failed)
    }

    fn loss_and_gradient(&mut self) -> Result<Output<T::Real>> {
        let logits =
            Rows::with_axis(&self.logits, &self.shape, CLASS_AXIS).map_err(Error::failed)?;
        let mut grad = RowsMut::with_axis(&mut self.written, &self.shape, CLASS_AXIS)
            .map_err(Error::failed)?;
        // Multiplied by N, like loss scaling: a row's gradient is then p − y, which half precision
        // can represent.
        self.criterion
            .forward_backward(&logits, &self.targets, self.targets.len() as f64, &mut grad)
            .map_err(Error::failed)
    }

    fn rows<'b>(&self, buffer: &'b [T]) -> Result<Rows<'b, T>> {
        Rows::with_axis(buffer, &self.shape, CLASS_AXIS).map_err(Error::failed)
    }

    /// Checks the results for this batch, because wrong results need not be timed.
    ///
    /// # Errors
    /// The loss is not finite, depends on whether its gradient is requested, or the gradient of the
    /// first, middle or last row is not p − y.
    pub fn check(&mut self) -> Result<()> {
        let [alone, with_gradient] = [self.loss()?, self.loss_and_gradient()?]
            .map(|output| output.to_f64().loss.scalar().unwrap_or(f64::NAN));
        if !(alone.is_finite() && with_gradient.is_finite()) {
            return Err(wrong(format!(
                "the loss is {alone} from forward and {with_gradient} from forward+backward, expected a finite number"
            )));
        }
        if (alone - with_gradient).abs() > 1e-5 * alone.abs() {
            return Err(wrong(format!(
                "the loss is {alone} from forward but {with_gradient} from forward+backward"
            )));
        }
        let (logits, grad, rows) =
            (self.rows(&self.logits)?, self.rows(&self.written)?, self.targets.len());
        [0, rows / 2, rows - 1].into_iter().try_for_each(|row| self.check_row(row, &logits, &grad))
    }

    /// Compares a row with the textbook formula, coarsely: the test suite checks the accuracy.
    fn check_row(&self, row: usize, logits: &Rows<'_, T>, grad: &Rows<'_, T>) -> Result<()> {
        let (classes, epsilon) = (logits.classes(), self.criterion.config().label_smoothing);
        let at = |view: &Rows<'_, T>, class| {
            view.get(row, class).map_or(f64::NAN, |value| xent::Real::to_f64(value.to_real()))
        };
        let max = (0..classes).map(|class| at(logits, class)).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..classes).map(|class| (at(logits, class) - max).exp()).sum();
        for class in 0..classes {
            let p = (at(logits, class) - max).exp() / sum;
            let hot = if self.targets[row] == class as i64 { 1.0 - epsilon } else { 0.0 };
            let y = hot + epsilon / classes as f64;
            let came = at(grad, class);
            let difference = (came - (p - y)).abs();
            if difference.is_nan() || difference > 0.01 * (p + y) + 1e-6 {
                return Err(wrong(format!(
                    "the gradient of row {row}, class {class} is {came}, expected {}",
                    p - y
                )));
            }
        }
        Ok(())
    }
}

fn wrong(what: String) -> Error {
    Error::failed(format!("wrong result, nothing was timed: {what}"))
}

/// A vector of `len` values, whose pages are all written by the threads that will use them.
fn filled<T: Copy + Send + Sync>(value: T, len: usize, case: &Case) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| {
        Error::failed(format!(
            "not enough memory for {}: cannot allocate {} bytes",
            case.name(),
            len * size_of::<T>()
        ))
    })?;
    values.par_extend(rayon::iter::repeat_n(value, len));
    Ok(values)
}

#[cfg(test)]
mod tests {
    use xent::Config;

    use super::*;
    use crate::bench::options::{DType, LayoutName};

    fn criterion() -> Criterion {
        Config::new().label_smoothing(0.1).build().unwrap()
    }

    #[test]
    fn batches_are_random_and_the_same_every_time() {
        let criterion = criterion();
        let case = Case::new(300, 40, DType::F32, LayoutName::Last, 2, 1);
        let [one, other] = [0, 1].map(|_| Workload::<f32>::new(&case, &criterion).unwrap());
        assert!(one.logits == other.logits && one.targets == other.targets);
        let n = one.logits.len() as f64;
        let deviation =
            (one.logits.iter().map(|&logit| f64::from(logit).powi(2)).sum::<f64>() / n).sqrt();
        assert!((deviation - SCALE).abs() < 0.1, "{deviation}");
        assert_ne!(one.logits[..100], one.logits[PIECE..PIECE + 100]);
        assert!((0..40).all(|class| one.targets.contains(&class)));
    }

    #[test]
    fn copies_are_whole() {
        let criterion = criterion();
        let case = Case::new(1000, 100, DType::F16, LayoutName::Last, 3, 1);
        let mut workload = Workload::<f16>::new(&case, &criterion).unwrap();
        workload.copy().unwrap();
        assert!(workload.share < workload.logits.len() && workload.written == workload.logits);
        assert_eq!(
            f32::sum_of_bits(&[1.0, -2.0]),
            u64::from(0x3F80_0000u32.wrapping_add(0xC000_0000))
        );
    }

    #[test]
    fn wrong_answers_are_caught() {
        let criterion = criterion();
        for layout in [LayoutName::Last, LayoutName::Middle] {
            let case = Case::new(6, 5, DType::F64, layout, 1, 2);
            let mut workload = Workload::<f64>::new(&case, &criterion).unwrap();
            workload.check().unwrap();
            for wrong in [1.1, f64::NAN] {
                workload.loss_and_gradient().unwrap();
                workload.written[0] *= wrong;
                let grad = workload.rows(&workload.written).unwrap();
                let message = workload
                    .check_row(0, &workload.rows(&workload.logits).unwrap(), &grad)
                    .unwrap_err()
                    .to_string();
                assert!(
                    message.starts_with(
                        "wrong result, nothing was timed: the gradient of row 0, class 0 is"
                    ),
                    "{message}"
                );
            }
            workload.logits[7] = f64::NAN;
            assert!(
                workload
                    .check()
                    .unwrap_err()
                    .to_string()
                    .contains("the loss is NaN from forward and NaN from forward+backward")
            );
        }
    }
}
