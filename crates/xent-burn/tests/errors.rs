//! What is not valid comes back as an error that says what came, where, and what was expected;
//! where burn's manner has no error, as the message of a panic. And what configurations are stored
//! as.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::config::Config as _;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use xent_burn::xent::{self, Config, EmptyMean, Prior, PriorMatrix, Reduction};
use xent_burn::{Call, CrossEntropy, CrossEntropyConfig, Error, Targets};

fn device() -> Device {
    Device::flex()
}

fn init(config: Config) -> CrossEntropy {
    CrossEntropyConfig::new(config).init()
}

fn zeros<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::zeros(shape, &device())
}

fn labels<const R: usize>(shape: [usize; R]) -> Tensor<R, Int> {
    Tensor::zeros(shape, &device())
}

/// The message of a forward pass on both paths, which must be the same.
fn message<const D: usize>(
    criterion: CrossEntropy,
    logits: Tensor<D>,
    targets: impl Into<Targets<D>> + Clone,
) -> String {
    let [engine, composed] = [false, true].map(|composed| {
        criterion
            .clone()
            .composed(composed)
            .on(logits.clone(), targets.clone())
            .forward()
            .unwrap_err()
            .to_string()
    });
    assert_eq!(engine, composed);
    engine
}

#[test]
fn configurations() {
    let error =
        CrossEntropyConfig::from(Config::new().label_smoothing(1.5)).try_init().unwrap_err();
    assert_eq!(error.to_string(), "label smoothing is 1.5, expected 0 ≤ ε ≤ 1");
    assert!(matches!(error, Error::Xent(xent::Error::Config(_))));
    let panic = catch_unwind(|| init(Config::new().temperature(0.0))).unwrap_err();
    assert_eq!(
        panic.downcast_ref::<String>().unwrap(),
        "temperature is 0, expected a finite number > 0"
    );
}

#[test]
fn a_panic_has_the_message_of_the_error() {
    let call = || {
        init(Config::new()).forward(zeros([2, 3]), Tensor::<1, Int>::from_ints([0, 7], &device()))
    };
    let panic = catch_unwind(call).unwrap_err();
    assert_eq!(
        panic.downcast_ref::<String>().unwrap(),
        "target 7 in row 1 is outside 0..3 and not an ignore index"
    );
}

#[test]
fn shapes_axes_and_dtypes() {
    let logits = zeros([2, 3, 4]);
    assert_eq!(
        message(init(Config::new()), logits.clone(), labels([2, 4])),
        "the tensor of target class indices has shape [2, 4], expected [2, 3], one entry per row, beside logits of shape [2, 3, 4] with the classes on axis 2"
    );
    assert!(message(init(Config::new()), logits.clone(), zeros([2, 4, 3])).starts_with(
        "the tensor of target probabilities (a floating-point dtype) has shape [2, 4, 3]"
    ));
    for axis in [3, -4] {
        assert_eq!(
            message(
                CrossEntropyConfig::new(Config::new()).with_class_axis(axis).init(),
                logits.clone(),
                labels([2, 3])
            ),
            format!("class axis {axis} of a shape with 3 axes, expected -3 to 2")
        );
    }
    assert_eq!(
        message(init(Config::new()), zeros([2, 0]), labels([2])),
        "the class axis has length 0, expected at least 1 class"
    );
    let rows =
        init(Config::new()).on(logits, labels([2, 3])).forward_no_reduction::<1>().unwrap_err();
    assert_eq!(rows.to_string(), "the per-row losses have 2 dimensions, requested 1");
    assert_eq!(
        message(init(Config::new().reduction(Reduction::None)), zeros([2, 3]), labels([2])),
        "the reduction is none, expected mean or sum, or forward_no_reduction instead of forward"
    );
}

#[test]
fn values() {
    let of = |labels: [i64; 3]| {
        let labels = Tensor::<1, Int>::from_data(TensorData::from(labels), (&device(), DType::I64));
        message(init(Config::new().ignore_index(-100)).checked(true), zeros([3, 4]), labels)
    };
    assert_eq!(of([0, 4, -100]), "target 4 in row 1 is outside 0..4 and not an ignore index");
    assert!(of([0, 1, i64::MIN]).contains("-9223372036854775808 in row 2"));
    assert_eq!(
        message(init(Config::new()).checked(true), zeros([3, 4]), zeros([3, 4]) - 0.5),
        "the target probability of class 0 in row 0 is -0.5, expected a finite number ≥ 0"
    );
}

