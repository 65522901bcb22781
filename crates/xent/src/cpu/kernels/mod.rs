//! Kernels: they know numbers and nothing else. Each is written once, generic over the instruction set.

pub(super) mod block;
pub(super) mod columns;
pub(crate) mod halves;
mod lanes;

pub use lanes::Lane;

#[cfg(test)]
mod tests;
