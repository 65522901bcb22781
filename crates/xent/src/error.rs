//! Errors as values: what came, where, and what was expected.

/// The error of every public call. No call panics on its input, and when a call returns an error,
/// nothing has been written.
///
/// One `?`, or one `#[from]` in an error type of your own, is enough.
///
/// ```
/// use xent::{Config, Error, Rows};
/// fn loss(logits: &[f32], targets: &[i64]) -> Result<f32, Error> {
///     let criterion = Config::new().label_smoothing(0.1).build()?;
///     let output = criterion.forward(&Rows::new(logits, 2)?, targets)?;
///     Ok(output.loss.into_vec()[0])
/// }
/// let error = loss(&[0.0; 4], &[0, 2]).unwrap_err();
/// assert_eq!(error.to_string(), "target 2 in row 1 is outside 0..2 and not an ignore index");
/// assert!(matches!(error, Error::Input(_)));
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option that is outside its range, or a word that the option does not have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A batch that does not fit the criterion or the logits.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A view that does not fit its buffer, or a shape without classes.
    #[error(transparent)]
    View(#[from] ViewError),
    /// An array or tensor whose shape does not fit the shape of the logits. Raised by bindings; see
    /// [`host::LogitsShape`](crate::host::LogitsShape).
    #[error(
        "{name} has shape {found:?}, expected {expected} for logits of shape {logits:?} with the classes on axis {axis}"
    )]
    Shape {
        /// What has that shape.
        name: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What was expected, in words and numbers.
        expected: String,
        /// The shape of the logits.
        logits: Vec<usize>,
        /// Their class axis.
        axis: usize,
    },
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A [`Config`](crate::Config) that is not valid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number outside its range.
    #[error("{name} is {value}, expected {expected}")]
    Number {
        /// The option.
        name: &'static str,
        /// What came.
        value: f64,
        /// What was expected.
        expected: &'static str,
    },
    /// An entry of a vector or matrix outside its range.
    #[error("{name}[{index}] is {value}, expected {expected}")]
    Entry {
        /// The option.
        name: &'static str,
        /// Position in the vector, or in the matrix in row-major order.
        index: usize,
        /// What came.
        value: f64,
        /// What was expected.
        expected: &'static str,
    },
    /// A prior that is not a distribution.
    #[error("{name} sums to {sum}, expected 1 (within 1e-4)")]
    Sum {
        /// The prior, with its row where there are several.
        name: String,
        /// What it sums to.
        sum: f64,
    },
    /// A vector without entries, or a matrix that is not square.
    #[error("{name}: {len} entries, expected {expected}")]
    Length {
        /// The option.
        name: &'static str,
        /// How many came.
        len: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// A word that an option does not have.
    #[error("{option} is '{word}', expected {expected}")]
    Word {
        /// The option.
        option: &'static str,
        /// The word that came.
        word: String,
        /// The words of the option.
        expected: String,
    },
    /// Instructions that this processor does not support.
    #[error("this processor does not support the instructions {asked}, expected {best} or less")]
    Instructions {
        /// The instructions that were requested.
        asked: crate::Instructions,
        /// The best ones that the processor supports.
        best: crate::Instructions,
    },
}