/// What concerns the number of classes is known without a look at the batch.
#[test]
fn options_that_do_not_go_with_the_classes() {
    let of = |config: Config| message(init(config), zeros([3, 4]), labels([3]));
    assert_eq!(
        of(Config::new().class_weights(&[1.0, 2.0])),
        "class weights: 2 entries, expected 4 (one per class)"
    );
    assert_eq!(
        of(Config::new().prior(Prior::Fixed(vec![0.5, 0.5]))),
        "the prior: 2 entries, expected 4 (one per class)"
    );
    assert!(of(Config::new().prior(Prior::Excluding(vec![4]))).contains("class 4"));
    let matrix = PriorMatrix::new(2, vec![0.5; 4]).unwrap();
    assert!(of(Config::new().prior(Prior::ByTrueClass(matrix))).contains("2 entries, expected 4"));
    let ignoring = message(init(Config::new().ignore_index(0)), zeros([3, 4]), zeros([3, 4]));
    assert!(ignoring.starts_with("probability targets have no index to ignore"));
}

#[test]
fn options_of_a_call() {
    let criterion = init(Config::new());
    let on = |composed: bool| criterion.clone().composed(composed).checked(true);
    let fails = |finish: &dyn Fn(Call<'_, 2>) -> Result<Tensor<1>, Error>| {
        let [engine, composed] = [false, true].map(|composed| {
            finish(on(composed).on(zeros([3, 4]), labels([3]))).unwrap_err().to_string()
        });
        assert_eq!(engine, composed);
        engine
    };
    let two = || zeros([2]);
    let mask = |shape: [usize; 1]| Tensor::<1, Bool>::full(shape, true, &device());
    assert!(
        fails(&|call| call.row_weights(two()).forward()).starts_with(
            "the tensor of row weights has shape [2], expected [3], one entry per row,"
        )
    );
    assert!(
        fails(&|call| call.label_smoothing_rows(two()).forward())
            .starts_with("the tensor of ε has shape [2]")
    );
    assert!(
        fails(&|call| call.ignored_rows(mask([2])).forward())
            .starts_with("the mask of ignored rows has shape [2]")
    );
    assert!(
        fails(&|call| call.allowed_classes(mask([3])).forward())
            .contains("expected [4], one entry per class,")
    );
    assert!(
        fails(&|call| call.allowed_classes_rows(Tensor::full([3, 3], true, &device())).forward())
            .contains("expected [3, 4], one entry per row and class,")
    );
    assert!(
        fails(&|call| call.mixed_with(labels([2]), 0.5).forward())
            .starts_with("the tensor of second labels has shape [2]")
    );
    assert!(
        fails(&|call| call.mixed_with(labels([3]), two()).forward())
            .starts_with("the tensor of λ has shape [2]")
    );
    assert_eq!(
        fails(&|call| call.mixed_with(labels([3]), 1.5).forward()),
        "λ is 1.5, expected 0 ≤ λ ≤ 1"
    );
    assert_eq!(
        fails(&|call| call.denominator(0.0).forward()),
        "the given denominator is 0, expected a finite number > 0"
    );
    let epsilon = || Tensor::<1>::from_floats([0.1, f32::NAN, 0.0], &device());
    assert_eq!(
        fails(&|call| call.label_smoothing_rows(epsilon()).forward()),
        "ε of row 1 is NaN, expected 0 ≤ ε ≤ 1"
    );
}

/// burn's operations read no values back unless they are told to: a row that cannot be computed is
/// NaN, and the others are not affected.
#[test]
fn unchecked_bad_rows_are_nan() {
    let good = Tensor::<1, Int>::from_ints([0, 1, 2, 3], &device());
    let labels = Tensor::<1, Int>::from_ints([0, 4, -1, 3], &device());
    let weights = Tensor::<1>::from_floats([1.0, 1.0, 1.0, -1.0], &device());
    let criterion = init(Config::new().label_smoothing(0.1)).composed(true);
    let variable = zeros([4, 4]).autodiff().require_grad();
    let output = criterion
        .on(variable.clone(), labels)
        .row_weights(weights)
        .forward_no_reduction_with_output::<1>()
        .unwrap();
    let loss: Vec<f32> = output.loss.to_data().iter().collect();
    assert!(loss[0] == 4f32.ln() && loss[1..].iter().all(|loss| loss.is_nan()), "{loss:?}");
    assert_eq!(
        (output.non_finite.into_scalar::<i64>(), output.first_non_finite.into_scalar::<i64>()),
        (3, 1)
    );
    let gradient: Vec<f32> =
        variable.grad(&output.loss.sum().backward()).unwrap().to_data().iter().collect();
    assert!(
        gradient[..4].iter().all(|entry| entry.is_finite())
            && gradient[4..].iter().all(|entry| entry.is_nan())
    );
    let plain: Tensor<1> = criterion.forward_no_reduction(zeros([4, 4]), good);
    assert_eq!(plain.to_data().iter::<f32>().collect::<Vec<_>>(), [4f32.ln(); 4]);
}

