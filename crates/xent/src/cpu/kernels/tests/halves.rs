//! Conversions of halves, against the `half` crate's.

use half::{bf16 as Bf16, f16 as F16};

use crate::cpu::instructions::{Instructions, on_level};
use crate::cpu::logit::Logit;

fn widen<H: Logit<Real = f32>>(set: Instructions, from: &[H]) -> Vec<f32> {
    let mut to = vec![-77.0; from.len()];
    on_level!(set.level_or_baseline(), simd => H::widen(simd, from, &mut to));
    to
}

fn narrow<H: Logit<Real = f32>>(set: Instructions, from: &[f32]) -> Vec<H> {
    let mut to = vec![H::from_f64(-77.0); from.len()];
    on_level!(set.level_or_baseline(), simd => H::narrow(simd, from, &mut to));
    to
}

/// `value` and its neighbours among the f32.
fn around(value: f32) -> [f32; 3] {
    [value.next_down(), value, value.next_up()]
}

/// What is hard to round: every half, its midpoint with the next one, and the neighbours of both;
/// the ends of f32; and noise.
fn hard(halves: &[f32]) -> Vec<f32> {
    let midpoints = halves
        .iter()
        .zip(&halves[1..])
        .map(|(a, b)| ((f64::from(*a) + f64::from(*b)) / 2.0) as f32);
    let mut hard: Vec<f32> = halves.iter().copied().chain(midpoints).flat_map(around).collect();
    // Overflow begins halfway to the number that would come next: of f16 at 65,520.
    hard.extend(
        [
            65504.0,
            65519.0,
            65520.0,
            65536.0,
            3.38e38,
            3.39e38,
            3.395e38,
            f32::MAX,
            1e-45,
            2f32.powi(-25),
            2f32.powi(-133),
        ]
        .into_iter()
        .flat_map(around),
    );
    hard.extend(
        [f32::INFINITY, 0.0]
            .into_iter()
            .chain([0x7fc0_0000, 0x7f80_0001, 0x7f80_2000, 0x7fff_ffff].map(f32::from_bits)),
    );
    hard.extend(hard.clone().into_iter().map(|value| -value));
    let mut state = 1u64;
    hard.extend((0..1 << 20).map(|_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from_bits((state >> 32) as u32)
    }));
    hard
}

macro_rules! conversions {
    ($($name:ident: $half:ident),*) => {$(
        mod $name {
            use super::*;
            use super::$half as Half;

            fn every() -> Vec<Half> {
                (0..=u16::MAX).map(Half::from_bits).collect()
            }

            #[test]
            fn every_half_widens() {
                for set in Instructions::available() {
                    let every = every();
                    for (from, to) in every.iter().zip(widen(set, &every)) {
                        // Which NaN a NaN becomes makes no difference to anything.
                        let same = to.to_bits() == from.to_f32().to_bits() || (to.is_nan() && from.is_nan());
                        assert!(same, "{set}: {:#x} became {to:e}, expected {:e}", from.to_bits(), from.to_f32());
                    }
                }
            }

            #[test]
            fn what_is_hard_to_round_is_rounded_as_half_rounds_it() {
                let hard = hard(&every().iter().map(|half| half.to_f32()).collect::<Vec<_>>());
                for set in Instructions::available() {
                    for (from, to) in hard.iter().zip(narrow::<Half>(set, &hard)) {
                        let expected = Half::from_f32(*from);
                        assert!(to.to_bits() == expected.to_bits(), "{set}: {from:e} ({:#x}) became {:#x}, expected {:#x}", from.to_bits(), to.to_bits(), expected.to_bits());
                    }
                }
            }

            #[test]
            fn every_length_and_start() {
                let halves: Vec<Half> = (0..110).map(|i| Half::from_f32(i as f32 * 0.37 - 9.0)).collect();
                let singles: Vec<f32> = (0..110).map(|i| i as f32 * 0.123_456_7 - 5.0).collect();
                for set in Instructions::available() {
                    for len in 0..=70 {
                        for start in [0, 1, 7, 32] {
                            let (halves, singles) = (&halves[start..][..len], &singles[start..][..len]);
                            assert_eq!(widen(set, halves), halves.iter().map(|half| half.to_f32()).collect::<Vec<_>>(), "{set}, {len} from {start}");
                            let expected: Vec<_> = singles.iter().map(|single| Half::from_f32(*single)).collect();
                            assert_eq!(narrow::<Half>(set, singles), expected, "{set}, {len} from {start}");
                        }
                    }
                }
            }
        }
    )*};
}
conversions!(f16: F16, bf16: Bf16);
