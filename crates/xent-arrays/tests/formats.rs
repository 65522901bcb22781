//! Files written by NumPy, safetensors, pandas' way of CSV and Arrow give the same rows.

use std::path::PathBuf;

use xent_arrays::npy::{Dtype, write_header};
use xent_arrays::{
    ArrayError, ClassNames, Columns, Floats, Place, open_labels, open_logits, open_numbers,
};

const LOGITS: [[f64; 3]; 5] =
    [[0.5, -1.0, 2.0], [0.0, 0.0, 0.0], [-4.0, 3.5, 1.0], [1.0, 2.0, -0.25], [8.0, -8.0, 0.0]];
const LABELS: [i64; 5] = [2, 0, 1, 1, 0];

fn place(text: &str) -> Place {
    let Ok(place) = PathBuf::from("tests/fixtures").join(text).display().to_string().parse();
    place
}

fn logits(text: &str, labels: Option<&str>, most: usize) -> Result<Vec<Vec<f64>>, ArrayError> {
    let mut rows =
        open_logits(&place(text), labels.map(place).as_ref(), &Columns::default(), None)?;
    let classes = rows.classes();
    let mut all = Vec::new();
    loop {
        let block = rows.next(most)?;
        if block.rows == 0 {
            return Ok(all);
        }
        assert!(block.rows <= most);
        let values: Vec<f64> = match block.floats.decode() {
            Floats::F32(values) => values.into_iter().map(f64::from).collect(),
            Floats::F64(values) => values,
            Floats::Encoded(..) => panic!("decoded"),
        };
        assert_eq!(values.len(), block.rows * classes);
        all.extend(values.chunks(classes).map(<[f64]>::to_vec));
    }
}

fn labels(text: &str, most: usize) -> Result<Vec<i64>, ArrayError> {
    let mut rows = open_labels(&place(text), &ClassNames::default())?;
    let mut all = Vec::new();
    while rows.next(most, &mut all)? > 0 {}
    Ok(all)
}

