//! A file of some format, read to its end as logits and as labels.

use std::cell::OnceCell;

use tempfile::TempDir;
use xent_arrays::{ClassNames, Columns, Place, open_labels, open_logits};

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// Rows that are read at most: an archive may hold a thousand times its size, which is no error.
const MOST: usize = 100_000;

pub fn read(extension: &str, bytes: &[u8]) {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
        let file = folder.path().join("file").with_extension(extension);
        std::fs::write(&file, bytes).expect("a temporary file");
        let place =
            |name: Option<&str>| Place { file: file.clone(), name: name.map(str::to_string) };
        let label = place((extension == "csv").then_some("label"));
        if let Ok(mut rows) = open_logits(&place(None), Some(&label), &Columns::default(), None) {
            let mut read = 0;
            while let Ok(block) = rows.next(64) {
                read += block.rows;
                if block.rows == 0 || read > MOST {
                    break;
                }
                let _ = block.floats.decode();
            }
        }
        if let Ok(mut rows) = open_labels(&label, &ClassNames::default()) {
            let mut all = Vec::new();
            while rows.next(64, &mut all).is_ok_and(|read| read > 0) && all.len() < MOST {}
        }
    });
}
