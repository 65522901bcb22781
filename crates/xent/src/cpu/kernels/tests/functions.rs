//! The other elementary functions, and all of them in f64, on samples that leave no gap: every
//! octave, ends and what lies beside them.

use super::exact::{self, Exact};
use super::{Exp, Function, Ln, Ln1p, Tanh, Worst, apply, one, ulps_f32};
use crate::cpu::instructions::{Instructions, on_level};
use crate::cpu::kernels::block;
use crate::cpu::kernels::lanes::Lane;

/// Numbers of a sample in f64.
const SAMPLE: usize = 1 << 17;

/// Numbers in [0, 1), each in its own of `len` equal parts.
fn spread(len: usize) -> impl Iterator<Item = f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len).map(move |i| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (i as f64 + (state >> 11) as f64 * 2f64.powi(-53)) / len as f64
    })
}

/// Positive numbers from `low` to `high`, as many in each octave.
fn octaves(low: f64, high: f64) -> Vec<f64> {
    spread(SAMPLE)
        .map(|share| (low.log2() + share * (high / low).log2()).exp2().clamp(low, high))
        .collect()
}

fn judge_f64<F: Function>(name: &str, bar: f64, x: &[f64], exact: impl Fn(f64) -> (Exact, i32)) {
    let exact: Vec<_> = x.iter().map(|&x| exact(x)).collect();
    for set in Instructions::available() {
        let (mut got, mut worst) = (vec![0.0; x.len()], Worst::default());
        apply::<F, f64>(set, x, &mut got);
        for ((got, x), (exact, exponent)) in got.iter().zip(x).zip(&exact) {
            worst.take(exact.ulps(*got, *exponent), *x);
        }
        worst.check(name, set, bar);
    }
}

fn judge_f32<F: Function>(
    name: &str,
    bar: f64,
    bits: impl Iterator<Item = u32>,
    exact: impl Fn(f64) -> f64,
) {
    let mut x: Vec<f32> = bits.map(f32::from_bits).collect();
    x.truncate(x.len() / 16 * 16);
    let exact: Vec<f64> = x.iter().map(|&x| exact(f64::from(x))).collect();
    for set in Instructions::available() {
        let (mut got, mut worst) = (vec![0.0; x.len()], Worst::default());
        apply::<F, f32>(set, &x, &mut got);
        for ((got, x), exact) in got.iter().zip(&x).zip(&exact) {
            worst.take(ulps_f32(*got, *exact), f64::from(*x));
        }
        worst.check(name, set, bar);
    }
}

/// The bits of all f32 from `low` to `high`, every `step`-th of them.
fn bits(low: f32, high: f32, step: usize) -> impl Iterator<Item = u32> {
    (low.to_bits()..=high.to_bits()).step_by(step)
}

#[test]
fn exp_in_f64_is_within_1_ulp() {
    let evenly: Vec<f64> = spread(SAMPLE).map(|share| -746.0 * share).collect();
    judge_f64::<Exp>("e^x in f64", 1.0, &evenly, exact::exp);
    let subnormal: Vec<f64> = spread(SAMPLE / 4).map(|share| -708.0 - 38.0 * share).collect();
    judge_f64::<Exp>("e^x in f64, subnormal", 1.0, &subnormal, exact::exp);
    let near_0: Vec<f64> = octaves(1e-20, 1.0).into_iter().map(|x| -x).collect();
    judge_f64::<Exp>("e^x in f64, x near 0", 1.0, &near_0, exact::exp);
}

#[test]
fn ln_is_within_1_ulp() {
    let exact = |x| (exact::ln(x), 0);
    judge_f64::<Ln>("ln in f64", 1.0, &octaves(f64::MIN_POSITIVE, f64::MAX), exact);
    let beside_1: Vec<f64> = octaves(1e-15, 0.5)
        .into_iter()
        .flat_map(|f| [1.0 + f, 1.0 - f])
        .filter(|&x| x != 1.0)
        .collect();
    judge_f64::<Ln>("ln in f64, x near 1", 1.0, &beside_1[..beside_1.len() / 16 * 16], exact);
    judge_f32::<Ln>(
        "ln in f32",
        1.0,
        bits(f32::MIN_POSITIVE, f32::MAX, 499).chain(bits(0.5, 2.0, 1)),
        f64::ln,
    );
    for set in Instructions::available() {
        assert_eq!((one::<Ln, f32>(set, 1.0), one::<Ln, f64>(set, 1.0)), (0.0, 0.0), "{set}");
    }
}

