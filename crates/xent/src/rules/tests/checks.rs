use super::noise;
use crate::rules::Plan;
use crate::{
    Batch, ClassIndices, Config, Element, InputError, Lambda, Real, RowOption, Rows, Targets, bf16,
    f16,
};

/// The number of ignored rows, or the error.
fn check(
    config: &Config,
    batch: Batch<'_>,
    rows: usize,
    classes: usize,
) -> Result<usize, InputError> {
    let criterion = config.clone().build().unwrap();
    Plan::new(&criterion, &batch, rows, classes).map(|plan| plan.ignored())
}

fn class(row: usize, value: i64, classes: usize) -> Result<usize, InputError> {
    Err(InputError::Class { row, value, classes })
}

/// `bad` in one row or another among `good` ones, with no ignore index, one or several, with and
/// without a mask.
fn one_bad_label<'a, T: Copy>(good: T, bad: T, value: i64, classes: usize, memory: &'a mut Vec<T>)
where
    for<'b> ClassIndices<'b>: From<&'b [T]>,
{
    for rows in [1, 2, 255, 256, 257, 1000] {
        for row in [0, rows / 2, rows - 1] {
            memory.clear();
            memory.resize(rows, good);
            memory[row] = bad;
            let mask: Vec<bool> = (0..rows).map(|masked| masked == row).collect();
            for ignore in [vec![], vec![-5], vec![-5, -7, i64::MAX - 1]] {
                let config =
                    ignore.iter().fold(Config::new(), |config, &index| config.ignore_index(index));
                let labels = || Targets::Classes(ClassIndices::from(memory.as_slice()));
                assert_eq!(
                    check(&config, Batch::new(labels()), rows, classes),
                    class(row, value, classes)
                );
                assert_eq!(
                    check(
                        &config,
                        Batch::new(labels()).ignored_rows(&vec![false; rows]),
                        rows,
                        classes
                    ),
                    class(row, value, classes)
                );
                assert_eq!(
                    check(&config, Batch::new(labels()).ignored_rows(&mask), rows, classes),
                    Ok(1)
                );
                assert_eq!(
                    check(&config.clone().ignore_index(value), Batch::new(labels()), rows, classes),
                    Ok(1)
                );
            }
        }
    }
}

#[test]
fn labels_of_every_type_are_checked_at_both_ends() {
    for classes in [1, 3, 127, 128, 129, 255] {
        one_bad_label(0, classes as u8, classes as i64, classes, &mut Vec::new());
        one_bad_label(classes as u8 - 1, 255, 255, classes, &mut Vec::new());
    }
    for classes in [1, 3, 32_767, 32_768, 32_769, 65_535] {
        one_bad_label(0, classes as u16, classes as i64, classes, &mut Vec::new());
        one_bad_label(classes as u16 - 1, u16::MAX, 65_535, classes, &mut Vec::new());
        one_bad_label((classes - 1).min(127) as i8, -1, -1, classes, &mut Vec::new());
        one_bad_label(0, i8::MIN, -128, classes, &mut Vec::new());
        one_bad_label((classes - 1).min(32_767) as i16, -1, -1, classes, &mut Vec::new());
        one_bad_label(0, i16::MIN, -32_768, classes, &mut Vec::new());
    }
    one_bad_label(8i8, 9, 9, 9, &mut Vec::new());
    one_bad_label(8i16, 9, 9, 9, &mut Vec::new());
    for classes in [1, 10, 1 << 31] {
        one_bad_label(classes as u32 - 1, classes as u32, classes as i64, classes, &mut Vec::new());
        one_bad_label(0, u32::MAX, i64::from(u32::MAX), classes, &mut Vec::new());
        one_bad_label(0, -1i32, -1, classes, &mut Vec::new());
        one_bad_label(0, i32::MIN, i64::from(i32::MIN), classes, &mut Vec::new());
        one_bad_label(0, -1i64, -1, classes, &mut Vec::new());
        one_bad_label(classes as i64 - 1, i64::MIN, i64::MIN, classes, &mut Vec::new());
        one_bad_label(0, classes as i64, classes as i64, classes, &mut Vec::new());
        one_bad_label(0, i64::MAX, i64::MAX, classes, &mut Vec::new());
        one_bad_label(classes - 1, classes, classes as i64, classes, &mut Vec::new());
        one_bad_label(0, usize::MAX, i64::MAX, classes, &mut Vec::new());
        one_bad_label(0, i64::MAX as usize + 1, i64::MAX, classes, &mut Vec::new());
        one_bad_label(classes as u64 - 1, classes as u64, classes as i64, classes, &mut Vec::new());
        one_bad_label(0, u64::MAX, i64::MAX, classes, &mut Vec::new());
        one_bad_label(0, i64::MAX as u64 + 1, i64::MAX, classes, &mut Vec::new());
    }
    one_bad_label(0, 9i32, 9, 9, &mut Vec::new());
    one_bad_label(0, 1i64 << 32, 1 << 32, 9, &mut Vec::new());
    // Every index that there is.
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(check(&Config::new(), Batch::new(&all), 256, 256), Ok(0));
    assert_eq!(check(&Config::new(), Batch::new(&[u32::MAX, 0, 1 << 31]), 3, 1 << 32), Ok(0));
    let all: Vec<u16> = (0..=u16::MAX).collect();
    assert_eq!(check(&Config::new(), Batch::new(&all), all.len(), all.len()), Ok(0));
}

