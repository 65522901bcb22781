//! Gradients through candle's backward pass, on both paths, against candle's own operations and
//! finite differences.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Linear, Module};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xent_candle::CrossEntropy;
use xent_candle::xent::{Config, Reduction};

const PATHS: [bool; 2] = [false, true];

fn random(seed: u64, shape: &[usize]) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let numbers: Vec<f64> =
        (0..shape.iter().product()).map(|_| rng.random_range(-4.0..4.0)).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

fn labels(seed: u64, shape: &[usize], classes: u32) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<u32> =
        (0..shape.iter().product()).map(|_| rng.random_range(0..classes)).collect();
    Tensor::from_vec(labels, shape, &Device::Cpu)
}

/// Each row's loss as one would write it in candle: log-softmax against smoothed one-hot targets.
fn textbook(logits: &Tensor, targets: &Tensor, axis: usize, epsilon: f64) -> Result<Tensor> {
    let classes = logits.dim(axis)?;
    let log_softmax = candle_nn::ops::log_softmax(logits, axis)?;
    let zeros = log_softmax.zeros_like()?.contiguous()?;
    let index = targets.unsqueeze(axis)?.contiguous()?;
    let one_hot = zeros.scatter_add(&index, &index.ones_like()?.to_dtype(zeros.dtype())?, axis)?;
    let smoothed = ((one_hot * (1.0 - epsilon))? + epsilon / classes as f64)?;
    (log_softmax * smoothed)?.neg()?.sum(axis)
}

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()
}

/// Loss and gradient of `variable` through `view`, against the textbook.
fn compare(variable: &Var, view: &dyn Fn(&Tensor) -> Result<Tensor>, axis: usize) -> Result<()> {
    let logits = view(variable)?;
    let mut rows = logits.dims().to_vec();
    let classes = rows.remove(axis) as u32;
    let targets = labels(7, &rows, classes)?;
    let expected = textbook(&logits.contiguous()?, &targets, axis, 0.1)?;
    let expected_gradient = expected.mean_all()?.backward()?.get(variable).unwrap().clone();
    for composed in PATHS {
        let criterion = CrossEntropy::new(Config::new().label_smoothing(0.1))?
            .class_axis(axis as isize)
            .composed(composed);
        let loss = criterion.forward(&logits, &targets)?;
        assert!(
            (loss.to_scalar::<f64>()? - expected.mean_all()?.to_scalar::<f64>()?).abs() < 1e-12
        );
        let gradients = loss.backward()?;
        let gradient = gradients.get(variable).unwrap();
        assert!(gradient.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()? > 1e-3);
        assert!(
            largest_difference(gradient, &expected_gradient)? < 1e-12,
            "composed: {composed}, {:?}",
            logits.layout()
        );
    }
    Ok(())
}

#[test]
fn any_class_axis_and_layout() -> Result<()> {
    let images = Var::from_tensor(&random(1, &[3, 5, 4, 2])?)?;
    compare(&images, &|t| Ok(t.clone()), 1)?;
    compare(&images, &|t| Ok(t.clone()), 0)?;
    compare(&images, &|t| t.transpose(1, 3), 3)?;
    compare(&images, &|t| t.narrow(2, 1, 3)?.narrow(1, 1, 4), 1)?;
    compare(&images, &|t| t.permute((3, 0, 2, 1)), 2)?;
    let sequence = Var::from_tensor(&random(2, &[2, 6, 7])?)?;
    compare(&sequence, &|t| t.narrow(0, 1, 1)?.narrow(1, 2, 3), 2)?;
    compare(&sequence, &|t| t.narrow(1, 3, 1)?.broadcast_as((2, 4, 7)), 2)?;
    compare(&sequence, &|t| t.narrow(2, 0, 1)?.squeeze(2)?.unsqueeze(0)?.broadcast_as((3, 2, 6)), 2)
}

