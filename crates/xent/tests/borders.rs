//! Rows whose length, mask, peak or spread is at the borders of what the engine works in: vectors,
//! tiles, segments, blocks and pieces. Judged by the textbook, on every instruction set.

mod common;

use xent::Instructions;
use xent_spec::{Case, Dtype, Masked, Prior, Reduction, RowValue, Targets, compare, evaluate};

/// The engine's borders: a vector of f64 and of f32, two of those, a segment of f64 and of f32, the
/// most classes of rows in tiles, parts of a block, a block, a piece.
const BORDERS: [usize; 10] = [8, 16, 32, 64, 128, 192, 2048, 4096, 8192, 65_536];

fn judge(case: &Case) {
    let expected = evaluate(case).unwrap_or_else(|why| panic!("{}: {why}", case.name));
    for set in Instructions::available() {
        let got = common::run(case, Some(set))
            .unwrap_or_else(|why| panic!("{set}, {}: {why}", case.name));
        compare(case, &expected, &got).unwrap_or_else(|why| panic!("{set}: {why}"));
    }
}

/// Classes from which on a row costs the textbook so much that it is tried in fewer ways.
const LONG: usize = 5000;

/// Numbers of classes around every border. Of a block and of a piece, whose end is a block's end,
/// too, only the next one is a case of its own.
fn lengths() -> impl Iterator<Item = usize> {
    let around = BORDERS.into_iter().flat_map(|border| [border - 1, border, border + 1]);
    around.filter(|&classes| classes < LONG || [8193, 65_537].contains(&classes))
}

/// The first and the last class of everything that a row of `classes` is cut into.
fn positions(classes: usize) -> Vec<usize> {
    let mut all: Vec<usize> = BORDERS
        .into_iter()
        .flat_map(|border| [border - 1, border, 2 * border - 1, 2 * border])
        .collect();
    // Of the last block, whatever its length: a vector from its end, and what is left over.
    all.extend([
        0,
        1,
        classes / 2,
        classes / 16 * 16,
        classes.saturating_sub(16),
        classes.saturating_sub(2),
        classes - 1,
    ]);
    // The ends of vectors are no different in a long row.
    all.retain(|&class| class < classes && (classes < LONG || !(1..=2000).contains(&class)));
    all.sort_unstable();
    all.dedup();
    all
}

/// Rows of noise, one for each position, which `change` is told; the targets are the positions, or
/// the classes after them in every other row.
fn rows(name: &str, dtype: Dtype, classes: usize, change: impl Fn(usize, &mut [f64])) -> Case {
    let positions = positions(classes);
    let mut logits: Vec<f64> = common::noise(positions.len() * classes).map(|z| 3.0 * z).collect();
    logits.chunks_exact_mut(classes).zip(&positions).for_each(|(z, position)| change(*position, z));
    logits.iter_mut().for_each(|z| *z = dtype.round(*z));
    let labels: Vec<i64> = positions
        .iter()
        .enumerate()
        .map(|(row, class)| ((class + row % 2) % classes) as i64)
        .collect();
    Case {
        name: format!("{name}, {dtype:?}, {classes} classes at {positions:?}"),
        dtype,
        shape: vec![positions.len(), classes],
        axis: 1,
        logits,
        targets: Targets::classes(&labels),
        epsilon: RowValue::Shared(0.1),
        reduction: Reduction::None,
        ..Case::default()
    }
}

/// As `[K, N]`, a row in a lane whatever K.
fn turned(case: &Case) -> Case {
    let (rows, classes) = (case.row_count(), case.class_count());
    let logits = (0..rows * classes).map(|i| case.logits[i % rows * classes + i / rows]).collect();
    Case {
        name: format!("turned, {}", case.name),
        shape: vec![classes, rows],
        axis: 0,
        logits,
        ..case.clone()
    }
}

/// The formats that a length is tried in: all of them where that costs little.
fn formats(classes: usize) -> &'static [Dtype] {
    match classes {
        ..1000 => &Dtype::ALL,
        1000..LONG => &[Dtype::F32, Dtype::Bf16],
        _ => &[Dtype::F32],
    }
}