#[test]
fn ignore_indices_inside_and_outside_the_classes_are_counted() {
    let mut random = noise(1);
    let labels: Vec<i64> =
        (0..1000).map(|_| [-100, 0, 1, 2, 3, 9][(random() * 6.0) as usize]).collect();
    let mask: Vec<bool> = (0..1000).map(|_| random() < 0.3).collect();
    for ignore in
        [vec![-100, 9], vec![9, 1, -100], vec![-100, 9, 0, 1, 2, 3, 77], vec![-100, -100, 9]]
    {
        let config = ignore.iter().fold(Config::new(), |config, &index| config.ignore_index(index));
        let ignored = |row: &usize| ignore.contains(&labels[*row]);
        assert_eq!(
            check(&config, Batch::new(&labels), 1000, 4),
            Ok((0..1000).filter(ignored).count())
        );
        assert_eq!(
            check(&config, Batch::new(&labels).ignored_rows(&mask), 1000, 4),
            Ok((0..1000).filter(|row| ignored(row) || mask[*row]).count())
        );
    }
    assert_eq!(check(&Config::new().ignore_index(3), Batch::new(&[3u8, 1, 3, 0]), 4, 4), Ok(2));
    let (a, b) = ([0u8, 3, 1, 1], [3i64, 0, 1, 0]);
    let mix = Targets::mix(&a, &b, 0.5);
    assert_eq!(check(&Config::new().ignore_index(3), Batch::new(mix.clone()), 4, 4), Ok(2));
    assert_eq!(check(&Config::new(), Batch::new(mix), 4, 3), class(0, 3, 3));
    // A label is checked although the other one has the row ignored.
    let beside = Targets::mix(&[1u8, 3], &[0i64, 77], 0.5);
    assert_eq!(check(&Config::new().ignore_index(3), Batch::new(beside), 2, 3), class(1, 77, 3));
}

#[test]
fn the_first_row_with_something_wrong_is_named_and_its_label_first() {
    let labels = [0i64, 1, 7, 0, 2];
    let fine = [0.5; 5];
    let one = |row: usize, value: f64| {
        let mut values = fine;
        values[row] = value;
        values
    };
    let row_value =
        |option, row, value, expected| Err(InputError::RowValue { option, row, value, expected });
    let config = Config::new();
    let batch = || Batch::new(&labels);
    assert_eq!(check(&config, batch().label_smoothing_rows(&one(3, 2.0)), 5, 3), class(2, 7, 3));
    assert_eq!(check(&config, batch().label_smoothing_rows(&one(2, 2.0)), 5, 3), class(2, 7, 3));
    let epsilon = row_value(RowOption::LabelSmoothing, 1, 2.0, "0 ≤ ε ≤ 1");
    assert_eq!(
        check(&config, batch().label_smoothing_rows(&one(1, 2.0)).row_weights(&one(1, -1.0)), 5, 3),
        epsilon
    );
    let weight = row_value(RowOption::Weight, 0, -1.0, "a finite number ≥ 0");
    assert_eq!(
        check(&config, batch().label_smoothing_rows(&one(1, 2.0)).row_weights(&one(0, -1.0)), 5, 3),
        weight
    );
    assert_eq!(check(&config, batch().row_weights(&one(0, -0.0)), 5, 8), Ok(0));
    let infinite = check(&config, batch().row_weights(&one(4, f64::INFINITY)), 5, 8);
    assert_eq!(infinite, row_value(RowOption::Weight, 4, f64::INFINITY, "a finite number ≥ 0"));
    // What is given an ignored row is not looked at.
    let bad = one(2, f64::NAN);
    let ignoring = Config::new().ignore_index(7);
    assert_eq!(check(&ignoring, batch().label_smoothing_rows(&bad).row_weights(&bad), 5, 3), Ok(1));
    let mix = |lambda: &'static [f64]| Targets::Mix {
        a: (&labels).into(),
        b: (&[0u8; 5]).into(),
        lambda: Lambda::Rows(lambda.into()),
    };
    assert_eq!(check(&ignoring, Batch::new(mix(&[0.5, 0.0, -1.0, 1.0, 0.1])), 5, 3), Ok(1));
    assert_eq!(
        check(&ignoring, Batch::new(mix(&[0.5, 0.0, -1.0, 1.0, -0.1])), 5, 3),
        row_value(RowOption::Lambda, 4, -0.1, "0 ≤ λ ≤ 1")
    );
}

