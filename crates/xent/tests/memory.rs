//! Every way in which rows are shared out, read and written, on batches hardly larger than it
//! takes, in buffers that end where they do: for tools that watch memory, which are slow
//! (`sanitize/`).
#![cfg(feature = "rayon")]

mod common;

use xent_spec::{Case, Dtype, Layout, Reduction, RowValue, Targets};

/// Elements that no task gets alone, so that there are several tasks.
const SHARED: usize = 33_000;

/// A batch of noise with the classes on `axis`.
fn batch(dtype: Dtype, shape: &[usize], axis: usize, layout: Layout) -> Case {
    let (elements, classes) = (shape.iter().product::<usize>(), shape[axis]);
    let labels: Vec<i64> =
        (0..elements / classes).map(|row| (row * 7919 % classes) as i64).collect();
    Case {
        name: format!("{dtype:?} {shape:?}, classes on axis {axis}, {layout:?}"),
        dtype,
        shape: shape.to_vec(),
        axis,
        layout,
        logits: common::noise(elements).map(|z| dtype.round(4.0 * z)).collect(),
        targets: Targets::classes(&labels),
        epsilon: RowValue::Shared(0.1),
        reduction: Reduction::None,
        ..Case::default()
    }
}

/// Through all ways of calling, on one thread and on three, there is one answer, and nothing beside
/// the view is written.
fn check(case: &Case) {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        format!(
            "{:?}",
            pool.install(|| common::run(case, None))
                .unwrap_or_else(|why| panic!("{}: {why}", case.name))
        )
    };
    assert!(on(1) == on(3), "{}: threads make a difference", case.name);
}

/// In C order; with unused elements everywhere; and turned round.
fn layouts(rank: usize) -> [Layout; 3] {
    [
        Layout::default(),
        Layout { offset: 3, gap: 1, padding: 2, ..Layout::default() },
        Layout { order: (0..rank).rev().collect(), offset: 1, padding: 1, ..Layout::default() },
    ]
}

#[test]
fn rows_one_by_one() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        for layout in layouts(2) {
            check(&batch(dtype, &[SHARED / 2100 + 1, 2100], 1, layout));
        }
    }
}

#[test]
fn tiles_of_rows_one_after_another() {
    for dtype in [Dtype::F32, Dtype::F16] {
        for layout in layouts(2) {
            check(&batch(dtype, &[SHARED / 3 + 1, 3], 1, layout));
        }
    }
}

#[test]
fn tiles_of_rows_side_by_side() {
    for dtype in [Dtype::F64, Dtype::Bf16] {
        for layout in layouts(3) {
            check(&batch(dtype, &[2, 5, SHARED / 10 + 1], 1, layout));
        }
    }
}

#[test]
fn pieces_of_one_row() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        check(&batch(dtype, &[1, 65_537], 1, Layout::default()));
    }
}

#[test]
fn logits_that_are_asked_for_again() {
    check(&Case { softcap: Some(3.0), ..batch(Dtype::F32, &[2, 2100], 1, Layout::default()) });
}

#[test]
fn dense_targets() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::F64] {
        let case = batch(Dtype::F32, &[SHARED / 2100 + 1, 2100], 1, Layout::default());
        let values =
            common::noise(case.logits.len()).map(|q| dtype.round((q + 1.0) / 2100.0)).collect();
        check(&Case { targets: Targets::Probabilities { dtype, values }, ..case });
    }
}