#[test]
fn backward_twice() -> Result<()> {
    let logits = Var::from_tensor(&random(3, &[4, 6])?)?;
    let targets = labels(4, &[4], 6)?;
    for composed in PATHS {
        for reduction in [Reduction::Mean, Reduction::None] {
            let criterion =
                CrossEntropy::new(Config::new().label_smoothing(0.2).reduction(reduction))?
                    .composed(composed);
            let loss = criterion.forward(&logits, &targets)?;
            let (first, second, doubled) =
                (loss.backward()?, loss.backward()?, (&loss * 2.0)?.backward()?);
            let first = first.get(&logits).unwrap();
            assert_eq!(largest_difference(first, second.get(&logits).unwrap())?, 0.0);
            assert_eq!(largest_difference(&(first * 2.0)?, doubled.get(&logits).unwrap())?, 0.0);
        }
    }
    Ok(())
}

#[test]
fn one_loss_used_twice_in_a_graph() -> Result<()> {
    let logits = Var::from_tensor(&random(5, &[4, 6])?)?;
    let targets = labels(6, &[4], 6)?;
    for composed in PATHS {
        let criterion = CrossEntropy::new(Config::new())?.composed(composed);
        let loss = criterion.forward(&logits, &targets)?;
        let alone = loss.backward()?;
        // d(l² + 3l) = (2l + 3) dl
        let gradients = (loss.sqr()? + (&loss * 3.0)?)?.backward()?;
        let expected = (alone.get(&logits).unwrap() * (2.0 * loss.to_scalar::<f64>()? + 3.0))?;
        assert!(largest_difference(gradients.get(&logits).unwrap(), &expected)? < 1e-14);
    }
    Ok(())
}

#[test]
fn upstream_gradients_that_differ_a_row() -> Result<()> {
    let logits = Var::from_tensor(&random(8, &[3, 2, 5])?)?;
    let targets = labels(9, &[3, 2], 5)?;
    let upstream = Tensor::new(&[[0.5f64, -2.0], [0.0, 3.0], [1.0, 1e-3]], &Device::Cpu)?;
    let expected = (textbook(&logits, &targets, 2, 0.3)? * &upstream)?.sum_all()?.backward()?;
    for composed in PATHS {
        let criterion =
            CrossEntropy::new(Config::new().label_smoothing(0.3).reduction(Reduction::None))?
                .composed(composed);
        let loss = criterion.forward(&logits, &targets)?;
        assert_eq!(loss.dims(), [3, 2]);
        let gradients = (loss * &upstream)?.sum_all()?.backward()?;
        assert!(
            largest_difference(gradients.get(&logits).unwrap(), expected.get(&logits).unwrap())?
                < 1e-12
        );
    }
    Ok(())
}

/// The upstream gradient comes in before the gradient is rounded to f16: that is what loss scaling
/// is for.
#[test]
fn loss_scaling_saves_half_precision_gradients() -> Result<()> {
    let rows = 4096;
    let logits = random(10, &[rows, 3])?.to_dtype(DType::F16)?;
    let targets = labels(11, &[rows], 3)?;
    let exact = Var::from_tensor(&logits.to_dtype(DType::F64)?)?;
    let exact_gradient =
        textbook(&exact, &targets, 1, 0.1)?.mean_all()?.backward()?.get(&exact).unwrap().clone();
    let logits = Var::from_tensor(&logits)?;
    for composed in PATHS {
        let criterion = CrossEntropy::new(Config::new().label_smoothing(0.1))?.composed(composed);
        let loss = criterion.forward(&logits, &targets)?;
        assert_eq!(loss.dtype(), DType::F32);
        let gradients = (loss * 65536.0)?.backward()?;
        let gradient = gradients.get(&logits).unwrap();
        assert_eq!(gradient.dtype(), DType::F16);
        // Entries of the unscaled gradient are multiples of 2⁻²⁴ in f16, so that most would keep
        // three or four bits; scaled, they keep eleven.
        let back = (gradient.to_dtype(DType::F64)? / 65536.0)?;
        let relative = ((back - &exact_gradient)? / &exact_gradient)?
            .abs()?
            .flatten_all()?
            .max(0)?
            .to_scalar::<f64>()?;
        assert!(relative < 6e-4, "composed: {composed}, {relative}");
    }
    Ok(())
}

