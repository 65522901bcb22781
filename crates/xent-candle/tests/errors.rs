//! What cannot be used comes back as an error that says what came, where, and what was expected;
//! and converts into candle's.

use candle_core::{DType, Device, Tensor, Var};
use xent_candle::xent::{self, Config, Reduction};
use xent_candle::{Call, CrossEntropy, Error};

fn zeros(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::zeros(shape, dtype, &Device::Cpu).unwrap()
}

fn criterion(config: Config) -> CrossEntropy {
    CrossEntropy::new(config).unwrap()
}

/// The message of a forward pass on both paths, which must be the same.
fn message(criterion: CrossEntropy, logits: &Tensor, targets: &Tensor) -> String {
    let [engine, composed] = [false, true].map(|composed| {
        criterion
            .clone()
            .composed(composed)
            .checked(true)
            .forward(logits, targets)
            .unwrap_err()
            .to_string()
    });
    assert_eq!(engine, composed);
    engine
}

#[test]
fn configurations() {
    let error = CrossEntropy::new(Config::new().label_smoothing(1.5)).unwrap_err();
    assert_eq!(error.to_string(), "label smoothing is 1.5, expected 0 ≤ ε ≤ 1");
    assert!(matches!(error, Error::Xent(xent::Error::Config(_))));
}

#[test]
fn shapes_and_dtypes() {
    let logits = zeros(&[2, 3, 4], DType::F32);
    let of = |targets: Tensor| message(criterion(Config::new()), &logits, &targets);
    assert_eq!(
        of(zeros(&[2, 4], DType::U32)),
        "the tensor of target class indices has shape [2, 4], expected [2, 3], one entry per row, beside logits of shape [2, 3, 4] with the classes on axis 2"
    );
    assert_eq!(
        of(zeros(&[2, 3], DType::F32)),
        "the tensor of target probabilities (a floating-point dtype) has shape [2, 3], expected [2, 3, 4], one entry per row and class, beside logits of shape [2, 3, 4] with the classes on axis 2"
    );
    let integers =
        message(criterion(Config::new()), &zeros(&[2, 3], DType::I64), &zeros(&[2], DType::U32));
    assert_eq!(integers, "the tensor of logits has dtype i64, expected f32, f64, f16 or bf16");
    assert!(
        message(criterion(Config::new()).class_axis(3), &logits, &zeros(&[2, 3], DType::U32))
            .contains("class axis 3 of a shape with 3 axes")
    );
    assert!(
        message(criterion(Config::new()).class_axis(-4), &logits, &zeros(&[2, 3], DType::U32))
            .contains("class axis -4 of a shape with 3 axes")
    );
    assert!(
        message(criterion(Config::new()), &zeros(&[], DType::F32), &zeros(&[], DType::U32))
            .contains("of a shape with 0 axes")
    );
    assert_eq!(
        message(criterion(Config::new()), &zeros(&[2, 0], DType::F32), &zeros(&[2], DType::U32)),
        "the class axis has length 0, expected at least 1 class"
    );
    assert!(
        matches!(criterion(Config::new()).forward(&logits, &zeros(&[6], DType::U32)), Err(Error::Xent(xent::Error::Shape { found, .. })) if found == [6])
    );
}

#[test]
fn more_entries_than_can_be_counted() {
    let logits = zeros(&[1, 4], DType::F32).broadcast_as((usize::MAX, 4)).unwrap();
    let targets = zeros(&[1], DType::U32).broadcast_as(usize::MAX).unwrap();
    assert!(
        message(criterion(Config::new()), &logits, &targets)
            .contains("more positions than memory can hold")
    );
}

#[test]
fn values() {
    let logits = zeros(&[3, 4], DType::F32);
    let labels = Tensor::new(&[0i64, 4, 1], &Device::Cpu).unwrap();
    assert_eq!(
        message(criterion(Config::new()), &logits, &labels),
        "target 4 in row 1 is outside 0..4 and not an ignore index"
    );
    let least = Tensor::new(&[0i64, 1, i64::MIN], &Device::Cpu).unwrap();
    assert!(
        message(criterion(Config::new().ignore_index(-100)), &logits, &least)
            .contains("-9223372036854775808 in row 2")
    );
    let negative = zeros(&[3, 4], DType::F64).affine(0.0, -0.5).unwrap();
    assert_eq!(
        message(criterion(Config::new()), &logits, &negative),
        "the target probability of class 0 in row 0 is -0.5, expected a finite number ≥ 0"
    );
    let weights = message(
        criterion(Config::new().class_weights(&[1.0, 2.0])),
        &logits,
        &zeros(&[3], DType::U8),
    );
    assert_eq!(weights, "class weights: 2 entries, expected 4 (one per class)");
}

