//! Label-smoothed cross-entropy: loss and gradient that stay correct with padding, class weights,
//! masked classes and huge vocabularies.
//!
//! Cross-entropy on one-hot labels rewards a model for pushing the logit of the true class ever
//! further from the others. Label smoothing trains on `y = (1−ε)·δ + ε·u` instead, where u is a
//! prior over the classes and ε is about 0.1 (Szegedy et al. 2015, arXiv 1512.00567).
//!
//! ```
//! use xent::{Config, Rows, RowsMut};
//!
//! let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).build()?;
//! let logits = [2.0f32, -1.0, 0.5, 0.0, 0.0, 1.0, -2.0, 3.0, 5.0, 5.0, 5.0, 5.0]; // 3 rows of 4 classes
//! let targets = [0i64, 3, -100];
//! let mut grad = [0.0f32; 12];
//!
//! let output = criterion.forward_backward(&Rows::new(&logits, 4)?, &targets, 1.0, &mut RowsMut::new(&mut grad, 4)?)?;
//! assert_eq!(format!("{:.6}", output.loss), "0.465182"); // the mean over the two rows kept
//! assert_eq!(format!("{:.6}", output.nll), "0.258932"); //   comparable with any other ε
//! assert_eq!((output.rows, output.ignored, output.accuracy()), (3, 1, 1.0));
//! assert_eq!(grad[8..], [0.0; 4]); // ignored, never read
//! # Ok::<(), xent::Error>(())
//! ```
//!
//! - [`Config`] holds the options: smoothing, [`Prior`], class weights, ignore indices,
//!   [`Reduction`], [`Form`], z-loss, softcap, temperature. [`Config::build`] validates them and
//!   makes a [`Criterion`].
//! - [`Rows`] and [`RowsMut`] view logits and gradients in f32, f64, f16 or bf16, with any strides
//!   and the classes on any axis.
//! - [`Batch`] carries the targets (class indices, probabilities, two labels) and per-row options:
//!   ε, weights, masks.
//! - [`Criterion::forward`], [`Criterion::loss_and_gradient`], [`Criterion::forward_backward`] and
//!   [`Criterion::forward_backward_in_place`] return an [`Output`].
//! - [`Error`] is the error of every call.
//! - [`Instructions`] is the instruction set of the kernels. The best one that the processor
//!   supports is selected at run time.
//! - [`rules`] is for backends, [`host`] for bindings; both are exempt from the stability promise.
//!
//! SEMANTICS.md in the repository defines every formula, denominator and NaN/∞ rule. A call
//! allocates O(N + K) per thread in addition to the caller's buffers. Results are bit-identical for
//! any number of threads.

#![warn(missing_docs)]

mod batch;
mod config;
mod cpu;
mod criterion;
mod element;
mod error;
pub mod host;
mod number;
mod output;
mod prior;
mod reduction;
pub mod rules;
mod targets;
mod view;
mod words;

pub use batch::{AllowedClasses, Batch, Upstream};
pub use config::{ClassWeighting, Config, Criterion, Form, Masked};
pub use cpu::Instructions;
pub use element::{Element, Real};
pub use error::{ConfigError, Error, InputError, Result, RowOption, ViewError};
pub use number::Numbers;
pub use output::{Output, Reduced};
pub use prior::{Prior, PriorKind, PriorMatrix};
pub use reduction::{Denominator, EmptyMean, Reduction};
pub use targets::{ClassIndices, Lambda, Probabilities, Targets};
pub use view::{Rows, RowsMut};

#[doc(no_inline)]
pub use half::{bf16, f16};
