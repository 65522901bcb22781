//! The options of `xent loss`.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;

use xent::{ClassWeighting, Denominator, EmptyMean, Form, Masked, Reduction};
use xent_arrays::Place;
use xent_metrics::UniformPrior;

use crate::args::{place, words};

/// Options of `xent loss`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct LossOptions {
    /// Logits: float16, bfloat16, float32 or float64, with any number of axes; an array with one
    /// axis is one row. Or a table, CSV or Parquet, as xent eval reads it
    #[arg(long, value_name = "FILE[:NAME]", value_parser = place())]
    pub logits: Place,
    /// The logits are probabilities, rows that sum to 1: their logarithms are the logits, and the
    /// gradient is that of these
    #[arg(long)]
    pub probabilities: bool,
    /// Targets: class indices (any integer type, the logits' shape without the class axis) or
    /// probabilities (any float type, the logits' shape; used as they are, whatever their sum), or
    /// the label column of a table
    #[arg(long, value_name = "FILE[:NAME]", value_parser = place())]
    pub targets: Place,
    /// The class axis of the logits, counted from the end if negative
    #[arg(long, value_name = "AXIS", default_value = "-1", allow_negative_numbers = true)]
    pub axis: isize,

    /// Amount of label smoothing, from 0 to 1, or a file with one per row [default: 0.1
    /// with --prior or --exclude, otherwise 0]
    #[arg(long, value_name = "E|FILE", value_parser = number_or_file, allow_negative_numbers = true, alias = "label-smoothing")]
    pub epsilon: Option<OrFile<f64>>,
    /// Where smoothing puts its mass: uniform (on all classes), wrong_classes (on all except the
    /// true one), or a file with a probability for each class, [K], or for each true class and
    /// class, [K, K] [default: uniform]
    #[arg(long, value_name = "uniform|wrong_classes|FILE", value_parser = prior_or_file)]
    pub prior: Option<OrFile<UniformPrior>>,
    /// Classes that receive nothing from smoothing: its mass goes to all classes except the true
    /// one and these
    #[arg(long, value_name = "I,J", value_delimiter = ',', allow_negative_numbers = true)]
    pub exclude: Vec<usize>,

    /// A weight for each class, [K]
    #[arg(long, value_name = "FILE[:NAME]", value_parser = place())]
    pub class_weights: Option<Place>,
    /// Whether the weight of a class multiplies its own terms (per_class, as in PyTorch) or whole
    /// rows of that class (per_row)
    #[arg(long, default_value = "per_class", value_parser = words(ClassWeighting::ALL, |choice| (choice.word(), choice.aliases())), requires = "class_weights", alias = "weighting")]
    pub class_weighting: ClassWeighting,
    /// A weight for each row
    #[arg(long, value_name = "FILE[:NAME]", value_parser = place())]
    pub row_weights: Option<Place>,

    /// Class indices whose rows are ignored
    #[arg(long, value_name = "I,J", value_delimiter = ',', allow_hyphen_values = true)]
    pub ignore_index: Vec<i64>,
    /// Rows to ignore: bool, True for ignored rows
    #[arg(long, value_name = "FILE[:NAME]", value_parser = place())]
    pub ignored_rows: Option<Place>,
    /// Classes that are allowed: bool, [K] or the logits' shape; the others are masked
    #[arg(long, value_name = "FILE[:NAME]", value_parser = place(), alias = "allowed")]
    pub allowed_classes: Option<Place>,
    /// Smoothing over masked classes (logit −∞ or not allowed): left as it is, so that the loss is
    /// infinite (pytorch), or spread over the classes that are not masked (renormalise)
    #[arg(long, default_value = "pytorch", value_parser = words(Masked::ALL, |choice| (choice.word(), choice.aliases())))]
    pub masked: Masked,

    /// A second class index for each row, mixed with the first
    #[arg(long, value_name = "FILE[:NAME]", value_parser = place(), requires = "lambda")]
    pub mix: Option<Place>,
    /// The share of the first class in a mix, from 0 to 1, or a file with one per row
    #[arg(long, value_name = "L|FILE", value_parser = number_or_file, requires = "mix", allow_negative_numbers = true)]
    pub lambda: Option<OrFile<f64>>,

    /// One loss per row, their sum, or their mean
    #[arg(long, default_value = "mean", value_parser = words(Reduction::ALL, |choice| (choice.word(), choice.aliases())))]
    pub reduction: Reduction,
    /// What a mean divides by: pytorch (the sum of the class weights of the rows that are not
    /// ignored; for probabilities their number), kept_rows (the number of rows that are not
    /// ignored), rows (the number of all rows), or a number
    #[arg(
        long,
        value_name = "pytorch|kept_rows|rows|N",
        default_value = "pytorch",
        allow_negative_numbers = true
    )]
    pub denominator: Divisor,
    /// The mean if the denominator is 0
    #[arg(long, default_value = "nan", value_parser = words(EmptyMean::ALL, |choice| (choice.word(), choice.aliases())))]
    pub empty_mean: EmptyMean,

    /// Cross-entropy, or KL divergence: the cross-entropy less the entropy of the smoothed targets,
    /// so that the lowest loss is 0
    #[arg(long, default_value = "cross_entropy", value_parser = words(Form::ALL, |choice| (choice.word(), choice.aliases())))]
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

    /// Write the gradient with respect to the logits, in their shape and type, C order,
    /// little-endian
    #[arg(long, value_name = "G.npy")]
    pub grad: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl LossOptions {
    /// Every file that is read.
    pub fn files(&self) -> impl Iterator<Item = &Place> {
        let numbers = [&self.epsilon, &self.lambda].into_iter().flatten().filter_map(OrFile::file);
        let prior = self.prior.iter().filter_map(OrFile::file);
        let paths = [
            &self.class_weights,
            &self.row_weights,
            &self.ignored_rows,
            &self.allowed_classes,
            &self.mix,
        ]
        .into_iter()
        .flatten();
        [&self.logits, &self.targets].into_iter().chain(prior).chain(numbers).chain(paths)
    }
}

