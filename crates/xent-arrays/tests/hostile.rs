//! Files that are not what they should be: each is refused, with a message that says what is wrong,
//! and none makes the reader panic or take memory for what is not there.

use std::io::Write;
use std::path::{Path, PathBuf};

use xent_arrays::{ArrayError, ClassNames, Columns, Place, open_labels, open_logits};
use zip::write::SimpleFileOptions;

fn place(path: &Path, name: Option<&str>) -> Place {
    Place { file: path.to_path_buf(), name: name.map(str::to_string) }
}

fn read_logits(place: &Place, labels: Option<&Place>) -> Result<usize, ArrayError> {
    let mut rows = open_logits(place, labels, &Columns::default(), None)?;
    let mut all = 0;
    loop {
        match rows.next(7)?.rows {
            0 => return Ok(all),
            more => all += more,
        }
    }
}

fn read_labels(place: &Place) -> Result<usize, ArrayError> {
    let (mut rows, mut all) = (open_labels(place, &ClassNames::default())?, Vec::new());
    while rows.next(7, &mut all)? > 0 {}
    Ok(all.len())
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The message with which a file is refused as logits.
    fn refused(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.write(name, bytes);
        message(read_logits(&place(&path, None), None), name)
    }

    fn refused_labels(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.write(name, bytes);
        message(read_labels(&place(&path, None)), name)
    }
}

fn message(result: Result<usize, ArrayError>, name: &str) -> String {
    let message = result.expect_err(name).to_string();
    assert!(message.contains(name.split(':').next().unwrap()), "{message}");
    assert!(!message.chars().any(|c| c.is_control()) && message.len() < 1000, "{message}");
    message
}

fn contains(message: &str, part: &str) {
    assert!(message.contains(part), "{message:?} does not say {part:?}");
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

fn archive(members: &[(&str, Vec<u8>)], deflated: bool) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let method =
        if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn good_npy() -> Vec<u8> {
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", &[0; 24])
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(vec![0; data]);
    file
}

#[test]
fn npy_files() {
    let files = Files::new();
    let header = |descr: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")
    };
    for (descr, shape, data, says) in [
        ("<f4", "(2, 3)", 23, "23 follow the header"),
        ("<f4", "(2, 3)", 25, "25 follow the header"),
        ("<f4", "(6,)", 24, "shape (6,), expected [rows, classes]"),
        ("<f4", "()", 4, "shape (), expected"),
        ("<f4", "(6, 1)", 24, "at least two classes"),
        ("<f4", "(3, 0)", 0, "at least two classes"),
        ("<i4", "(2, 3)", 24, "int32, expected float16"),
        ("|b1", "(2, 3)", 6, "bool, expected float16"),
        ("|O", "(2, 3)", 24, "Python objects"),
        ("<U4", "(2, 3)", 96, "strings"),
        ("<c8", "(2, 3)", 48, "complex"),
        ("<f16", "(2, 3)", 96, "dtype"),
        ("<f4", "(9223372036854775807, 9223372036854775807)", 0, "more bytes than any file"),
        ("<f4", "(1000000000, 1000)", 24, "24 follow"),
        ("<f4", "(2, -3)", 24, "header"),
        ("<f4", "(2, 3.0)", 24, "header"),
        ("<f4", "[2, 3]", 24, "header"),
        ("<f4", "((2, 3))", 24, "header"),
    ] {
        contains(&files.refused("z.npy", &npy(&header(descr, shape), &vec![0; data])), says);
    }
    let text = header("<f4", "(2, 3)");
    for (bytes, says) in [
        (Vec::new(), "begins with ''"),
        (b"PK\x03\x04".to_vec(), "begins with"),
        (good_npy()[..9].to_vec(), "inside the header"),
        (good_npy()[..40].to_vec(), "inside the header"),
        (npy(&text.replace("'shape'", "'shapes'"), &[0; 24]), "the key 'shapes'"),
        (npy(&text.replace("'fortran_order'", "'descr'"), &[0; 24]), "header"),
        (npy("{'descr': '<f4', 'fortran_order': False, }", &[0; 24]), "lacks the key 'shape'"),
        (
            npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }", &[0; 24]),
            "structured",
        ),
        (npy(&"(".repeat(5000), &[]), "header"),
        (npy(&" ".repeat(20_000), &[]), "a header of 20000 bytes"),
        (npy(&(text.clone() + "import os"), &[0; 24]), "nothing but white space"),
        (npy("__import__('os').system('true')", &[]), "expected {"),
    ] {
        contains(&files.refused("z.npy", &bytes), says);
    }
    let mut version = good_npy();
    version[6] = 9;
    contains(&files.refused("z.npy", &version), "version 9.0");
    contains(&files.refused_labels("y.npy", &good_npy()), "float32, expected integers");
    let label = npy("{'descr': '<u8', 'fortran_order': False, 'shape': (1,), }", &[0xff; 8]);
    contains(&files.refused_labels("y.npy", &label), "row 0: the label is 18446744073709551615");
    let path = files.write("n.npy", &good_npy());
    contains(
        &message(read_logits(&place(&path, Some("x")), None), "n.npy"),
        "one array without a name",
    );
}

