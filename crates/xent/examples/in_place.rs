//! The gradient written over the logits: with a large vocabulary, the logits are the largest array
//! in memory, and no second one of their size is needed.

use xent::{Config, Rows, RowsMut, bf16};

const CLASSES: usize = 32_000;
const TOKENS: usize = 16;

pub(crate) fn main() -> xent::Result<()> {
    let mut logits: Vec<bf16> = (0..TOKENS * CLASSES)
        .map(|i| bf16::from_f32((i * 7919 % 1009) as f32 / 100.0 - 5.0))
        .collect();
    let targets: Vec<u32> = (0..TOKENS as u32).map(|token| token * 1999).collect();
    let criterion = Config::new().label_smoothing(0.1).z_loss(1e-4).build()?;

    let (expected, separate) =
        criterion.loss_and_gradient(&Rows::new(&logits, CLASSES)?, &targets)?;

    let megabytes = (size_of_val(&logits[..]) as f64) / 1e6;
    let output = criterion.forward_backward_in_place(
        &mut RowsMut::new(&mut logits, CLASSES)?,
        &targets,
        1.0,
    )?;
    println!("loss {:.4}, of which z-loss {:.4}", output.loss, output.z_loss);
    println!("{megabytes} MB of logits, which are ∂loss/∂logits now; nothing else of that size");

    // To the last bit what a separate buffer would hold.
    assert_eq!((output, logits), (expected, separate));
    Ok(())
}
