//! What every backend has to pass.

mod golden;
mod hostile;
mod identities;
mod invariance;
mod known;
mod random;
mod sweep;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::answer::Answer;
use crate::case::Case;
use crate::compare::compare_rows;
use crate::textbook::{self, evaluate};

/// A backend under judgement.
pub trait Subject {
    /// Its name in failure messages.
    const NAME: &'static str;

    /// Whether it offers what the case asks for. Cases that it does not are left out.
    fn supports(_case: &Case) -> bool {
        true
    }

    /// Why there is nothing to judge on this machine, if so: its checks print that, and pass.
    fn skipped() -> Option<&'static str> {
        None
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
    skipped: Option<&'static str>,
    supports: fn(&Case) -> bool,
    run: Box<Run>,
}

type Run = dyn Fn(&Case) -> Result<Answer, String>;

impl Candidate {
    /// The candidate for a subject.
    pub fn of<S: Subject + 'static>() -> Candidate {
        Candidate {
            name: S::NAME.into(),
            skipped: S::skipped(),
            supports: S::supports,
            run: Box::new(S::run),
        }
    }

    /// A candidate that supports every case.
    pub(crate) fn new(
        name: &str,
        run: impl Fn(&Case) -> Result<Answer, String> + 'static,
    ) -> Candidate {
        Candidate { name: name.into(), skipped: None, supports: |_| true, run: Box::new(run) }
    }

    pub(crate) fn supports(&self, case: &Case) -> bool {
        (self.supports)(case)
    }

    pub(crate) fn run(&self, case: &Case) -> Result<Answer, String> {
        (self.run)(case)
    }
}

/// The textbook itself, with losses and gradient rounded to the formats that a backend reports them
/// in (S11).
pub struct Textbook;

impl Subject for Textbook {
    const NAME: &'static str = "textbook";

    fn run(case: &Case) -> Result<Answer, String> {
        evaluate(case)
            .map(|answer| answer.reported(case.dtype))
            .map_err(|refusal| refusal.to_string())
    }
}

/// One check: `Ok`, or what was wrong.
pub type Check = fn(&Candidate) -> Result<(), String>;

/// Makes the table of checks, and the macro with a test for each, from one list. `$d` is a dollar
/// sign.
macro_rules! checks {
    (($d:tt) $($name:ident: $check:path,)*) => {
        /// Every check with its name, the quickest first.
        pub const CHECKS: &[(&str, Check)] = &[$((stringify!($name), $check)),*];

        /// Expands to a module `conformance` with one test a check, for a type that implements
        /// [`Subject`](crate::Subject).
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
    golden: golden::golden,
    shift_invariance: identities::shift_invariance,
    parts_and_bounds: identities::parts_and_bounds,
    wrong_classes_are_a_rescaled_uniform: identities::wrong_classes_are_a_rescaled_uniform,
    smoothing_composes: identities::smoothing_composes,
    targets_agree: identities::targets_agree,
    two_labels_are_linear: identities::two_labels_are_linear,
    class_order_is_free: identities::class_order_is_free,
    logit_gap_is_the_optimum: identities::logit_gap_is_the_optimum,
    finite_differences: identities::finite_differences,
    hessian_is_symmetric: identities::hessian_is_symmetric,
    refuses_bad_input: hostile::refuses_bad_input,
    bad_logits_stay_in_their_row: hostile::bad_logits_stay_in_their_row,
    masked_classes_at_every_position: hostile::masked_classes_at_every_position,
    masked_targets: hostile::masked_targets,
    ignored_rows_are_never_read: hostile::ignored_rows_are_never_read,
    empty_batches: hostile::empty_batches,
    one_class: hostile::one_class,
    upstream: invariance::upstream,
    any_label_dtype: invariance::any_label_dtype,
    any_layout: invariance::any_layout,
    random_cases: random::random_cases,
    any_offset: invariance::any_offset,
    row_alone: invariance::row_alone,
    halves_lose_nothing: sweep::halves_lose_nothing,
    many_rows: sweep::many_rows,
    accuracy_f64: sweep::accuracy_f64,
    accuracy_f32: sweep::accuracy_f32,
    accuracy_f16: sweep::accuracy_f16,
    accuracy_bf16: sweep::accuracy_bf16,
}

/// Runs the check of [`CHECKS`] with this name.
///
/// # Errors
///
/// What was wrong, or that there is no such check.
pub fn run_check(name: &str, candidate: &Candidate) -> Result<(), String> {
    let (_, check) = CHECKS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("no check is called {name:?}"))?;
    if let Some(why) = candidate.skipped {
        println!("{}: skipped, {why}", candidate.name);
        return Ok(());
    }
    check(candidate).map_err(|why| format!("{}: {why}", candidate.name))
}

/// The answer to a case that must have one.
fn run(candidate: &Candidate, case: &Case) -> Result<Answer, String> {
    candidate.run(case).map_err(|why| format!("case {:?} was refused: {why}", case.name))
}

/// The answer to a case, if the candidate offers what it asks for.
fn ask(candidate: &Candidate, case: &Case) -> Result<Option<Answer>, String> {
    if candidate.supports(case) { run(candidate, case).map(Some) } else { Ok(None) }
}

/// The candidate's answer, or refusal, against the textbook's.
fn judge(candidate: &Candidate, case: &Case) -> Result<(), String> {
    if !candidate.supports(case) {
        return Ok(());
    }
    match (textbook::rows(case), candidate.run(case)) {
        (Err(_), Err(_)) => Ok(()),
        (Err(why), Ok(_)) => {
            Err(format!("case {:?} is accepted, expected a refusal: {why}", case.name))
        }
        (Ok(_), Err(why)) => Err(format!("case {:?} was refused: {why}", case.name)),
        (Ok(rows), Ok(got)) => {
            let expected = textbook::answer(case, &rows);
            compare_rows(case, rows, &expected, &got).map_err(|mismatch| mismatch.to_string())
        }
    }
}

fn equal_bits(what: &str, got: &[f64], expected: &[f64]) -> Result<(), String> {
    if got.len() != expected.len() {
        return Err(format!("{what}: {} values, expected {}", got.len(), expected.len()));
    }
    match got.iter().zip(expected).position(|(got, expected)| got.to_bits() != expected.to_bits()) {
        Some(index) => Err(format!(
            "{what}, value {index}: got {:e}, expected the bits of {:e}",
            got[index], expected[index]
        )),
        None => Ok(()),
    }
}

/// The random numbers of a check's own cases.
fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}
