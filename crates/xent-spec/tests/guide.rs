//! No Rust on a page goes untested.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of Rust on a page, without the lines that documentation hides.
fn blocks(page: &str) -> Vec<String> {
    let shown = |block: &str| {
        let lines = block.split("```").next().unwrap().lines();
        lines.filter(|line| !line.starts_with("# ")).collect::<Vec<_>>().join("\n")
    };
    page.split("```rust\n").skip(1).map(shown).collect()
}

/// `src/guide.rs` tests the pages of docs/guide.
#[test]
fn every_page_of_the_guide_with_rust_is_tested() {
    let tested = read(root().join("crates/xent-spec/src/guide.rs"));
    let mut pages = 0;
    for file in fs::read_dir(root().join("docs/guide")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if read(path).contains("```rust") {
            assert!(tested.contains(&format!("docs/guide/{name}\"")), "{name}");
            pages += 1;
        }
    }
    assert!(pages > 0);
}

/// Each crate tests the Rust in its own README.
#[test]
fn the_readme_has_the_rust_of_the_crates_readmes() {
    let crates = ["xent", "xent-burn", "xent-candle"];
    let tested: Vec<String> = crates
        .iter()
        .flat_map(|name| blocks(&read(root().join("crates").join(name).join("README.md"))))
        .collect();
    let shown = blocks(&read(root().join("README.md")));
    assert_eq!(shown.len(), crates.len());
    for block in shown {
        assert!(tested.contains(&block), "in no README of a crate:\n{block}");
    }
}
