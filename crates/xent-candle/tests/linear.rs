//! The loss of a linear layer, against the loss of its logits by candle's own product.

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xent_candle::CrossEntropy;
use xent_candle::xent::{Config, Reduction};

fn random(seed: u64, shape: &[usize], dtype: DType) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let numbers: Vec<f64> =
        (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)
}

fn labels(seed: u64, shape: &[usize], classes: i64) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<i64> = (0..shape.iter().product())
        .map(|_| if rng.random_bool(0.3) { -100 } else { rng.random_range(0..classes) })
        .collect();
    Tensor::from_vec(labels, shape, &Device::Cpu)
}

fn config() -> Config {
    Config::new().label_smoothing(0.1).ignore_index(-100)
}

fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()));
    let [a, b] = [a, b].map(|tensor| tensor.to_dtype(DType::F64));
    (a? - b?)?.abs()?.flatten_all()?.max(0)?.to_scalar()
}

/// `[3, 7]` rows of 5 features, 11 classes.
struct Layer {
    hidden: Var,
    weight: Var,
    bias: Var,
    targets: Tensor,
}

impl Layer {
    fn new(dtype: DType) -> Result<Self> {
        Ok(Self {
            hidden: Var::from_tensor(&random(1, &[3, 7, 5], dtype)?)?,
            weight: Var::from_tensor(&random(2, &[11, 5], dtype)?)?,
            bias: Var::from_tensor(&random(3, &[11], dtype)?)?,
            targets: labels(4, &[3, 7], 11)?,
        })
    }

    fn variables(&self) -> [&Var; 3] {
        [&self.hidden, &self.weight, &self.bias]
    }
}

