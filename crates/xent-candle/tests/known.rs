//! The answers that SEMANTICS.md lists, on both paths.

use candle_core::{Device, Result, Tensor, Var};
use xent_candle::CrossEntropy;

#[test]
fn uniform_smoothing_over_three_rows() -> Result<()> {
    let logits = Var::new(&[[2f64, -1.0, 0.5, 0.0], [0.0, 1.0, -2.0, 3.0], [5.0, 5.0, 5.0, 5.0], [1.0, 0.0, 0.0, -1.0]], &Device::Cpu)?;
    let targets = Tensor::new(&[0i64, 3, -100, 1], &Device::Cpu)?;
    let loss = CrossEntropy::new(xent::Config::new().label_smoothing(0.1).ignore_index(-100))?.forward(&logits, &targets)?;
    assert!((loss.to_scalar::<f64>()? - 0.8522961067).abs() < 1e-10);
    let grads = loss.backward()?;
    let gradient = grads.get(&logits).unwrap().to_vec2::<f64>()?;
    assert_eq!(gradient[2], [0.0; 4]);
    assert!(gradient[0][0] < 0.0 && gradient[0].iter().sum::<f64>().abs() < 1e-15);
    Ok(())
}