/// A batch that does not fit the criterion or the logits. When one is returned, nothing has been
/// written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A class index that is neither a class nor an ignore index.
    #[error("target {value} in row {row} is outside 0..{classes} and not an ignore index{}", negative_hint(*.value))]
    Class {
        /// The row.
        row: usize,
        /// The index that came.
        value: i64,
        /// Number of classes.
        classes: usize,
    },
    /// A target probability that is negative, NaN or infinite.
    #[error(
        "the target probability of class {class} in row {row} is {value}, expected a finite number ≥ 0"
    )]
    Probability {
        /// The row.
        row: usize,
        /// The class.
        class: usize,
        /// What came.
        value: f64,
    },
    /// A per-row value outside its range.
    #[error("{option} of row {row} is {value}, expected {expected}")]
    RowValue {
        /// The per-row option.
        option: RowOption,
        /// The row.
        row: usize,
        /// What came.
        value: f64,
        /// What was expected.
        expected: &'static str,
    },
    /// A number of the batch outside its range.
    #[error("{name} is {value}, expected {expected}")]
    Number {
        /// The option.
        name: &'static str,
        /// What came.
        value: f64,
        /// What was expected.
        expected: &'static str,
    },
    /// A vector whose length does not fit the logits.
    #[error("{name}: {len} entries, expected {expected} ({what})")]
    Length {
        /// Which vector.
        name: &'static str,
        /// How many came.
        len: usize,
        /// How many were expected.
        expected: usize,
        /// What the expected number is, for example "one per row".
        what: &'static str,
    },
    /// A class that the logits do not have, named by an option.
    #[error("{name} names class {class}, but the logits have {classes} classes")]
    NoSuchClass {
        /// The option.
        name: &'static str,
        /// The class.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Two views that must have the same shape.
    #[error(
        "{name}: {rows} rows of {classes} classes, expected {expected_rows} rows of {expected_classes} classes, the shape of the logits"
    )]
    Shape {
        /// Which view.
        name: &'static str,
        /// Its rows.
        rows: usize,
        /// Its classes.
        classes: usize,
        /// Rows of the logits.
        expected_rows: usize,
        /// Classes of the logits.
        expected_classes: usize,
    },
    /// Logits of another number of classes than their shard of the vocabulary has.
    #[error("the logits have {found} classes, expected {}, those of the shard {start}..{end}", end - start)]
    ShardClasses {
        /// How many classes the logits have.
        found: usize,
        /// The first class of the shard.
        start: usize,
        /// The class after its last.
        end: usize,
    },
    /// A shard with classes that the vocabulary does not have.
    #[error(
        "the shard has the classes {start}..{end}, expected some of 0..{classes}, at least 1 class in all"
    )]
    ShardRange {
        /// The first class of the shard.
        start: usize,
        /// The class after its last.
        end: usize,
        /// The number of all classes.
        classes: usize,
    },
    /// Options that exclude one another.
    #[error("{0}")]
    Combination(&'static str),
    /// An empty mean under [`EmptyMean::Error`](crate::EmptyMean::Error).
    #[error(
        "the mean's denominator is 0: {ignored} of {rows} rows are ignored and the weights of the others are 0"
    )]
    EmptyMean {
        /// All rows.
        rows: usize,
        /// Ignored rows.
        ignored: usize,
    },
}

/// A per-row option of a batch, as named by [`InputError::RowValue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowOption {
    /// ε.
    LabelSmoothing,
    /// λ of a two-label mix.
    Lambda,
    /// The row weight.
    Weight,
}

impl std::fmt::Display for RowOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LabelSmoothing => "ε",
            Self::Lambda => "λ",
            Self::Weight => "the weight",
        })
    }
}

fn negative_hint(value: i64) -> &'static str {
    if value < 0 { " (if it marks padding, add it to the ignore indices)" } else { "" }
}

/// The axes that a shape has, in words.
fn axes(rank: usize) -> String {
    match rank {
        0 => "at least 1 axis".to_owned(),
        _ => format!("-{rank} to {}", rank - 1),
    }
}

/// A view that does not fit its buffer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The class axis is not an axis of the shape.
    #[error("class axis {axis} of a shape with {rank} axes, expected {}", axes(*.rank))]
    Axis {
        /// The axis that came; negative ones count from the end.
        axis: isize,
        /// How many axes there are.
        rank: usize,
    },
    /// A buffer that does not split into rows of so many classes.
    #[error(
        "{len} elements do not split into rows of {classes} classes, expected a multiple of {classes}"
    )]
    Ragged {
        /// Length of the buffer.
        len: usize,
        /// Number of classes.
        classes: usize,
    },
    /// More positions than can be counted, or than a gradient of its own could have.
    #[error("shape {shape:?} has more positions than memory can hold")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// No classes.
    #[error("the class axis has length 0, expected at least 1 class")]
    NoClasses,
    /// The number of strides differs from the number of axes.
    #[error("{strides} strides for {rank} axes, expected one per axis")]
    Strides {
        /// How many strides came.
        strides: usize,
        /// How many axes there are.
        rank: usize,
    },
    /// The shape reaches outside its buffer.
    #[error("shape {shape:?} reaches element {reaches} of a buffer of {len} elements")]
    OutOfBounds {
        /// The shape.
        shape: Vec<usize>,
        /// The lowest element outside the buffer that is reached, or the highest.
        reaches: i128,
        /// Length of the buffer.
        len: usize,
    },
    /// A contiguous buffer with too many or too few elements.
    #[error("shape {shape:?} has {expected} elements, but the buffer has {len}")]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// Product of the shape.
        expected: u128,
        /// Length of the buffer.
        len: usize,
    },
    /// A view for writing in which two positions are, or may be, the same element.
    #[error(
        "strides {strides:?} over shape {shape:?} may write an element twice, expected strides that never overlap"
    )]
    Overlap {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<isize>,
    },
}
