//! What every backend has to pass.

mod known;

use crate::budget::Rounding;
use crate::case::{Answer, Case};
use crate::textbook::evaluate;

/// A backend under judgement.
pub trait Subject {
    /// Its name in failure messages.
    const NAME: &'static str;

    /// How often its half-precision gradients are rounded.
    const ROUNDING: Rounding = Rounding::Once;

    /// Whether it offers what the case asks for. Cases that it does not are left out.
    fn supports(_case: &Case) -> bool {
        true
    }

    /// Its answer: losses as reported, gradient entries as stored.
    ///
    /// # Errors
    ///
    /// What the backend says of a case that it refuses.
    fn run(case: &Case) -> Result<Answer, String>;
}

/// A subject as a value, so that checks are ordinary functions.
pub struct Candidate {
    /// Its name in failure messages.
    pub name: String,
    pub(crate) rounding: Rounding,
    supports: fn(&Case) -> bool,
    run: fn(&Case) -> Result<Answer, String>,
}

impl Candidate {
    /// The candidate for a subject.
    pub fn of<S: Subject>() -> Candidate {
        Candidate { name: S::NAME.into(), rounding: S::ROUNDING, supports: S::supports, run: S::run }
    }

    pub(crate) fn supports(&self, case: &Case) -> bool {
        (self.supports)(case)
    }

    pub(crate) fn run(&self, case: &Case) -> Result<Answer, String> {
        (self.run)(case)
    }
}

/// The textbook itself, with losses and gradient rounded to the formats that a backend reports them in (S11).
pub struct Textbook;

impl Subject for Textbook {
    const NAME: &'static str = "textbook";

    fn run(case: &Case) -> Result<Answer, String> {
        evaluate(case).map(|answer| answer.reported(case.dtype)).map_err(|refusal| refusal.to_string())
    }
}

/// One check: `Ok`, or what was wrong.
pub type Check = fn(&Candidate) -> Result<(), String>;

/// Makes the table of checks, and the macro with a test for each, from one list. `$d` is a dollar sign.
macro_rules! checks {
    (($d:tt) $($name:ident: $check:path,)*) => {
        /// Every check with its name, the quickest first.
        pub const CHECKS: &[(&str, Check)] = &[$((stringify!($name), $check)),*];

        /// Expands to a module `conformance` with one test a check, for a type that implements [`Subject`](crate::Subject).
        #[macro_export]
        macro_rules! conformance {
            ($d subject:ty) => {
                mod conformance {
                    #[allow(unused_imports)]
                    use super::*;
                    $(
                        #[test]
                        fn $name() -> Result<(), String> {
                            $d crate::run_check(stringify!($name), &$d crate::Candidate::of::<$d subject>())
                        }
                    )*
                }
            };
        }
    };
}

checks! { ($)
    known_answers: known::known_answers,
}

/// Runs the check of [`CHECKS`] with this name.
///
/// # Errors
///
/// What was wrong, or that there is no such check.
pub fn run_check(name: &str, candidate: &Candidate) -> Result<(), String> {
    let (_, check) = CHECKS.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("no check is called {name:?}"))?;
    check(candidate).map_err(|why| format!("{}: {why}", candidate.name))
}
