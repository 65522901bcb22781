//! A batch of token sequences with padding and weights per row, as one part of a larger batch.
//!
//!     cargo run --release -p xent-candle --example padded_tokens

use candle_core::{Device, Result, Tensor, Var};
use xent_candle::CrossEntropy;
use xent_candle::xent::{Config, Prior};

const PADDING: usize = 0;

fn main() -> Result<()> {
    let device = &Device::Cpu;
    // No mass is smoothed onto the padding token, and rows whose target it is are ignored.
    let criterion = CrossEntropy::new(
        Config::new()
            .label_smoothing(0.1)
            .prior(Prior::Excluding(vec![PADDING]))
            .ignore_index(PADDING as i64),
    )?;

    // [2 sequences, 3 tokens, 4 words]
    let logits = Var::new(
        &[
            [[0f32, 2.0, 1.0, 0.0], [0.0, 1.0, 3.0, 1.0], [9.0, 9.0, 9.0, 9.0]],
            [
                [0.0, 1.0, 1.0, 4.0],
                [f32::NAN, f32::NAN, f32::NAN, f32::NAN],
                [f32::NAN, f32::NAN, f32::NAN, f32::NAN],
            ],
        ],
        device,
    )?;
    let targets = Tensor::new(&[[1u32, 2, 0], [3, 0, 0]], device)?;
    let weights = Tensor::new(&[[1f32, 1.0, 1.0], [0.5, 0.5, 0.5]], device)?;
    // Three tokens here, five on another device.
    let (loss, output) = criterion
        .on(&logits, &targets)
        .row_weights(&weights)
        .denominator(8.0)
        .forward_with_output()?;

    println!(
        "loss {:.6}: the sum over the kept rows, over {}",
        loss.to_scalar::<f32>()?,
        output.denominator
    );
    println!(
        "{} rows ignored, {} of the others correct, {} with a loss that is not finite",
        output.ignored, output.correct, output.non_finite
    );
    let gradients = loss.backward()?;
    if let Some(gradient) = gradients.get(&logits) {
        println!("gradient\n{gradient}");
    }
    Ok(())
}
