//! The options of `xent loss`, and the words that they take.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use xent::{ClassWeighting, Denominator, EmptyMean, Form, Masked, Reduction};

/// Options of `xent loss`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct LossOptions {
    /// Logits: float16, bfloat16, float32 or float64, with any number of axes; of one axis it is one row
    #[arg(long, value_name = "Z.npy")]
    pub logits: PathBuf,
    /// Targets: class indices (any integer type, the logits' shape without the class axis) or probabilities (any float type, the logits' shape; used as they are, whatever they sum to)
    #[arg(long, value_name = "Y.npy")]
    pub targets: PathBuf,
    /// The class axis of the logits, counted from the end if negative
    #[arg(long, value_name = "AXIS", default_value = "-1", allow_negative_numbers = true)]
    pub axis: isize,

    /// Amount of label smoothing, from 0 to 1, or a file with one a row [default: 0.1 with --prior or --exclude, otherwise 0]
    #[arg(long, value_name = "E|FILE.npy", allow_negative_numbers = true, alias = "label-smoothing")]
    pub epsilon: Option<NumberOrFile>,
    /// Where smoothing puts its mass: uniform (on all classes), others (on all but the true one), or a file with a probability for each class, [K], or for each true class
    /// and class, [K, K] [default: uniform]
    #[arg(long, value_name = "uniform|others|FILE.npy")]
    pub prior: Option<PriorChoice>,
    /// Classes that smoothing gives nothing either: it goes to the others than the true one and these
    #[arg(long, value_name = "I,J", value_delimiter = ',', allow_negative_numbers = true)]
    pub exclude: Vec<usize>,

    /// A weight for each class, [K]
    #[arg(long, value_name = "W.npy")]
    pub class_weights: Option<PathBuf>,
    /// Whether a class's weight multiplies its own terms (pytorch) or the whole of the rows of that class (row)
    #[arg(long, default_value = "pytorch", value_parser = word(WEIGHTINGS), requires = "class_weights")]
    pub weighting: ClassWeighting,
    /// A weight for each row
    #[arg(long, value_name = "R.npy")]
    pub row_weights: Option<PathBuf>,

    /// Class indices whose rows are ignored
    #[arg(long, value_name = "I,J", value_delimiter = ',', allow_hyphen_values = true)]
    pub ignore_index: Vec<i64>,
    /// Rows to ignore: bool, True where ignored
    #[arg(long, value_name = "M.npy")]
    pub ignored_rows: Option<PathBuf>,
    /// Classes to allow: bool, [K] or the logits' shape; the others are masked
    #[arg(long, value_name = "A.npy")]
    pub allowed: Option<PathBuf>,
    /// Smoothing over masked classes (logit −∞ or not allowed): kept, so that the loss is infinite (pytorch), or spread over the classes that are left (renormalise)
    #[arg(long, default_value = "pytorch", value_parser = word(MASKED))]
    pub masked: Masked,

    /// A second class index for each row, mixed with the first
    #[arg(long, value_name = "Y2.npy", requires = "lambda")]
    pub mix: Option<PathBuf>,
    /// The first class's share in a mix, from 0 to 1, or a file with one a row
    #[arg(long, value_name = "L|FILE.npy", requires = "mix", allow_negative_numbers = true)]
    pub lambda: Option<NumberOrFile>,

    /// One loss a row, their sum, or their mean
    #[arg(long, default_value = "mean", value_parser = word(REDUCTIONS))]
    pub reduction: Reduction,
    /// What a mean divides by: pytorch (the kept rows' class weights; their number for probabilities), kept (number of rows that are not ignored), rows (of all rows), or a number
    #[arg(long, value_name = "pytorch|kept|rows|N", default_value = "pytorch", allow_negative_numbers = true)]
    pub denominator: Divisor,
    /// The mean when there is nothing to divide by
    #[arg(long, default_value = "nan", value_parser = word(EMPTY_MEANS))]
    pub empty_mean: EmptyMean,

    /// Cross-entropy, or KL divergence: less the entropy of the smoothed targets, so that the lowest loss is 0
    #[arg(long, default_value = "ce", value_parser = word(FORMS))]
    pub form: Form,
    /// Adds L·lse² to each row
    #[arg(long, value_name = "L", default_value = "0", allow_negative_numbers = true)]
    pub z_loss: f64,
    /// Replaces each logit z, after the temperature, by C·tanh(z/C)
    #[arg(long, value_name = "C", allow_negative_numbers = true)]
    pub softcap: Option<f64>,
    /// Divides the logits by T
    #[arg(long, value_name = "T", default_value = "1", allow_negative_numbers = true)]
    pub temperature: f64,

    /// Write the gradient with respect to the logits: in their shape and type, C order, little-endian
    #[arg(long, value_name = "G.npy")]
    pub grad: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl LossOptions {
    /// Every file that is read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let prior = match &self.prior {
            Some(PriorChoice::File(path)) => Some(path),
            _ => None,
        };
        let numbers = [&self.epsilon, &self.lambda].into_iter().filter_map(|choice| match choice {
            Some(NumberOrFile::File(path)) => Some(path),
            _ => None,
        });
        let paths = [&self.class_weights, &self.row_weights, &self.ignored_rows, &self.allowed, &self.mix].into_iter().flatten();
        [&self.logits, &self.targets].into_iter().chain(prior).chain(numbers).chain(paths).map(PathBuf::as_path)
    }
}