#[test]
fn npz_files() {
    let files = Files::new();
    let good = || archive(&[("logits.npy", good_npy())], true);
    contains(&files.refused("z.npz", b"not an archive"), "archive is not readable");
    contains(&files.refused("z.npz", b""), "archive is not readable");
    contains(&files.refused("z.npz", &archive(&[], false)), "no arrays");
    contains(
        &files.refused("z.npz", &archive(&[("a.npy", good_npy()), ("b.npy", good_npy())], false)),
        "a, b; expected a name",
    );
    contains(
        &files.refused("z.npz", &archive(&[("a.npy", b"nonsense".to_vec())], false)),
        "begins with",
    );
    contains(
        &files.refused(
            "z.npz",
            &archive(
                &[(
                    "a.npy",
                    npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }", &[0; 24]),
                )],
                true,
            ),
        ),
        "Python objects",
    );
    contains(
        &files.refused(
            "z.npz",
            &archive(
                &[(
                    "a.npy",
                    npy(
                        "{'descr': '<f4', 'fortran_order': False, 'shape': (2000000, 3), }",
                        &[0; 24],
                    ),
                )],
                true,
            ),
        ),
        "24 follow",
    );
    let path = files.write("z.npz", &good());
    contains(
        &message(read_logits(&place(&path, Some("x")), None), "z.npz"),
        "no array 'x'; it has logits",
    );
    let half = good();
    contains(&files.refused("z.npz", &half[..half.len() / 2]), "archive is not readable");

    // Stored bytes that were changed after their checksum was taken.
    let mut damaged = archive(&[("a.npy", good_npy())], false);
    let at =
        damaged.windows(6).position(|bytes| bytes == b"\x93NUMPY").unwrap() + good_npy().len() - 1;
    damaged[at] ^= 1;
    contains(&files.refused("z.npz", &damaged), "checksum is wrong");
    // The same name twice, as a changed directory has it.
    let mut twice = archive(&[("a.npy", good_npy()), ("b.npy", good_npy())], false);
    let names: Vec<usize> = twice
        .windows(5)
        .enumerate()
        .filter(|(_, bytes)| *bytes == b"b.npy")
        .map(|(at, _)| at)
        .collect();
    names.iter().for_each(|at| twice[*at] = b'a');
    contains(&files.refused("z.npz", &twice), "the same name");
    // A directory that promises more, and one that promises less, than the member has.
    for (declared, says) in [(5000u32, "bytes, expected 5000"), (90, "header")] {
        let mut lying = good();
        let directory = lying.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
        lying[directory + 24..directory + 28].copy_from_slice(&declared.to_le_bytes());
        let said = files.refused("z.npz", &lying);
        assert!(said.contains(says) || said.contains("follow the header"), "{said}");
    }
    // A thousand times as many bytes as the archive has: nothing is taken for them.
    let bomb = npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 3), }",
        &vec![0; 12_000_000],
    );
    let path = files.write("z.npz", &archive(&[("a.npy", bomb)], true));
    assert_eq!(read_logits(&place(&path, None), None).unwrap(), 1_000_000);
}

