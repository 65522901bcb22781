//! A pass over a batch, chunk by chunk.
//!
//! ```text
//! for each chunk of kept rows
//!     Z = H·Wᵀ + b            [c, K], the only logits that there are
//!     G = ∂loss/∂Z            written over Z by xent's engine, which knows what a mean divides by
//!     ∂loss/∂b += Σ G
//!     ∂loss/∂W += Gᵀ·H        some hundred classes at a time
//!     ∂loss/∂H  = G·W
//! ```
//!
//! Matrices of f32 and f64 are multiplied where they lie. Halves are widened for that, and the
//! hidden states of a chunk are copied if there are ignored rows between them. When the gradient
//! of H is formed, the chunk's copy of H is not needed any more, so that the gradient takes its
//! place. No sum is cut where threads are.

use std::ops::Range;

use xent::host::Pieces;
use xent::{Batch, Criterion, Element, Output, Real, Rows, RowsMut, Upstream};

use crate::chunks::{CLASSES, Chunks};
use crate::error::Result;
use crate::linear::{Gradients, Linear, Workspace};
use crate::matrix::{Layout, Matrix, MatrixMut};
use crate::numbers::{as_real, as_real_mut, round_row, widen_row};
use crate::product::multiply;
use crate::threads::for_each_chunk;

/// Loss and, if there are places for them, gradients.
pub(crate) fn run<T: Element>(
    criterion: &Criterion,
    linear: &Linear<'_, T>,
    batch: &Batch<'_>,
    upstream: &Upstream<'_>,
    mut into: Gradients<'_, T>,
    workspace: &mut Workspace<T::Real>,
) -> Result<Output<T::Real>> {
    let classes = linear.classes();
    let pieces = Pieces::new(criterion, batch, upstream, linear.rows(), classes)?;
    let kept = pieces.kept();
    let is_zero = kept.is_empty() || pieces.is_without_gradient();
    into.clear(if is_zero { &[] } else { &kept });
    if is_zero {
        into = Gradients::default();
    }
    let mut output = pieces.output();
    let mut pass = Pass::new(linear, into, kept.len(), workspace);
    for rows in kept.chunks(pass.chunks.rows) {
        let with_gradient = pass.into.is_needed();
        let logits = pass.logits(rows);
        let piece = if with_gradient {
            let mut logits = RowsMut::new(logits, classes)?;
            pieces.with(rows, |batch, upstream| {
                criterion.forward_backward_in_place(&mut logits, batch, upstream)
            })?
        } else {
            let logits = Rows::new(logits, classes)?;
            pieces.with(rows, |batch, _| criterion.forward(&logits, batch))?
        };
        output.add(rows, piece);
        pass.add_gradients(rows);
    }
    pass.finish();
    Ok(output.finish())
}

/// The products of a pass, without its loss.
pub(crate) fn products_alone<T: Element>(
    linear: &Linear<'_, T>,
    mut into: Gradients<'_, T>,
    workspace: &mut Workspace<T::Real>,
) {
    let all: Vec<usize> = (0..linear.rows()).collect();
    into.clear(&all);
    let mut pass = Pass::new(linear, into, all.len(), workspace);
    for rows in all.chunks(pass.chunks.rows) {
        pass.logits(rows);
        pass.add_gradients(rows);
    }
    pass.finish();
}

/// A linear layer, its gradients so far, and the memory of a chunk.
struct Pass<'p, 'l, 'g, T: Element> {
    linear: &'p Linear<'l, T>,
    into: Gradients<'g, T>,
    chunks: Chunks,
    /// `[c, K]`: logits, and then their gradient.
    logits: &'p mut [T::Real],
    /// `[c, D]`: copied hidden states, and then their gradient.
    hidden: &'p mut [T::Real],
    /// Widened weights of some classes.
    weight: &'p mut [T::Real],
    /// The gradient of the bias.
    bias: &'p mut [f64],
    /// Whether a chunk has been added.
    begun: bool,
}

