//! Trains a small network with label smoothing on points around a ring, one in ten of them
//! mislabelled.
//!
//!     cargo run --release -p xent-candle --example train
//!
//! The loss cannot fall below its floor, the entropy of the smoothed labels; the nll can be
//! compared with that of a run with any other ε.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xent_candle::{CrossEntropy, xent};

const CLASSES: usize = 5;
const ROWS: usize = 1000;
const HIDDEN: usize = 32;

fn main() -> Result<()> {
    // candle's random numbers cannot be seeded on a CPU.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (features, labels) = ring(&mut rng)?;
    let layers = [layer(&mut rng, 2, HIDDEN)?, layer(&mut rng, HIDDEN, CLASSES)?];
    let variables =
        layers.iter().flat_map(|(weight, bias)| [weight.clone(), bias.clone()]).collect();
    let mut optimizer = AdamW::new(
        variables,
        ParamsAdamW { lr: 0.02, weight_decay: 0.0, ..ParamsAdamW::default() },
    )?;
    let criterion = CrossEntropy::new(xent::Config::new().label_smoothing(0.1))?;

    println!("step    loss   floor     nll  accuracy  mean p(label)");
    for step in 0..=200 {
        let logits = network(&layers, &features)?;
        let (loss, output) = criterion.on(&logits, &labels).forward_with_output()?;
        if step % 20 == 0 {
            let probability = candle_nn::ops::softmax(&logits, D::Minus1)?
                .gather(&labels.unsqueeze(1)?, 1)?
                .mean_all()?
                .to_scalar::<f32>()?;
            let accuracy = output.accuracy();
            println!(
                "{step:4}  {:.4}  {:.4}  {:.4}  {accuracy:8.3}  {probability:13.3}",
                output.loss, output.floor, output.nll
            );
        }
        optimizer.backward_step(&loss)?;
    }
    Ok(())
}

/// Points on the unit circle with some noise; the class is the sector, except for one label in ten.
fn ring(rng: &mut ChaCha8Rng) -> Result<(Tensor, Tensor)> {
    let (mut features, mut labels) = (Vec::with_capacity(2 * ROWS), Vec::with_capacity(ROWS));
    for _ in 0..ROWS {
        let turn = rng.random_range(0f32..1.0);
        let mut noise = || rng.random_range(-0.1f32..0.1);
        let angle = std::f32::consts::TAU * turn;
        features.extend([angle.cos() + noise(), angle.sin() + noise()]);
        let sector = (turn * CLASSES as f32) as u32;
        labels.push(if rng.random_bool(0.1) {
            rng.random_range(0..CLASSES as u32)
        } else {
            sector
        });
    }
    Ok((
        Tensor::from_vec(features, (ROWS, 2), &Device::Cpu)?,
        Tensor::from_vec(labels, ROWS, &Device::Cpu)?,
    ))
}

fn layer(rng: &mut ChaCha8Rng, from: usize, to: usize) -> Result<(Var, Var)> {
    let bound = 1.0 / (from as f32).sqrt();
    let weight = (0..to * from).map(|_| rng.random_range(-bound..bound)).collect();
    Ok((
        Var::from_vec(weight, (to, from), &Device::Cpu)?,
        Var::zeros(to, DType::F32, &Device::Cpu)?,
    ))
}

fn network(layers: &[(Var, Var); 2], features: &Tensor) -> Result<Tensor> {
    let linear = |(weight, bias): &(Var, Var), x: &Tensor| {
        Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone())).forward(x)
    };
    linear(&layers[1], &linear(&layers[0], features)?.relu()?)
}
