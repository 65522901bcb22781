//! The cases that the lists of options combine to.

use super::options::{BenchOptions, DType, LayoutName};
use crate::args::{once, word};
use crate::error::{Error, Result};

/// Elements of a batch if no rows are given: more than caches hold and much less than fills the
/// memory.
const USUAL_ELEMENTS: usize = 1 << 25;
/// The most rows of such a batch: with two classes, per-row values would take more memory than the
/// logits.
const MOST_USUAL_ROWS: usize = 1 << 22;
/// The most images in a batch of the layout `middle`. Overridden by `--batch`.
const MOST_USUAL_IMAGES: usize = 8;
/// Bytes that a row needs in addition to its logits, rounded up: its target, its parts of the loss,
/// its log-sum-exp.
const BYTES_PER_ROW: u64 = 128;

/// One combination: one row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// N.
    pub rows: usize,
    /// K.
    pub classes: usize,
    /// Of the logits and the gradient.
    pub dtype: DType,
    /// The position of the class axis.
    pub layout: LayoutName,
    /// The number of threads of the case's pool.
    pub threads: usize,
    /// The B of `[B, K, S]`, a divisor of the rows.
    images: usize,
}

impl Case {
    /// `images` divides `rows`.
    pub fn new(
        rows: usize,
        classes: usize,
        dtype: DType,
        layout: LayoutName,
        threads: usize,
        images: usize,
    ) -> Self {
        Self { rows, classes, dtype, layout, threads, images }
    }

    /// Of the logits and the gradient, in C order.
    pub fn shape(&self) -> Vec<usize> {
        match self.layout {
            LayoutName::Last => vec![self.rows, self.classes],
            LayoutName::Middle => vec![self.images, self.classes, self.rows / self.images],
        }
    }

    /// N·K, which has been checked not to overflow.
    pub fn elements(&self) -> usize {
        self.rows * self.classes
    }

    /// For a message.
    pub fn name(&self) -> String {
        format!("{} rows of {} classes in {}", self.rows, self.classes, word(&self.dtype))
    }

    /// The memory that the case needs; `None` if u64 cannot hold the number.
    fn bytes(&self) -> Option<u64> {
        let elements = (self.rows as u64).checked_mul(self.classes as u64)?;
        let buffers = elements.checked_mul(2 * self.dtype.size() as u64)?;
        buffers.checked_add((self.rows as u64).checked_mul(BYTES_PER_ROW)?)
    }
}

/// Every combination, those that share a shape together.
///
/// # Errors
/// A value is given twice, `--batch` does not divide the rows, or a case needs more than `free`
/// bytes.
pub fn cases(options: &BenchOptions, cores: usize, free: u64) -> Result<Vec<Case>> {
    once("rows", &options.rows, usize::to_string)?;
    once("classes", &options.classes, usize::to_string)?;
    once("dtype", &options.dtype, word)?;
    once("layout", &options.layout, word)?;
    once("threads", &options.threads, usize::to_string)?;
    if options.batch.is_some() && !options.layout.contains(&LayoutName::Middle) {
        return Err(Error::input(
            "--batch is the B of [B, K, S]: expected --layout middle with it",
        ));
    }
    let threads = if options.threads.is_empty() { vec![cores] } else { options.threads.clone() };
    let mut cases = Vec::new();
    for (rows, classes) in shapes(options) {
        let images = images(rows, options.batch)?;
        for &dtype in &options.dtype {
            for &layout in &options.layout {
                cases.extend(
                    threads
                        .iter()
                        .map(|&threads| Case::new(rows, classes, dtype, layout, threads, images)),
                );
            }
        }
    }
    for case in &cases {
        match case.bytes() {
            None => return Err(Error::input(format!("{} need more than 16 EiB", case.name()))),
            Some(bytes) if bytes > free => {
                return Err(Error::input(format!(
                    "{} need {bytes} bytes ({}); {free} ({}) are free",
                    case.name(),
                    in_gib(bytes),
                    in_gib(free)
                )));
            }
            Some(_) => {}
        }
    }
    Ok(cases)
}

fn shapes(options: &BenchOptions) -> Vec<(usize, usize)> {
    if options.rows.is_empty() {
        return options
            .classes
            .iter()
            .map(|&classes| (usual_rows(classes, options.batch), classes))
            .collect();
    }
    options
        .rows
        .iter()
        .flat_map(|&rows| options.classes.iter().map(move |&classes| (rows, classes)))
        .collect()
}

/// The same for each layout, so that they compare: a multiple of the images in a batch.
fn usual_rows(classes: usize, batch: Option<usize>) -> usize {
    let rows = (USUAL_ELEMENTS / classes).clamp(1, MOST_USUAL_ROWS);
    let images = batch.unwrap_or(MOST_USUAL_IMAGES.min(rows));
    (rows / images).max(1) * images
}

fn images(rows: usize, batch: Option<usize>) -> Result<usize> {
    match batch {
        Some(batch) if !rows.is_multiple_of(batch) => {
            Err(Error::input(format!("--batch {batch} does not divide {rows} rows")))
        }
        Some(batch) => Ok(batch),
        None => Ok((1..=MOST_USUAL_IMAGES)
            .rev()
            .find(|&images| rows.is_multiple_of(images))
            .unwrap_or(1)),
    }
}

pub fn in_gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_given_make_a_batch_of_the_usual_size() {
        assert_eq!(usual_rows(1000, None), 33_552);
        assert_eq!(usual_rows(128_256, None), 256);
        assert_eq!(usual_rows(1, None), MOST_USUAL_ROWS);
        assert_eq!(usual_rows(USUAL_ELEMENTS / 3, None), 3, "fewer rows than images");
        assert_eq!((usual_rows(usize::MAX, None), usual_rows(usize::MAX, Some(5))), (1, 5));
        assert_eq!(usual_rows(1000, Some(5)), 33_550);
    }

    #[test]
    fn rows_split_into_images() {
        assert_eq!([8, 12, 7, 13, 1].map(|rows| images(rows, None).unwrap()), [8, 6, 7, 1, 1]);
        assert_eq!(images(12, Some(4)).unwrap(), 4);
        assert_eq!(
            images(12, Some(5)).unwrap_err().to_string(),
            "--batch 5 does not divide 12 rows"
        );
    }

    #[test]
    fn bytes_are_counted_or_said_to_be_uncountable() {
        let case = Case::new(10, 100, DType::F32, LayoutName::Last, 1, 1);
        assert_eq!(case.bytes(), Some(2 * 4000 + 1280));
        for rows in [usize::MAX, usize::MAX / 100, usize::MAX / 800] {
            assert_eq!(Case { rows, ..case.clone() }.bytes(), None);
        }
    }
}
