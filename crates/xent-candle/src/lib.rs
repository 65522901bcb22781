//! Label-smoothed cross-entropy for candle: loss and gradient, correct with padding, class weights,
//! masked classes and huge vocabularies.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use xent_candle::{CrossEntropy, xent::Config};
//!
//! let criterion = CrossEntropy::new(Config::new().label_smoothing(0.1).ignore_index(-100))?;
//! let logits = Var::new(&[[2f32, -1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 5.0, 5.0]], &Device::Cpu)?;
//! let targets = Tensor::new(&[0i64, 2, -100], &Device::Cpu)?;
//!
//! let loss = criterion.forward(&logits, &targets)?; // the mean over the two kept rows
//! assert_eq!(loss.to_scalar::<f32>()?, 0.94557196); // (0.50484958 + ln 4) / 2
//!
//! let gradients = loss.backward()?;
//! let gradient = gradients.get(&logits).unwrap().to_vec2::<f32>()?;
//! assert_eq!(gradient[1], [0.1125, 0.1125, -0.3375, 0.1125]); // (1/4 − 0.1/4) / 2, and (1/4 − 0.9 − 0.1/4) / 2
//! assert_eq!(gradient[2], [0.0; 4]); // ignored
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! - [`xent::Config`] holds the options: smoothing, prior, class weights, ignore indices,
//!   reduction, form, z-loss, softcap, temperature. [`cross_entropy`] is the loss with none of
//!   them.
//! - [`CrossEntropy::forward`] takes class indices or probabilities. [`CrossEntropy::on`] begins a
//!   [`Call`] with more: two labels per row, ε or weights per row, masks, a denominator; and
//!   [`Call::forward_with_output`] returns the parts of the loss too.
//! - [`CrossEntropy::forward_linear`] takes hidden states and the weight of the output layer instead
//!   of logits. On the CPU these then exist some hundred rows at a time only.
//! - On the CPU xent's engine reads the logits in place, whatever their strides, on all threads,
//!   and allocates nothing as large except the gradient. A mean or a sum gets its gradient in the
//!   same pass.
//! - On other devices candle's own operations compute, in f32 (f64 for f64 logits), and form the
//!   gradient when `backward` asks for it. Nothing is read back, so no call waits for the device,
//!   and after the first call nothing is uploaded but a batch that is not there yet. Values outside
//!   their range are NaN in their row, unless [`CrossEntropy::checked`] asks for errors.
//!
//! In debug builds the engine is 10 to 100 times as slow, unless your workspace's `Cargo.toml` has
//! `[profile.dev.package.xent]` with `opt-level = 3`.
//!
//! [`xent::semantics`] defines every formula, denominator and NaN/∞ rule.

#![forbid(unsafe_code)]

mod attach;
mod batch;
mod call;
mod criterion;
mod engine;
mod error;
mod linear;
mod tensors;
mod transfer;

pub use xent;

pub use batch::Lambda;
pub use call::Call;
pub use criterion::{CrossEntropy, cross_entropy};
pub use error::{Error, Result};

// The README of the package is tested, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
