//! The loss of a linear layer, against the loss of its logits by burn's own product.

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xent_burn::xent::{Config, Reduction};
use xent_burn::{CrossEntropy, CrossEntropyConfig};

fn device() -> Device {
    Device::flex().autodiff()
}

fn random<const D: usize>(seed: u64, shape: [usize; D], dtype: DType) -> Tensor<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let numbers = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    let data = TensorData::new::<f64, _>(numbers, shape).convert_dtype(dtype);
    Tensor::from_data(data, (&Device::flex(), dtype))
}

fn labels(seed: u64, shape: [usize; 2], classes: i64) -> Tensor<2, Int> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<i64> = (0..shape.iter().product())
        .map(|_| if rng.random_bool(0.3) { -100 } else { rng.random_range(0..classes) })
        .collect();
    Tensor::from_data(TensorData::new(labels, shape), &device())
}

fn init(config: Config) -> CrossEntropy {
    CrossEntropyConfig::new(config.label_smoothing(0.1).ignore_index(-100)).init()
}

fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter().collect()
}

fn difference<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()));
    numbers(a).iter().zip(numbers(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// A layer of 5 features and 11 classes, whose parameters are leaves of their own.
fn layer(dtype: DType, bias: bool) -> Linear {
    let mut linear = LinearConfig::new(5, 11).with_bias(bias).init(&device());
    linear.weight = linear.weight.map(|_| leaf(random(2, [5, 11], dtype)));
    linear.bias = linear.bias.map(|bias| bias.map(|_| leaf(random(3, [11], dtype))));
    linear
}

fn leaf<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.autodiff().require_grad()
}

/// Loss, and gradients of hidden states, weight and bias.
fn gradients(
    loss: &Tensor<1>,
    hidden: &Tensor<3>,
    linear: &Linear,
) -> (Tensor<3>, Tensor<2>, Option<Tensor<1>>) {
    let gradients = loss.backward();
    (
        hidden.grad(&gradients).unwrap(),
        linear.weight.val().grad(&gradients).unwrap(),
        linear.bias.as_ref().map(|bias| bias.val().grad(&gradients).unwrap()),
    )
}

#[test]
fn loss_and_gradients_are_those_of_the_logits() {
    let targets = labels(4, [3, 7], 11);
    for (dtype, bar) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for bias in [false, true] {
                let criterion = init(Config::new().reduction(reduction));
                let scales = random(5, [3, 7], dtype).clamp_min(0.0).autodiff();
                let end = |rows: Option<Tensor<2>>, loss: Option<Tensor<1>>| match (rows, loss) {
                    (Some(rows), _) => (rows * scales.clone()).sum(),
                    (_, loss) => loss.unwrap() * 3.75,
                };
                let (hidden, linear) = (leaf(random(1, [3, 7, 5], dtype)), layer(dtype, bias));
                let call = criterion.on(linear.forward(hidden.clone()), targets.clone());
                let expected = match reduction {
                    Reduction::None => end(Some(call.forward_no_reduction().unwrap()), None),
                    _ => end(None, Some(call.forward().unwrap())),
                };
                let of_logits = gradients(&expected, &hidden, &linear);
                for composed in [false, true] {
                    let criterion = criterion.clone().composed(composed);
                    let (hidden, linear) = (leaf(random(1, [3, 7, 5], dtype)), layer(dtype, bias));
                    let call = criterion.on_linear(hidden.clone(), &linear, targets.clone());
                    let loss = match reduction {
                        Reduction::None => end(Some(call.forward_no_reduction().unwrap()), None),
                        _ => end(None, Some(call.forward().unwrap())),
                    };
                    assert!(difference(&loss, &expected) < 10.0 * bar);
                    let came = gradients(&loss, &hidden, &linear);
                    assert!(difference(&came.0, &of_logits.0) < bar, "{reduction} {composed}");
                    assert!(difference(&came.1, &of_logits.1) < bar, "{reduction} {composed}");
                    if let (Some(came), Some(expected)) = (&came.2, &of_logits.2) {
                        assert!(difference(came, expected) < bar, "{reduction} {composed}");
                    }
                }
            }
        }
    }
}

