//! Label-smoothed cross-entropy on candle tensors: loss and gradient, right beside padding, weights, masks and huge vocabularies.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use xent_candle::CrossEntropy;
//!
//! let criterion = CrossEntropy::new(xent::Config::new().label_smoothing(0.1).ignore_index(-100))?;
//! let logits = Var::new(&[[2f32, -1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 5.0, 5.0]], &Device::Cpu)?;
//! let targets = Tensor::new(&[0i64, 2, -100], &Device::Cpu)?;
//!
//! let loss = criterion.forward(&logits, &targets)?; // the mean over the two rows kept
//! assert_eq!(loss.to_scalar::<f32>()?, 0.94557196); // (0.50484958 + ln 4) / 2
//!
//! let gradients = loss.backward()?;
//! let gradient = gradients.get(&logits).unwrap().to_vec2::<f32>()?;
//! assert_eq!(gradient[1], [0.1125, 0.1125, -0.3375, 0.1125]); // (1/4 − 0.1/4) / 2, and (1/4 − 0.9 − 0.1/4) / 2
//! assert_eq!(gradient[2], [0.0; 4]); // ignored, never read
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! - [`xent::Config`] says what is measured: smoothing, prior, class weights, ignore indices, reduction, form, z-loss, softcap, temperature.
//! - [`CrossEntropy::forward`] takes class indices or probabilities. [`CrossEntropy::on`] begins a [`Call`] with more: two labels a row, ε or weights a row, masks, a
//!   denominator; and [`Call::forward_with_output`] returns the loss's parts too.
//! - On the CPU xent's engine reads the logits where they lie, whatever their strides, on all threads, and beside them nothing is as large but the gradient itself. A mean or a sum gets
//!   its gradient in the same pass.
//! - On other devices candle's own operations compute, with f32 (f64 for f64 logits), and form the gradient when `backward` asks for it. Each call waits for the device: row
//!   statistics come to the host, where what is one number a row is computed.
//!
//! SEMANTICS.md in the repository has every formula, denominator and NaN/∞ rule.

#![forbid(unsafe_code)]

mod attach;
mod composed;
mod criterion;
mod engine;
mod error;
mod host;
mod shape;

pub use criterion::{Call, CrossEntropy, Lambda};
pub use error::{Error, Result};