#[test]
fn options_of_a_call() {
    let logits = zeros(&[3, 4], DType::F32);
    let targets = zeros(&[3], DType::U32);
    let criterion = criterion(Config::new());
    let on = || criterion.on(&logits, &targets);
    let fails = |call: Call<'_>| call.forward().unwrap_err().to_string();
    let two = zeros(&[2], DType::F32);
    assert!(
        fails(on().row_weights(&two)).starts_with(
            "the tensor of row weights has shape [2], expected [3], one entry per row,"
        )
    );
    assert!(fails(on().label_smoothing_rows(&two)).starts_with("the tensor of ε has shape [2]"));
    assert!(
        fails(on().ignored_rows(&zeros(&[3, 1], DType::U8)))
            .starts_with("the mask of ignored rows has shape [3, 1]")
    );
    assert!(
        fails(on().ignored_rows(&zeros(&[3], DType::F32)))
            .contains("has dtype f32, expected an integer dtype")
    );
    assert!(
        fails(on().allowed_classes(&zeros(&[3], DType::U8)))
            .contains("expected [4], one entry per class, or [3, 4], one per row and class,")
    );
    assert!(
        fails(on().mixed_with(&zeros(&[3, 4], DType::F32), 0.5))
            .contains("second labels has dtype f32, expected an integer dtype")
    );
    assert!(fails(on().mixed_with(&targets, &two)).starts_with("the tensor of λ has shape [2]"));
    assert_eq!(fails(on().mixed_with(&targets, 1.5)), "λ is 1.5, expected 0 ≤ λ ≤ 1");
    assert_eq!(
        fails(on().denominator(0.0)),
        "the given denominator is 0, expected a finite number > 0"
    );
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

/// Row 1 of a composed loss is NaN, and so is its gradient; other rows are as in `expected`; and
/// where it is checked the message contains `message`.
fn judge(
    composed: &CrossEntropy,
    batch: &dyn Fn(&CrossEntropy) -> Result<Tensor, Error>,
    logits: &Var,
    expected: (&[f64], &[Vec<f64>]),
    message: &str,
) {
    let loss = batch(composed).unwrap();
    let gradient = loss.backward().unwrap().get(logits).unwrap().to_vec2::<f64>().unwrap();
    let loss = loss.to_vec1::<f64>().unwrap();
    assert!(
        loss[1].is_nan() && gradient[1].iter().all(|entry| entry.is_nan()),
        "{message}: {loss:?}, {gradient:?}"
    );
    for row in [0, 2] {
        assert!((loss[row] - expected.0[row]).abs() < 1e-14, "{message}: {loss:?}");
        assert!(
            gradient[row].iter().zip(&expected.1[row]).all(|(a, b)| (a - b).abs() < 1e-14),
            "{message}: {gradient:?}"
        );
    }
    let error = batch(&composed.clone().checked(true)).unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn bad_rows_are_nan_unless_checked() -> Result<(), Error> {
    let device = &Device::Cpu;
    let logits = &Var::new(&[[0.5f64, 1.0, -2.0], [3.0, 0.0, 0.25], [1.0, 2.0, -1.0]], device)?;
    let criterion = |reduction, ignore: &[i64]| -> Result<CrossEntropy, Error> {
        Ok(CrossEntropy::new(
            Config::new()
                .label_smoothing(0.25)
                .reduction(reduction)
                .ignore_indices(ignore.iter().copied()),
        )?
        .composed(true))
    };
    let composed = &criterion(Reduction::None, &[-1])?;
    let targets = &Tensor::new(&[0i64, 2, 1], device)?;
    let one_hot =
        |middle: f64| Tensor::new(&[[1.0, 0.0, 0.0], [0.0, 0.5, middle], [0.0, 1.0, 0.0]], device);
    let numbers = |good: f64, middle: f64| Tensor::new(&[good, middle, good], device);

    let loss = composed.forward(logits, targets)?;
    let gradient = loss.backward()?.get(logits).unwrap().to_vec2::<f64>()?;
    let expected = (&loss.to_vec1::<f64>()?[..], &gradient[..]);
    for label in [3, -2, i64::MIN, i64::MAX, 1 << 32] {
        let labels = &Tensor::new(&[0, label, 1], device)?;
        let message = &format!("target {label} in row 1");
        judge(composed, &|criterion| criterion.forward(logits, labels), logits, expected, message);
        judge(
            composed,
            &|criterion| criterion.on(logits, targets).mixed_with(labels, 0.5).forward(),
            logits,
            expected,
            message,
        );
        let mean = criterion(Reduction::Mean, &[])?.forward(logits, labels)?;
        assert!(mean.to_scalar::<f64>()?.is_nan());
        // A masked row's label is not looked at.
        let mask = Tensor::new(&[0u8, 1, 0], device)?;
        assert_eq!(
            composed.on(logits, labels).ignored_rows(&mask).forward()?.to_vec1::<f64>()?[1],
            0.0
        );
    }
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let epsilon = &numbers(0.25, bad)?;
        judge(
            composed,
            &|criterion| criterion.on(logits, targets).label_smoothing_rows(epsilon).forward(),
            logits,
            expected,
            "ε of row 1",
        );
        let lambda = &numbers(1.0, bad)?;
        judge(
            composed,
            &|criterion| criterion.on(logits, targets).mixed_with(targets, lambda).forward(),
            logits,
            expected,
            "λ of row 1",
        );
    }
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let weights = &numbers(1.0, bad)?;
        judge(
            composed,
            &|criterion| criterion.on(logits, targets).row_weights(weights).forward(),
            logits,
            expected,
            "weight of row 1",
        );
        let probabilities = &one_hot(bad)?;
        let composed = &criterion(Reduction::None, &[])?;
        judge(
            composed,
            &|criterion| criterion.forward(logits, probabilities),
            logits,
            expected,
            "in row 1",
        );
    }
    Ok(())
}

