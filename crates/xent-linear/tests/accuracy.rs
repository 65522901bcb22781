//! f32 against f64 at the width of a language model: the largest error over the largest entry.

mod reference;

use reference::{Layer, distance, narrow};
use xent::{Batch, Config, bf16};
use xent_linear::{Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};

#[test]
fn f32_is_as_exact_as_its_sums() {
    for (rows, features, classes) in [(48, 1024, 1500), (600, 256, 64)] {
        // Numbers that bf16 has, so that halves differ from f32 by their rounding alone.
        let layer = Layer::new::<bf16>(rows, features, classes, false, 17);
        let targets: Vec<i64> = (0..rows)
            .map(|row| if row % 10 < 4 { -100 } else { (row * 7919 % classes) as i64 })
            .collect();
        for epsilon in [0.0, 0.1] {
            let config = Config::new().label_smoothing(epsilon).ignore_index(-100);
            let criterion = config.build().unwrap();
            let expected = layer.expected(&criterion, Batch::new(&targets), 1.0.into()).unwrap();
            let (hidden, weight): (Vec<f32>, Vec<f32>) =
                (narrow(&layer.hidden), narrow(&layer.weight));
            let matrix = |data| Matrix::new(data, features).unwrap();
            let linear = Linear::new(matrix(&hidden), matrix(&weight)).unwrap();
            let (mut to_hidden, mut to_weight) =
                (vec![f32::NAN; hidden.len()], vec![f32::NAN; weight.len()]);
            let into = Gradients {
                hidden: Some(MatrixMut::new(&mut to_hidden, features).unwrap()),
                weight: Some(MatrixMut::new(&mut to_weight, features).unwrap()),
                bias: None,
            };
            let workspace = &mut Workspace::default();
            let output =
                criterion.linear_forward_backward(&linear, &targets, 1.0, into, workspace).unwrap();
            let loss = distance(output.loss.as_slice(), expected.output.loss.as_slice(), 0.0);
            let hidden = distance(&to_hidden, &expected.hidden, 0.0);
            let weight = distance(&to_weight, &expected.weight, 0.0);
            assert!(loss <= 1e-6, "the loss is {loss:e} away");
            assert!(hidden <= 2e-6, "∂H is {hidden:e} away");
            assert!(weight <= 2e-6, "∂W is {weight:e} away");
        }
    }
}
