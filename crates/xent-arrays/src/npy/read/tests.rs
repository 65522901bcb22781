use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::npy::values::PART;
use crate::npy::write;

/// A file with this header, as NumPy frames it, and these bytes of entries.
fn framed(version: u8, header: &[u8], entries: &[u8]) -> Vec<u8> {
    let length = (header.len() as u32).to_le_bytes();
    let length = if version == 1 { &length[..2] } else { &length[..] };
    [&MAGIC[..], &[version, 0], length, header, entries].concat()
}

fn read_bytes(file: &[u8]) -> Result<Array, Problem> {
    read_sized(file, file.len() as u64)
}

fn encode(array: &Array) -> Vec<u8> {
    let mut file = Vec::new();
    write(array, &mut file).unwrap();
    file
}

fn good() -> Vec<u8> {
    framed(1, b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", &[0; 24])
}

#[test]
fn versions_and_orders() {
    let header = b"{'descr': '>u2', 'fortran_order': True, 'shape': (3,), }\n";
    for version in [1, 2, 3] {
        let array = read_bytes(&framed(version, header, &[0, 1, 1, 0, 255, 254])).unwrap();
        assert_eq!(array.shape(), [3]);
        assert_eq!(array.values(), &Values::U16(vec![1, 256, 65534]));
    }
}

#[test]
fn what_is_written_is_read() {
    let half = |x: f32| f16::from_f32(x);
    let all = [
        Values::Bool(vec![true, false, true, true, false, false]),
        Values::I8(vec![0, -1, i8::MIN, i8::MAX, 4, 5]),
        Values::I16(vec![0, -1, i16::MIN, i16::MAX, 4, 5]),
        Values::I32(vec![0, -1, i32::MIN, i32::MAX, 4, 5]),
        Values::I64(vec![0, -1, i64::MIN, i64::MAX, 4, 5]),
        Values::U8(vec![0, 1, u8::MAX, 3, 4, 5]),
        Values::U16(vec![0, 1, u16::MAX, 3, 4, 5]),
        Values::U32(vec![0, 1, u32::MAX, 3, 4, 5]),
        Values::U64(vec![0, 1, u64::MAX, 3, 4, 5]),
        Values::F16(vec![half(0.0), half(-1.5), f16::MAX, f16::INFINITY, half(4.0), half(5.0)]),
        Values::Bf16(vec![
            bf16::ZERO,
            bf16::from_f32(-1.5),
            bf16::MAX,
            bf16::NEG_INFINITY,
            bf16::ONE,
            bf16::EPSILON,
        ]),
        Values::F32(vec![0.0, -1.5, f32::MAX, f32::INFINITY, 4.0, 5.0]),
        Values::F64(vec![0.0, -1.5, f64::MAX, f64::NEG_INFINITY, 4.0, 5.0]),
    ];
    for values in all {
        let array = Array::new(vec![2, 3], false, values);
        let file = encode(&array);
        assert_eq!((file.len() - array.values().len() * array.dtype().size()) % 64, 0);
        assert_eq!(read_bytes(&file).unwrap(), array);
    }
    let transposed = Array::new(vec![2, 3], true, Values::U8(vec![0, 1, 2, 3, 4, 5]));
    assert_eq!(read_bytes(&encode(&transposed)).unwrap(), transposed);
}

#[test]
fn large_arrays_come_in_parts() {
    let values: Vec<u16> = (0..PART as u32).map(|x| (x * 7) as u16).collect();
    let array = Array::new(vec![PART], false, Values::U16(values));
    assert_eq!(read_bytes(&encode(&array)).unwrap(), array);
}

/// One line for each way in which a header can be wrong, with a part of the message that it must
/// give.
#[test]
fn malformed_headers_are_refused() {
    const D: &str = "'descr': '<f4'";
    const F: &str = "'fortran_order': False";
    const S: &str = "'shape': (2, 3)";
    let deep = format!("{{{D}, {F}, 'shape': {}}}", "(".repeat(5000));
    let deep_descr = format!("{{'descr': {}, {F}, {S}}}", "[".repeat(5000));
    let many_axes = format!("{{{D}, {F}, 'shape': ({})}}", "1, ".repeat(65));
    let long_key = format!("{{'{}': 1}}", "k".repeat(5000));
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "the end, expected {"),
        ("   \n".into(), "the end, expected {"),
        ("{}".into(), "lacks the key 'descr'"),
        ("{".into(), "the end, expected a key"),
        ("{,}".into(), "',', expected a key"),
        (format!("{D}, {F}, {S}"), "expected {"),
        (format!("{{{D}, {F}, {S}"), "the end, expected ,"),
        (format!("{{{D}, {F}, {S}}}}}"), "expected nothing but white space"),
        (format!("{{{D}, {F}, {S}}} x"), "expected nothing but white space"),
        (format!("{{{D}, {F}, {S}}}\0"), "expected nothing but white space"),
        (format!("{{{D}, {F}, {S},,}}"), "',', expected a key"),
        (format!("{{{D} {F}, {S}}}"), "expected ,"),
        (format!("{{{D}; {F}, {S}}}"), "';', expected ,"),
        (format!("{{'descr' '<f4', {F}, {S}}}"), "expected :"),
        (format!("{{'descr'= '<f4', {F}, {S}}}"), "expected :"),
        (format!("{{descr: '<f4', {F}, {S}}}"), "'d', expected a key in quotes"),
        (format!("{{'descr: '<f4', {F}, {S}}}"), "expected :"),
        (format!("{{'descr\": '<f4', {F}, {S}}}"), "expected"),
        (format!("{{{F}, {S}}}"), "lacks the key 'descr'"),
        (format!("{{{D}, {S}}}"), "lacks the key 'fortran_order'"),
        (format!("{{{D}, {F}}}"), "lacks the key 'shape'"),
        (format!("{{{D}, {D}, {F}, {S}}}"), "'descr' twice"),
        (format!("{{{D}, {F}, {F}, {S}}}"), "'fortran_order' twice"),
        (format!("{{{D}, {F}, {S}, 'shape': (6,)}}"), "'shape' twice"),
        (format!("{{{D}, {F}, {S}, 'extra': 1}}"), "the key 'extra'"),
        (format!("{{'Descr': '<f4', {F}, {S}}}"), "the key 'Descr'"),
        (format!("{{'': '<f4', {F}, {S}}}"), "the key ''"),
        (format!("{{{D}, {F}, {S}, 'sh\\x61pe': (6,)}}"), "without escapes"),
        (format!("{{{D}, {F}, {S}, 'shäpe': (6,)}}"), "printable ASCII"),
        (format!("{{'descr': '<f4\n', {F}, {S}}}"), "printable ASCII"),
        (format!("{{'descr': u'<f4', {F}, {S}}}"), "'u', expected the descr"),
        (format!("{{'descr': '<f4, {F}, {S}}}"), "'<f4, ' (no type that NumPy writes)"),
        ("{'descr': '<f4".into(), "the end, expected printable"),
        (format!("{{'descr': None, {F}, {S}}}"), "expected the descr"),
        (format!("{{'descr': 4, {F}, {S}}}"), "expected the descr"),
        (format!("{{{D}, 'fortran_order': true, {S}}}"), "expected True or False"),
        (format!("{{{D}, 'fortran_order': FALSE, {S}}}"), "expected True or False"),
        (format!("{{{D}, 'fortran_order': Falsey, {S}}}"), "expected True or False"),
        (format!("{{{D}, 'fortran_order': 0, {S}}}"), "expected True or False"),
        (format!("{{{D}, 'fortran_order': 'False', {S}}}"), "expected True or False"),
        (format!("{{{D}, 'fortran_order': , {S}}}"), "expected True or False"),
        (format!("{{{D}, {F}, 'shape': 6}}"), "( of a tuple"),
        (format!("{{{D}, {F}, 'shape': None}}"), "( of a tuple"),
        (format!("{{{D}, {F}, 'shape': [2, 3]}}"), "( of a tuple"),
        (format!("{{{D}, {F}, 'shape': (6)}}"), "after the only length"),
        (format!("{{{D}, {F}, 'shape': (2, 3"), "the end, expected , or )"),
        (format!("{{{D}, {F}, 'shape': (2 3)}}"), "after the only length"),
        (format!("{{{D}, {F}, 'shape': (,)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (2,,3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': ((2, 3),)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (-2, -3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (+2, 3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (2.0, 3)}}"), "after the only length"),
        (format!("{{{D}, {F}, 'shape': (2e0, 3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (0x2, 3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (02, 3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (2LL, 3L)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (1_0, 3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': ('2', 3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (True, 3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (２, 3)}}"), "decimal digits"),
        (format!("{{{D}, {F}, 'shape': (9223372036854775808, 3)}}"), "less than 2⁶³"),
        (format!("{{{D}, {F}, 'shape': ({}, 3)}}", "9".repeat(4000)), "less than 2⁶³"),
        (format!("{{{D}, {F}, 'shape': (9223372036854775807,)}}"), "more bytes than any file"),
        (format!("{{{D}, {F}, 'shape': (4611686018427387904, 4)}}"), "more bytes than any file"),
        (format!("{{{D}, {F}, 'shape': (0, 4611686018427387904, 4)}}"), "more bytes than any file"),
        (many_axes, "more than 64 axes"),
        (deep, "decimal digits"),
        (deep_descr, "structured"),
        (long_key, "the key 'kkkkkkkkkkkkkkkkkkkkkkkk…'"),
        (format!("{{'descr': [('a', '<f4')], {F}, {S}}}"), "(structured)"),
        (format!("{{'descr': ('<f4', (2,)), {F}, {S}}}"), "(structured)"),
        (format!("{{'descr': '|O', {F}, {S}}}"), "'|O' (Python objects)"),
        (format!("{{'descr': '<U4', {F}, {S}}}"), "'<U4' (strings)"),
        (format!("{{'descr': '|S4', {F}, {S}}}"), "'|S4' (strings)"),
        (format!("{{'descr': '<M8[ns]', {F}, {S}}}"), "(dates)"),
        (format!("{{'descr': '<m8[s]', {F}, {S}}}"), "(time spans)"),
        (format!("{{'descr': '<c8', {F}, {S}}}"), "(complex numbers)"),
        (format!("{{'descr': '<f16', {F}, {S}}}"), "(extended precision)"),
        (format!("{{'descr': '|V4', {F}, {S}}}"), "(raw bytes)"),
        (format!("{{'descr': '>V2', {F}, {S}}}"), "byte order"),
        (format!("{{'descr': '|f4', {F}, {S}}}"), "byte order"),
        (format!("{{'descr': '=f4', {F}, {S}}}"), "byte order"),
        (format!("{{'descr': 'f4', {F}, {S}}}"), "byte order"),
        (format!("{{'descr': '<f', {F}, {S}}}"), "no type that NumPy writes"),
        (format!("{{'descr': '<f3', {F}, {S}}}"), "no type that NumPy writes"),
        (format!("{{'descr': '<F4', {F}, {S}}}"), "no type that NumPy writes"),
        (format!("{{'descr': '', {F}, {S}}}"), "no type that NumPy writes"),
        (format!("{{'descr': '<f4 ', {F}, {S}}}"), "no type that NumPy writes"),
        (format!("{{'descr': '<i16', {F}, {S}}}"), "no type that NumPy writes"),
        (format!("{{'descr': '\u{1b}[31m', {F}, {S}}}"), "'\\x1b', expected printable"),
    ];
    for (header, message) in cases {
        let error =
            read_bytes(&framed(2, header.as_bytes(), &[0; 24])).expect_err(&header).to_string();
        assert!(
            error.contains(message),
            "{:.200}\n  {error}\n  should say: {message}",
            header.escape_debug().to_string()
        );
        assert!(error.len() < 300 && error.chars().all(|c| !c.is_control()), "{error}");
    }
}

