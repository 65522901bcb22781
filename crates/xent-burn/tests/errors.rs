//! What cannot be used comes back as an error that says what came, where, and what was expected; where burn's manner has no error, it is the message of a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::config::Config;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use xent::{EmptyMean, Prior, PriorMatrix, Reduction};
use xent_burn::{Call, CrossEntropy, CrossEntropyConfig, Error, Targets};

fn device() -> Device {
    Device::flex()
}

fn config() -> CrossEntropyConfig {
    CrossEntropyConfig::new()
}

fn zeros<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::zeros(shape, &device())
}

fn labels<const R: usize>(shape: [usize; R]) -> Tensor<R, Int> {
    Tensor::zeros(shape, &device())
}

/// The message of a forward pass on both paths, which must be the same.
fn message<const D: usize>(criterion: CrossEntropy, logits: Tensor<D>, targets: impl Targets<D> + Clone) -> String {
    let [engine, composed] =
        [false, true].map(|composed| criterion.clone().composed(composed).on(logits.clone(), targets.clone()).forward().unwrap_err().to_string());
    assert_eq!(engine, composed);
    engine
}

#[test]
fn configurations() {
    let error = config().with_label_smoothing(1.5).try_init().unwrap_err();
    assert_eq!(error.to_string(), "label smoothing is 1.5, expected 0 ≤ ε ≤ 1");
    assert!(matches!(error, Error::Config(_)));
    let panic = catch_unwind(|| config().with_temperature(0.0).init()).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "temperature is 0, expected a finite number > 0");
}

#[test]
fn a_panic_has_the_message_of_the_error() {
    let call = || config().init().forward(zeros([2, 3]), Tensor::<1, Int>::from_ints([0, 7], &device()));
    let panic = catch_unwind(call).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "target 7 in row 1 is outside 0..3 and not an ignore index");
}

#[test]
fn shapes_axes_and_dtypes() {
    let logits = zeros([2, 3, 4]);
    assert_eq!(
        message(config().init(), logits.clone(), labels([2, 4])),
        "the tensor of target class indices has shape [2, 4], expected [2, 3], one entry a row, beside logits of shape [2, 3, 4] with the classes on axis 2"
    );
    assert!(
        message(config().init(), logits.clone(), zeros([2, 4, 3]))
            .starts_with("the tensor of target probabilities (its dtype is a float's) has shape [2, 4, 3]")
    );
    for axis in [3, -4] {
        assert_eq!(
            message(config().with_class_axis(axis).init(), logits.clone(), labels([2, 3])),
            format!("the class axis is {axis}, expected an axis of logits of shape [2, 3, 4]: -3 to 2")
        );
    }
    assert_eq!(message(config().init(), zeros([2, 0]), labels([2])), "the class axis has length 0, expected at least 1 class");
    let rows = config().init().on(logits, labels([2, 3])).forward_no_reduction::<1>().unwrap_err();
    assert_eq!(rows.to_string(), "1 dimensions were asked of the rows' losses, expected 2, the logits' without the class axis");
    assert_eq!(
        message(config().with_reduction(Reduction::None).init(), zeros([2, 3]), labels([2])),
        "the reduction is none, expected mean or sum, or forward_no_reduction instead of forward"
    );
}

#[test]
fn values() {
    let of = |labels: [i64; 3]| {
        let labels = Tensor::<1, Int>::from_data(TensorData::from(labels), (&device(), DType::I64));
        message(config().with_ignore_indices(vec![-100]).init().checked(true), zeros([3, 4]), labels)
    };
    assert_eq!(of([0, 4, -100]), "target 4 in row 1 is outside 0..4 and not an ignore index");
    assert!(of([0, 1, i64::MIN]).contains("-9223372036854775808 in row 2"));
    assert_eq!(
        message(config().init().checked(true), zeros([3, 4]), zeros([3, 4]) - 0.5),
        "the target probability of class 0 in row 0 is -0.5, expected a finite number ≥ 0"
    );
}

/// What concerns the number of classes is known without a look at the batch.
#[test]
fn options_that_do_not_go_with_the_classes() {
    let of = |config: CrossEntropyConfig| message(config.init(), zeros([3, 4]), labels([3]));
    assert_eq!(of(config().with_class_weights(Some(vec![1.0, 2.0]))), "class weights: 2 entries, expected 4 (one a class)");
    assert_eq!(of(config().with_prior(Prior::Fixed(vec![0.5, 0.5]))), "the prior: 2 entries, expected 4 (one a class)");
    assert!(of(config().with_prior(Prior::Excluding(vec![4]))).contains("class 4"));
    let matrix = PriorMatrix::new(2, vec![0.5; 4]).unwrap();
    assert!(of(config().with_prior(Prior::ByTrueClass(matrix))).contains("2 entries, expected 4"));
    let ignoring = message(config().with_ignore_indices(vec![0]).init(), zeros([3, 4]), zeros([3, 4]));
    assert!(ignoring.starts_with("probability targets have no index to ignore"));
}

