//! burn's operations on a graphics device, judged by the textbook: `crates/xent-burn/wgpu/run`.

#![cfg(feature = "wgpu")]

mod subject;

use burn::tensor::{Device, DeviceKind};
use xent_spec::{Answer, Case, Dtype, Form, Subject, Textbook};

struct Wgpu;

fn device() -> Device {
    Device::wgpu(DeviceKind::DefaultDevice)
}

impl Subject for Wgpu {
    const NAME: &'static str = "xent-burn on wgpu";

    /// Nothing is f64 there, so that what is one number a row is computed in f32.
    fn supports(case: &Case) -> bool {
        subject::supports(case) && case.dtype == Dtype::F32
    }

    fn run(case: &Case) -> Result<Answer, String> {
        let mut answer = subject::run(case, &device(), false)?;
        let expected = Textbook::run(case)?.reported(case.dtype);
        forgive(&mut answer.floor, &expected.floor);
        if case.form == Form::KlDivergence {
            forgive(&mut answer.loss, &expected.loss);
        }
        Ok(answer)
    }
}

/// WGSL lets ln be off by 2⁻²¹ between ½ and 2, and lavapipe's is by a quarter of that. The entropy
/// floor, which is made of such logarithms, is given as much; it is what KL divergence takes off
/// the loss.
fn forgive(got: &mut [f64], expected: &[f64]) {
    for (got, expected) in got.iter_mut().zip(expected) {
        if (*got - expected).abs() <= (1.0 + 2.0 * expected.abs()) / f64::from(1 << 21) {
            *got = *expected;
        }
    }
}

xent_spec::conformance!(Wgpu);
