//! No page of docs/guide with Rust on it is missing from `src/guide.rs`, which tests them.

use std::fs;
use std::path::Path;

#[test]
fn every_page_with_rust_is_tested() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tested = fs::read_to_string(crate_folder.join("src/guide.rs")).unwrap();
    let mut pages = 0;
    for file in fs::read_dir(crate_folder.join("../../docs/guide")).unwrap() {
        let path = file.unwrap().path();
        if fs::read_to_string(&path).unwrap().contains("```rust") {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(tested.contains(&format!("docs/guide/{name}\"")), "{name}");
            pages += 1;
        }
    }
    assert!(pages > 0);
}
