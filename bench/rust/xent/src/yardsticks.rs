//! What no loss can do without: reading the logits, and writing as many numbers.

use std::hint::black_box;

use rayon::prelude::*;

/// Copies `from` over `to`, one piece a thread.
pub fn copy<T: Copy + Send + Sync>(from: &[T], to: &mut [T]) {
    let piece = from.len().div_ceil(rayon::current_num_threads()).max(1);
    to.par_chunks_mut(piece)
        .zip(from.par_chunks(piece))
        .for_each(|(to, from)| to.copy_from_slice(from));
    black_box(to);
}

/// Adds up all entries, one piece a thread, in as many lanes as keep the adders busy.
pub fn sum<T: Copy + Send + Sync>(values: &[T], to_f32: impl Fn(T) -> f32 + Sync) -> f32 {
    const LANES: usize = 64;
    let piece = values.len().div_ceil(rayon::current_num_threads()).max(1);
    values
        .par_chunks(piece)
        .map(|piece| {
            let (whole, rest) = piece.as_chunks::<LANES>();
            let mut lanes = [0.0f32; LANES];
            for block in whole {
                for (lane, &value) in lanes.iter_mut().zip(block) {
                    *lane += to_f32(value);
                }
            }
            lanes.iter().sum::<f32>() + rest.iter().map(|&value| to_f32(value)).sum::<f32>()
        })
        .sum()
}