#[test]
fn through_a_linear_model() -> Result<()> {
    let features = random(12, &[6, 5])?;
    let weight = Var::from_tensor(&random(13, &[4, 5])?)?;
    let bias = Var::from_tensor(&random(14, &[4])?)?;
    let targets = Tensor::new(&[0i64, 3, 1, -1, 2, 2], &Device::Cpu)?;
    let config = Config::new()
        .label_smoothing(0.1)
        .ignore_index(-1)
        .class_weights(&[1.0, 2.0, 0.5, 3.0])
        .z_loss(1e-2)
        .softcap(5.0)
        .temperature(1.5);
    for composed in PATHS {
        let criterion = CrossEntropy::new(config.clone())?.composed(composed);
        let loss = |weight: &Tensor, bias: &Tensor| -> Result<Tensor> {
            Ok(criterion.forward(
                &Linear::new(weight.clone(), Some(bias.clone())).forward(&features)?,
                &targets,
            )?)
        };
        let gradients = loss(&weight, &bias)?.backward()?;
        for variable in [&weight, &bias] {
            let gradient = gradients.get(variable).unwrap().flatten_all()?.to_vec1::<f64>()?;
            let start = variable.flatten_all()?.to_vec1::<f64>()?;
            for (i, gradient) in gradient.iter().enumerate() {
                let at = |step: f64| -> Result<f64> {
                    let mut numbers = start.clone();
                    numbers[i] += step;
                    let moved = Tensor::from_vec(numbers, variable.shape(), &Device::Cpu)?;
                    let (weight, bias) = if variable.rank() == 2 {
                        (moved, bias.as_tensor().clone())
                    } else {
                        (weight.as_tensor().clone(), moved)
                    };
                    loss(&weight, &bias)?.to_scalar()
                };
                let difference = (at(1e-5)? - at(-1e-5)?) / 2e-5;
                assert!(
                    (gradient - difference).abs() < 1e-8,
                    "composed: {composed}, {i}: {gradient} and {difference}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn every_dtype() -> Result<()> {
    let targets = labels(16, &[5], 8)?;
    for (dtype, loss_dtype, bar) in [
        (DType::F64, DType::F64, 1e-14),
        (DType::F32, DType::F32, 1e-6),
        (DType::F16, DType::F32, 1e-3),
        (DType::BF16, DType::F32, 4e-3),
    ] {
        let logits = Var::from_tensor(&random(15, &[5, 8])?.to_dtype(dtype)?)?;
        let exact = Var::from_tensor(&logits.to_dtype(DType::F64)?)?;
        let expected = textbook(&exact, &targets, 1, 0.1)?.sum_all()?;
        let expected_gradient = expected.backward()?.get(&exact).unwrap().clone();
        for composed in PATHS {
            let criterion =
                CrossEntropy::new(Config::new().label_smoothing(0.1).reduction(Reduction::Sum))?
                    .composed(composed);
            let loss = criterion.forward(&logits, &targets)?;
            assert_eq!(loss.dtype(), loss_dtype);
            let relative =
                loss.to_dtype(DType::F64)?.to_scalar::<f64>()? / expected.to_scalar::<f64>()? - 1.0;
            assert!(relative.abs() < 1e-6, "{dtype:?}: {relative}");
            let gradients = loss.backward()?;
            let gradient = gradients.get(&logits).unwrap();
            assert_eq!(gradient.dtype(), dtype);
            assert!(
                largest_difference(&gradient.to_dtype(DType::F64)?, &expected_gradient)? < bar,
                "{dtype:?}, composed: {composed}"
            );
        }
    }
    Ok(())
}

#[test]
fn threads_share_a_criterion() -> Result<()> {
    let criterion = CrossEntropy::new(Config::new().label_smoothing(0.1))?;
    let logits = Var::from_tensor(&random(17, &[64, 100])?)?;
    let targets = labels(18, &[64], 100)?;
    let gradient = |criterion: &CrossEntropy| -> Result<Vec<f64>> {
        criterion
            .forward(&logits, &targets)?
            .backward()?
            .get(&logits)
            .unwrap()
            .flatten_all()?
            .to_vec1()
    };
    let alone = gradient(&criterion)?;
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| (0..20).map(|_| gradient(&criterion)).collect::<Result<Vec<_>>>())
            })
            .collect();
        for thread in threads {
            for from_thread in thread.join().unwrap()? {
                assert_eq!(from_thread, alone);
            }
        }
        Ok(())
    })
}