#[test]
fn one_number_per_row() {
    let folder = tempfile::tempdir().unwrap();
    let array = |shape: &[usize]| -> Place {
        let file = folder.path().join("w.npy");
        let mut bytes = Vec::new();
        write_header(Dtype::F64, shape, false, &mut bytes).unwrap();
        (0..shape.iter().product()).for_each(|i: usize| bytes.extend((i as f64).to_le_bytes()));
        std::fs::write(&file, bytes).unwrap();
        Place { file, name: None }
    };
    let numbers = |place: &Place| -> Result<Vec<f64>, ArrayError> {
        let mut rows = open_numbers(place)?;
        assert_eq!(rows.classes(), 1);
        let Floats::F64(mut all) = rows.next(3)?.floats.decode() else { panic!("float64") };
        let Floats::F64(rest) = rows.next(100)?.floats.decode() else { panic!("float64") };
        all.extend(rest);
        Ok(all)
    };
    let labels = LABELS.map(|label| label as f64);
    assert_eq!(numbers(&place("table.csv:label")).unwrap(), labels);
    assert_eq!(numbers(&place("labels.csv")).unwrap(), labels);
    for shape in [&[5][..], &[5, 1], &[1, 5]] {
        assert_eq!(numbers(&array(shape)).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0]);
    }
    for (place, says) in [
        (place("table.csv"), "expected a name after the file's"),
        (array(&[5, 2]), "shape (5, 2), expected [rows]"),
        (place("y.npy"), "expected float16, bfloat16, float32 or float64"),
        (place("list.parquet"), "read from .npy, .npz, .safetensors, .csv and .tsv files"),
    ] {
        let message = numbers(&place).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn every_format_has_the_same_rows() {
    for most in [1, 2, 100] {
        for file in [
            "z64.npy",
            "z16.npy",
            "fortran.npy",
            "fortran.npz:logits",
            "big_endian.npy",
            "tokens.npy",
            "stored.npz",
            "deflated.npz:logits",
            "several.npz:a",
            "f32.safetensors",
            "f16.safetensors:logits",
            "bf16.safetensors",
            "e4m3.safetensors",
            "e5m2.safetensors",
            "several.safetensors:z",
            "list.parquet",
            "fixed.parquet:logits",
            "wide.parquet",
            "large.parquet",
        ] {
            assert_eq!(logits(file, None, most).unwrap(), LOGITS, "{file}");
        }
        assert_eq!(logits("table.csv", Some("table.csv:label"), most).unwrap(), LOGITS);
        for file in [
            "y.npy",
            "y8.npy",
            "stored.npz",
            "deflated.npz:y",
            "f16.safetensors:labels",
            "f32.safetensors",
            "labels.csv",
            "table.csv:label",
            "list.parquet:label",
            "fixed.parquet",
        ] {
            assert_eq!(labels(file, most).unwrap(), LABELS, "{file}");
        }
    }
}

#[test]
fn a_file_says_how_many_rows_it_has() {
    for file in ["z64.npy", "deflated.npz", "bf16.safetensors", "list.parquet"] {
        assert_eq!(
            open_logits(&place(file), None, &Columns::default(), None).unwrap().rows(),
            Some(5),
            "{file}"
        );
    }
}

#[test]
fn names_are_told_from_paths() {
    let parse = |text: &str| {
        let Ok(place) = text.parse::<Place>();
        (place.file.display().to_string(), place.name)
    };
    assert_eq!(parse("C:\\runs\\a.npz:z"), ("C:\\runs\\a.npz".into(), Some("z".into())));
    assert_eq!(parse("C:/runs/a.npy"), ("C:/runs/a.npy".into(), None));
    assert_eq!(parse("a.npz:x:y"), ("a.npz".into(), Some("x:y".into())));
    assert_eq!(parse("a.b.parquet:label"), ("a.b.parquet".into(), Some("label".into())));
}

/// Logits of any order and axis, in blocks of any size, against the definition.
#[test]
fn classes_may_be_on_any_axis() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| Place { file: folder.path().join(name), name: None };
    let npy = |place: &Place, descr: &str, fortran: bool, shape: &[usize], data: Vec<u8>| {
        let order = if fortran { "True" } else { "False" };
        let shape: String = shape.iter().map(|length| format!("{length},")).collect();
        let text =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((text.len() as u16).to_le_bytes());
        file.extend(text.as_bytes());
        file.extend(data);
        std::fs::write(&place.file, file).unwrap();
    };
    for (fortran, shape, axis) in [
        (false, vec![3, 5, 4, 7], 1),
        (false, vec![3, 5, 4, 7], 0),
        (false, vec![3, 5, 4, 7], 2),
        (false, vec![3, 5, 4, 7], 3),
        (false, vec![5, 3], 0),
        (true, vec![5, 3], 0),
        (true, vec![5, 3], 1),
        (true, vec![1, 6, 3], 2),
        (true, vec![6, 3, 1], 1),
        (true, vec![3, 5, 4, 7], 1),
        (true, vec![3, 5, 4, 7], 3),
    ] {
        let entries: usize = shape.iter().product();
        let file = at("z.npy");
        let data = (0..entries).flat_map(|entry| (entry as f32).to_le_bytes()).collect();
        npy(&file, "<f4", fortran, &shape, data);
        let rest: Vec<usize> =
            (0..shape.len()).filter(|other| *other != axis).map(|other| shape[other]).collect();
        npy(&at("y.npy"), "|u1", false, &rest, vec![0; rest.iter().product()]);
        let strides: Vec<usize> = (0..shape.len())
            .map(|other| {
                let after = if fortran { &shape[..other] } else { &shape[other + 1..] };
                after.iter().product()
            })
            .collect();
        let row_strides: Vec<usize> =
            (0..shape.len()).filter(|other| *other != axis).map(|other| strides[other]).collect();
        let expected: Vec<f32> = (0..entries)
            .map(|entry| {
                let (mut row, class) = (entry / shape[axis], entry % shape[axis]);
                let mut place = class * strides[axis];
                for (length, stride) in rest.iter().zip(&row_strides).rev() {
                    place += row % length * stride;
                    row /= length;
                }
                place as f32
            })
            .collect();
        for most in [1, 3, 11, 1000] {
            let mut found = Vec::new();
            let mut rows =
                open_logits(&file, Some(&at("y.npy")), &Columns::default(), Some(axis as isize))
                    .unwrap();
            loop {
                let block = rows.next(most).unwrap();
                assert!(block.rows <= most);
                match block.floats.decode() {
                    _ if block.rows == 0 => break,
                    Floats::F32(values) => found.extend(values),
                    _ => panic!("single precision"),
                }
            }
            assert_eq!(found, expected, "{shape:?}, axis {axis}, {most}");
        }
        // A label's number is its row's, whatever the order of both files.
        let reversed: Vec<usize> =
            (0..rest.len()).map(|axis| rest[..axis].iter().product()).collect();
        let mut stored = vec![0; rest.iter().product()];
        for row in 0..stored.len() {
            let (mut left, mut place) = (row, 0);
            for (length, stride) in rest.iter().zip(&reversed).rev() {
                place += left % length * stride;
                left /= length;
            }
            stored[place] = row as u8;
        }
        npy(&at("y.npy"), "|u1", true, &rest, stored);
        let mut labels = open_labels(&at("y.npy"), &ClassNames::default()).unwrap();
        let mut found = Vec::new();
        while labels.next(7, &mut found).unwrap() > 0 {}
        assert!(found.iter().copied().eq(0..(entries / shape[axis]) as i64), "{found:?}");
        if !fortran && shape.len() > 2 {
            let rows = open_logits(&file, Some(&at("y.npy")), &Columns::default(), None).unwrap();
            assert_eq!(rows.classes(), shape[axis]);
        }
    }
}
