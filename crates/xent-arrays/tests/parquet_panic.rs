//! What panics in the `parquet` crate is an error, and said once. In a process of its own, whose
//! panic hook is the test's.

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};

use xent_arrays::{ArrayError, ClassNames, Place, open_labels};

#[test]
fn panics_that_are_errors_are_not_printed() {
    static SAID: AtomicUsize = AtomicUsize::new(0);
    panic::set_hook(Box::new(|_| {
        SAID.fetch_add(1, Ordering::Relaxed);
    }));
    let folder = tempfile::tempdir().unwrap();
    let place = Place { file: folder.path().join("y.parquet"), name: None };
    let read = |bytes: &[u8]| -> Result<(), ArrayError> {
        std::fs::write(&place.file, bytes).unwrap();
        let (mut rows, mut all) = (open_labels(&place, &ClassNames::default())?, Vec::new());
        while rows.next(7, &mut all)? > 0 {}
        Ok(())
    };
    let mut damaged = std::fs::read("tests/fixtures/nulls.parquet").unwrap();
    let mut panics = 0;
    for at in 0..damaged.len() {
        damaged[at] ^= 1;
        panics +=
            usize::from(read(&damaged).is_err_and(|error| {
                error.to_string().contains("its parts contradict one another")
            }));
        damaged[at] ^= 1;
    }
    assert!(panics > 0 && SAID.load(Ordering::Relaxed) == 0, "{panics} of {SAID:?}");
    // Others' panics are still their hook's.
    assert!(panic::catch_unwind(|| panic!("elsewhere")).is_err());
    assert_eq!(SAID.load(Ordering::Relaxed), 1);
}
