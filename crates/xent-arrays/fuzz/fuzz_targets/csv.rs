#![no_main]
#[path = "file.rs"]
mod file;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| file::read("csv", bytes));