fn probabilities_are_checked<T: Element>()
where
    for<'b> Targets<'b>: From<Rows<'b, T>>,
{
    let (rows, classes) = (5000, 21);
    let mut data: Vec<T> = vec![T::from_f64(0.25); rows * classes];
    data[7] = T::from_f64(-0.0);
    let check = |data: &[T], axis: isize, mask: Option<&[bool]>| {
        let shape = if axis == 1 { [rows, classes] } else { [classes, rows] };
        let batch = Batch::new(Rows::with_axis(data, &shape, axis).unwrap());
        check(
            &Config::new(),
            mask.map_or(batch.clone(), |mask| batch.ignored_rows(mask)),
            rows,
            classes,
        )
    };
    let mut mask = vec![false; rows];
    for axis in [0, 1] {
        assert_eq!(check(&data, axis, None), Ok(0));
        assert_eq!(check(&data, axis, Some(&mask)), Ok(0));
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.25, -1e-7] {
        let mut data = data.clone();
        for row in [4000, 4999] {
            data[row * classes + 3] = T::from_f64(bad);
            data[row * classes + 20] = T::from_f64(-3.0);
        }
        let named = |row: usize| {
            Err(format!(
                "the target probability of class 3 in row {row} is {}, expected a finite number ≥ 0",
                data[row * classes + 3].to_real().to_f64()
            ))
        };
        mask.fill(false);
        assert_eq!(check(&data, 1, None).map_err(|error| error.to_string()), named(4000));
        assert_eq!(check(&data, 1, Some(&mask)).map_err(|error| error.to_string()), named(4000));
        mask[4000] = true;
        assert_eq!(check(&data, 1, Some(&mask)).map_err(|error| error.to_string()), named(4999));
        mask[4999] = true;
        assert_eq!(check(&data, 1, Some(&mask)), Ok(2));
    }
}

#[test]
fn probabilities_of_every_type_are_checked() {
    probabilities_are_checked::<f32>();
    probabilities_are_checked::<f64>();
    probabilities_are_checked::<f16>();
    probabilities_are_checked::<bf16>();
}

#[test]
fn only_what_a_view_of_probabilities_shows_is_checked() {
    // Rows 0 and 1, classes 0 and 1 of a buffer whose other entries are bad; then a broadcast of
    // one row.
    let nan = f32::NAN;
    let buffer = [0.5, 0.5, nan, 0.25, 0.75, -1.0];
    let cut = Rows::strided(&buffer, &[2, 2], &[3, 1], 0, 1).unwrap();
    assert_eq!(check(&Config::new(), Batch::new(cut), 2, 2), Ok(0));
    let reversed = Rows::strided(&buffer, &[2, 2], &[3, -1], 1, 1).unwrap();
    assert_eq!(check(&Config::new(), Batch::new(reversed), 2, 2), Ok(0));
    let same = Rows::strided(&buffer, &[3, 2], &[0, 1], 0, 1).unwrap();
    assert_eq!(
        check(&Config::new(), Batch::new(same), 3, 2),
        Ok(0),
        "as many entries as the buffer has, which holds bad ones elsewhere"
    );
    let bad = Rows::strided(&buffer, &[2, 2], &[3, 1], 1, 1).unwrap();
    let error = check(&Config::new(), Batch::new(bad), 2, 2).unwrap_err().to_string();
    assert_eq!(
        error,
        "the target probability of class 1 in row 0 is NaN, expected a finite number ≥ 0"
    );
}
