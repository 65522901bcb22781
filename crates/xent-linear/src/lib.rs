//! Linear cross-entropy: loss and gradients of a large output layer, without its logits.
//!
//! The logits of a language model, `z = H·Wᵀ + b`, are its largest array: 8,192 tokens of 128,256
//! classes take 4 GB in f32, and their gradient as much again. Here they exist some hundred rows
//! at a time. Such a chunk is multiplied, [`xent`] overwrites it with its gradient G, and the
//! chunk goes into the gradients of the layer:
//!
//! ```text
//! Z = H·Wᵀ + b        G = ∂loss/∂Z        ∂loss/∂H = G·W        ∂loss/∂W = Gᵀ·H        ∂loss/∂b = Σ G
//! ```
//!
//! | | shape | meaning |
//! |---|---|---|
//! | H | `[N, D]` | hidden states, one per row of the batch |
//! | W | `[K, D]` | the weight of the layer; `[D, K]` [transposed](Matrix::transposed) |
//! | b | `[K]` | its bias, if it has one |
//!
//! ```
//! use xent::Config;
//! use xent_linear::{Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};
//!
//! let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).build()?;
//! let hidden = [1.0f32, 2.0, 0.0, 1.0, 7.0, 7.0]; // N = 3 rows, D = 2
//! let weight = [0.5f32, 0.0, 0.0, 0.5, -1.0, 0.0, 0.0, 0.0]; // K = 4 classes
//! let targets = [1i64, 3, -100]; // the last row is padding: it enters no product
//!
//! let linear = Linear::new(Matrix::new(&hidden, 2)?, Matrix::new(&weight, 2)?)?;
//! let (mut to_hidden, mut to_weight) = ([0.0f32; 6], [0.0f32; 8]);
//! let into = Gradients {
//!     hidden: Some(MatrixMut::new(&mut to_hidden, 2)?),
//!     weight: Some(MatrixMut::new(&mut to_weight, 2)?),
//!     bias: None,
//! };
//! let mut workspace = Workspace::default(); // to be used again in the next step
//! let output = criterion.linear_forward_backward(&linear, &targets, 1.0, into, &mut workspace)?;
//! assert_eq!(format!("{:.4} {:.4}", output.loss, output.nll), "1.1791 1.1416");
//! assert_eq!((output.rows, output.ignored), (3, 1));
//! assert_eq!(to_hidden[4..], [0.0; 2]);
//! # Ok::<(), xent_linear::Error>(())
//! ```
//!
//! - **All options of [`xent::Config`] and [`xent::Batch`]**: the chunk is a batch of xent's.
//! - **Exact**: gradients of W and b, and the loss, are summed over all rows in f32 (the bias's and
//!   the loss in f64), in f64 for f64; nothing is rounded between chunks. f16 and bf16 are widened
//!   a tile at a time and never multiplied as halves.
//! - **Ignored rows enter no product**: a batch with 40 % of padding takes 60 % of the time.
//! - **What is not asked for is not computed**: without a place for the gradient of W (a frozen
//!   head), a third of the products and the `[K, D]` array are left out.
//! - **Memory**: beyond the gradients, 64 MiB, or 512 bytes per class if that is more, and 1 MiB per
//!   thread. [`Workspace`] keeps it for the next call.
//! - **The same bits** for any number of threads: how a batch is cut depends on N, D, K and the
//!   ignored rows only.
//!
//! In debug builds products and loss are 10 to 100 times as slow, unless your workspace's
//! `Cargo.toml` has `opt-level = 3` for the packages `xent`, `gemm-common`, `gemm-f32` and `gemm-f64`.
//!
//! [`xent::semantics`] defines every formula, denominator and NaN/∞ rule.

mod chunks;
mod error;
mod linear;
mod matrix;
mod numbers;
mod pass;
mod product;
mod threads;

pub use error::{Error, Result};
pub use linear::{Gradients, Linear, LinearCriterion, Workspace};
pub use matrix::{Matrix, MatrixMut};
pub use xent;

// The README of the package is tested, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