const AFTER_HELP: &str = "\
Output:
  loss         by --reduction; with none one number a row.
               (1−ε)·nll + smoothing + z_loss, less floor with --form kl
               (of a batch only where ε is the same for all rows)
  nll          what the loss would be without smoothing and z-loss
  smoothing    ε times the cross-entropy to the prior
  floor        the lowest value that the cross-entropy can reach
  z_loss       L·lse²
  denominator  what a mean divides by, whatever the reduction
  correct      kept rows whose largest logit is the target's
  ignored      rows that were ignored
  non_finite   kept rows whose loss is NaN or infinite; a warning on stderr
               names the first
  rows, classes

  With --json, one object with these keys. With --reduction none the first
  five are flat arrays, one number a row, in C order of the row axes. JSON
  has no NaN and no infinity: they are the strings \"NaN\", \"Infinity\" and
  \"-Infinity\". Every number has as many digits as it takes to read the same
  number back: up to 17 for float64 logits, up to 9 for all others, which are
  computed in float32. The table that --reduction none prints without --json
  has 7.

  The gradient is that of the sum or mean; with none each row's is that of
  its own loss.

Files:
  .npy, versions 1.0 to 3.0, C and Fortran order, little- and big-endian.
  Regular files only: no pipes. Weights, amounts and priors may be of any
  float or integer type. V2 is read and written as bfloat16: that is what
  NumPy makes of the bfloat16 of ml_dtypes.

Exit code: 0; 2 for options or files that cannot be used; 1 if the system
fails. Nothing is written unless all went well.";

const WEIGHTINGS: &[(&str, ClassWeighting)] = &[("pytorch", ClassWeighting::PerClass), ("row", ClassWeighting::PerRow)];
const MASKED: &[(&str, Masked)] = &[("pytorch", Masked::PyTorch), ("renormalise", Masked::Renormalise)];
const REDUCTIONS: &[(&str, Reduction)] = &[("none", Reduction::None), ("sum", Reduction::Sum), ("mean", Reduction::Mean)];
const EMPTY_MEANS: &[(&str, EmptyMean)] = &[("nan", EmptyMean::Nan), ("zero", EmptyMean::Zero), ("error", EmptyMean::Error)];
const FORMS: &[(&str, Form)] = &[("ce", Form::CrossEntropy), ("kl", Form::KlDivergence)];

/// Takes one of these words for the value beside it.
fn word<T: Copy + Send + Sync + 'static>(words: &'static [(&'static str, T)]) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words.iter().map(|(word, _)| *word))
        .try_map(move |given| words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or("not one of the words"))
}

/// `--epsilon`, `--lambda`.
#[derive(Debug, Clone, PartialEq)]
pub enum NumberOrFile {
    /// One for all rows.
    Number(f64),
    /// A file with one a row.
    File(PathBuf),
}

impl FromStr for NumberOrFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if text.ends_with(".npy") => Ok(Self::File(text.into())),
            Err(_) => Err("expected a number, or the name of a .npy file"),
        }
    }
}

/// `--prior`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriorChoice {
    /// On all classes.
    Uniform,
    /// On all but the true one.
    Others,
    /// As the file says.
    File(PathBuf),
}

impl FromStr for PriorChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "others" => Ok(Self::Others),
            file if file.ends_with(".npy") => Ok(Self::File(file.into())),
            _ => Err("expected 'uniform', 'others', or the name of a .npy file"),
        }
    }
}

/// `--denominator`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Divisor {
    /// Counted from the batch.
    Counted(Denominator),
    /// A number, whatever the batch.
    Given(f64),
}

impl FromStr for Divisor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pytorch" => Ok(Self::Counted(Denominator::PyTorch)),
            "kept" => Ok(Self::Counted(Denominator::KeptRows)),
            "rows" => Ok(Self::Counted(Denominator::Rows)),
            number => number.parse().map(Self::Given).map_err(|_| "expected 'pytorch', 'kept', 'rows', or a number"),
        }
    }
}
