//! The CPU engine judged by the textbook, on every instruction set, through every way of calling
//! it.

mod common;

use xent::Instructions;
use xent_spec::{Answer, Case, Subject, conformance};

/// What users get: the best instruction set, without naming it.
mod best {
    use super::*;

    struct Best;

    impl Subject for Best {
        const NAME: &'static str = "xent on the CPU";

        fn run(case: &Case) -> Result<Answer, String> {
            common::run(case, None)
        }
    }

    conformance!(Best);
}

macro_rules! on {
    ($module:ident, $instructions:expr) => {
        mod $module {
            use super::*;

            struct On;

            impl Subject for On {
                const NAME: &'static str = concat!("xent on the CPU, ", stringify!($module));

                fn skipped() -> Option<&'static str> {
                    match Instructions::available().iter().position(|set| *set == $instructions) {
                        Some(0) => Some("it is the best one here, which is judged already"),
                        Some(_) => None,
                        None => Some("this processor does not have it"),
                    }
                }

                fn run(case: &Case) -> Result<Answer, String> {
                    common::run(case, Some($instructions))
                }
            }

            conformance!(On);
        }
    };
}
on!(portable, Instructions::Portable);
on!(avx2, Instructions::Avx2);
on!(avx512, Instructions::Avx512);
