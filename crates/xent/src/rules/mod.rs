//! The rules: the loss, stated once for every backend, in terms of targets and row statistics.
//!
//! **Exempt from the stability promise**: this module grows with the backends of this repository,
//! in any version.
//!
//! The loss of a row is a function of a few statistics of its logits and a few coefficients of its
//! target, and its gradient is `α·p − γ·v − τ·t − Σ β_j δ_j`. So a backend computes [`RowStats`],
//! calls [`Plan::fold`] for the coefficients, and forms the gradient by one formula
//! ([`RowGradient`]). It never handles ε, a prior, a weight, a reduction or a label convention.
//! [S13](crate::semantics#s13-the-closed-form) states the formulas.
//!
//! ```text
//! ClassTable::new(criterion, K)          what the criterion means for each class: four numbers, and the prior's v
//! Plan::new(criterion, batch, N, K)      a batch under it: checks everything, reads no logits
//!   .row(i)            -> RowPlan        a row's coefficients; None for an ignored row. Engines reuse one: row_into
//!   the backend        -> RowStats       max, Σ e^(z−max), z at the hot classes, sums against t and v; pieces merge
//!   .fold(row, stats)  -> Folded         the row's parts and its gradient's coefficients; a task has one FloorMemo
//!   RowGradient        -> entries        one formula and its exceptions
//!   .parts()           -> Parts          collects the parts of all rows, from any number of tasks
//!   .finish(parts)     -> Output         reduced
//! ```
//!
//! `examples/backend.rs` is a whole backend in a hundred lines. A backend whose numbers stay on a
//! device uploads the [`ClassTable`], and computes the formulas of [`RowPlan`] and [`Plan::fold`]
//! with its own operations, on columns of one number per row.
//!
//! # Glossary
//!
//! | | |
//! |---|---|
//! | z, m, p | transformed logits ([S1]), their maximum, softmax(z) |
//! | t, u, y | a row's target before smoothing, the prior, and `y = (1−ε)·t + ε·U(t)` |
//! | v | the part of the prior that rows share, before class weights: 1 on every class for a uniform prior |
//! | hot class | a class that the target names: there the target, and a correction of the prior, put mass |
//! | term, whole, sigma, pi | the columns of [`ClassTable`] |
//! | rest, R | Σ e^(z−m) without the largest term; R = ln(1 + rest) = lse − m |
//! | S | Σ v_k (m − z_k), with v after class weights: the shifted sum of a [`Functional`] |
//! | W, Y | the class weight of a whole row; the mass Σ y' of its weighted, smoothed target |
//! | α, β, γ, τ | coefficients on p, on the hot classes, on v and on a dense target: [`Coefficients`] |
//!
//! [S1]: crate::semantics#s1-the-transformed-logits

mod check;
mod check_rows;
mod class_fold;
mod denominator;
mod floor;
mod fold;
mod gradient;
mod labels;
mod parts;
mod plan;
mod probabilities;
mod reduce;
mod row;
mod row_prior;
mod shard;
mod stats;
pub(crate) mod sum;
mod table;
#[cfg(test)]
mod tests;
mod transform;

pub(crate) use class_fold::{ClassFold, ClassFoldColumns, ClassFoldRows};
pub(crate) use denominator::Denominators;
pub use floor::{FloorMemo, relative_entropy_term};
pub use fold::{Coefficients, Folded, RowParts};
pub use gradient::{ClassEntry, GradientFactors, RowGradient};
pub use parts::{Parts, PartsMut};
pub use plan::Plan;
pub use row::{Hot, RowPlan};
pub(crate) use shard::ShardStats;
pub use stats::{Functional, RowStats};
pub use table::{ClassTable, Column, SharedPrior, TargetKind};
pub use transform::Transform;
