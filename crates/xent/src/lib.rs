//! Label-smoothed cross-entropy: loss and gradient that stay correct with padding, class weights,
//! masked classes and huge vocabularies.
//!
//! Cross-entropy on one-hot labels rewards a model for pushing the logit of the true class ever
//! further from the others. Label smoothing trains on `y = (1−ε)·δ + ε·u` instead, where u is a
//! prior over the classes and ε is about 0.1 (Szegedy et al. 2015, arXiv 1512.00567).
//!
//! ```
//! use xent::{Config, Rows};
//!
//! let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).build()?;
//! let logits = [2.0f32, -1.0, 0.5, 0.0, 0.0, 1.0, -2.0, 3.0, 5.0, 5.0, 5.0, 5.0]; // 3 rows of 4 classes
//! let targets = [0i64, 3, -100]; // the last row is padding
//!
//! let (output, gradient) = criterion.loss_and_gradient(&Rows::new(&logits, 4)?, &targets)?;
//! assert_eq!(format!("{:.6}", output.loss), "0.465182"); // the mean over the two kept rows
//! assert_eq!(format!("{:.6}", output.nll), "0.258932"); //  the same with ε = 0, to compare runs by
//! assert_eq!((output.rows, output.ignored, output.accuracy()), (3, 1, 1.0));
//! assert_eq!(gradient[8..], [0.0; 4]); // padding is never read
//! # Ok::<(), xent::Error>(())
//! ```
//!
//! Debug builds compile dependencies without optimisation, and the loss then takes 10 to 100 times
//! as long. Two lines in the `Cargo.toml` of your workspace change that for the kernels alone:
//!
//! ```toml
//! [profile.dev.package.xent]
//! opt-level = 3
//! ```
//!
//! A training step writes the gradient into a buffer that it reuses:
//!
//! ```
//! use xent::{Config, Rows, RowsMut};
//!
//! let weights = [1.0, 2.0, 0.5, 3.0]; // one per class
//! let criterion = Config::new().label_smoothing(0.1).class_weights(&weights).ignore_index(-100).build()?;
//! let mut gradient = vec![0.0f32; 12];
//! # let batches = [(vec![2.0f32, -1.0, 0.5, 0.0, 0.0, 1.0, -2.0, 3.0, 5.0, 5.0, 5.0, 5.0], vec![0i64, 3, -100])];
//! for (logits, targets) in &batches {
//!     let (logits, mut place) = (Rows::new(logits, 4)?, RowsMut::new(&mut gradient, 4)?);
//!     let output = criterion.forward_backward(&logits, targets, 1.0, &mut place)?;
//!     println!("{:.4}", output.loss); // the weighted sum over the kept rows, divided by their weights
//! #   assert_eq!(format!("{:.4}", output.loss), "0.3556"); // (.6824964313 + .7399127255) / (1 + 3)
//!     // `gradient` is ∂loss/∂logits now: it starts the backward pass of the model.
//! }
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
//! - `examples/` has short programs: `training_step`, `padding` (and class weights),
//!   `probabilities`, `upstream` (a gradient by row), `images`, `in_place`, `backend`.
//! - [`shards`] is a vocabulary whose classes are divided over processes: tensor parallelism.
//! - [`rules`] is for backends, [`host`] for bindings; both are exempt from the stability promise.
//!
//! The page [`semantics`] defines every formula, denominator and NaN/∞ rule. A call
//! allocates O(N + K) per thread in addition to the caller's buffers. Results are bit-identical for
//! any number of threads.

#![warn(missing_docs)]

mod batch;
mod buffer;
mod columns;
mod config;
mod cpu;
mod criterion;
mod element;
mod error;
pub mod host;
mod number;
mod output;
mod pieces;
mod prior;
mod reduction;
pub mod rules;
#[doc = include_str!("../SEMANTICS.md")]
pub mod semantics {}
pub mod shards;
mod targets;
mod threads;
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

// The README of the package is tested, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
