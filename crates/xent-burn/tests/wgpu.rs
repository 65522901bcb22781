//! burn's operations on a graphics device, judged by the textbook: `crates/xent-burn/wgpu/run`.

#![cfg(feature = "wgpu")]

mod subject;

use burn::tensor::{Device, DeviceKind};
use xent_spec::{Answer, Case, Dtype, Subject};

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
        subject::run(case, &device(), false)
    }
}

xent_spec::conformance!(Wgpu);
