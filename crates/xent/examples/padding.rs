//! Padding, class weights, and what a mean divides by.

use xent::{Batch, Config, Denominator, Rows};

pub(crate) fn main() -> xent::Result<()> {
    // Five tokens, of which the last two are padding. Nobody reads what the model says there.
    let nan = f32::NAN;
    let logits = [2.0, -1.0, 0.5, 0.0, 1.0, -2.0, 0.0, 0.0, 3.0, nan, nan, nan, 7.0f32, 7.0, 7.0];
    let targets = [0i64, 1, 2, -100, -100];
    let logits = Rows::new(&logits, 3)?;

    let weights = [1.0, 4.0, 1.0]; // the second class is rare
    let weighted = || Config::new().label_smoothing(0.1).class_weights(&weights).ignore_index(-100);

    let criterion = weighted().build()?;
    let (output, gradient) = criterion.loss_and_gradient(&logits, &targets)?;
    println!("divided by the weights of the kept rows: {:.4}", output.loss);
    assert_eq!((output.rows, output.ignored, output.denominator), (5, 2, 1.0 + 4.0 + 1.0));
    assert_eq!(gradient[9..], [0.0; 6]); // exactly, although the logits are NaN

    let sum = output.loss.into_vec()[0] * 6.0;
    for (words, denominator, divisor) in
        [("the kept rows", Denominator::KeptRows, 3.0), ("all rows", Denominator::Rows, 5.0)]
    {
        let output = weighted().denominator(denominator).build()?.forward(&logits, &targets)?;
        println!("divided by {words}: {:.4}", output.loss);
        assert!((output.loss.into_vec()[0] - sum / divisor).abs() < 1e-6);
    }

    // A number that the caller counted, for example the tokens of all micro-batches or devices.
    let output = criterion.forward(&logits, Batch::new(&targets).denominator(48.0))?;
    println!("divided by a number of the caller's: {:.4}", output.loss);
    assert!((output.loss.into_vec()[0] - sum / 48.0).abs() < 1e-6);

    // A batch of padding alone has no mean. The default is NaN, as in PyTorch.
    let padding = [-100i64; 5];
    assert!(criterion.forward(&logits, &padding)?.loss.into_vec()[0].is_nan());
    let zero = weighted().empty_mean(xent::EmptyMean::Zero).build()?;
    println!("only padding: {} with EmptyMean::Zero", zero.forward(&logits, &padding)?.loss);
    assert_eq!(zero.forward(&logits, &padding)?.loss.into_vec(), [0.0]);
    Ok(())
}