#[test]
fn no_rows() -> Result<()> {
    let logits = Var::zeros((0, 4), DType::F32, &Device::Cpu)?;
    let targets = Tensor::zeros(0, DType::U32, &Device::Cpu)?;
    for composed in PATHS {
        let sum = CrossEntropy::new(Config::new().reduction(Reduction::Sum))?
            .composed(composed)
            .forward(&logits, &targets)?;
        assert_eq!(sum.to_scalar::<f32>()?, 0.0);
        assert_eq!(sum.backward()?.get(&logits).unwrap().dims(), [0, 4]);
        let mean =
            CrossEntropy::new(Config::new())?.composed(composed).forward(&logits, &targets)?;
        assert!(mean.to_scalar::<f32>()?.is_nan());
        let none = CrossEntropy::new(Config::new().reduction(Reduction::None))?
            .composed(composed)
            .forward(&logits, &targets)?;
        assert_eq!(none.dims(), [0]);
    }
    Ok(())
}

#[test]
fn frozen_logits() -> Result<()> {
    let logits = random(19, &[4, 6])?;
    let targets = labels(20, &[4], 6)?;
    for composed in PATHS {
        let criterion = CrossEntropy::new(Config::new().label_smoothing(0.1))?.composed(composed);
        let frozen = criterion.forward(&logits, &targets)?;
        assert!(!frozen.track_op());
        let tracked = criterion.forward(Var::from_tensor(&logits)?.as_tensor(), &targets)?;
        assert!(tracked.track_op());
        assert_eq!(frozen.to_scalar::<f64>()?, tracked.to_scalar::<f64>()?);
    }
    Ok(())
}

#[test]
fn numbers_and_masks_of_other_dtypes() -> Result<()> {
    let logits = random(21, &[3, 4])?;
    let targets = Tensor::new(&[0i16, 3, 1], &Device::Cpu)?;
    for composed in PATHS {
        let criterion =
            CrossEntropy::new(Config::new().reduction(Reduction::None))?.composed(composed);
        let plain = criterion.forward(&logits, &targets)?.to_vec1::<f64>()?;
        let weights = Tensor::new(&[2u8, 1, 3], &Device::Cpu)?;
        let ignored = Tensor::new(&[0i64, 256, 0], &Device::Cpu)?;
        let allowed = Tensor::new(&[1u32, 0, 512, 1], &Device::Cpu)?;
        let (loss, output) = criterion
            .on(&logits, &targets)
            .row_weights(&weights)
            .ignored_rows(&ignored)
            .allowed_classes(&allowed)
            .forward_with_output()?;
        let loss = loss.to_vec1::<f64>()?;
        assert!(0.0 < loss[0] && loss[0] < 2.0 * plain[0], "a class less: {loss:?}");
        assert_eq!(loss[1..], [0.0, f64::INFINITY]); // ignored; its class not allowed
        assert_eq!((output.ignored, output.non_finite, output.first_non_finite), (1, 1, Some(2)));
    }
    Ok(())
}