#[test]
fn options_of_a_call() {
    let criterion = config().init();
    let on = |composed: bool| criterion.clone().composed(composed).checked(true);
    let fails = |dress: &dyn Fn(Call<'_, 2>) -> Result<Tensor<1>, Error>| {
        let [engine, composed] = [false, true].map(|composed| dress(on(composed).on(zeros([3, 4]), labels([3]))).unwrap_err().to_string());
        assert_eq!(engine, composed);
        engine
    };
    let two = || zeros([2]);
    let mask = |shape: [usize; 1]| Tensor::<1, Bool>::full(shape, true, &device());
    assert!(fails(&|call| call.row_weights(two()).forward()).starts_with("the tensor of row weights has shape [2], expected [3], one entry a row,"));
    assert!(fails(&|call| call.label_smoothing_rows(two()).forward()).starts_with("the tensor of ε has shape [2]"));
    assert!(fails(&|call| call.ignored_rows(mask([2])).forward()).starts_with("the mask of ignored rows has shape [2]"));
    assert!(fails(&|call| call.allowed_classes(mask([3])).forward()).contains("expected [4], one entry a class,"));
    assert!(fails(&|call| call.allowed_classes_rows(Tensor::full([3, 3], true, &device())).forward()).contains("expected [3, 4], one entry a row and class,"));
    assert!(fails(&|call| call.mixed_with(labels([2]), 0.5).forward()).starts_with("the tensor of second labels has shape [2]"));
    assert!(fails(&|call| call.mixed_with(labels([3]), two()).forward()).starts_with("the tensor of λ has shape [2]"));
    assert_eq!(fails(&|call| call.mixed_with(labels([3]), 1.5).forward()), "λ is 1.5, expected 0 ≤ λ ≤ 1");
    assert_eq!(fails(&|call| call.denominator(0.0).forward()), "the given denominator is 0, expected a finite number > 0");
    let epsilon = || Tensor::<1>::from_floats([0.1, f32::NAN, 0.0], &device());
    assert_eq!(fails(&|call| call.label_smoothing_rows(epsilon()).forward()), "ε of row 1 is NaN, expected 0 ≤ ε ≤ 1");
}

/// burn's operations do not look at numbers unless they are told to: a row that cannot be computed is NaN, and no other row notices.
#[test]
fn bad_rows_are_nan_where_nobody_looks() {
    let good = Tensor::<1, Int>::from_ints([0, 1, 2, 3], &device());
    let labels = Tensor::<1, Int>::from_ints([0, 4, -1, 3], &device());
    let weights = Tensor::<1>::from_floats([1.0, 1.0, 1.0, -1.0], &device());
    let criterion = config().with_label_smoothing(0.1).init().composed(true);
    let variable = zeros([4, 4]).autodiff().require_grad();
    let output = criterion.on(variable.clone(), labels).row_weights(weights).forward_no_reduction_with_output::<1>().unwrap();
    let loss: Vec<f32> = output.loss.to_data().iter().collect();
    assert!(loss[0] == 4f32.ln() && loss[1..].iter().all(|loss| loss.is_nan()), "{loss:?}");
    assert_eq!((output.non_finite.into_scalar::<i64>(), output.first_non_finite.into_scalar::<i64>()), (3, 1));
    let gradient: Vec<f32> = variable.grad(&output.loss.sum().backward()).unwrap().to_data().iter().collect();
    assert!(gradient[..4].iter().all(|entry| entry.is_finite()) && gradient[4..].iter().all(|entry| entry.is_nan()));
    let plain: Tensor<1> = criterion.forward_no_reduction(zeros([4, 4]), good);
    assert_eq!(plain.to_data().iter::<f32>().collect::<Vec<_>>(), [4f32.ln(); 4]);
}

/// A mean that is an error where nothing is kept has to look.
#[test]
fn a_mean_over_nothing() {
    let config = config().with_ignore_indices(vec![0]).with_empty_mean(EmptyMean::Error);
    assert_eq!(message(config.init(), zeros([3, 4]), labels([3])), "the mean's denominator is 0: 3 of 3 rows are ignored and the rest weigh nothing");
}

#[test]
fn a_configuration_that_was_stored() {
    let matrix = PriorMatrix::new(2, vec![0.25, 0.75, 1.0, 0.0]).unwrap();
    for prior in [Prior::Uniform, Prior::Excluding(vec![3]), Prior::Fixed(vec![0.5, 0.5]), Prior::ByTrueClass(matrix)] {
        let config = config().with_label_smoothing(0.1).with_prior(prior).with_ignore_indices(vec![-100]).with_softcap(Some(30.0));
        let stored = serde_json::to_string(&config).unwrap();
        assert_eq!(CrossEntropyConfig::load_binary(stored.as_bytes()).unwrap(), config);
    }
    let stored = serde_json::to_string(&config()).unwrap();
    assert!(stored.contains(r#""masked":"pytorch""#) && stored.contains(r#""reduction":"mean""#), "{stored}");
    let matrix = r#"{"by_true_class":{"classes":2,"entries":[0.25,0.5,1.0,0.0]}}"#;
    let error = serde_json::from_str::<Prior>(matrix).unwrap_err().to_string();
    assert!(error.contains("row 0 of the prior matrix"), "{error}");
}

#[test]
fn integers_are_no_logits() {
    // burn's types see to that; quantised floats are what is left.
    let quantised = zeros([2, 32]).quantize_dynamic(&Default::default());
    assert!(matches!(quantised.dtype(), DType::QFloat(_)));
    let refused = catch_unwind(AssertUnwindSafe(|| config().init().on(quantised, labels([2])).forward())).unwrap();
    assert!(refused.unwrap_err().to_string().starts_with("the tensor of logits has dtype"));
}
