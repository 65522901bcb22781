//! What a call returns in addition to the loss.

use burn::tensor::{Int, Tensor};

/// The loss and what the same pass yields, all on the logits' device. Only the loss is
/// differentiated.
///
/// With `D = 1` loss and parts are one number each, reduced like the loss; from
/// [`forward_no_reduction_with_output`](crate::Call::forward_no_reduction_with_output) they are one
/// per row. Formulas: [S4](xent::semantics#s4-the-loss-of-a-row) to S10.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrossEntropyOutput<const D: usize> {
    /// The loss.
    pub loss: Tensor<D>,
    /// What the loss would be with ε = 0 and without z-loss: comparable between runs with different
    /// ε.
    pub nll: Tensor<D>,
    /// ε times the cross-entropy to the prior.
    pub smoothing: Tensor<D>,
    /// λ·lse²; the default mean averages it over the kept rows.
    pub z_loss: Tensor<D>,
    /// The lowest value that the cross-entropy can reach: the entropy of the smoothed target, if
    /// that sums to 1.
    pub floor: Tensor<D>,
    /// ln Σ e^z, `[N]`, one per row in C order of the logits' axes without the class axis; 0 for
    /// ignored rows.
    pub lse: Tensor<1>,
    /// `[1]`: kept rows whose largest logit (first index on ties) is the target's largest class.
    pub correct: Tensor<1, Int>,
    /// `[1]`: what a mean would divide by (except for `z_loss`); for every reduction.
    pub denominator: Tensor<1>,
    /// `[1]`: rows that were ignored.
    pub ignored: Tensor<1, Int>,
    /// `[1]`: kept rows whose loss is NaN or infinite.
    pub non_finite: Tensor<1, Int>,
    /// `[1]`: the first of them, −1 if there is none.
    pub first_non_finite: Tensor<1, Int>,
}

impl CrossEntropyOutput<1> {
    /// Loss and parts, one per row, in the shape of the rows.
    pub(crate) fn reshape<const R: usize>(self, dims: [usize; R]) -> CrossEntropyOutput<R> {
        let Self {
            loss,
            nll,
            smoothing,
            z_loss,
            floor,
            lse,
            correct,
            denominator,
            ignored,
            non_finite,
            first_non_finite,
        } = self;
        let [loss, nll, smoothing, z_loss, floor] =
            [loss, nll, smoothing, z_loss, floor].map(|part| reshape(part, dims));
        CrossEntropyOutput {
            loss,
            nll,
            smoothing,
            z_loss,
            floor,
            lse,
            correct,
            denominator,
            ignored,
            non_finite,
            first_non_finite,
        }
    }
}

/// Per-row values in the shape of the rows. To burn's reshape, a length of 0 means that the axis
/// stays as it is.
pub(crate) fn reshape<const R: usize>(part: Tensor<1>, dims: [usize; R]) -> Tensor<R> {
    match dims.contains(&0) {
        true => Tensor::zeros(dims, (&part.device(), part.dtype())) + part.sum().reshape([1; R]),
        false => part.reshape(dims),
    }
}
