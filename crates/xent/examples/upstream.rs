//! An upstream gradient by row: the objective is not the mean over tokens, but the mean over
//! sequences of each sequence's mean, so that a short sequence counts as much as a long one.

use xent::{Config, Reduction, Rows, RowsMut};

const CLASSES: usize = 4;

pub(crate) fn main() -> xent::Result<()> {
    // Three sequences of 1, 2 and 5 tokens, one after another.
    let lengths = [1, 2, 5];
    let logits: Vec<f64> = (0..8 * CLASSES).map(|i| (i * 7 % 11) as f64 / 4.0).collect();
    let targets = [0u16, 3, 1, 2, 0, 1, 3, 2];
    let criterion = Config::new().label_smoothing(0.1).reduction(Reduction::None).build()?;

    // What the objective makes of each row's loss is linear, and these are its slopes.
    let slopes: Vec<f64> =
        lengths.iter().flat_map(|&len| vec![1.0 / (len * lengths.len()) as f64; len]).collect();
    let objective = |logits: &[f64]| -> xent::Result<f64> {
        let losses = criterion.forward(&Rows::new(logits, CLASSES)?, &targets)?.loss;
        Ok(losses.iter().zip(&slopes).map(|(loss, slope)| loss * slope).sum())
    };

    let mut gradient = vec![0.0; logits.len()];
    let output = criterion.forward_backward(
        &Rows::new(&logits, CLASSES)?,
        &targets,
        &slopes,
        &mut RowsMut::new(&mut gradient, CLASSES)?,
    )?;
    println!("losses of the rows {:.3}", output.loss);
    println!("mean over sequences {:.4}", objective(&logits)?);
    println!("gradient of the first row {:.4?}", &gradient[..CLASSES]);

    // It is the derivative of the objective: compare with a difference quotient at every logit.
    for place in 0..logits.len() {
        let (mut above, mut below) = (logits.clone(), logits.clone());
        (above[place], below[place]) = (logits[place] + 1e-5, logits[place] - 1e-5);
        let quotient = (objective(&above)? - objective(&below)?) / 2e-5;
        assert!((gradient[place] - quotient).abs() < 1e-9, "logit {place}");
    }
    Ok(())
}