#[test]
fn safetensors_files() {
    let files = Files::new();
    let tensor = |dtype: &str, shape: &str, from: usize, to: usize| {
        format!(
            "{{\"z\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}}}"
        )
    };
    for (bytes, says) in [
        (Vec::new(), "inside the header's length"),
        (vec![0; 7], "inside the header's length"),
        (safetensors("", 0), "header is not readable"),
        (u64::MAX.to_le_bytes().to_vec(), "a header of 18446744073709551615 bytes"),
        (100u64.to_le_bytes().to_vec(), "a header of 100 bytes in a file of 8"),
        (safetensors("{}", 0), "no tensors"),
        (safetensors("{\"z\":", 0), "header is not readable"),
        (safetensors("[1, 2]", 0), "header is not readable"),
        (safetensors(&"[".repeat(4000), 0), "header is not readable"),
        (safetensors(&tensor("F32", "[2,3]", 0, 24), 23), "23 bytes, expected 24"),
        (safetensors(&tensor("F32", "[2,3]", 0, 24), 25), "25 bytes, expected 24"),
        (safetensors(&tensor("F32", "[2,3]", 0, 20), 20), "header is not readable"),
        (safetensors(&tensor("F32", "[2,3]", 4, 28), 28), "header is not readable"),
        (safetensors(&tensor("F32", "[2,3]", 24, 0), 24), "header is not readable"),
        (
            safetensors(&tensor("F32", "[4294967296,4294967296]", 0, 24), 24),
            "header is not readable",
        ),
        (safetensors(&tensor("F32", "[-2,3]", 0, 24), 24), "header is not readable"),
        (safetensors(&tensor("F32", "[6]", 0, 24), 24), "expected [rows, classes]"),
        (safetensors(&tensor("I32", "[2,3]", 0, 24), 24), "int32, expected float16"),
        (safetensors(&tensor("F8_E8M0", "[2,3]", 0, 6), 6), "F8_E8M0, expected float16"),
        (safetensors(&tensor("C64", "[2,3]", 0, 48), 48), "C64, expected float16"),
        (safetensors(&tensor("X9", "[2,3]", 0, 24), 24), "header is not readable"),
    ] {
        contains(&files.refused("z.safetensors", &bytes), says);
    }
    let two = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[0,12]},\"b\":{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[12,24]}}";
    contains(&files.refused("z.safetensors", &safetensors(two, 24)), "a, b; expected a name");
    let overlap = two.replace("[12,24]", "[6,18]");
    contains(&files.refused("z.safetensors", &safetensors(&overlap, 24)), "header is not readable");
    let path = files.write("z.safetensors", &safetensors(two, 24));
    contains(
        &message(read_logits(&place(&path, Some("c")), None), "z.safetensors"),
        "no tensor 'c'",
    );
}

#[test]
fn csv_files() {
    let files = Files::new();
    for (text, says) in [
        ("", "expected at least two columns of numbers"),
        ("a\n1\n", "its classes are the column a alone"),
        ("a,b\n1,2\n1\n", "row 1 has 1 fields, expected 2"),
        ("a,b\n1,2\n1,2,3\n", "row 1 has 3 fields, expected 2"),
        ("a,b\n1,x\n", "row 0, column b: 'x', expected a number"),
        ("a,b\n1,\n", "row 0, column b: '', expected a number"),
        ("a,b\n1,1.2.3\n", "'1.2.3', expected a number"),
        ("a,a\n1,2\n", "two columns are named 'a'"),
        ("a,b\n1,\"2\n", "expected a number"),
        ("a,b\n1,0x10\n", "expected a number"),
        ("a,b\n1,\u{1b}[31m\n", "expected a number"),
    ] {
        contains(&files.refused("z.csv", text.as_bytes()), says);
    }
    contains(&files.refused("z.csv", b"a,b\n1,\xff\xfe\n"), "expected a number");
    let long: Vec<u8> =
        b"a,b\n1,".iter().copied().chain(std::iter::repeat_n(b'2', 40 << 20)).collect();
    contains(&files.refused("z.csv", &long), "a line of more than");
    for (text, says) in [
        ("label\n1.5\n", "'1.5', expected an integer"),
        ("label\n9007199254740993.5\n", "expected an integer"),
        ("label\n9223372036854775808\n", "expected an integer"),
        ("label\nnan\n", "expected an integer"),
        ("a,b\n1,2\n", "a, b; expected a name"),
    ] {
        let said = files.refused_labels("y.csv", text.as_bytes());
        contains(&said, says);
    }
    // Integers do not pass through floats.
    let path = files.write("y.csv", b"label\n9007199254740993\n");
    let (mut rows, mut all) =
        (open_labels(&place(&path, None), &ClassNames::default()).unwrap(), Vec::new());
    rows.next(10, &mut all).unwrap();
    assert_eq!(all, [9_007_199_254_740_993]);
    let labels = place(&path, Some("x"));
    contains(&message(read_logits(&place(&path, None), Some(&labels)), "y.csv"), "no column 'x'");
    contains(&message(read_logits(&place(&path, Some("x")), None), "y.csv"), "none can be named");
}

