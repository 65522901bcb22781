//! Gradients through burn's graph, on both paths, against burn's own loss and operations.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xent_burn::xent::{Config, Reduction};
use xent_burn::{CrossEntropy, CrossEntropyConfig, cross_entropy};

const PATHS: [bool; 2] = [false, true];

fn device() -> Device {
    Device::flex().autodiff()
}

/// The same numbers for the same shape.
fn random<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<D> {
    let mut rng =
        ChaCha8Rng::seed_from_u64(shape.iter().fold(0, |seed, &length| 31 * seed + length as u64));
    let numbers = (0..shape.iter().product()).map(|_| rng.random_range(-4.0..4.0)).collect();
    Tensor::from_data(
        TensorData::new::<f64, _>(numbers, shape).convert_dtype(dtype),
        (&Device::flex(), dtype),
    )
}

fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().autodiff().require_grad()
}

fn labels<const R: usize>(shape: [usize; R], classes: usize) -> Tensor<R, Int> {
    let labels = (0..shape.iter().product::<usize>()).map(|i| (i * 7 % classes) as i64).collect();
    Tensor::from_data(TensorData::new(labels, shape), &device())
}

/// Each row's loss as one would write it in burn: log-softmax against smoothed one-hot targets.
fn textbook<const D: usize, const R: usize>(
    logits: Tensor<D>,
    targets: Tensor<R, Int>,
    axis: usize,
    epsilon: f64,
) -> Tensor<R> {
    let classes = logits.dims()[axis];
    let log_softmax = log_softmax(logits, axis);
    let index = targets.unsqueeze_dim::<D>(axis);
    let ones = Tensor::ones(index.dims(), (&device(), log_softmax.dtype()));
    let one_hot = log_softmax.zeros_like().scatter(axis, index, ones, IndexingUpdateOp::Add);
    -(log_softmax * (one_hot * (1.0 - epsilon) + epsilon / classes as f64))
        .sum_dim(axis)
        .squeeze_dim(axis)
}

fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter().collect()
}

