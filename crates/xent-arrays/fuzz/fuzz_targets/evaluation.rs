//! A file written by `xent eval --partial`: whatever is taken for one can be merged and reported on.
#![no_main]

use xent_metrics::Evaluation;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(evaluation) = serde_json::from_slice::<Evaluation>(bytes) {
        let mut twice = evaluation.clone();
        let _ = twice.merge(&evaluation);
        let _ = evaluation.scores();
    }
});