#[test]
fn malformed_frames_are_refused() {
    let refused = |file: &[u8], message: &str| {
        let error = read_bytes(file).expect_err(message).to_string();
        assert!(error.contains(message), "{error}\n  should say: {message}");
    };
    let changed = |at: usize, byte: u8| {
        let mut file = good();
        file[at] = byte;
        file
    };
    let whole = good();
    refused(b"", "begins with '', expected");
    refused(b"\x93NUM", "begins with '\\x93NUM', expected");
    refused(b"PK\x03\x04 an archive", "begins with 'PK\\x03\\x04 a', expected");
    refused(&changed(0, b'N'), "begins with 'NNUMPY'");
    refused(&changed(6, 0), "version 0.0");
    refused(&changed(6, 4), "version 4.0");
    refused(&changed(7, 1), "version 1.1");
    refused(&changed(8, whole.len() as u8 - 24 - 11), "has 24 bytes, but 25 follow the header");
    refused(&changed(8, whole.len() as u8 - 24 - 9), "expected nothing but white space");
    refused(&changed(9, 40), "a header of 10300 bytes, expected at most 10000");
    refused(&framed(3, &[b' '; 10_001], &[]), "a header of 10001 bytes, expected at most 10000");
    refused(
        &[&MAGIC[..], &[2, 0], &u32::MAX.to_le_bytes()].concat(),
        "a header of 4294967295 bytes",
    );
    refused(
        &[good(), vec![0]].concat(),
        "shape (2, 3) of float32 has 24 bytes, but 25 follow the header",
    );
    refused(
        &framed(1, b"{'descr': '<f8', 'fortran_order': False, 'shape': ()}", &[]),
        "shape () of float64 has 8 bytes, but 0 follow",
    );
    refused(
        &framed(1, b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4)}", &[0]),
        "shape (0, 4) of float64 has 0 bytes, but 1 follow",
    );
    refused(
        &framed(1, b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", &[0; 8]),
        "8000000000000 bytes, but 8 follow",
    );
    refused(
        &framed(1, b"{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", &[0, 1, 2]),
        "entry 2 of the bool array is byte 2",
    );
    for length in 0..whole.len() {
        assert!(read_bytes(&whole[..length]).is_err(), "the first {length} bytes");
    }
    assert!(read_bytes(&whole).is_ok());
}