fn largest_difference<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    assert_eq!(a.dims(), b.dims());
    numbers(a).iter().zip(numbers(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn smoothed(epsilon: f64) -> Config {
    Config::new().label_smoothing(epsilon)
}

fn init(config: Config, composed: bool) -> CrossEntropy {
    CrossEntropyConfig::new(config).init().composed(composed)
}

/// Loss and gradient of `variable` through `view`, against the textbook.
fn compare<const D: usize, const E: usize, const R: usize>(
    variable: &Tensor<D>,
    view: impl Fn(Tensor<D>) -> Tensor<E>,
    axis: usize,
) {
    let mut dims = view(variable.clone()).dims().to_vec();
    let classes = dims.remove(axis);
    let targets = labels::<R>(dims.try_into().unwrap(), classes);
    let expected_of = leaf(variable);
    let expected = textbook(view(expected_of.clone()), targets.clone(), axis, 0.1).mean();
    let expected_gradient = expected_of.grad(&expected.backward()).unwrap();
    for composed in PATHS {
        let criterion = CrossEntropyConfig::new(smoothed(0.1))
            .with_class_axis(axis as isize)
            .init()
            .composed(composed);
        let variable = leaf(variable);
        let loss = criterion.forward(view(variable.clone()), targets.clone());
        assert!((numbers(&loss)[0] - numbers(&expected)[0]).abs() < 1e-12);
        let gradient = variable.grad(&loss.backward()).unwrap();
        assert!(numbers(&gradient).iter().any(|entry| entry.abs() > 1e-3));
        assert!(largest_difference(&gradient, &expected_gradient) < 1e-12, "composed: {composed}");
    }
}

#[test]
fn any_class_axis_and_layout() {
    let images = random([3, 5, 4, 2], DType::F64);
    compare::<4, 4, 3>(&images, |t| t, 1);
    compare::<4, 4, 3>(&images, |t| t, 0);
    compare::<4, 4, 3>(&images, |t| t.swap_dims(1, 3), 3);
    compare::<4, 4, 3>(&images, |t| t.narrow(2, 1, 3).narrow(1, 1, 4), 1);
    compare::<4, 4, 3>(&images, |t| t.permute([3, 0, 2, 1]), 2);
    compare::<4, 4, 3>(&images, |t| t.flip([1, 2]), 1);
    compare::<4, 5, 4>(&images, |t| t.unsqueeze_dim::<5>(2), 1);
    let sequence = random([2, 6, 7], DType::F64);
    compare::<3, 3, 2>(&sequence, |t| t.narrow(1, 3, 1).expand([2, 4, 7]), 2);
    compare::<3, 2, 1>(&sequence, |t| t.flatten(0, 1), 1);
}

/// Where burn's own loss is defined, and in the dtype in which it is: the device's own.
#[test]
fn as_burns_own_loss() {
    let logits = random([6, 5], DType::F32);
    let targets = labels([6], 5);
    let weights = vec![1.0, 2.0, 0.5, 3.0, 0.25];
    for (smoothing, pad, weighted) in [
        (None, None, false),
        (Some(0.1f32), None, false),
        (Some(0.3), Some(2usize), false),
        (None, Some(1), true),
        (Some(0.2), None, true),
    ] {
        let theirs = CrossEntropyLossConfig::new()
            .with_smoothing(smoothing)
            .with_pad_tokens(pad.map(|pad| vec![pad]))
            .with_weights(weighted.then(|| weights.clone()))
            .init(&device());
        let variable = leaf(&logits);
        let expected = theirs.forward(variable.clone(), targets.clone());
        let expected_gradient = variable.grad(&expected.backward()).unwrap();
        for composed in PATHS {
            let mut config = smoothed(smoothing.map_or(0.0, f64::from))
                .ignore_indices(pad.map(|pad| pad as i64));
            config.class_weights =
                weighted.then(|| weights.iter().map(|&weight| f64::from(weight)).collect());
            let criterion = init(config, composed);
            let variable = leaf(&logits);
            let loss = criterion.forward(variable.clone(), targets.clone());
            assert!(
                (numbers(&loss)[0] / numbers(&expected)[0] - 1.0).abs() < 1e-6,
                "{smoothing:?} {pad:?} {weighted}"
            );
            let gradient = variable.grad(&loss.backward()).unwrap();
            assert!(
                largest_difference(&gradient, &expected_gradient) < 3e-7,
                "{smoothing:?} {pad:?} {weighted}, composed: {composed}"
            );
        }
    }
}

/// burn's own loss panics on these: labels that mark padding from outside the classes, and logits
/// in another dtype than the device's default.
#[test]
fn padding_from_outside_the_classes_in_every_dtype() {
    let targets = Tensor::<1, Int>::from_ints([3, -100, 0, 50_256, 1], &device());
    let kept = Tensor::<1, Int>::from_ints([0, 2, 4], &device());
    for (dtype, loss_dtype, bar) in [
        (DType::F64, DType::F64, 1e-14),
        (DType::F32, DType::F32, 1e-6),
        (DType::F16, DType::F32, 1e-3),
        (DType::BF16, DType::F32, 4e-3),
    ] {
        let logits = random([5, 8], dtype);
        let exact = leaf(&logits.clone().cast(DType::F64));
        let expected = textbook(
            exact.clone().select(0, kept.clone()),
            targets.clone().select(0, kept.clone()),
            1,
            0.1,
        )
        .sum();
        let expected_gradient = exact.grad(&expected.backward()).unwrap();
        for composed in PATHS {
            let criterion = init(
                smoothed(0.1).ignore_indices([-100, 50_256]).reduction(Reduction::Sum),
                composed,
            );
            let variable = leaf(&logits);
            let loss = criterion.forward(variable.clone(), targets.clone());
            assert_eq!(loss.dtype(), loss_dtype);
            assert!((numbers(&loss)[0] / numbers(&expected)[0] - 1.0).abs() < 1e-6);
            let gradient = variable.grad(&loss.backward()).unwrap();
            assert_eq!(gradient.dtype(), dtype);
            assert!(
                largest_difference(&gradient.clone().cast(DType::F64), &expected_gradient) < bar,
                "{dtype:?}, composed: {composed}"
            );
            let gradient = numbers(&gradient);
            assert!(gradient[8..16].iter().chain(&gradient[24..32]).all(|&entry| entry == 0.0));
        }
    }
}

/// The upstream gradient comes in before the gradient is rounded to f16: that is what loss scaling
/// is for.
#[test]
fn loss_scaling_saves_half_precision_gradients() {
    let rows = 4096;
    let logits = random([rows, 3], DType::F16);
    let targets = labels([rows], 3);
    let exact = leaf(&logits.clone().cast(DType::F64));
    let expected =
        exact.grad(&textbook(exact.clone(), targets.clone(), 1, 0.1).mean().backward()).unwrap();
    for composed in PATHS {
        let variable = leaf(&logits);
        let loss = init(smoothed(0.1), composed).forward(variable.clone(), targets.clone());
        let gradient = variable.grad(&(loss * 65536.0).backward()).unwrap();
        assert_eq!(gradient.dtype(), DType::F16);
        // Entries of the unscaled gradient are multiples of 2⁻²⁴ in f16, so that most would keep
        // three or four bits; scaled, they keep eleven. p − y in f32 adds what rounding p adds.
        for (entry, expected) in numbers(&gradient).iter().zip(numbers(&expected)) {
            let bar = 6e-4 * expected.abs() + 1.2e-7 / rows as f64;
            assert!(
                (entry / 65536.0 - expected).abs() < bar,
                "composed: {composed}, {entry} and {expected}"
            );
        }
    }
}

#[test]
fn per_row_upstream_gradients() {
    let logits = random([3, 2, 5], DType::F64);
    let targets = labels([3, 2], 5);
    let upstream = Tensor::<2>::from_data(
        TensorData::from([[0.5f64, -2.0], [0.0, 3.0], [1.0, 1e-3]]),
        (&device(), DType::F64),
    );
    let exact = leaf(&logits);
    let expected = exact
        .grad(
            &(textbook(exact.clone(), targets.clone(), 2, 0.3) * upstream.clone()).sum().backward(),
        )
        .unwrap();
    for composed in PATHS {
        let variable = leaf(&logits);
        let loss: Tensor<2> =
            init(smoothed(0.3), composed).forward_no_reduction(variable.clone(), targets.clone());
        let gradient = variable.grad(&(loss * upstream.clone()).sum().backward()).unwrap();
        assert!(largest_difference(&gradient, &expected) < 1e-12);
    }
}

/// Whatever comes from above, rows that are ignored have no gradient.
#[test]
fn an_infinite_upstream_gradient_leaves_ignored_rows_alone() {
    let targets = Tensor::<1, Int>::from_ints([1, -1], &device());
    for composed in PATHS {
        let variable = leaf(&random([2, 3], DType::F32));
        let loss = init(smoothed(0.1).ignore_index(-1), composed)
            .forward(variable.clone(), targets.clone());
        let gradient = numbers(&variable.grad(&(loss * f32::INFINITY).backward()).unwrap());
        assert!(
            gradient[..3].iter().all(|entry| !entry.is_finite()) && gradient[3..] == [0.0; 3],
            "composed: {composed}, {gradient:?}"
        );
    }
}

#[test]
fn one_loss_used_twice_in_a_graph() {
    let logits = random([4, 6], DType::F64);
    let targets = labels([4], 6);
    for composed in PATHS {
        let criterion = init(Config::new(), composed);
        let (alone, both) = (leaf(&logits), leaf(&logits));
        let loss = criterion.forward(alone.clone(), targets.clone());
        let gradient = alone.grad(&loss.backward()).unwrap();
        // d(l² + 3l) = (2l + 3) dl
        let twice = criterion.forward(both.clone(), targets.clone());
        let of_both =
            both.grad(&(twice.clone() * twice.clone() + twice.clone() * 3.0).backward()).unwrap();
        assert!(
            largest_difference(&of_both, &(gradient * (2.0 * numbers(&loss)[0] + 3.0))) < 1e-14
        );
    }
}

/// A model through which gradients are recomputed gives the same ones.
#[test]
fn balanced_checkpointing() {
    let features = random([7, 5], DType::F32);
    let targets = labels([7], 4);
    let model: Linear = LinearConfig::new(5, 4).init(&Device::flex());
    for composed in PATHS {
        let criterion = init(smoothed(0.1), composed);
        let gradients = |device: Device| {
            let model = model.clone().train().fork(&device);
            // An activation that is recomputed, between the loss and the model.
            let logits = model.forward(features.clone().to_device(&device)).exp().log() * 2.0;
            let loss = criterion.forward(logits, targets.clone().to_device(&device));
            let gradients = loss.backward();
            (
                numbers(&model.weight.val().grad(&gradients).unwrap()),
                numbers(&model.bias.unwrap().val().grad(&gradients).unwrap()),
            )
        };
        let kept = gradients(Device::flex().autodiff());
        assert!(kept.0.iter().any(|entry| entry.abs() > 1e-3));
        assert_eq!(
            gradients(Device::flex().autodiff().gradient_checkpointing()),
            kept,
            "composed: {composed}"
        );
    }
}

#[test]
fn without_options() {
    let logits = random([3, 4], DType::F64);
    let loss = cross_entropy(logits.clone(), labels([3], 4));
    let expected = textbook(logits.autodiff(), labels([3], 4), 1, 0.0).mean();
    assert!(largest_difference(&loss, &expected) < 1e-14);
}

#[test]
fn frozen_logits_have_no_graph() {
    let logits = random([4, 6], DType::F32);
    let targets = labels([4], 6);
    for composed in PATHS {
        let criterion = init(smoothed(0.1), composed);
        let tracked = criterion.forward(leaf(&logits), targets.clone());
        assert!(tracked.is_tracked());
        for frozen in
            [logits.clone(), logits.clone().autodiff(), leaf(&logits).set_require_grad(false)]
        {
            let loss = criterion.forward(frozen, targets.clone());
            assert!(!loss.is_tracked());
            assert_eq!(numbers(&loss), numbers(&tracked));
        }
    }
}

/// Only logits are differentiated: whatever else comes with a graph is taken as it is.
#[test]
fn a_batch_with_a_graph_of_its_own() {
    let logits = random([3, 4], DType::F32);
    for composed in PATHS {
        let criterion = init(smoothed(0.1), composed);
        let (variable, weights, teacher) = (
            leaf(&logits),
            leaf(&Tensor::<1>::ones([3], &Device::flex())),
            leaf(&random([3, 4], DType::F32)),
        );
        let probabilities = burn::tensor::activation::softmax(teacher.clone(), 1);
        let loss = criterion
            .on(variable.clone(), probabilities)
            .row_weights(weights.clone())
            .forward()
            .unwrap();
        let gradients = loss.backward();
        assert!(
            variable.grad(&gradients).is_some()
                && weights.grad(&gradients).is_none()
                && teacher.grad(&gradients).is_none()
        );
    }
}

#[test]
fn in_a_module_and_between_threads() {
    #[derive(Module, Debug)]
    struct Model {
        last: Linear,
        criterion: CrossEntropy,
    }
    let model = Model {
        last: LinearConfig::new(5, 4).init(&device()),
        criterion: init(smoothed(0.1), false),
    };
    assert_eq!(model.num_params(), 24);
    let features = random([64, 5], DType::F32);
    let targets = labels([64], 4);
    let gradient = |model: &Model| {
        let loss = model
            .criterion
            .forward(model.last.forward(features.clone().autodiff()), targets.clone());
        numbers(&model.last.weight.val().grad(&loss.backward()).unwrap())
    };
    let alone = gradient(&model);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..20).map(|_| gradient(&model.clone())).collect::<Vec<_>>()))
            .collect();
        for thread in threads {
            assert!(thread.join().unwrap().iter().all(|from_thread| *from_thread == alone));
        }
    });
}

#[test]
fn no_rows() {
    for composed in PATHS {
        let variable = leaf(&Tensor::<2>::zeros([0, 4], &Device::flex()));
        let targets = Tensor::<1, Int>::zeros([0], &device());
        let criterion = init(smoothed(0.1), composed);
        assert!(numbers(&criterion.forward(variable.clone(), targets.clone()))[0].is_nan());
        let rows: Tensor<1> = criterion.forward_no_reduction(variable.clone(), targets.clone());
        assert_eq!(rows.dims(), [0]);
        let sum = init(smoothed(0.1).reduction(Reduction::Sum), composed)
            .forward(variable.clone(), targets);
        assert_eq!(numbers(&sum), [0.0]);
        assert_eq!(variable.grad(&sum.backward()).unwrap().dims(), [0, 4]);
    }
}
