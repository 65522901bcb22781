//! Random cases of every kind, and their agreement with the textbook.

use std::cell::Cell;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::{Candidate, judge};
use crate::generate::cases;

/// Cases tried. The variable `XENT_SPEC_CASES` asks for another number.
const CASES: u32 = 2000;

/// The share of the cases that a backend must at least support to be judged by them.
const LEAST_SUPPORT: f64 = 0.05;

/// Always the same cases, however many.
pub(super) fn random_cases(candidate: &Candidate) -> Result<(), String> {
    let cases_wanted = match std::env::var("XENT_SPEC_CASES") {
        Ok(text) => {
            text.parse().map_err(|error| format!("XENT_SPEC_CASES is {text:?}: {error}"))?
        }
        Err(_) => CASES,
    };
    let config = Config {
        cases: cases_wanted,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let supported = Cell::new(0);
    let outcome = runner.run(&cases(), |case| {
        supported.set(supported.get() + u32::from(candidate.supports(&case)));
        judge(candidate, &case).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) if f64::from(supported.get()) < LEAST_SUPPORT * f64::from(cases_wanted) => {
            Err(format!(
                "supports {} of {cases_wanted} random cases: too few to be judged by",
                supported.get()
            ))
        }
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, case)) => {
            let mut json = serde_json::to_string(&case).map_err(|error| error.to_string())?;
            if json.len() > 4000 {
                json.truncate(
                    (0..=4000).rev().find(|&end| json.is_char_boundary(end)).unwrap_or(0),
                );
                json.push('…');
            }
            Err(format!("{why}\nthe simplest such case: {json}"))
        }
        Err(TestError::Abort(why)) => Err(why.to_string()),
    }
}