#[test]
fn only_regular_files() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| read(path).unwrap_err().to_string();
    assert!(message(folder.path()).contains("expected a regular file"));
    assert!(message(&folder.path().join("none.npy")).contains("No such file"));
    if cfg!(unix) {
        assert!(message(Path::new("/dev/null")).contains("expected a regular file"));
    }
}

/// What reading must give for any bytes: an error, or an array that is consistent and whole.
fn consistent(file: &[u8]) {
    if let Ok(array) = read_bytes(file) {
        assert_eq!(array.values().len(), array.shape().iter().product::<usize>());
        assert!(array.values().len() * array.dtype().size() < file.len());
        let order: Vec<usize> = (0..array.shape().len()).rev().collect();
        array.clone().into_values_along(&order);
        assert_eq!(read_bytes(&encode(&array)).unwrap().shape(), array.shape());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..300)) {
        consistent(&bytes);
    }

    #[test]
    fn random_headers(version in 1u8..4, header in "[{}()\\[\\]'\":, \n0-9a-zA-Z<>|\\\\é]{0,120}", entries in vec(any::<u8>(), 0..50)) {
        consistent(&framed(version, header.as_bytes(), &entries));
    }

    #[test]
    fn random_values_in_good_headers(descr in "[<>|=]?[biufcVOSUMm][0-9]{1,2}", fortran in any::<bool>(), shape in vec(0usize..5, 0..4), entries in vec(0u8..2, 0..200)) {
        let shape = Shape(&shape).to_string();
        let fortran = if fortran { "True" } else { "False" };
        consistent(&framed(1, format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n").as_bytes(), &entries));
    }

    #[test]
    fn mutations_of_a_good_file(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>(), cuts in any::<bool>()) {
        let mut file = good();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if cuts {
            file.truncate(cut.index(file.len()));
        }
        consistent(&file);
    }

    #[test]
    fn text_mutations_of_a_good_header(at in any::<prop::sample::Index>(), remove in 0usize..6, insert in "[{}()\\[\\]'\":, 0-9TFaelrstu<>|-]{0,6}") {
        let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n".to_vec();
        let at = at.index(header.len());
        let end = (at + remove).min(header.len());
        consistent(&framed(1, &[&header[..at], insert.as_bytes(), &header[end..]].concat(), &[0; 24]));
    }
}
