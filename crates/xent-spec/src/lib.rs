//! The textbook in f64 that judges every backend of xent.
#![forbid(unsafe_code)]

mod budget;
mod case;
mod conformance;
mod dtype;
mod families;
mod generate;
mod golden;
mod number;
mod refuse;
mod sum;
mod textbook;
pub mod translate;

pub use budget::{Mismatch, Rounding, compare, compare_rounding, unit};
pub use case::{Allowed, Answer, Case, ClassWeighting, Denominator, EmptyMean, Form, Layout, Masked, Prior, Reduction, RowValue, Targets, Upstream};
pub use conformance::{CHECKS, Candidate, Check, Subject, Textbook, run_check};
pub use dtype::{Dtype, IndexDtype};
pub use families::{CLASSES, FAMILIES, Family, sweep_case};
pub use generate::cases;
pub use golden::{GOLDEN, Golden};
pub use refuse::Refusal;
pub use textbook::evaluate;