#[test]
fn loss_and_gradients_are_those_of_the_logits() -> Result<()> {
    for (dtype, bar) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
        let layer = Layer::new(dtype)?;
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let criterion = CrossEntropy::new(config().reduction(reduction))?;
            for with_bias in [false, true] {
                let bias = with_bias.then_some(layer.bias.as_tensor());
                let (hidden, weight) = (layer.hidden.as_tensor(), layer.weight.as_tensor());
                // What is above the loss is not 1 everywhere, and 0 somewhere.
                let scales = random(5, &[3, 7], dtype)?.relu()?;
                let end = |loss: Tensor| match reduction {
                    Reduction::None => (loss * &scales)?.sum_all(),
                    _ => loss * 3.7,
                };
                let logits = hidden.broadcast_matmul(&weight.t()?)?;
                let logits = match bias {
                    Some(bias) => logits.broadcast_add(bias)?,
                    None => logits,
                };
                let expected = end(criterion.forward(&logits, &layer.targets)?)?;
                let expected_gradients = expected.backward()?;
                for composed in [false, true] {
                    let loss = criterion.clone().composed(composed).forward_linear(
                        hidden,
                        weight,
                        bias,
                        &layer.targets,
                    )?;
                    assert_eq!(loss.dims().len(), if reduction == Reduction::None { 2 } else { 0 });
                    let loss = end(loss)?;
                    assert!(difference(&loss, &expected)? < 10.0 * bar);
                    let gradients = loss.backward()?;
                    for (variable, _) in
                        layer.variables().into_iter().zip([true, true, with_bias]).filter(|x| x.1)
                    {
                        let came = gradients.get(variable).unwrap();
                        let expected = expected_gradients.get(variable).unwrap();
                        let difference = difference(came, expected)?;
                        assert!(difference < 10.0 * bar, "{reduction} {composed}: {difference:e}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn halves_are_rounded_once() -> Result<()> {
    let exact = Layer::new(DType::BF16)?;
    let wide = Layer::new(DType::BF16)?;
    let widened: Vec<Var> = wide
        .variables()
        .into_iter()
        .map(|variable| Var::from_tensor(&variable.to_dtype(DType::F32)?))
        .collect::<Result<_>>()?;
    let criterion = CrossEntropy::new(config())?;
    for scale in [1.0, 65_536.0] {
        let bias = Some(exact.bias.as_tensor());
        let loss = criterion.forward_linear(&exact.hidden, &exact.weight, bias, &exact.targets)?;
        assert_eq!(loss.dtype(), DType::F32);
        let gradients = (loss * scale)?.backward()?;
        let [hidden, weight, bias] = [0, 1, 2].map(|i| widened[i].as_tensor());
        let loss = criterion.forward_linear(hidden, weight, Some(bias), &exact.targets)?;
        let expected = (loss * scale)?.backward()?;
        for (half, single) in exact.variables().into_iter().zip(&widened) {
            let (came, expected) = (gradients.get(half).unwrap(), expected.get(single).unwrap());
            let rounded = expected.to_dtype(DType::BF16)?;
            // One unit in the last place, where sums in another order round to the other side.
            let largest = rounded.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?;
            assert!(difference(came, &rounded)? <= largest.to_scalar::<f64>()? / 256.0);
        }
    }
    Ok(())
}

#[test]
fn what_is_not_tracked_has_no_gradient_and_views_are_read_in_place() -> Result<()> {
    let layer = Layer::new(DType::F64)?;
    let criterion = CrossEntropy::new(config())?;
    let frozen = layer.weight.as_tensor().detach();
    let loss = criterion.forward_linear(&layer.hidden, &frozen, None, &layer.targets)?;
    let gradients = loss.backward()?;
    assert!(gradients.get(&layer.hidden).is_some() && gradients.get(&frozen).is_none());

    // A weight [D, K], as its transposed view, and hidden states with their axes exchanged.
    let transposed = frozen.t()?.contiguous()?;
    let exchanged = layer.hidden.transpose(0, 1)?.contiguous()?.transpose(0, 1)?;
    let again = criterion.forward_linear(&exchanged, &transposed.t()?, None, &layer.targets)?;
    assert!(difference(&again, &loss)? < 1e-15);

    let untracked = layer.hidden.as_tensor().detach();
    let (loss, output) =
        criterion.on_linear(&untracked, &frozen, None, &layer.targets).forward_with_output()?;
    assert!(!loss.track_op());
    assert_eq!(output.loss.scalar(), Some(loss.to_scalar::<f64>()?));
    assert!(output.ignored > 0 && output.rows == 21);
    Ok(())
}

#[test]
fn batches_of_nothing_and_second_backward_passes() -> Result<()> {
    let layer = Layer::new(DType::F32)?;
    let criterion = CrossEntropy::new(config().reduction(Reduction::Sum))?;
    let none = Tensor::full(-100i64, (3, 7), &Device::Cpu)?;
    let loss = criterion.forward_linear(&layer.hidden, &layer.weight, None, &none)?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.0);
    let gradient = loss.backward()?.get(&layer.weight).unwrap().clone();
    assert_eq!(gradient.abs()?.sum_all()?.to_scalar::<f32>()?, 0.0);
    let empty = Tensor::zeros((0, 5), DType::F32, &Device::Cpu)?;
    let targets = Tensor::zeros(0, DType::I64, &Device::Cpu)?;
    let loss = criterion.forward_linear(&empty, &layer.weight, None, &targets)?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.0);

    let loss = criterion.forward_linear(&layer.hidden, &layer.weight, None, &layer.targets)?;
    let [first, second] = [loss.backward()?, loss.backward()?];
    let [first, second] = [&first, &second].map(|gradients| gradients.get(&layer.weight).unwrap());
    assert_eq!(difference(first, second)?, 0.0);
    Ok(())
}

#[test]
fn layers_that_do_not_go_together_are_refused() -> Result<()> {
    let layer = Layer::new(DType::F32)?;
    let criterion = CrossEntropy::new(config())?;
    let refuse = |hidden: &Tensor, weight: &Tensor, bias: Option<&Tensor>, targets: &Tensor| {
        criterion.forward_linear(hidden, weight, bias, targets).unwrap_err().to_string()
    };
    let (hidden, weight) = (layer.hidden.as_tensor(), layer.weight.as_tensor());
    assert_eq!(
        refuse(hidden, &weight.t()?, None, &layer.targets),
        "the weight has shape [5, 11], expected [classes, 5], for hidden states of shape [3, 7, 5]"
    );
    assert_eq!(
        refuse(hidden, weight, Some(&weight.narrow(0, 0, 1)?), &layer.targets),
        "the bias has shape [1, 5], expected [11], one entry per class"
    );
    assert_eq!(
        refuse(hidden, &weight.to_dtype(DType::BF16)?, None, &layer.targets),
        "the weight has dtype bf16, expected the dtype of the hidden states"
    );
    let message = refuse(hidden, weight, None, &layer.targets.narrow(1, 0, 6)?);
    assert!(message.contains("[3, 6], expected [3, 7], one entry per row"), "{message}");
    let wrong = Tensor::full(11i64, (3, 7), &Device::Cpu)?;
    assert_eq!(
        refuse(hidden, weight, None, &wrong),
        "target 11 in row 0 is outside 0..11 and not an ignore index"
    );
    Ok(())
}