#[test]
fn parquet_files() {
    let files = Files::new();
    contains(&files.refused("z.parquet", b""), "Parquet file is not readable");
    contains(&files.refused("z.parquet", b"PAR1PAR1"), "Parquet file is not readable");
    contains(
        &files.refused("z.parquet", b"PAR1\xff\xff\xff\x7fPAR1"),
        "Parquet file is not readable",
    );
    let fixture = |name: &str| PathBuf::from("tests/fixtures").join(name);
    let logits = |name: &str, column: Option<&str>| {
        message(read_logits(&place(&fixture(name), column), None), name)
    };
    contains(&logits("ragged.parquet", None), "row 1 has 3 logits, expected 2");
    contains(&logits("nulls.parquet", None), "row 1, column logits, class 1: no value");
    contains(&logits("nulls.parquet", Some("text")), "expected a list of floats");
    contains(&logits("nulls.parquet", Some("x")), "no column 'x'; it has label, logits, text");
    contains(
        &message(read_labels(&place(&fixture("ragged.parquet"), None)), "ragged.parquet"),
        "row 1, column label: no value",
    );
    contains(
        &message(read_labels(&place(&fixture("list.parquet"), Some("logits"))), "list.parquet"),
        "expected integers",
    );
    let whole = std::fs::read(fixture("list.parquet")).unwrap();
    contains(
        &files.refused("z.parquet", &whole[..whole.len() - 1]),
        "Parquet file is not readable",
    );
    contains(
        &files.refused("z.parquet", &whole[1..]),
        "column logits, the page at byte 70: a header that is not a page's",
    );
}

#[test]
fn what_is_no_file_of_these() {
    let files = Files::new();
    contains(&files.refused("z.txt", b"1 2 3"), "ends in '.txt', expected .npy, .npz");
    contains(&files.refused("plain", b"1 2 3"), "ends in nothing");
    let absent = files.0.path().join("absent.npy");
    contains(&message(read_logits(&place(&absent, None), None), "absent.npy"), "No such file");
    let folder = files.0.path().join("folder.npz");
    std::fs::create_dir(&folder).unwrap();
    contains(
        &message(read_logits(&place(&folder, None), None), "folder.npz"),
        "expected a regular file",
    );
}

/// Every file cut at every byte, and with every byte changed, is either refused or read; nothing
/// panics.
#[test]
fn damaged_anywhere() {
    let files = Files::new();
    for name in [
        "z16.npy",
        "deflated.npz",
        "stored.npz",
        "bf16.safetensors",
        "table.csv",
        "list.parquet",
        "fixed.parquet",
        "wide.parquet",
    ] {
        let whole = std::fs::read(Path::new("tests/fixtures").join(name)).unwrap();
        let try_both = |bytes: &[u8]| {
            let path = files.write(name, bytes);
            let label = place(&path, name.ends_with("csv").then_some("label"));
            let (logits, labels) =
                (read_logits(&place(&path, None), Some(&label)), read_labels(&label));
            for result in [logits, labels] {
                // A changed length of 16 bits is the most that can pass for rows.
                assert!(result.is_err() || result.is_ok_and(|rows| rows < 1 << 16));
            }
        };
        for cut in 0..whole.len() {
            try_both(&whole[..cut]);
        }
        let mut changed = whole.clone();
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                changed[at] ^= flip;
                try_both(&changed);
                changed[at] ^= flip;
            }
        }
    }
}