/// A bad row tells the mean's other gradients nothing: what the mean divides by stays a number.
#[test]
fn a_bad_row_spoils_no_other_gradient() -> Result<(), Error> {
    let device = &Device::Cpu;
    let logits = Var::new(&[[0.5f32, 1.0, -2.0], [3.0, 0.0, 0.25]], device)?;
    let weighted = Config::new().class_weights(&[1.0, 2.0, 0.5]);
    let per_row = weighted.clone().class_weighting(xent::ClassWeighting::PerRow);
    let nan = Tensor::new(&[[f32::NAN, 1.0, 0.0], [0.0, 0.5, 0.5]], device)?;
    for (config, targets) in [(weighted, Tensor::new(&[7i64, 1], device)?), (per_row, nan)] {
        let loss = criterion(config).composed(true).forward(&logits, &targets)?;
        let gradient = loss.backward()?.get(&logits).unwrap().to_vec2::<f32>()?;
        assert!(
            gradient[0].iter().all(|entry| entry.is_nan())
                && gradient[1].iter().all(|entry| entry.is_finite()),
            "{gradient:?}"
        );
    }
    Ok(())
}

#[test]
fn options_are_errors_without_a_look() {
    let (logits, targets) = (zeros(&[2, 3], DType::F32), zeros(&[2], DType::U32));
    let fails = |config: Config, call: &dyn Fn(&CrossEntropy) -> Result<Tensor, Error>| {
        call(&criterion(config).composed(true)).unwrap_err().to_string()
    };
    assert!(
        fails(Config::new(), &|criterion| criterion
            .on(&logits, &targets)
            .mixed_with(&targets, f64::NAN)
            .forward())
        .starts_with("λ is NaN")
    );
    assert!(
        fails(Config::new(), &|criterion| criterion
            .on(&logits, &targets)
            .denominator(-1.0)
            .forward())
        .contains("denominator is -1")
    );
    assert!(
        fails(Config::new().class_weights(&[1.0; 2]), &|criterion| criterion
            .forward(&logits, &targets))
        .starts_with("class weights: 2 entries")
    );
    assert!(
        fails(Config::new().ignore_index(0), &|criterion| criterion.forward(&logits, &logits))
            .contains("no index to ignore")
    );
    let nothing = Config::new().ignore_index(0).empty_mean(xent::EmptyMean::Error);
    assert!(
        fails(nothing, &|criterion| criterion.forward(&logits, &targets))
            .contains("2 of 2 rows are ignored")
    );
}
