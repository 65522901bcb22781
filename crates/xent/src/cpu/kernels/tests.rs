//! The kernels' own numbers, on every instruction set that the processor has: elementary functions
//! against more precise ones, halves against the `half` crate.

mod exact;
mod exp;
mod functions;
mod halves;

use fearless_simd::{Simd, SimdBase};

use super::lanes::{Lane, Lanes};
use crate::cpu::instructions::{Instructions, on_level};

/// A function of one vector.
trait Function {
    fn of<S: Simd, V: Lanes<S>>(x: V) -> V;
}

macro_rules! functions {
    ($($name:ident: $method:ident),*) => {$(
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn of<S: Simd, V: Lanes<S>>(x: V) -> V {
                x.$method()
            }
        }
    )*};
}
functions!(Exp: exp, Ln: ln, Ln1p: ln_1p);

struct Tanh;
impl Function for Tanh {
    #[inline(always)]
    fn of<S: Simd, V: Lanes<S>>(x: V) -> V {
        (x + x).tanh_of_half()
    }
}

/// The function of every element; their number is a multiple of 16.
fn apply<F: Function, R: Lane>(instructions: Instructions, x: &[R], out: &mut [R]) {
    on_level!(instructions.level_or_baseline(), simd => apply_on::<_, F, R>(simd, x, out));
}

fn apply_on<S: Simd, F: Function, R: Lane>(simd: S, x: &[R], out: &mut [R]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(16));
    simd.vectorize(
        #[inline(always)]
        || {
            let lanes = <R as Lane>::Lanes::<S>::LEN;
            for (x, out) in x.chunks_exact(lanes).zip(out.chunks_exact_mut(lanes)) {
                F::of::<S, _>(<R as Lane>::Lanes::<S>::from_slice(simd, x)).store_slice(out);
            }
        },
    );
}

/// The function of one number.
fn one<F: Function, R: Lane>(instructions: Instructions, x: R) -> R {
    let mut out = [R::ZERO; 16];
    apply::<F, R>(instructions, &[x; 16], &mut out);
    out[0]
}

/// The largest error so far, and where.
#[derive(Clone, Copy, Default)]
struct Worst {
    ulps: f64,
    at: f64,
}

impl Worst {
    fn take(&mut self, ulps: f64, at: f64) {
        // NaN is no error of any size, so it has to count as the largest.
        let ulps = if ulps.is_nan() { f64::INFINITY } else { ulps };
        if ulps > self.ulps {
            *self = Self { ulps, at };
        }
    }

    fn merge(&mut self, other: Self) {
        self.take(other.ulps, other.at);
    }

    fn check(self, function: &str, instructions: Instructions, bar: f64) {
        println!(
            "{function} on {instructions}: at most {:.4} ulp off, at {:e}",
            self.ulps, self.at
        );
        assert!(
            self.ulps <= bar,
            "{function} on {instructions}: {} ulp off at {:e}, bar {bar}",
            self.ulps,
            self.at
        );
    }
}

/// Distance of an f32 from `exact`, in ulps of f32 there; among the subnormals these are 2⁻¹⁴⁹.
#[inline]
fn ulps_f32(got: f32, exact: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    // The inverse of a power of two without a division.
    let per_ulp = f64::from_bits((2046 << 52) - (exact.to_bits() & EXPONENT)) * 2f64.powi(23);
    (f64::from(got) - exact).abs() * per_ulp.min(2f64.powi(149))
}
