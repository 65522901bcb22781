//! The options of `xent bench`.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::args::{count_up_to, positive, share, threads};

/// Options of `xent bench`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct BenchOptions {
    /// Rows of a batch, N [default: enough for about 2^25 elements, at most 2^22]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = count, allow_negative_numbers = true)]
    pub rows: Vec<usize>,
    /// Classes, K
    #[arg(long, value_name = "LIST", default_value = "1000,32000,128256", value_delimiter = ',', value_parser = count, allow_negative_numbers = true)]
    pub classes: Vec<usize>,
    /// Types of the logits and the gradient
    #[arg(long, value_name = "LIST", default_value = "f32", value_delimiter = ',')]
    pub dtype: Vec<DType>,
    /// Position of the class axis: last ([N, K], contiguous rows) or middle ([B, K, S], as in
    /// segmentation; read in place)
    #[arg(long, value_name = "LIST", default_value = "last", value_delimiter = ',')]
    pub layout: Vec<LayoutName>,
    /// Numbers of threads [default: one per core]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = threads, allow_negative_numbers = true)]
    pub threads: Vec<usize>,
    /// The B of layout middle, a divisor of the rows [default: the largest divisor of the rows up
    /// to 8]
    #[arg(long, value_name = "B", value_parser = count, allow_negative_numbers = true)]
    pub batch: Option<usize>,
    /// Amount of label smoothing, from 0 to 1
    #[arg(long, value_name = "E", default_value = "0.1", value_parser = share, allow_negative_numbers = true, alias = "label-smoothing")]
    pub epsilon: f64,
    /// Seconds for which the rounds of a case are repeated; there are at least 7 rounds
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: f64,
    /// Number of rounds of a case, however long they take
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true, conflicts_with = "seconds")]
    pub rounds: Option<usize>,
    /// Time the loss of linear layers instead, N rows of D features and K classes, without their
    /// logits [default list: 1024x1024x32000]
    #[arg(long, value_name = "NxDxK", num_args = 0..=1, default_missing_value = "1024x1024x32000", value_delimiter = ',', conflicts_with_all = ["rows", "classes", "layout", "batch"])]
    pub linear: Vec<LinearShape>,
    /// Print a JSON array with one object per case
    #[arg(long)]
    pub json: bool,
}

const AFTER_HELP: &str = "\
Lists are separated by commas. Every combination of their values is a case, which
is a row of the table:

  xent bench --classes 1000,50257 --threads 1,8
  xent bench --rows 2097152 --classes 21 --layout last,middle --dtype f16,f32

What is timed:
  Each round times four steps one after another, so that a temporary slowdown of
  the machine affects all of them:
    read              sum the logits as integers, which reads them once
    copy              copy the logits into a buffer of the same size
    forward           compute the loss
    forward+backward  compute the loss and write its gradient to that buffer
  All four run on the case's threads. A step that takes less than a millisecond
  is repeated until it takes that long. The first round is not counted.
  Logits are normal with standard deviation 3, targets are class indices, both
  from a fixed seed; the loss is the mean over the rows. Before a case is timed,
  its loss and the gradient of some rows are checked; a wrong result is an error.
  A batch that fits into the caches is timed in the caches.

What is printed:
  Medians over the rounds. ± is half the distance between the quartiles, relative
  to the median. A GB is 10^9 bytes; each logit counts once when it is read, and
  each copy or gradient once when it is written, so copy and forward+backward
  count twice the bytes of read and forward.
  If the terminal is too narrow, columns are left out.

  With --json, for each case:
    rows, classes, dtype, layout, threads, shape, epsilon, rounds
    X_ns_per_element, X_ns_per_element_low and _high for the quartiles, and
    X_gb_per_second, where X is read, copy, forward or forward_backward
    forward_per_read           ratio of the medians
    forward_backward_per_copy  ratio of the medians
    cores, cpu (or null), xent_version, build

Linear layers:
  --linear 8192x2048x50257 times a batch of 8192 rows at the end of a language
  model: hidden states of 2048 features, and an output layer of 50,257 classes.
  Its logits exist a few hundred rows at a time. Each round times four steps:
    products  the three products of matrices, without the loss
    whole     the loss and the gradients of hidden states and weight
    padded    the same with 40 % of the rows ignored, which enter no product
    frozen    the same without the gradient of the weight
  Lists of shapes, --dtype, --threads, --epsilon, --seconds and --rounds are as
  above. Gradients of the weight are f32 (f64 for f64). With --json, for each case:
    rows, features, classes, dtype, threads, epsilon, rounds
    X_ms, X_ms_low, X_ms_high, where X is a step
    gflop_per_second of the products; whole_per_products, padded_per_whole and
    frozen_per_whole, ratios of the medians
    workspace_bytes, what the call needs beside its gradients
    logits_bytes, what the logits and their gradient would take
    cores, cpu (or null), xent_version, build

Memory: two buffers of the logits' size and about 128 bytes per row. If a case
needs more memory than is free, the command fails before any case is timed.

Exit code: 0; 2 for options that cannot be used; 1 if the system fails or a
result is wrong.";

/// A type of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE single precision
    F32,
    /// IEEE double precision
    F64,
    /// IEEE half precision
    F16,
    /// The upper half of an f32
    Bf16,
}

/// The shape of a linear layer and its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// N.
    pub rows: usize,
    /// D.
    pub features: usize,
    /// K.
    pub classes: usize,
}

impl FromStr for LinearShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<usize> =
            text.split('x').map(count).collect::<Result<_, _>>().map_err(|_| EXPECTED)?;
        match parts[..] {
            [rows, features, classes] => Ok(Self { rows, features, classes }),
            _ => Err(EXPECTED.to_owned()),
        }
    }
}

const EXPECTED: &str =
    "expected three whole numbers above 0: rows x features x classes, such as 1024x1024x32000";

impl fmt::Display for LinearShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.rows, self.features, self.classes)
    }
}

impl DType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// The position of the class axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutName {
    /// [N, K]
    Last,
    /// [B, K, S] with B·S rows
    Middle,
}

/// The most seconds per case: a day.
const MOST_SECONDS: f64 = 86_400.0;

fn count(text: &str) -> Result<usize, String> {
    count_up_to(text, usize::MAX)
}

fn seconds(text: &str) -> Result<f64, String> {
    positive(text)
        .ok()
        .filter(|seconds| *seconds <= MOST_SECONDS)
        .ok_or_else(|| format!("expected a number above 0, at most {MOST_SECONDS}"))
}
