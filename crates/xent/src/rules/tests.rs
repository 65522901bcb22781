//! What is new only to the machine: that memos, chunks, pieces and quick checks change nothing, and
//! that the columns of the table say what SEMANTICS.md says.

mod checks;
mod folding;
mod merging;
mod table;

/// Pseudorandom numbers in 0..1.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}
