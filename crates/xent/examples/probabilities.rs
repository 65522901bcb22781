//! Probabilities as targets: several raters' votes, a teacher's softmax, or any other distribution.

use xent::{Batch, Config, Form, Reduction, Rows};

pub(crate) fn main() -> xent::Result<()> {
    // Three images of 4 classes, and what five raters said of the first two.
    let logits = [2.0f64, 0.0, 1.0, -1.0, 0.5, 0.5, 0.0, 3.0, 1.0, 1.0, 1.0, 1.0];
    let votes = [0.8, 0.0, 0.2, 0.0, 0.0, 0.2, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0];
    let (logits, votes) = (Rows::new(&logits, 4)?, Rows::new(&votes, 4)?);

    // A distribution has no class index, so a mask marks the rows without votes.
    let batch = || Batch::new(&votes).ignored_rows(&[false, false, true]);
    let output = Config::new().build()?.forward(&logits, batch())?;
    println!(
        "cross-entropy {:.4}, of which the raters' disagreement {:.4}",
        output.loss, output.floor
    );
    assert_eq!((output.ignored, output.denominator), (1, 2.0));

    // The divergence subtracts that disagreement: it is 0 where the model says what the raters say.
    let divergence = Config::new().form(Form::KlDivergence).build()?;
    let kl = divergence.forward(&logits, batch())?;
    println!("KL divergence {:.4}", kl.loss);
    let difference = output.loss.into_vec()[0] - output.floor.into_vec()[0];
    assert!((kl.loss.into_vec()[0] - difference).abs() < 1e-12);

    let shares = [0.5f64, 0.25, 0.125, 0.125];
    let agreeing = shares.map(f64::ln);
    let (agreeing, shares) = (Rows::new(&agreeing, 4)?, Rows::new(&shares, 4)?);
    let (kl, gradient) = divergence.loss_and_gradient(&agreeing, &shares)?;
    let kl = kl.loss.as_slice()[0];
    println!("KL divergence of a model that agrees {kl:.1e}, which is rounding");
    assert!(kl.abs() < 1e-15 && gradient.iter().all(|g| g.abs() < 1e-15));

    // Label smoothing is such a target, too. With class indices it needs no vectors:
    let smoothed = [0.925, 0.025, 0.025, 0.025, 0.025, 0.025, 0.025, 0.925, 0.25, 0.25, 0.25, 0.25];
    let smoothed = Rows::new(&smoothed, 4)?;
    let rows = Config::new().reduction(Reduction::None);
    let dense = rows.clone().build()?.forward(&logits, &smoothed)?.loss.into_vec();
    let hard = rows.label_smoothing(0.1).build()?.forward(&logits, &[0u8, 3, 0])?.loss.into_vec();
    println!("row by row: {:.4} with vectors, {:.4} with class indices", dense[0], hard[0]);
    assert!((dense[0] - hard[0]).abs() < 1e-12 && (dense[1] - hard[1]).abs() < 1e-12);
    Ok(())
}