const AFTER_HELP: &str = "\
Output:
  loss         by --reduction; one number per row with none.
               (1−ε)·nll + smoothing + z_loss, less floor with
               --form kl_divergence (of a batch, only if ε is the same for all
               rows)
  nll          the loss without smoothing and z-loss
  smoothing    ε times the cross-entropy to the prior
  floor        the lowest value that the cross-entropy can reach
  z_loss       L·lse²; the default mean averages it over the kept rows
  denominator  what a mean divides by, whatever the reduction
  correct      kept rows (rows that are not ignored) whose largest logit is the
               target's
  ignored      rows that are ignored
  non_finite   kept rows whose loss is NaN or infinite; a warning on stderr
               names the first
  rows, classes

  --json prints one object with these keys. With --reduction none the first
  five are flat arrays with one number per row, in C order of the row axes.
  JSON has no NaN and no infinity: they are the strings \"NaN\", \"Infinity\"
  and \"-Infinity\". Every number has enough digits to be read back exactly:
  up to 17 for float64 logits, up to 9 for all others, which are computed in
  float32. Without --json, the table of --reduction none has 7 digits.

  The gradient is that of the sum or mean; with none, each row has the
  gradient of its own loss.

Files:
  Logits, targets and --mix may be in .npy, .npz, .safetensors, .csv, .tsv
  (or .gz of these) or .parquet files, everything else in the first three.
  FILE:NAME is one of several arrays, or the column of the labels.
  .npy, versions 1.0 to 3.0, C and Fortran order, little- and big-endian.
  Regular files only, no pipes. Weights, amounts and priors may have any float
  or integer type. V2 is read and written as bfloat16: that is how NumPy
  writes the bfloat16 of ml_dtypes.

Exit code: 0; 2 for options or files that cannot be used; 1 if the system
fails. If there is an error, nothing is written.";

/// A value, or a file with one for each row or class.
#[derive(Debug, Clone, PartialEq)]
pub enum OrFile<T> {
    /// One value for all.
    Value(T),
    /// An array.
    File(Place),
}

impl<T> OrFile<T> {
    /// The file, if there is one.
    pub fn file(&self) -> Option<&Place> {
        match self {
            Self::Value(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

impl<T: FromStr> OrFile<T> {
    fn parse(text: &str, values: &str) -> Result<Self, String> {
        if let Ok(value) = text.parse() {
            return Ok(Self::Value(value));
        }
        let place = Place::from(OsStr::new(text));
        if place.is_array() {
            return Ok(Self::File(place));
        }
        Err(format!("expected {values}, or the name of a .npy, .npz or .safetensors file"))
    }
}

fn number_or_file(text: &str) -> Result<OrFile<f64>, String> {
    OrFile::parse(text, "a number")
}

fn prior_or_file(text: &str) -> Result<OrFile<UniformPrior>, String> {
    OrFile::parse(text, "'uniform', 'wrong_classes'")
}

/// The value of `--denominator`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Divisor {
    /// Counted from the batch.
    Counted(Denominator),
    /// A given number.
    Given(f64),
}

impl FromStr for Divisor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let given = |_| {
            text.parse()
                .map(Self::Given)
                .map_err(|_| "expected 'pytorch', 'kept_rows', 'rows', or a number")
        };
        text.parse().map(Self::Counted).or_else(given)
    }
}
