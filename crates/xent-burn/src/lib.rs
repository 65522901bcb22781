//! Label-smoothed cross-entropy on burn tensors: loss and gradient, right beside padding, weights, masks and huge vocabularies.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use xent_burn::CrossEntropyConfig;
//!
//! let device = Device::default().autodiff();
//! let criterion = CrossEntropyConfig::new().with_label_smoothing(0.1).with_ignore_indices(vec![-100]).init();
//! let logits = Tensor::<2>::from_floats([[2.0, -1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 5.0, 5.0]], &device).require_grad();
//! let targets = Tensor::<1, Int>::from_ints([0, 2, -100], &device);
//!
//! let loss = criterion.forward(logits.clone(), targets); // the mean over the two rows kept
//! assert_eq!(loss.clone().into_scalar::<f32>(), 0.94557196); // (0.50484958 + ln 4) / 2
//!
//! let gradients = loss.backward();
//! let gradient: Vec<f32> = logits.grad(&gradients).unwrap().into_data().iter().collect();
//! assert_eq!(gradient[4..8], [0.1125, 0.1125, -0.3375, 0.1125]); // (1/4 − 0.1/4) / 2, and (1/4 − 0.9 − 0.1/4) / 2
//! assert_eq!(gradient[8..], [0.0; 4]); // ignored, never read
//! ```
//!
//! - [`CrossEntropyConfig`] says what is measured: smoothing, prior, class weights, ignore indices, reduction, form, z-loss, softcap, temperature, class axis. Its types are
//!   [`xent`]'s.
//! - [`CrossEntropy::forward`] takes class indices or probabilities, [`CrossEntropy::forward_no_reduction`] gives a loss a row. [`CrossEntropy::on`] begins a [`Call`] with
//!   more: two labels a row, ε or weights a row, masks, a denominator; it returns errors where the others panic, as burn's operations do; and
//!   [`Call::forward_with_output`] returns the loss's parts too.
//! - On the CPU (burn's flex) xent's engine reads the logits where they lie, whatever their strides and whatever their dtype, on all threads. A mean or a sum gets its gradient
//!   in the same pass. The memory of the last gradient is kept for the next one, as long as the criterion lives.
//! - On other devices burn's own operations compute, with f32 (f64 for f64 logits), from end to end on the device: nothing is read back, so that no call waits. What would be
//!   an error there is NaN, unless [`CrossEntropy::checked`] asks for a look.
//!
//! # Backends
//!
//! The crate's features have the names of burn's: `flex` (on unless said), `wgpu`, `vulkan`, `metal`, `webgpu`, `cuda`, `rocm`. A backend that is switched on in burn alone
//! computes the loss all the same, but not its gradient.
//!
//! SEMANTICS.md in the repository has every formula, denominator and NaN/∞ rule.

#![forbid(unsafe_code)]

mod backend;
mod batch;
mod call;
mod composed;
mod config;
mod criterion;
mod engine;
mod error;
mod host;
mod output;
mod shape;

pub use batch::{Lambda, Targets};
pub use call::Call;
pub use config::CrossEntropyConfig;
pub use criterion::CrossEntropy;
pub use error::{Error, Result};
pub use output::CrossEntropyOutput;
