//! One stream of random numbers for each purpose, so that drawing more for one never changes another.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What the numbers are for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// Which rows train, validate and test.
    Split,
    /// Which training labels are wrong.
    LabelNoise,
    /// The initial weights.
    Weights,
    /// The order of the training rows.
    Batches,
    /// A generated data set. Its number stays, so that the data do.
    Generation = 5,
    /// Logits and targets that are only timed.
    Bench,
}

/// The stream of a purpose under a seed: the same numbers on every machine.
pub fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose as u64);
    rng
}
