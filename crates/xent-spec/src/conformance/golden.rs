//! PyTorch's answers in f64.

use super::{Candidate, run};
use crate::golden::{GOLDEN, Golden};

const RELATIVE: f64 = 1e-12;

/// PyTorch takes the logarithm of 1 + rest and the difference p − y with p near 1: what it says of
/// a confident row is off by an ulp or two of 1, and so may a backend be.
const CONFIDENT: f64 = 4e-15;

/// Loss and gradient of every golden case.
pub(super) fn golden(candidate: &Candidate) -> Result<(), String> {
    let supported: Vec<&Golden> =
        GOLDEN.iter().filter(|golden| candidate.supports(&golden.case)).collect();
    if supported.len() * 4 < GOLDEN.len() {
        return Err(format!(
            "supports {} of {} golden cases: too few to be judged by",
            supported.len(),
            GOLDEN.len()
        ));
    }
    for Golden { case, loss, grad } in supported {
        let answer = run(candidate, case)?;
        near(&format!("golden case {:?}: loss", case.name), &answer.loss, loss, CONFIDENT)?;
        let upstream = case
            .upstream
            .0
            .values()
            .iter()
            .fold(0.0, |largest: f64, value| largest.max(value.abs()));
        near(
            &format!("golden case {:?}: gradient", case.name),
            &answer.grad,
            grad,
            CONFIDENT * upstream,
        )?;
    }
    Ok(())
}

fn near(what: &str, got: &[f64], expected: &[f64], floor: f64) -> Result<(), String> {
    if got.len() != expected.len() {
        return Err(format!("{what} has {} values, expected {}", got.len(), expected.len()));
    }
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let bar = RELATIVE * expected.abs() + floor;
        let near =
            got == expected || (got.is_nan() && expected.is_nan()) || (got - expected).abs() <= bar;
        if !near {
            return Err(format!("{what} {index} is {got:e}, expected {expected:e}, bar {bar:e}"));
        }
    }
    Ok(())
}
