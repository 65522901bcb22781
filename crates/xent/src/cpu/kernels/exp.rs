//! e^x for x ≤ 0 in f32, written so that it vectorises on any target: no branches, no tables, no fused multiply-add.

/// ln 2 in two parts; the first has so few bits that its product with any exponent here is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// 1.5·2²³: adding it rounds to the nearest integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Below this e^x is less than half the smallest positive f32.
const UNDERFLOW: f32 = -104.0;

/// e^x for x ≤ 0 to 1 ulp (subnormal results too), 0 below −104 and for −∞, NaN for NaN.
///
/// e^x = 2^n·e^r with n = round(x/ln 2) and |r| ≤ ½ ln 2 (Cody and Waite 1980); e^r by a minimax polynomial. The test below checks every f32 in the range.
#[inline(always)]
pub(super) fn exp_f32(x: f32) -> f32 {
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let e = (p * (r * r) + r) + 1.0;
    // 2^n in two factors, since n reaches below the smallest normal exponent.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let result = e * power(half) * power(n.wrapping_sub(half));
    let result = if x < UNDERFLOW { 0.0 } else { result };
    if x.is_nan() { x } else { result }
}

#[cfg(test)]
mod tests {
    use super::exp_f32;

    /// Distance in ulps of the f32 result, whose ulp is 2^-149 among the subnormals.
    fn ulps(x: f32) -> f64 {
        let exact = f64::from(x).exp();
        let ulp = f64::from_bits(exact.to_bits() & 0x7ff0_0000_0000_0000) * 2f64.powi(-23);
        (f64::from(exp_f32(x)) - exact).abs() / ulp.max(2f64.powi(-149))
    }

    #[test]
    fn every_f32_from_minus_104_to_0_is_within_1_ulp() {
        let last = (-104f32).to_bits();
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let worst = std::thread::scope(|scope| {
            let parts: Vec<_> = (0..threads)
                .map(|part| {
                    scope.spawn(move || {
                        let of_part = (0x8000_0000 + part..=last).step_by(threads as usize);
                        of_part.map(|bits| (ulps(f32::from_bits(bits)), bits)).fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a })
                    })
                })
                .collect();
            parts.into_iter().map(|part| part.join().unwrap()).fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a })
        });
        println!("largest error {} ulp at {:e}", worst.0, f32::from_bits(worst.1));
        assert!(worst.0 <= 1.0, "{} ulp at {:e}", worst.0, f32::from_bits(worst.1));
    }

    #[test]
    fn ends() {
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!(exp_f32(-0.0), 1.0);
        assert_eq!(exp_f32(-104.1), 0.0);
        assert_eq!(exp_f32(f32::MIN), 0.0);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert!(exp_f32(f32::NAN).is_nan());
        assert!(exp_f32(-f32::NAN).is_nan());
    }
}
