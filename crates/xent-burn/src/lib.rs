//! Label-smoothed cross-entropy for burn: loss and gradient, correct with padding, class weights,
//! masked classes and huge vocabularies.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use xent_burn::CrossEntropyConfig;
//! use xent_burn::xent::Config;
//!
//! let device = Device::default().autodiff();
//! let config = Config::new().label_smoothing(0.1).ignore_index(-100);
//! let criterion = CrossEntropyConfig::new(config).init();
//! let rows = [[2.0, -1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 5.0, 5.0]];
//! let logits = Tensor::<2>::from_floats(rows, &device).require_grad();
//! let targets = Tensor::<1, Int>::from_ints([0, 2, -100], &device);
//!
//! let loss = criterion.forward(logits.clone(), targets); // the mean over the two kept rows
//! assert_eq!(loss.clone().into_scalar::<f32>(), 0.94557196); // (0.50484958 + ln 4) / 2
//!
//! let gradients = loss.backward();
//! let gradient: Vec<f32> = logits.grad(&gradients).unwrap().into_data().iter().collect();
//! // (1/4 − 0.1/4) / 2, and at the label (1/4 − 0.9 − 0.1/4) / 2
//! assert_eq!(gradient[4..8], [0.1125, 0.1125, -0.3375, 0.1125]);
//! assert_eq!(gradient[8..], [0.0; 4]); // ignored, never read
//! ```
//!
//! - [`cross_entropy`] is the loss without options. [`CrossEntropyConfig`] holds the options of
//!   [`xent::Config`] (smoothing, prior, class weights, ignore indices, reduction, form, z-loss,
//!   softcap, temperature) and the class axis, and makes a [`CrossEntropy`].
//! - [`CrossEntropy::forward`] takes class indices or probabilities,
//!   [`CrossEntropy::forward_no_reduction`] returns a loss per row. [`CrossEntropy::on`] starts a
//!   [`Call`] with more: two labels per row, ε or weights per row, masks, a denominator. It returns
//!   errors where the others panic, as burn's operations do, and [`Call::forward_with_output`]
//!   returns the parts of the loss too.
//! - [`CrossEntropy::forward_linear`] takes hidden states and the output layer, a burn `Linear`,
//!   instead of logits. On the CPU these then exist some hundred rows at a time only.
//! - On the CPU (burn's flex) xent's engine reads the logits in place, with any strides and in any
//!   dtype, on all threads. A mean or a sum gets its gradient in the same pass. The memory of the
//!   last gradient is reused as long as the criterion lives.
//! - On other devices burn's own operations compute, in f32 (f64 for f64 logits), from end to end
//!   on the device. Nothing is read back, so that no call waits, and after the first call nothing
//!   is uploaded. What would be an error there is NaN, unless [`CrossEntropy::checked`] requests
//!   the check.
//!
//! # Backends
//!
//! The crate's features have the names of burn's: `flex` (the default), `wgpu`, `vulkan`, `metal`,
//! `webgpu`, `cuda`, `rocm`. On a backend that is enabled in burn alone the loss can be computed,
//! but not its gradient.
//!
//! In debug builds the engine is 10 to 100 times as slow, unless your workspace's `Cargo.toml` has
//! `[profile.dev.package.xent]` with `opt-level = 3`.
//!
//! [`xent::semantics`] defines every formula, denominator and NaN/∞ rule.

#![forbid(unsafe_code)]

mod autodiff;
mod batch;
mod call;
mod config;
mod engine;
mod error;
mod host;
mod job;
mod linear;
mod output;
mod shape;
mod tensors;

pub use batch::{Lambda, Targets};
pub use call::{Call, cross_entropy};
pub use config::{CrossEntropy, CrossEntropyConfig};
pub use error::{Error, Result};
pub use output::CrossEntropyOutput;
pub use xent;

// The README of the package is tested, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
