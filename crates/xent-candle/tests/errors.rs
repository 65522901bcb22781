//! What cannot be used comes back as an error that says what came, where, and what was expected; and converts into candle's.

use candle_core::{D, DType, Device, Tensor, Var};
use xent::Config;
use xent_candle::{CrossEntropy, Error};

fn zeros(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::zeros(shape, dtype, &Device::Cpu).unwrap()
}

fn criterion(config: Config) -> CrossEntropy {
    CrossEntropy::new(config).unwrap()
}

/// The message of a forward pass on both paths, which must be the same.
fn message(criterion: CrossEntropy, logits: &Tensor, targets: &Tensor) -> String {
    let [engine, composed] = [false, true].map(|composed| criterion.clone().composed(composed).forward(logits, targets).unwrap_err().to_string());
    assert_eq!(engine, composed);
    engine
}

#[test]
fn configurations() {
    let error = CrossEntropy::new(Config::new().label_smoothing(1.5)).unwrap_err();
    assert_eq!(error.to_string(), "label smoothing is 1.5, expected 0 ≤ ε ≤ 1");
    assert!(matches!(error, Error::Config(_)));
}

#[test]
fn shapes_and_dtypes() {
    let logits = zeros(&[2, 3, 4], DType::F32);
    let of = |targets: Tensor| message(criterion(Config::new()), &logits, &targets);
    assert_eq!(
        of(zeros(&[2, 4], DType::U32)),
        "the tensor of target class indices has shape [2, 4], expected [2, 3], one entry a row, beside logits of shape [2, 3, 4] with the classes on axis 2"
    );
    assert_eq!(
        of(zeros(&[2, 3], DType::F32)),
        "the tensor of target probabilities (its dtype is a float's) has shape [2, 3], expected [2, 3, 4], one entry a row and class, beside logits of shape [2, 3, 4] with the classes on axis 2"
    );
    let integers = message(criterion(Config::new()), &zeros(&[2, 3], DType::I64), &zeros(&[2], DType::U32));
    assert_eq!(integers, "the tensor of logits has dtype i64, expected f32, f64, f16 or bf16");
    assert!(message(criterion(Config::new()).class_axis(3), &logits, &zeros(&[2, 3], DType::U32)).contains("out of range"));
    assert!(message(criterion(Config::new()).class_axis(D::Minus(4)), &logits, &zeros(&[2, 3], DType::U32)).contains("out of range"));
    assert!(message(criterion(Config::new()), &zeros(&[], DType::F32), &zeros(&[], DType::U32)).contains("out of range"));
    assert_eq!(
        message(criterion(Config::new()), &zeros(&[2, 0], DType::F32), &zeros(&[2], DType::U32)),
        "the class axis has length 0, expected at least 1 class"
    );
    assert!(matches!(criterion(Config::new()).forward(&logits, &zeros(&[6], DType::U32)), Err(Error::Shape { found, .. }) if found == [6]));
}

#[test]
fn more_entries_than_can_be_counted() {
    let logits = zeros(&[1, 4], DType::F32).broadcast_as((usize::MAX, 4)).unwrap();
    let targets = zeros(&[1], DType::U32).broadcast_as(usize::MAX).unwrap();
    assert!(message(criterion(Config::new()), &logits, &targets).contains("more entries than can be counted"));
}

#[test]
fn values() {
    let logits = zeros(&[3, 4], DType::F32);
    let labels = Tensor::new(&[0i64, 4, 1], &Device::Cpu).unwrap();
    assert_eq!(message(criterion(Config::new()), &logits, &labels), "target 4 in row 1 is outside 0..4 and not an ignore index");
    let least = Tensor::new(&[0i64, 1, i64::MIN], &Device::Cpu).unwrap();
    assert!(message(criterion(Config::new().ignore_index(-100)), &logits, &least).contains("-9223372036854775808 in row 2"));
    let negative = zeros(&[3, 4], DType::F64).affine(0.0, -0.5).unwrap();
    assert_eq!(message(criterion(Config::new()), &logits, &negative), "the target probability of class 0 in row 0 is -0.5, expected a finite number ≥ 0");
    let weights = message(criterion(Config::new().class_weights([1.0, 2.0])), &logits, &zeros(&[3], DType::U8));
    assert_eq!(weights, "class weights: 2 entries, expected 4 (one a class)");
}

#[test]
fn options_of_a_call() {
    let logits = zeros(&[3, 4], DType::F32);
    let targets = zeros(&[3], DType::U32);
    let criterion = criterion(Config::new());
    let on = || criterion.on(&logits, &targets);
    let fails = |call: xent_candle::Call<'_>| call.forward().unwrap_err().to_string();
    let two = zeros(&[2], DType::F32);
    assert!(fails(on().row_weights(&two)).starts_with("the tensor of row weights has shape [2], expected [3], one entry a row,"));
    assert!(fails(on().label_smoothing_rows(&two)).starts_with("the tensor of ε has shape [2]"));
    assert!(fails(on().ignored_rows(&zeros(&[3, 1], DType::U8))).starts_with("the mask of ignored rows has shape [3, 1]"));
    assert!(fails(on().ignored_rows(&zeros(&[3], DType::F32))).contains("has dtype f32, expected an integer dtype"));
    assert!(fails(on().allowed_classes(&zeros(&[3], DType::U8))).contains("expected [4], one entry a class, or [3, 4], one a row and class,"));
    assert!(fails(on().mixed_with(&zeros(&[3, 4], DType::F32), 0.5)).contains("second labels has dtype f32, expected an integer dtype"));
    assert!(fails(on().mixed_with(&targets, &two)).starts_with("the tensor of λ has shape [2]"));
    assert_eq!(fails(on().mixed_with(&targets, 1.5)), "λ is 1.5, expected 0 ≤ λ ≤ 1");
    assert_eq!(fails(on().denominator(0.0)), "the given denominator is 0, expected a finite number > 0");
    let epsilon = Tensor::new(&[0.1f64, f64::NAN, 0.0], &Device::Cpu).unwrap();
    assert_eq!(fails(on().label_smoothing_rows(&epsilon)), "ε of row 1 is NaN, expected 0 ≤ ε ≤ 1");
}

#[test]
fn errors_become_candles() {
    fn loss() -> candle_core::Result<Tensor> {
        let logits = Var::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let targets = Tensor::new(&[0u32, 7], &Device::Cpu)?;
        Ok(CrossEntropy::new(Config::new())?.forward(&logits, &targets)?)
    }
    assert!(loss().unwrap_err().to_string().contains("target 7 in row 1 is outside 0..3"));
}