#[test]
fn halves_are_rounded_once() {
    let targets = labels(4, [3, 7], 11);
    let criterion = init(Config::new());
    for factor in [1.0, 65_536.0] {
        let (hidden, linear) = (leaf(random(1, [3, 7, 5], DType::BF16)), layer(DType::BF16, true));
        let loss = criterion.forward_linear(hidden.clone(), &linear, targets.clone());
        assert_eq!(loss.dtype(), DType::F32);
        let came = gradients(&(loss * factor), &hidden, &linear);
        let mut wide = layer(DType::F32, true);
        wide.weight = wide.weight.map(|_| leaf(random(2, [5, 11], DType::BF16).cast(DType::F32)));
        let bias = leaf(random(3, [11], DType::BF16).cast(DType::F32));
        wide.bias = wide.bias.map(|old| old.map(|_| bias));
        let hidden = leaf(random(1, [3, 7, 5], DType::BF16).cast(DType::F32));
        let loss = criterion.forward_linear(hidden.clone(), &wide, targets.clone());
        let expected = gradients(&(loss * factor), &hidden, &wide);
        // One unit in the last place, where sums in another order round to the other side.
        let near = |came: Vec<f64>, expected: Vec<f64>| {
            let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
            came.iter()
                .zip(expected)
                .all(|(came, expected)| (came - expected).abs() <= largest / 200.0)
        };
        assert_eq!((came.0.dtype(), came.1.dtype()), (DType::BF16, DType::BF16));
        assert!(near(numbers(&came.0), numbers(&expected.0)));
        assert!(near(numbers(&came.1), numbers(&expected.1)));
        assert!(near(numbers(&came.2.unwrap()), numbers(&expected.2.unwrap())));
    }
}

#[test]
fn a_frozen_layer_has_no_gradient_and_a_plain_one_no_graph() {
    let (targets, criterion) = (labels(4, [3, 7], 11), init(Config::new()));
    let hidden = leaf(random(1, [3, 7, 5], DType::F32));
    let mut frozen = layer(DType::F32, false);
    frozen.weight = frozen.weight.map(|_| random(2, [5, 11], DType::F32).autodiff());
    let loss = criterion.forward_linear(hidden.clone(), &frozen, targets.clone());
    let gradients = loss.backward();
    assert!(hidden.grad(&gradients).is_some());
    assert!(frozen.weight.val().grad(&gradients).is_none());

    let mut plain = layer(DType::F32, false);
    plain.weight = plain.weight.map(|_| random(2, [5, 11], DType::F32));
    // Hidden states whose axes were exchanged.
    let hidden = random(1, [3, 7, 5], DType::F32).swap_dims(0, 1);
    let output = criterion
        .on_linear(hidden, &plain, targets.swap_dims(0, 1).inner())
        .forward_with_output()
        .unwrap();
    assert!(!output.loss.is_tracked());
    assert!((numbers(&output.loss)[0] - numbers(&loss)[0]).abs() < 1e-6);
    assert!(output.ignored.into_scalar::<i64>() > 0);
}

#[test]
fn batches_of_nothing() {
    let criterion = init(Config::new().reduction(Reduction::Sum));
    let (hidden, linear) = (leaf(random(1, [3, 7, 5], DType::F32)), layer(DType::F32, true));
    let padding = Tensor::<2, Bool>::full([3, 7], true, &device());
    let call = criterion.on_linear(hidden.clone(), &linear, labels(4, [3, 7], 11));
    let loss = call.ignored_rows(padding).forward().unwrap();
    assert_eq!(numbers(&loss), [0.0]);
    let (to_hidden, to_weight, _) = gradients(&loss, &hidden, &linear);
    assert!(numbers(&to_hidden).iter().chain(&numbers(&to_weight)).all(|g| *g == 0.0));

    let empty = leaf(Tensor::<2>::zeros([0, 5], (&Device::flex(), DType::F32)));
    let targets = Tensor::<1, Int>::zeros([0], &device());
    let loss = criterion.forward_linear(empty, &linear, targets);
    assert_eq!(numbers(&loss), [0.0]);
    let gradients = loss.backward();
    assert!(numbers(&linear.weight.val().grad(&gradients).unwrap()).iter().all(|g| *g == 0.0));
}

#[test]
fn layers_that_do_not_go_together_are_refused() {
    let criterion = init(Config::new());
    let (targets, linear) = (labels(4, [3, 7], 11), layer(DType::F32, true));
    let refuse = |hidden: Tensor<3>, linear: &Linear, targets: Tensor<2, Int>| {
        criterion.on_linear(hidden, linear, targets).forward().unwrap_err().to_string()
    };
    assert_eq!(
        refuse(random(1, [3, 7, 4], DType::F32).autodiff(), &linear, targets.clone()),
        "the weight has shape [5, 11], expected [4, classes] for hidden states of shape [3, 7, 4]"
    );
    assert_eq!(
        refuse(random(1, [3, 7, 5], DType::F64).autodiff(), &linear, targets.clone()),
        "the weight has dtype f32, expected the dtype of the hidden states"
    );
    let hidden = random(1, [3, 7, 5], DType::F32).autodiff();
    let message = refuse(hidden.clone(), &linear, targets.clone().narrow(1, 0, 6));
    assert!(message.contains("[3, 6], expected [3, 7], one entry per row"), "{message}");
    assert_eq!(
        refuse(hidden, &linear, targets.full_like(11)),
        "target 11 in row 0 is outside 0..11 and not an ignore index"
    );
}
