//! A folder of arrays, and the program run in it.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The logits of SEMANTICS.md's known answers.
pub static Z: [f64; 16] =
    [2.0, -1.0, 0.5, 0.0, 0.0, 1.0, -2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 1.0, 0.0, 0.0, -1.0];
/// Its targets, row 2 to be ignored.
pub const Y: [i64; 4] = [0, 3, -100, 1];

pub struct ArrayFolder {
    folder: TempDir,
}

pub struct Run {
    output: Output,
    /// Files in the folder afterwards.
    files: Vec<String>,
    before: Vec<String>,
}

/// A `.npy` file put together by hand.
pub fn npy(descr: &str, fortran_order: bool, shape: &[usize], entries: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|length| format!("{length}, ")).collect();
    let shape = if shape.matches(',').count() > 1 {
        shape.trim_end_matches(", ").to_owned()
    } else {
        shape
    };
    let order = if fortran_order { "True" } else { "False" };
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), entries]
        .concat()
}

impl ArrayFolder {
    /// An empty one.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// One with `z.npy`, `y.npy` and `w.npy` of the known answers.
    pub fn new() -> Self {
        Self::empty().f64("z", &[4, 4], &Z).i64("y", &[4], &Y).f64("w", &[4], &[1.0, 2.0, 0.5, 3.0])
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.npy"))
    }

    pub fn bytes(self, name: &str, contents: &[u8]) -> Self {
        std::fs::write(self.path(name), contents).unwrap();
        self
    }

    pub fn f64(self, name: &str, shape: &[usize], entries: &[f64]) -> Self {
        let entries: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.bytes(name, &npy("<f8", false, shape, &entries))
    }

    pub fn i64(self, name: &str, shape: &[usize], entries: &[i64]) -> Self {
        let entries: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.bytes(name, &npy("<i8", false, shape, &entries))
    }

    pub fn bool(self, name: &str, shape: &[usize], entries: &[bool]) -> Self {
        let entries: Vec<u8> = entries.iter().map(|&entry| entry.into()).collect();
        self.bytes(name, &npy("|b1", false, shape, &entries))
    }

    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = self
            .folder
            .path()
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    }

    /// `xent loss` with these options.
    pub fn run(&self, options: &str) -> Run {
        let before = self.files();
        let output = Command::new(env!("CARGO_BIN_EXE_xent"))
            .arg("loss")
            .args(options.split_whitespace())
            .current_dir(&self.folder)
            .output()
            .unwrap();
        Run { output, files: self.files(), before }
    }

    /// The same on `z.npy` and `y.npy`, to JSON.
    pub fn json(&self, options: &str) -> Value {
        self.run(&format!("--logits z.npy --targets y.npy --json {options}")).json()
    }

    /// An array of float64 that the program has written, its entries.
    pub fn read_f64(&self, name: &str, shape: &str) -> Vec<f64> {
        self.read_f64_in(name, false, shape)
    }

    /// The same for an array in C order or Fortran order, its entries in that order.
    pub fn read_f64_in(&self, name: &str, fortran_order: bool, shape: &str) -> Vec<f64> {
        let entries = self.read_in(name, "<f8", fortran_order, shape);
        entries.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
    }

    /// An array that the program has written: its entries' bytes, once its header has been found to
    /// be what NumPy itself would write.
    pub fn read(&self, name: &str, descr: &str, shape: &str) -> Vec<u8> {
        self.read_in(name, descr, false, shape)
    }

    fn read_in(&self, name: &str, descr: &str, fortran_order: bool, shape: &str) -> Vec<u8> {
        let file = std::fs::read(self.path(name)).unwrap();
        let length = usize::from(u16::from_le_bytes([file[8], file[9]]));
        assert_eq!(&file[..8], b"\x93NUMPY\x01\0");
        assert_eq!((10 + length) % 64, 0);
        let (header, entries) = file[10..].split_at(length);
        let header = str::from_utf8(header).unwrap();
        assert!(header.ends_with('\n'));
        assert_eq!(
            header.trim_end(),
            format!(
                "{{'descr': '{descr}', 'fortran_order': {}, 'shape': {shape}, }}",
                if fortran_order { "True" } else { "False" }
            )
        );
        entries.to_vec()
    }
}

impl Run {
    pub fn stdout(&self) -> &str {
        str::from_utf8(&self.output.stdout).unwrap()
    }

    pub fn stderr(&self) -> &str {
        str::from_utf8(&self.output.stderr).unwrap()
    }

    pub fn succeeded(self) -> Self {
        assert!(self.output.status.success(), "{}", self.stderr());
        self
    }

    /// The object that was printed.
    pub fn json(self) -> Value {
        let run = self.succeeded();
        serde_json::from_str(run.stdout())
            .unwrap_or_else(|error| panic!("{error}: {}", run.stdout()))
    }

    /// Refused as bad input: exit code 2, `error: …` with all of these parts, nothing printed or
    /// written.
    pub fn refused(self, parts: &[&str]) {
        let stderr = self.stderr();
        assert_eq!(self.output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{stderr}\nshould say: {part}");
        }
        assert_eq!(self.stdout(), "");
        assert_eq!(self.files, self.before);
    }
}

/// Numbers within 1e-9 of one another.
#[track_caller]
pub fn close(found: &Value, expected: &[f64]) {
    let one;
    let found = match found {
        Value::Array(found) => found,
        single => {
            one = vec![single.clone()];
            &one
        }
    };
    let found: Vec<f64> = found.iter().map(|number| number.as_f64().unwrap()).collect();
    all_close(&found, expected, 1e-9);
}

#[track_caller]
pub fn all_close(found: &[f64], expected: &[f64], tolerance: f64) {
    let close = found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(found, expected)| (found - expected).abs() <= tolerance);
    assert!(close, "found {found:?}\nexpected {expected:?} within {tolerance}");
}

/// A row's softmax, as in the textbook.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    logits.iter().map(|z| z.exp() / total).collect()
}

/// −ln softmax at a class.
pub fn nll(logits: &[f64], class: usize) -> f64 {
    -softmax(logits)[class].ln()
}
