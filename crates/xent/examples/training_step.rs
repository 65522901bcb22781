//! A training step by hand: a linear classifier, forward, loss, backward, update.
//!
//! The gradient that xent writes is ∂loss/∂logits. It starts the backward pass; the rest is the
//! model's own chain rule.

use xent::{Config, Rows, RowsMut};

const CLASSES: usize = 3;
const FEATURES: usize = 3; // x, y and a constant 1

pub(crate) fn main() -> xent::Result<()> {
    let (inputs, targets) = three_clusters();
    let criterion = Config::new().label_smoothing(0.1).build()?;

    let mut weights = [[0.0f32; FEATURES]; CLASSES];
    let mut logits = vec![0.0f32; inputs.len() * CLASSES];
    let mut gradient = logits.clone(); // reused by every step
    let mut losses = Vec::new();

    for step in 0..=200 {
        for (input, row) in inputs.iter().zip(logits.chunks_exact_mut(CLASSES)) {
            for (logit, weights) in row.iter_mut().zip(&weights) {
                *logit = weights.iter().zip(input).map(|(w, x)| w * x).sum();
            }
        }

        let mut place = RowsMut::new(&mut gradient, CLASSES)?;
        let output =
            criterion.forward_backward(&Rows::new(&logits, CLASSES)?, &targets, 1.0, &mut place)?;

        // ∂loss/∂weights = Σ over rows of ∂loss/∂logits · input
        for (input, row) in inputs.iter().zip(gradient.chunks_exact(CLASSES)) {
            for (weights, slope) in weights.iter_mut().zip(row) {
                for (weight, x) in weights.iter_mut().zip(input) {
                    *weight -= 0.5 * slope * x;
                }
            }
        }

        if step % 50 == 0 {
            println!(
                "step {step:3}: loss {:.4} (at best {:.4}), NLL {:.4}, accuracy {:.2}",
                output.loss,
                output.floor,
                output.nll,
                output.accuracy()
            );
        }
        losses.push((output.loss.as_slice()[0], output.floor.as_slice()[0], output.accuracy()));
    }

    let ((first, floor, _), (last, _, accuracy)) = (losses[0], losses[losses.len() - 1]);
    assert!((first - 3f32.ln()).abs() < 1e-6, "equal logits: the loss is ln K");
    // A smoothed loss does not fall to 0, but to the entropy of the smoothed targets.
    assert!(floor < last && last < 0.6 && accuracy == 1.0);
    Ok(())
}

/// 30 points around the corners of a triangle, and the corner of each.
fn three_clusters() -> (Vec<[f32; FEATURES]>, Vec<u8>) {
    let corners = [(1.0, 0.0), (-1.0, 1.0), (-1.0, -1.0)];
    let points = (0..30u8).map(|i| {
        let ((x, y), angle) = (corners[usize::from(i % 3)], f32::from(i));
        ([x + 0.4 * angle.cos(), y + 0.4 * angle.sin(), 1.0], i % 3)
    });
    points.unzip()
}