impl<'p, 'l, 'g, T: Element> Pass<'p, 'l, 'g, T> {
    fn new(
        linear: &'p Linear<'l, T>,
        into: Gradients<'g, T>,
        kept: usize,
        workspace: &'p mut Workspace<T::Real>,
    ) -> Self {
        let (features, classes) = (linear.features(), linear.classes());
        let widens = as_real(linear.weight).is_none();
        let copies = widens || kept < linear.rows();
        let chunks = Chunks::new(kept, features, classes, copies, widens);
        let rows = chunks.rows.min(kept);
        let Workspace { logits, hidden, weight, bias } = workspace;
        let zero = T::Real::from_f64(0.0);
        let bias = sized(bias, if into.bias.is_some() { classes } else { 0 }, 0.0);
        bias.fill(0.0);
        Self {
            linear,
            into,
            chunks,
            logits: sized(logits, rows * classes, zero),
            hidden: sized(hidden, if copies { rows * features } else { 0 }, zero),
            weight: sized(weight, if widens { chunks.classes * features } else { 0 }, zero),
            bias,
            begun: false,
        }
    }

    /// Forms the logits of a chunk.
    fn logits(&mut self, rows: &[usize]) -> &mut [T::Real] {
        let Self { linear, chunks, logits, hidden, weight, .. } = self;
        let (features, classes) = (linear.features(), linear.classes());
        let logits = &mut logits[..rows.len() * classes];
        if in_place(linear.hidden, rows).is_none() {
            for (row, to) in rows.iter().zip(hidden.chunks_exact_mut(features)) {
                widen_row(&linear.hidden, *row, to);
            }
        }
        let hidden = hidden_states(linear, rows, hidden);
        if let Some(bias) = linear.bias {
            for_each_chunk(logits, classes, 1, |_, logits| {
                logits.iter_mut().zip(bias).for_each(|(z, bias)| *z = bias.to_real());
            });
        }
        let add = linear.bias.is_some();
        let mut by_class = matrix_mut(logits, rows.len(), classes).transposed();
        for_each_weight(linear.weight, weight, chunks.classes, |of, weight| {
            multiply(by_class.of_rows(of).transposed(), add, hidden, weight.transposed());
        });
        logits
    }

    /// Adds what a chunk contributes to the gradients, if any is needed. Its logits are overwritten
    /// with their gradient by now.
    fn add_gradients(&mut self, rows: &[usize]) {
        let Self { linear, into, chunks, logits, hidden, weight, bias, begun } = self;
        let (features, classes) = (linear.features(), linear.classes());
        let logits = &logits[..rows.len() * classes];
        let gradient = Matrix { data: logits, layout: contiguous(rows.len(), classes) };
        if into.bias.is_some() {
            for_each_chunk(bias, CLASSES, rows.len(), |chunk, sums| {
                for row in logits.chunks_exact(classes) {
                    let row = &row[chunk * CLASSES..];
                    sums.iter_mut().zip(row).for_each(|(sum, g)| *sum += g.to_f64());
                }
            });
        }
        if let Some(to_weight) = &mut into.weight {
            let hidden = hidden_states(linear, rows, hidden);
            // What is written is cut where its parts are whole in memory.
            let (mut to, left, right) = match to_weight.layout.is_by_column() {
                false => (to_weight.reborrow(), gradient.transposed(), hidden),
                true => (to_weight.reborrow().transposed(), hidden.transposed(), gradient),
            };
            for part in parts(to.rows(), CLASSES) {
                multiply(to.of_rows(part.clone()), *begun, left.of_rows(part), right);
            }
        }
        if let Some(to_hidden) = &mut into.hidden {
            let direct = in_place(linear.hidden, rows)
                .and_then(|_| as_real_mut(to_hidden.of_rows(rows[0]..rows[0] + rows.len())));
            let is_direct = direct.is_some();
            let mut to = direct.unwrap_or_else(|| matrix_mut(hidden, rows.len(), features));
            for_each_weight(linear.weight, weight, chunks.classes, |of, weight| {
                let add = of.start > 0;
                let gradient = gradient.transposed().of_rows(of).transposed();
                multiply(to.reborrow(), add, gradient, weight);
            });
            if !is_direct {
                for (row, from) in rows.iter().zip(hidden.chunks_exact(features)) {
                    round_row(from, to_hidden, *row);
                }
            }
        }
        *begun = true;
    }

