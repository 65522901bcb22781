//! The textbook in f64 that judges every backend of xent.
//!
//! - [`Case`]: one call of the loss as plain data; [`Answer`]: what comes out. Neither knows xent's
//!   types, and JSON reads and writes both.
//! - [`evaluate`]: SEMANTICS.md in f64, dense and slow, sharing no arithmetic with any backend.
//! - [`compare`]: whether an answer is near enough, by bars that are derived in `budget.rs`.
//! - [`cases`], [`sweep_case`]: random cases over every option, and rows that are hard in a known
//!   way.
//! - [`GOLDEN`]: answers of PyTorch, to judge the textbook itself by; `golden/make_golden.py` wrote
//!   them.
//! - [`conformance!`]: all checks as tests, for a type that implements [`Subject`].
//! - [`MUTANTS`]: answers that are wrong on purpose, which the checks have to catch.
//! - [`translate`]: from a case to xent's own types.
//!
//! # Judging a backend
//!
//! Implement [`Subject`]: turn the case into a call, and what comes back into an [`Answer`]. Cases
//! that the backend has no words for are left out by [`Subject::supports`]; a suite that leaves out
//! too many fails. Nothing else is left out: what the backend refuses must be what the textbook
//! refuses.
//!
//! ```
//! use xent_spec::{Answer, Case, Form, Subject, evaluate};
//!
//! struct Mine;
//!
//! impl Subject for Mine {
//!     const NAME: &'static str = "mine";
//!
//!     fn supports(case: &Case) -> bool {
//!         case.form == Form::CrossEntropy
//!     }
//!
//!     fn run(case: &Case) -> Result<Answer, String> {
//!         // Here the textbook stands in for the backend under test.
//!         evaluate(case).map(|answer| answer.reported(case.dtype)).map_err(|refusal| refusal.to_string())
//!     }
//! }
//!
//! xent_spec::conformance!(Mine); // A module `conformance` with one #[test] a check.
//!
//! # xent_spec::run_check("known_answers", &xent_spec::Candidate::of::<Mine>()).unwrap();
//! ```
//!
//! Losses and lse are to be given as reported (f32 for all but f64), the gradient as stored, in C
//! order of the case's shape, and the logits are to be laid out as [`Case::layout`] says. A failure
//! names case, row, class, what came, what was expected and the bar. Random cases are the same in
//! every run; `XENT_SPEC_CASES=100000` tries more.
#![forbid(unsafe_code)]

mod answer;
mod budget;
mod case;
mod compare;
mod conformance;
mod dtype;
mod families;
mod generate;
mod golden;
#[cfg(doctest)]
mod guide;
mod layout;
mod mutants;
mod number;
mod refuse;
mod sum;
mod textbook;
pub mod translate;

pub use answer::Answer;
pub use budget::unit;
pub use case::{
    Allowed, Case, ClassWeighting, Denominator, EmptyMean, Form, Masked, Prior, Reduction,
    RowValue, Targets, Upstream,
};
pub use compare::{Mismatch, compare};
pub use conformance::{CHECKS, Candidate, Check, Subject, Textbook, run_check};
pub use dtype::{Dtype, IndexDtype};
pub use families::{CLASSES, FAMILIES, Family, sweep_case};
pub use generate::cases;
pub use golden::{GOLDEN, Golden};
pub use layout::Layout;
pub use mutants::{MUTANTS, Mutant};
pub use refuse::Refusal;
pub use textbook::evaluate;
