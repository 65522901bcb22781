//! The backend of `examples/backend.rs`, which is written from the rules alone, under the
//! conformance suite.

#[path = "../examples/backend.rs"]
mod backend;

use xent_spec::translate::{Call, answer};
use xent_spec::{Answer, Case, Dtype, Subject};

struct Example;

impl Subject for Example {
    const NAME: &'static str = "examples/backend.rs";

    fn supports(case: &Case) -> bool {
        case.dtype == Dtype::F64
    }

    fn run(case: &Case) -> Result<Answer, String> {
        let (rows, classes) = (case.row_count(), case.class_count());
        let logits: Vec<f64> = (0..rows).flat_map(|row| case.row(row)).collect();
        let call = Call::new(case).map_err(|error| error.to_string())?;
        let (output, gradient) = backend::forward_backward(
            &call.criterion,
            &logits,
            classes,
            &call.batch().map_err(|error| error.to_string())?,
            &call.upstream(),
        )
        .map_err(|error| error.to_string())?;
        let mut grad = vec![0.0; gradient.len()];
        for row in 0..rows {
            (0..classes).for_each(|class| {
                grad[case.position(row, class)] = gradient[row * classes + class]
            });
        }
        Ok(answer(&output, grad))
    }
}

xent_spec::conformance!(Example);
