//! Kernels: they know numbers and nothing else. Each is written once, generic over the instruction
//! set.

pub(super) mod block;
pub(super) mod columns;
pub(super) mod halves;
pub(super) mod lanes;

#[cfg(test)]
mod tests;