/// A mean that is an error where no row is kept always reads values back.
#[test]
fn a_mean_over_nothing() {
    let criterion = init(Config::new().ignore_index(0).empty_mean(EmptyMean::Error));
    assert_eq!(
        message(criterion, zeros([3, 4]), labels([3])),
        "the mean's denominator is 0: 3 of 3 rows are ignored and the rest weigh nothing"
    );
}

/// Probabilities are not mixed: the second label would be lost.
#[test]
fn a_second_label_for_probabilities() {
    for composed in [false, true] {
        let criterion = init(Config::new()).composed(composed);
        let error = criterion
            .on(zeros([3, 4]), zeros([3, 4]))
            .mixed_with(labels([3]), 0.5)
            .forward()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the tensor of first labels has dtype f32, expected an integer dtype"
        );
    }
}

/// What the host knows is checked without `checked`.
#[test]
fn numbers_of_the_host() {
    let criterion = init(Config::new()).composed(true);
    let call = || criterion.on(zeros([3, 4]), labels([3]));
    assert_eq!(
        call().mixed_with(labels([3]), 1.5).forward().unwrap_err().to_string(),
        "λ is 1.5, expected 0 ≤ λ ≤ 1"
    );
    assert!(
        call()
            .denominator(-1.0)
            .forward()
            .unwrap_err()
            .to_string()
            .starts_with("the given denominator is -1")
    );
}

#[test]
fn a_configuration_that_was_stored() {
    let folder = std::env::temp_dir().join(format!("xent-burn-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("criterion.json");
    let matrix = PriorMatrix::new(2, vec![0.25, 0.75, 1.0, 0.0]).unwrap();
    for prior in [
        Prior::Uniform,
        Prior::Excluding(vec![3]),
        Prior::Fixed(vec![0.5, 0.5]),
        Prior::ByTrueClass(matrix),
    ] {
        let xent = Config::new()
            .label_smoothing(0.1)
            .prior(prior)
            .ignore_index(-100)
            .softcap(30.0)
            .class_weights(&[1.0, 0.1]);
        let config = CrossEntropyConfig::new(xent).with_class_axis(1);
        config.save(&file).unwrap();
        assert_eq!(CrossEntropyConfig::load(&file).unwrap(), config);
    }
    std::fs::remove_dir_all(folder).unwrap();

    let load = |stored: &str| CrossEntropyConfig::load_binary(stored.as_bytes());
    // What xent's options lack has its default; the rest is for burn's configurations as it is for
    // all.
    assert_eq!(
        load(r#"{"xent": {"label_smoothing": 0.1}, "class_axis": -1}"#).unwrap(),
        Config::new().label_smoothing(0.1).into()
    );
    assert_eq!(
        load(r#"{"xent": {"reduction": "sum"}, "class_axis": 1}"#).unwrap().xent.reduction,
        Reduction::Sum
    );
    assert!(
        load(r#"{"xent": {}}"#).unwrap_err().to_string().contains("missing field `class_axis`")
    );
    assert!(
        load(r#"{"xent": {"smoothing": 0.1}, "class_axis": 1}"#)
            .unwrap_err()
            .to_string()
            .contains("unknown field `smoothing`")
    );
    let matrix = r#"{"xent": {"prior": {"by_true_class": {"classes": 2, "entries": [0.25, 0.5, 1.0, 0.0]}}}, "class_axis": 1}"#;
    assert!(load(matrix).unwrap_err().to_string().contains("row 0 of the prior matrix"));
}

/// The configuration of a criterion is the one that it was made from.
#[test]
fn a_criterion_knows_its_configuration() {
    let config =
        CrossEntropyConfig::new(Config::new().label_smoothing(0.2).reduction(Reduction::Sum))
            .with_class_axis(1);
    assert_eq!(config.init().config(), config);
}

#[test]
fn integers_are_no_logits() {
    // burn's types see to that; quantised floats are what is left.
    let quantised = zeros([2, 32]).quantize_dynamic(&Default::default());
    assert!(matches!(quantised.dtype(), DType::QFloat(_)));
    let refused =
        catch_unwind(AssertUnwindSafe(|| init(Config::new()).on(quantised, labels([2])).forward()))
            .unwrap();
    assert!(refused.unwrap_err().to_string().starts_with("the tensor of logits has dtype"));
}