#[test]
fn ln_1p_is_within_3_ulp() {
    let exact = |x| (exact::ln_1p(x), 0);
    judge_f64::<Ln1p>("ln(1+x) in f64", 3.0, &octaves(1e-300, 1e300), exact);
    judge_f64::<Ln1p>("ln(1+x) in f64, x near 1", 3.0, &octaves(1e-17, 1e6), exact);
    // Where the function changes its mind about what the fraction is.
    let beside: Vec<f64> = spread(SAMPLE / 16)
        .map(|share| std::f64::consts::SQRT_2 - 1.0 + (share - 0.5) * 1e-9)
        .collect();
    judge_f64::<Ln1p>("ln(1+x) in f64, x near √2 − 1", 3.0, &beside, exact);
    judge_f32::<Ln1p>(
        "ln(1+x) in f32",
        3.0,
        bits(0.0, f32::MAX / 2.0, 499).chain(bits(1e-4, 4.0, 29)),
        f64::ln_1p,
    );
    for set in Instructions::available() {
        assert_eq!((one::<Ln1p, f32>(set, 0.0), one::<Ln1p, f64>(set, 0.0)), (0.0, 0.0), "{set}");
    }
}

#[test]
fn tanh_is_within_3_ulp() {
    let exact = |x| (exact::tanh(x), 0);
    let (near_0, far) = (octaves(1e-300, 1e-3), octaves(1e-3, 50.0));
    judge_f64::<Tanh>("tanh in f64, x near 0", 3.0, &near_0, exact);
    judge_f64::<Tanh>("tanh in f64", 3.0, &far, exact);
    let negative: Vec<f64> = far.into_iter().map(|x| -x).collect();
    judge_f64::<Tanh>("tanh in f64, x < 0", 3.0, &negative, exact);
    judge_f32::<Tanh>(
        "tanh in f32",
        3.0,
        bits(0.0, 100.0, 499).chain(bits(0.01, 10.0, 19)),
        f64::tanh,
    );
    judge_f32::<Tanh>("tanh in f32, x < 0", 3.0, bits(-0.0, -100.0, 4999), f64::tanh);
    for set in Instructions::available() {
        for x in [25.0, 1e30, f32::MAX, f32::INFINITY] {
            assert_eq!(
                (one::<Tanh, f32>(set, x), one::<Tanh, f32>(set, -x)),
                (1.0, -1.0),
                "{set}, {x:e}"
            );
        }
        for x in [45.0, 1e300, f64::MAX, f64::INFINITY] {
            assert_eq!(
                (one::<Tanh, f64>(set, x), one::<Tanh, f64>(set, -x)),
                (1.0, -1.0),
                "{set}, {x:e}"
            );
        }
        for x in [0.0f32, -0.0] {
            assert_eq!(one::<Tanh, f32>(set, x).to_bits(), x.to_bits(), "{set}, {x:e}");
        }
        for nan in [f32::NAN, -f32::NAN] {
            assert!(
                one::<Tanh, f32>(set, nan).is_nan()
                    && one::<Tanh, f64>(set, f64::from(nan)).is_nan(),
                "{set}"
            );
        }
    }
}

/// Σ −y ln(y/weight) of a target with all its mass on one class.
fn entropy_of_one_class<R: Lane>(set: Instructions, weight: R) -> f64 {
    let (mut y, total) = ([R::ZERO; 32], weight.to_f64());
    y[5] = weight;
    on_level!(set.level_or_baseline(), simd => block::entropy(simd, &y, R::ONE, R::ZERO, total))
}

#[test]
fn one_class_has_no_entropy_whatever_its_weight() {
    for set in Instructions::available() {
        for weight in octaves(1e-6, 1e6).into_iter().step_by(16) {
            let wide = entropy_of_one_class(set, weight);
            let narrow = entropy_of_one_class(set, weight as f32);
            assert_eq!((wide, narrow), (0.0, 0.0), "{set}, weight {weight:e}");
        }
    }
}
