//! e^x in f32: every number that it is for.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Exp, Worst, apply, one, ulps_f32};
use crate::cpu::instructions::Instructions;

/// Numbers that a thread works on at a time, so that they stay in its cache.
const CHUNK: u32 = 1 << 14;

/// From here to 0 the nearest f32 to e^x is 1.
const NEAR_0: f32 = -1.0 / (1 << 26) as f32;

/// The largest error of each instruction set over the `CHUNK` f32 from `start` on, by their bits.
fn worst(start: u32, sets: &[Instructions]) -> Vec<Worst> {
    let mut worst = vec![Worst::default(); sets.len()];
    let x: Vec<f32> = (start..start + CHUNK).map(f32::from_bits).collect();
    let mut got = vec![0.0f32; x.len()];
    // Most f32 are that small.
    let near_0 = x[x.len() - 1] > NEAR_0;
    let exact: Vec<f64> =
        if near_0 { Vec::new() } else { x.iter().map(|&x| f64::from(x).exp()).collect() };
    for (worst, &set) in worst.iter_mut().zip(sets) {
        apply::<Exp, f32>(set, &x, &mut got);
        if near_0 {
            let all_1 = got.iter().fold(true, |all, &e| all & (e == 1.0));
            worst.take(if all_1 { 0.25 } else { f64::NAN }, f64::from(x[0]));
            continue;
        }
        let off: Vec<f64> =
            got.iter().zip(&exact).map(|(got, exact)| ulps_f32(*got, *exact)).collect();
        off.iter().zip(&x).for_each(|(off, x)| worst.take(*off, f64::from(*x)));
    }
    worst
}

#[test]
fn every_f32_from_minus_104_to_0_is_within_1_ulp() {
    let (first, end) = ((-0.0f32).to_bits(), (-104f32).to_bits() + 1);
    let sets = Instructions::available();
    let next = AtomicU32::new(first);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let parts = std::thread::scope(|scope| {
        let work = || {
            let mut all = vec![Worst::default(); sets.len()];
            loop {
                let start = next.fetch_add(CHUNK, Ordering::Relaxed);
                if start >= end {
                    return all;
                }
                let part = worst(start, &sets);
                all.iter_mut().zip(part).for_each(|(all, part)| all.merge(part));
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for (i, set) in sets.into_iter().enumerate() {
        let mut all = Worst::default();
        parts.iter().for_each(|part| all.merge(part[i]));
        all.check("e^x in f32", set, 1.0);
    }
}

#[test]
fn below_minus_104_all_is_0() {
    let beyond: Vec<f32> = ((-104f32).to_bits() + 1..=f32::NEG_INFINITY.to_bits())
        .step_by(997)
        .map(f32::from_bits)
        .collect();
    let whole = &beyond[..beyond.len() / 16 * 16];
    for set in Instructions::available() {
        let mut got = vec![f32::NAN; whole.len()];
        apply::<Exp, f32>(set, whole, &mut got);
        assert!(got.iter().all(|&e| e == 0.0), "{set}");
    }
}

#[test]
fn ends() {
    for set in Instructions::available() {
        let exp = |x| one::<Exp, f32>(set, x);
        for x in [0.0, -0.0, -f32::from_bits(1), -f32::MIN_POSITIVE] {
            assert_eq!(exp(x), 1.0, "{set}, {x:e}");
        }
        for x in [-104.1, -105.0, -1e30, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(exp(x).to_bits(), 0, "{set}, {x:e}");
        }
        // Quiet and signalling, with either sign.
        for bits in [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xff80_0001, 0x7fff_ffff, u32::MAX] {
            assert!(exp(f32::from_bits(bits)).is_nan(), "{set}, NaN {bits:#x}");
        }
        let exp = |x| one::<Exp, f64>(set, x);
        assert_eq!((exp(0.0), exp(-0.0), exp(-f64::MIN_POSITIVE)), (1.0, 1.0, 1.0), "{set}");
        for x in [-746.0, -1e300, f64::MIN, f64::NEG_INFINITY] {
            assert_eq!(exp(x).to_bits(), 0, "{set}, {x:e}");
        }
        for bits in [0x7ff8_0000_0000_0000, 0xfff8_0000_0000_0000, 0x7ff0_0000_0000_0001, u64::MAX]
        {
            assert!(exp(f64::from_bits(bits)).is_nan(), "{set}, NaN {bits:#x}");
        }
    }
}
