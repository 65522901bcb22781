//! Each purpose has its own stream of random numbers, so that drawing more for one does not change
//! another.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What random numbers are drawn for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// The split into training, validation and test rows.
    Split,
    /// The training labels that are made wrong.
    LabelNoise,
    /// The initial weights.
    Weights,
    /// The order of the training rows.
    Batches,
    /// A generated data set. The number is fixed, so that the data stay the same.
    Generation = 5,
    /// The logits and targets of `xent bench`.
    Bench,
}

/// The stream of a purpose for a seed: the same numbers on every machine.
pub fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose as u64);
    rng
}