fn each_length(name: &str, change: impl Fn(usize, &mut [f64])) {
    for classes in lengths() {
        for &dtype in formats(classes) {
            let case = rows(name, dtype, classes, &change);
            judge(&case);
            if classes < LONG {
                judge(&turned(&case));
            }
        }
    }
}

#[test]
fn any_length() {
    each_length("noise", |_, _| ());
}

/// Another class is masked in each row. What is left is a distribution only if the prior leaves it
/// out, too.
#[test]
fn a_mask_anywhere() {
    for classes in lengths() {
        for &dtype in formats(classes) {
            // The target is another class, for a loss that is finite.
            let mut case = rows("masked", dtype, classes, |at, z| z[at] = f64::NEG_INFINITY);
            case.targets = Targets::classes(
                &positions(classes)
                    .iter()
                    .map(|at| ((at + 1) % classes) as i64)
                    .collect::<Vec<_>>(),
            );
            let renormalised = Case { masked: Masked::Renormalise, ..case.clone() };
            judge(&renormalised);
            judge(&Case { epsilon: RowValue::Shared(0.0), ..case.clone() });
            if classes < LONG {
                judge(&Case { prior: Prior::WrongClasses, ..renormalised.clone() });
                judge(&case);
                judge(&turned(&renormalised));
                judge(&turned(&Case { epsilon: RowValue::Shared(0.0), ..case }));
            }
        }
    }
}

/// All is masked up to a class, or from it on: whole vectors, segments and blocks without a class
/// that is open.
#[test]
fn masked_to_the_left_and_to_the_right() {
    for to_the_left in [true, false] {
        for classes in lengths() {
            for &dtype in formats(classes) {
                let mut case = rows("masked on one side", dtype, classes, |at, z| {
                    let (left, right) = z.split_at_mut(at);
                    if to_the_left {
                        left.fill(f64::NEG_INFINITY)
                    } else {
                        right[1..].fill(f64::NEG_INFINITY)
                    }
                });
                case.targets = Targets::classes(
                    &positions(classes).iter().map(|at| *at as i64).collect::<Vec<_>>(),
                );
                judge(&Case { masked: Masked::Renormalise, ..case.clone() });
                judge(&Case { epsilon: RowValue::Shared(0.0), ..case });
            }
        }
    }
}

/// The softmax is all but one class.
#[test]
fn a_peak_anywhere() {
    each_length("peak", |at, z| z[at] = 63.0);
}

/// Each logit is larger than all before it, so that the peak rises in every block.
#[test]
fn a_peak_that_rises() {
    each_length("rising", |at, z| {
        let step = 40.0 / z.len() as f64;
        z.iter_mut().enumerate().for_each(|(k, z)| *z = 0.01 * *z + step * k as f64);
        z[at] += 1.0;
    });
}

/// Home-made masks, and rows that reach from one end of the format to the other.
#[test]
fn spreads_beyond_the_format() {
    for classes in lengths() {
        for (name, high, low) in
            [("one up", 3e38, 0.0), ("one down", 0.0, -3e38), ("both", 1e38, -1e38)]
        {
            let case = rows(name, Dtype::F32, classes, |at, z| {
                if high != 0.0 && low != 0.0 {
                    z.fill(low);
                }
                z[at] = if high != 0.0 { high } else { low };
            });
            judge(&case);
            if classes < LONG {
                judge(&turned(&case));
            }
        }
    }
}

/// Exponentials of rows this long are not kept but taken again for the gradient.
#[test]
fn rows_too_long_to_keep() {
    for (dtype, classes) in [(Dtype::F32, 524_289), (Dtype::Bf16, 526_337)] {
        let whole = rows("long", dtype, classes, |at, z| z[at] = 9.0);
        // Two of its rows are enough.
        let Targets::Classes { labels, .. } = &whole.targets else { unreachable!() };
        let first = labels.len() - 2;
        let logits = whole.logits[first * classes..].to_vec();
        judge(&Case {
            shape: vec![2, classes],
            logits,
            targets: Targets::classes(&labels[first..]),
            ..whole
        });
    }
}
