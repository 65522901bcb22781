//! Both paths judged by the textbook, through burn's own backward pass: xent's engine, and burn's
//! operations forced onto the CPU.

mod subject;

mod engine {
    use xent_spec::{Answer, Case, Subject};

    struct Engine;

    impl Subject for Engine {
        const NAME: &'static str = "xent-burn with xent's engine";

        fn supports(case: &Case) -> bool {
            super::subject::supports(case)
        }

        fn run(case: &Case) -> Result<Answer, String> {
            super::subject::run(case, &burn::tensor::Device::flex(), false)
        }
    }

    xent_spec::conformance!(Engine);
}

mod composed {
    use xent_spec::{Answer, Case, Subject};

    struct Composed;

    impl Subject for Composed {
        const NAME: &'static str = "xent-burn with burn's operations";

        fn supports(case: &Case) -> bool {
            super::subject::supports(case)
        }

        fn run(case: &Case) -> Result<Answer, String> {
            super::subject::run(case, &burn::tensor::Device::flex(), true)
        }
    }

    xent_spec::conformance!(Composed);
}
