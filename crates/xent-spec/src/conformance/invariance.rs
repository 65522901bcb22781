//! What must not change a bit, and what must.

use super::{Candidate, ask, equal_bits, judge, rng, run};
use crate::answer::Answer;
use crate::case::{Case, Reduction, RowValue, Targets, Upstream};
use crate::dtype::{Dtype, IndexDtype};
use crate::families::Family;
use crate::layout::Layout;

const LENGTHS: [usize; 8] = [1, 5, 16, 33, 257, 1000, 2049, 5000];

/// `rows` rows, one loss each.
fn batch(dtype: Dtype, rows: usize, classes: usize) -> Case {
    let mut rng = rng(classes as u64);
    Case {
        name: format!("{dtype:?}, {rows} rows of {classes} classes"),
        dtype,
        shape: vec![rows, classes],
        axis: 1,
        logits: (0..rows)
            .flat_map(|_| {
                Family::Normal { scale: 4.0, offset: 0.0 }.row(&mut rng, dtype, classes, 0)
            })
            .collect(),
        targets: Targets::classes(
            &(0..rows).map(|row| (row * 7 % classes) as i64).collect::<Vec<_>>(),
        ),
        epsilon: RowValue::Shared(0.1),
        reduction: Reduction::None,
        z_loss: 1e-4,
        ..Case::default()
    }
}

/// Every number of one value a row or a class.
fn lists(answer: &Answer) -> [(&'static str, &[f64]); 7] {
    let Answer { loss, nll, smoothing, floor, z_loss, lse, grad, .. } = answer;
    [
        ("loss", loss),
        ("nll", nll),
        ("smoothing", smoothing),
        ("floor", floor),
        ("z-loss", z_loss),
        ("lse", lse),
        ("gradient", grad),
    ]
}

fn same(case: &Case, how: &str, got: &Answer, expected: &Answer) -> Result<(), String> {
    for ((what, got), (_, expected)) in lists(got).into_iter().zip(lists(expected)) {
        equal_bits(&format!("case {:?}, {how}: {what}", case.name), got, expected)?;
    }
    Ok(())
}

/// A row alone has the bits that it has among others.
pub(super) fn row_alone(candidate: &Candidate) -> Result<(), String> {
    const ROWS: usize = 40;
    for dtype in Dtype::ALL {
        for classes in LENGTHS {
            let all = batch(dtype, ROWS, classes);
            let Some(together) = ask(candidate, &all)? else { continue };
            for row in [0, 1, ROWS / 2, ROWS - 1] {
                let Targets::Classes { labels, .. } = &all.targets else { continue };
                let one = Case {
                    shape: vec![1, classes],
                    logits: all.row(row),
                    targets: Targets::classes(&labels[row..=row]),
                    ..all.clone()
                };
                let alone = run(candidate, &one)?;
                for ((what, got), (_, expected)) in lists(&alone).into_iter().zip(lists(&together))
                {
                    let expected = &expected[row * got.len()..][..got.len()];
                    equal_bits(
                        &format!("case {:?}, row {row} alone: {what}", all.name),
                        got,
                        expected,
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// Where the buffer begins changes no bit, nor does a second run.
pub(super) fn any_offset(candidate: &Candidate) -> Result<(), String> {
    for dtype in Dtype::ALL {
        for classes in LENGTHS {
            let case = batch(dtype, 3, classes);
            let Some(first) = ask(candidate, &case)? else { continue };
            for offset in 0..=16 {
                let moved = Case { layout: Layout { offset, ..Layout::default() }, ..case.clone() };
                if candidate.supports(&moved) {
                    same(
                        &case,
                        &format!("{offset} elements further"),
                        &run(candidate, &moved)?,
                        &first,
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// Any axis for the classes, any order of the axes in memory, gaps and padding.
pub(super) fn any_layout(candidate: &Candidate) -> Result<(), String> {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for dtype in Dtype::ALL {
        for axis in 0..3 {
            for (number, order) in orders.into_iter().enumerate() {
                let mut shape = vec![3, 5];
                shape.insert(axis, 19);
                let flat = batch(dtype, 15, 19);
                let layout = Layout {
                    order: order.to_vec(),
                    offset: number,
                    gap: number % 2,
                    padding: number,
                };
                let mut case = Case {
                    name: format!("{dtype:?}, {shape:?}, {layout:?}"),
                    shape,
                    axis,
                    layout,
                    ..flat.clone()
                };
                for row in 0..15 {
                    for class in 0..19 {
                        let position = case.position(row, class);
                        case.logits[position] = flat.logits[row * 19 + class];
                    }
                }
                judge(candidate, &case)?;
            }
        }
    }
    Ok(())
}

/// The integer type in which labels come changes no bit: one class per row, two labels, ignored
/// rows.
pub(super) fn any_label_dtype(candidate: &Candidate) -> Result<(), String> {
    for (rows, classes) in [(40, 5), (3, 1000), (2, 70_000)] {
        let one = Case { ignore_index: vec![1], ..batch(Dtype::F32, rows, classes) };
        let Targets::Classes { labels, .. } = &one.targets else { continue };
        let turned: Vec<i64> = labels.iter().rev().copied().collect();
        for two in [false, true] {
            let with = |dtype: IndexDtype| {
                let (a, b, lambda) = (labels.clone(), turned.clone(), RowValue::Shared(0.25));
                let targets = if two {
                    Targets::TwoLabels { dtype, a, b, lambda }
                } else {
                    Targets::Classes { dtype, labels: a }
                };
                Case { targets, ..one.clone() }
            };
            let Some(expected) = ask(candidate, &with(IndexDtype::I64))? else { continue };
            for dtype in IndexDtype::ALL
                .into_iter()
                .filter(|dtype| labels.iter().all(|&label| dtype.holds(label)))
            {
                if let Some(got) = ask(candidate, &with(dtype))? {
                    same(&one, &format!("labels in {dtype:?}, two: {two}"), &got, &expected)?;
                }
            }
        }
    }
    Ok(())
}

/// With one loss a row, each row's gradient is multiplied by its own upstream gradient; else all by
/// the one.
pub(super) fn upstream(candidate: &Candidate) -> Result<(), String> {
    for dtype in Dtype::ALL {
        let case = batch(dtype, 5, 33);
        let each = Upstream(RowValue::Each(vec![1.0, -2.0, 0.0, 0.125, 100.0]));
        judge(
            candidate,
            &Case { name: format!("upstream a row, {dtype:?}"), upstream: each, ..case.clone() },
        )?;
        for reduction in [Reduction::None, Reduction::Sum, Reduction::Mean] {
            let shared = Upstream(RowValue::Shared(-3.0));
            judge(
                candidate,
                &Case {
                    name: format!("upstream, {dtype:?}, {reduction:?}"),
                    upstream: shared,
                    reduction,
                    ..case.clone()
                },
            )?;
        }
    }
    Ok(())
}