    fn finish(self) {
        if let (Some(to), true) = (self.into.bias, self.begun) {
            to.iter_mut().zip(self.bias).for_each(|(to, sum)| *to = T::Real::from_f64(*sum));
        }
    }
}

impl<T: Element> Gradients<'_, T> {
    fn is_needed(&self) -> bool {
        self.hidden.is_some() || self.weight.is_some() || self.bias.is_some()
    }

    /// Writes 0 where no chunk will write.
    fn clear(&mut self, kept: &[usize]) {
        if let Some(hidden) = &mut self.hidden {
            let mut kept = kept.iter().copied().peekable();
            for row in 0..hidden.rows() {
                if kept.next_if_eq(&row).is_none() {
                    hidden.fill_row(row, T::from_f64(0.0));
                }
            }
        }
        if kept.is_empty() {
            let zero = T::Real::from_f64(0.0);
            self.weight.as_mut().into_iter().for_each(|weight| weight.fill(zero));
            self.bias.as_mut().into_iter().for_each(|bias| bias.fill(zero));
        }
    }
}

/// The hidden states of a chunk where they lie, if they can be multiplied there: its rows follow
/// each other, in the type that is computed in.
fn in_place<'a, T: Element>(hidden: Matrix<'a, T>, rows: &[usize]) -> Option<Matrix<'a, T::Real>> {
    let (first, last) = (*rows.first()?, *rows.last()?);
    (last - first == rows.len() - 1).then(|| as_real(hidden.of_rows(first..last + 1)))?
}

/// The hidden states of a chunk, of which `copy` is a copy if they cannot be multiplied in place.
fn hidden_states<'a, T: Element>(
    linear: &Linear<'a, T>,
    rows: &[usize],
    copy: &'a [T::Real],
) -> Matrix<'a, T::Real> {
    let features = linear.features();
    in_place(linear.hidden, rows)
        .unwrap_or_else(|| Matrix { data: copy, layout: contiguous(rows.len(), features) })
}

/// Calls with the weights of all classes, some at a time, in their order: where they lie if they can
/// be multiplied there, otherwise widened into `memory`.
fn for_each_weight<T: Element>(
    weight: Matrix<'_, T>,
    memory: &mut [T::Real],
    classes: usize,
    mut call: impl FnMut(Range<usize>, Matrix<'_, T::Real>),
) {
    if let Some(weight) = as_real(weight) {
        return parts(weight.rows(), classes).for_each(|of| call(of.clone(), weight.of_rows(of)));
    }
    let features = weight.columns();
    for of in parts(weight.rows(), classes) {
        // In the order of their memory, so that neighbours are widened together.
        let part = weight.of_rows(of.clone());
        let by_column = part.layout.is_by_column();
        let part = if by_column { part.transposed() } else { part };
        let memory = &mut memory[..of.len() * features];
        for_each_chunk(memory, part.columns(), 1, |row, to| widen_row(&part, row, to));
        let widened = Matrix { data: memory, layout: contiguous(part.rows(), part.columns()) };
        call(of, if by_column { widened.transposed() } else { widened });
    }
}

/// `0..all` in parts of `len`.
fn parts(all: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..all).step_by(len).map(move |start| start..all.min(start + len))
}

fn contiguous(rows: usize, columns: usize) -> Layout {
    Layout { rows, columns, row_stride: columns as isize, column_stride: 1, offset: 0 }
}

fn matrix_mut<R>(data: &mut [R], rows: usize, columns: usize) -> MatrixMut<'_, R> {
    MatrixMut { data, layout: contiguous(rows, columns) }
}

/// The first `len` elements; the vector grows if it has fewer.
fn sized<V: Clone>(memory: &mut Vec<V>, len: usize, value: V) -> &mut [V] {
    if memory.len() < len {
        // A new vector rather than a longer one: nothing of the old one is needed.
        *memory = Vec::new();
        *memory = vec![value; len];
    }
    &mut memory[..len]
}
