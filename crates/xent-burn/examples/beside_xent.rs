//! The overhead of burn's graph: loss and gradient of f32 logits by `loss.backward()`, compared
//! with xent's own call on the same numbers and with burn's own loss.
//!
//!     cargo run --release -p xent-burn --example beside_xent

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use xent_burn::CrossEntropyConfig;
use xent_burn::xent::{Config, Rows, RowsMut};

const ROUNDS: usize = 15;
const ENTRIES: usize = 1 << 24;

fn main() {
    let device = Device::flex().autodiff();
    let criterion = CrossEntropyConfig::new(Config::new().label_smoothing(0.1)).init();
    let burns = CrossEntropyLossConfig::new().with_smoothing(Some(0.1)).init(&device);
    let plain = Config::new().label_smoothing(0.1).build().expect("ε is in [0, 1]");
    println!("medians of {ROUNDS} turns, in ms; loss and gradient of {ENTRIES} f32 logits");
    println!(
        "     K   xent  xent, new memory  xent-burn  burn's own   xent-burn/xent   burn/xent-burn"
    );
    for classes in [100, 1000, 32_000, 128_256] {
        let rows = ENTRIES / classes;
        let logits = Tensor::<2>::random(
            [rows, classes],
            Distribution::Normal(0.0, 2.0),
            &device.clone().inner(),
        );
        let numbers: Vec<f32> = logits.to_data().iter().collect();
        let labels: Vec<i64> = (0..rows).map(|row| (row * 31 % classes) as i64).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [rows]), &device);
        let variable = logits.autodiff().require_grad();
        let mut kept = vec![0f32; rows * classes];

        let call = |gradient: &mut [f32]| {
            let rows_of = Rows::new(&numbers, classes).expect("the numbers fill the shape");
            let mut gradient =
                RowsMut::new(gradient, classes).expect("the gradient fills the shape");
            black_box(
                plain
                    .forward_backward(&rows_of, &labels, 1.0, &mut gradient)
                    .expect("labels are classes"),
            );
        };
        let mut turns: [Vec<Duration>; 4] = Default::default();
        for round in 0..ROUNDS + 2 {
            let timed = [
                timed(|| call(&mut kept)),
                timed(|| call(black_box(&mut vec![0f32; rows * classes]))),
                timed(|| {
                    drop(black_box(
                        variable
                            .grad(&criterion.forward(variable.clone(), targets.clone()).backward()),
                    ))
                }),
                timed(|| {
                    drop(black_box(
                        variable.grad(&burns.forward(variable.clone(), targets.clone()).backward()),
                    ))
                }),
            ];
            if round >= 2 {
                turns.iter_mut().zip(timed).for_each(|(turns, turn)| turns.push(turn));
            }
        }
        let [xent, new, ours, theirs] = turns.map(|mut turns| {
            turns.sort();
            turns[ROUNDS / 2].as_secs_f64() * 1e3
        });
        println!(
            "{classes:6} {xent:6.1} {new:17.1} {ours:10.1} {theirs:11.1} {:16.2} {:16.1}",
            ours / xent,
            theirs / ours
        );
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
