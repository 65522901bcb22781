//! Accuracy over every number of classes, every family of logits and every format.

use super::{Candidate, judge, run};
use crate::budget::unit;
use crate::case::{Case, Reduction, RowValue, Targets};
use crate::dtype::Dtype;
use crate::families::{CLASSES, FAMILIES, Family, sweep_case};

fn sweep(candidate: &Candidate, dtype: Dtype, epsilons: &[f64]) -> Result<(), String> {
    for classes in CLASSES {
        for family in FAMILIES {
            for &epsilon in epsilons {
                judge(candidate, &sweep_case(dtype, classes, family, epsilon))?;
            }
        }
    }
    Ok(())
}

pub(super) fn accuracy_f32(candidate: &Candidate) -> Result<(), String> {
    sweep(candidate, Dtype::F32, &[0.1, 0.0])
}

pub(super) fn accuracy_f16(candidate: &Candidate) -> Result<(), String> {
    sweep(candidate, Dtype::F16, &[0.1])
}

pub(super) fn accuracy_bf16(candidate: &Candidate) -> Result<(), String> {
    sweep(candidate, Dtype::Bf16, &[0.1])
}

/// f64 needs no such rows: its bars are judged by random cases, and here once for each family.
pub(super) fn accuracy_f64(candidate: &Candidate) -> Result<(), String> {
    for family in FAMILIES {
        for (classes, epsilon) in [(33, 0.0), (4096, 0.1), (50257, 0.001)] {
            judge(candidate, &sweep_case(Dtype::F64, classes, family, epsilon))?;
        }
    }
    Ok(())
}

/// The loss of half-precision logits is that of the same logits in f32, to 2u.
pub(super) fn halves_lose_nothing(candidate: &Candidate) -> Result<(), String> {
    for dtype in [Dtype::F16, Dtype::Bf16] {
        for classes in [2, 33, 1000, 4096] {
            for family in FAMILIES {
                let half = sweep_case(dtype, classes, family, 0.1);
                let single = Case { dtype: Dtype::F32, ..half.clone() };
                if !(candidate.supports(&half) && candidate.supports(&single)) {
                    continue;
                }
                let (got, expected) = (run(candidate, &half)?.loss, run(candidate, &single)?.loss);
                for (row, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    if (got - expected).abs() > 2.0 * unit(dtype) * expected {
                        return Err(format!(
                            "case {:?}: the loss of row {row} is {got:e}, in f32 {expected:e}",
                            half.name
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Sums and means over many rows.
pub(super) fn many_rows(candidate: &Candidate) -> Result<(), String> {
    const ROWS: usize = 20_000;
    let mut rng = super::rng(3);
    let logits: Vec<f64> = (0..ROWS)
        .flat_map(|_| Family::Normal { scale: 1.0, offset: 0.0 }.row(&mut rng, Dtype::F32, 3, 0))
        .collect();
    for reduction in [Reduction::Mean, Reduction::Sum] {
        judge(
            candidate,
            &Case {
                name: format!("{ROWS} rows"),
                dtype: Dtype::F32,
                shape: vec![ROWS, 3],
                axis: 1,
                logits: logits.clone(),
                targets: Targets::classes(&(0..ROWS as i64).map(|row| row % 3).collect::<Vec<_>>()),
                epsilon: RowValue::Shared(0.1),
                reduction,
                ..Case::default()
            },
        )?;
    }
    Ok(())
}
