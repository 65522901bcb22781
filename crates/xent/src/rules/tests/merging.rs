//! Statistics of the pieces of a row merge into those of the row, however it is cut.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::rules::{Functional, RowStats};

/// A row of logits, its prior's v, its dense target, and its hot classes.
#[derive(Debug, Clone)]
struct Row {
    z: Vec<f64>,
    v: Vec<f64>,
    t: Vec<f64>,
    hot: [usize; 2],
}

/// Rows with ties, masked classes and, rarely, NaN.
fn row() -> impl Strategy<Value = Row> {
    (1..=40usize).prop_flat_map(|classes| {
        let z = prop_oneof![
            6 => -6.0..6.0f64,
            3 => select(vec![-1.0, 0.0, 7.0]),
            3 => Just(f64::NEG_INFINITY),
        ];
        let share = || prop_oneof![3 => 0.0..1.0f64, 1 => select(vec![0.0, 1.0])];
        let nan = prop_oneof![9 => Just(None), 1 => (0..classes).prop_map(Some)];
        (
            vec(z, classes),
            vec(share(), classes),
            vec(share(), classes),
            [0..classes, 0..classes],
            nan,
        )
            .prop_map(|(mut z, v, t, hot, nan)| {
                nan.into_iter().for_each(|class| z[class] = f64::NAN);
                Row { z, v, t, hot }
            })
    })
}

/// The largest value and its first index; −∞ and 0 if there is none.
fn first_largest(values: &[f64]) -> (f64, usize) {
    values.iter().enumerate().fold((f64::NEG_INFINITY, 0), |largest, (k, &value)| {
        if value > largest.0 { (value, k) } else { largest }
    })
}

fn functional(z: &[f64], v: &[f64], max: f64) -> Functional {
    let mut sums = Functional::default();
    for (&z, &v) in z.iter().zip(v) {
        if z == f64::NEG_INFINITY {
            sums.masked_mass += v;
            sums.masked += usize::from(v > 0.0);
        } else {
            sums.mass += v;
            sums.shifted += if v > 0.0 { v * (max - z) } else { 0.0 };
        }
    }
    sums
}

/// The statistics of some classes, by what the fields of [`RowStats`] say; numbered from 0, as a
/// backend numbers them that knows nothing of the others.
fn statistics(row: &Row, classes: Range<usize>) -> RowStats {
    let [z, v, t] = [&row.z, &row.v, &row.t].map(|values| &values[classes.clone()]);
    let (max, argmax) = first_largest(z);
    let (target_max, target_argmax) = first_largest(t);
    let others = z
        .iter()
        .enumerate()
        .filter(|&(k, &z)| z.is_nan() || (z != f64::NEG_INFINITY && k != argmax));
    let prior = functional(z, v, max);
    let mut stats = RowStats {
        prior,
        open_prior: prior.mass,
        closed_prior: prior.masked_mass,
        target: functional(z, t, max),
        target_max,
        target_argmax,
        ..RowStats::new(max, argmax, others.map(|(_, z)| (z - max).exp()).sum())
    };
    for (j, hot) in row.hot.iter().enumerate().filter(|(_, hot)| classes.contains(hot)) {
        stats = stats.with_hot(j, row.z[*hot]);
    }
    stats
}

/// What has to be the same to the last bit, NaN apart, and what only nearly.
fn exact_and_near(stats: &RowStats) -> (String, Vec<f64>) {
    let RowStats { max, argmax, hot, has_hot, target_max, target_argmax, .. } = stats;
    let sums = [stats.prior, stats.target];
    let masked = sums.map(|sums| sums.masked);
    let exact =
        format!("{max} {argmax} {hot:?} {has_hot:?} {target_max} {target_argmax} {masked:?}");
    let mut near = vec![stats.rest, stats.open_prior, stats.closed_prior];
    near.extend(sums.iter().flat_map(|sums| [sums.shifted, sums.mass, sums.masked_mass]));
    (exact, near)
}

proptest! {
    #[test]
    fn pieces_merge_to_the_row(row in row(), mut cuts in vec(0..=40usize, 0..6)) {
        let classes = row.z.len();
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(classes));
        cuts.extend([0, classes]);
        cuts.sort_unstable();
        let pieces =
            cuts.windows(2).map(|cut| statistics(&row, cut[0]..cut[1]).offset_classes(cut[0]));
        let (exact, near) = exact_and_near(&statistics(&row, 0..classes));
        for merged in [
            pieces.clone().fold(RowStats::EMPTY, RowStats::merge),
            pieces.rev().fold(RowStats::EMPTY, |following, piece| piece.merge(following)),
        ] {
            let (merged_exact, merged_near) = exact_and_near(&merged);
            prop_assert_eq!(&merged_exact, &exact);
            for (merged, whole) in merged_near.iter().zip(&near) {
                prop_assert!(
                    (merged - whole).abs() <= 1e-13 * whole.abs() || (merged.is_nan() && whole.is_nan()),
                    "{:?}, expected {:?}", merged_near, near
                );
            }
        }
    }
}
