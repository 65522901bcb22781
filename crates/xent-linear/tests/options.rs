//! Random shapes and options, against the same criterion on all logits in f64.

mod reference;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reference::{Layer, distance, narrow, wide};
use xent::{
    AllowedClasses, Batch, ClassWeighting, Config, Denominator, Element, EmptyMean, Form, Masked,
    Output, Prior, PriorMatrix, Reduced, Reduction, Rows, Targets, Upstream, bf16, f16,
};
use xent_linear::{Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};

/// Numbers that sum to 1 along each row of `classes`.
fn distributions(rng: &mut impl Rng, rows: usize, classes: usize) -> Vec<f64> {
    let mut values: Vec<f64> = (0..rows * classes).map(|_| rng.random_range(0.0..1.0)).collect();
    for row in values.chunks_mut(classes) {
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|value| *value /= sum);
    }
    values
}

fn config(rng: &mut impl Rng, classes: usize, dense: bool) -> Config {
    let mut config = Config::new().label_smoothing([0.0, 0.1, 1.0][rng.random_range(0..3)]);
    config.prior = match rng.random_range(0..5) {
        0 => Prior::Uniform,
        1 => Prior::WrongClasses,
        2 => Prior::Excluding(vec![rng.random_range(0..classes)]),
        3 => Prior::fixed(distributions(rng, 1, classes)),
        _ => Prior::ByTrueClass(
            PriorMatrix::new(classes, distributions(rng, classes, classes)).unwrap(),
        ),
    };
    if !dense {
        config.ignore_indices = vec![-100];
        if rng.random_bool(0.2) {
            config.ignore_indices.push(rng.random_range(0..classes as i64));
        }
    }
    if rng.random_bool(0.4) {
        config.class_weights =
            Some((0..classes).map(|_| rng.random_range(0..3) as f64 / 2.0).collect());
    }
    if rng.random_bool(0.3) {
        config.class_weighting = ClassWeighting::PerRow;
    }
    if rng.random_bool(0.3) {
        config.masked = Masked::Renormalise;
    }
    config.reduction = [Reduction::Mean, Reduction::Sum, Reduction::None][rng.random_range(0..3)];
    config.denominator =
        [Denominator::PyTorch, Denominator::KeptRows, Denominator::Rows][rng.random_range(0..3)];
    config.empty_mean = [EmptyMean::Nan, EmptyMean::Zero, EmptyMean::Error][rng.random_range(0..3)];
    if rng.random_bool(0.3) {
        config.form = Form::KlDivergence;
    }
    if rng.random_bool(0.4) {
        config.z_loss = 0.01;
    }
    if rng.random_bool(0.2) {
        config.softcap = Some(5.0);
    }
    if rng.random_bool(0.2) {
        config.temperature = 2.0;
    }
    config
}

/// A buffer with room for a matrix by rows or by columns, with gaps, upwards or downwards.
struct Place {
    strides: [isize; 2],
    offset: usize,
    len: usize,
}

impl Place {
    fn new(rng: &mut impl Rng, [rows, columns]: [usize; 2]) -> Self {
        let gap = rng.random_range(0..3);
        let by_column: bool = rng.random_bool(0.4);
        let mut strides = match by_column {
            false => [(columns + gap) as isize, 1],
            true => [1, (rows + gap) as isize],
        };
        let len = if by_column { columns * (rows + gap) } else { rows * (columns + gap) };
        let mut offset = 0;
        for (stride, length) in strides.iter_mut().zip([rows, columns]) {
            if length > 0 && rng.random_bool(0.2) {
                offset += (length - 1) * stride.unsigned_abs();
                *stride = -*stride;
            }
        }
        Self { strides, offset, len: len.max(1) }
    }

    fn at(&self, row: usize, column: usize) -> usize {
        let [row, column] = [row as isize * self.strides[0], column as isize * self.strides[1]];
        (self.offset as isize + row + column) as usize
    }

    fn fill<T: Element>(&self, [rows, columns]: [usize; 2], values: &[f64]) -> Vec<T> {
        let mut buffer = vec![T::from_f64(f64::NAN); self.len];
        for row in 0..rows {
            for column in 0..columns {
                buffer[self.at(row, column)] = T::from_f64(values[row * columns + column]);
            }
        }
        buffer
    }

    fn read<T: Element>(&self, [rows, columns]: [usize; 2], buffer: &[T]) -> Vec<T> {
        let positions = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        positions.map(|(row, column)| buffer[self.at(row, column)]).collect()
    }
}

#[track_caller]
fn check_output<F: xent::Real>(came: &Output<F>, expected: &Output<f64>, bar: f64, name: &str) {
    let parts = |output: &Output<f64>| {
        [&output.loss, &output.nll, &output.smoothing, &output.z_loss, &output.floor]
            .map(|part| part.as_slice().to_vec())
    };
    let came = came.to_f64();
    // What a KL divergence subtracts counts for its error.
    let scale = parts(expected)
        .iter()
        .flatten()
        .filter(|x| x.is_finite())
        .fold(0.0f64, |largest, x| largest.max(x.abs()));
    for (part, (came, expected)) in parts(&came).iter().zip(parts(expected)).enumerate() {
        assert_eq!(came.len(), expected.len(), "{name}: part {part}");
        for (came, expected) in came.iter().zip(&expected) {
            let alike = came == expected || (came.is_nan() && expected.is_nan());
            assert!(
                alike || (came - expected).abs() <= bar * scale.max(1e-3),
                "{name}: part {part} is {came}, expected {expected}"
            );
        }
    }
    assert!(matches!(
        (&came.loss, &expected.loss),
        (Reduced::Scalar(_), Reduced::Scalar(_)) | (Reduced::Rows(_), Reduced::Rows(_))
    ));
    assert!(distance(&came.lse, &expected.lse, 1.0) <= bar, "{name}: lse");
    let counts = |output: &Output<f64>| {
        (output.rows, output.ignored, output.non_finite, output.first_non_finite)
    };
    assert_eq!(counts(&came), counts(expected), "{name}");
    assert_eq!(came.denominator.to_bits(), expected.denominator.to_bits(), "{name}");
    assert_eq!(came.predicted.len(), expected.predicted.len(), "{name}");
}

/// One random configuration. Returns whether it was refused, as it was to be.
fn check<T: Element>(seed: u64, bar: f64) -> bool {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let rows = [0, 1, 2, 5, 17, 40][rng.random_range(0..6)];
    let features = [1, 2, 3, 8, 16, 33, 64][rng.random_range(0..7)];
    let classes = [1, 2, 3, 5, 10, 31, 64, 100, 130][rng.random_range(0..9)];
    let layer = Layer::new::<T>(rows, features, classes, rng.random_bool(0.5), seed);
    let kind = rng.random_range(0..4);
    let config = config(rng, classes, kind == 0);
    let name = format!("seed {seed}: {rows} x {features} x {classes}, {config:?}");
    let criterion = config.build().unwrap();

    let mut labels = || -> Vec<i64> {
        (0..rows)
            .map(|_| match rng.random_bool(0.3) {
                true if kind != 0 => -100,
                _ => rng.random_range(0..classes as i64),
            })
            .collect()
    };
    let (a, b) = (labels(), labels());
    let lambdas: Vec<f64> = (0..rows).map(|_| rng.random_range(0..5) as f64 / 4.0).collect();
    let probabilities = distributions(rng, rows, classes);
    let targets = match kind {
        0 => Targets::from(Rows::new(&probabilities, classes).unwrap()),
        1 if rng.random_bool(0.5) => Targets::mix(&a, &b, &lambdas),
        1 => Targets::mix(&a, &b, 0.75),
        _ => Targets::from(&a),
    };
    let mut batch = Batch::new(targets).predictions(rng.random_bool(0.5));
    let epsilons: Vec<f64> = (0..rows).map(|_| rng.random_range(0.0..=1.0)).collect();
    let weights: Vec<f64> = (0..rows).map(|_| rng.random_range(0..4) as f64 / 2.0).collect();
    let ignored: Vec<bool> = (0..rows).map(|_| rng.random_bool(0.3)).collect();
    let allowed: Vec<bool> = (0..rows.max(1) * classes).map(|_| rng.random_bool(0.8)).collect();
    if rng.random_bool(0.2) {
        batch = batch.label_smoothing_rows(&epsilons);
    }
    if rng.random_bool(0.3) {
        batch = batch.row_weights(&weights);
    }
    if rng.random_bool(0.3) {
        batch = batch.ignored_rows(&ignored);
    }
    match rng.random_range(0..6) {
        0 => batch = batch.allowed_classes(AllowedClasses::Shared(&allowed[..classes])),
        1 => batch = batch.allowed_classes(AllowedClasses::PerRow(&allowed[..rows * classes])),
        _ => {}
    }
    if rng.random_bool(0.2) {
        batch = batch.denominator(7.0);
    }
    let upstreams: Vec<f64> = (0..rows).map(|_| rng.random_range(-1..3) as f64).collect();
    let upstream = match criterion.config().reduction {
        Reduction::None if rng.random_bool(0.7) => Upstream::from(&upstreams),
        _ => Upstream::Scalar([1.0, 3.7, 65536.0][rng.random_range(0..3)]),
    };

    let (h, w) = ([rows, features], [classes, features]);
    let places: [Place; 4] = [h, w, h, w].map(|shape| Place::new(rng, shape));
    let hidden: Vec<T> = places[0].fill(h, &layer.hidden);
    let weight: Vec<T> = places[1].fill(w, &layer.weight);
    let bias: Option<Vec<T>> = layer.bias.as_ref().map(|bias| narrow(bias));
    let matrix = |place: &Place, shape, data| {
        Matrix::strided(data, shape, place.strides, place.offset).unwrap()
    };
    let mut linear =
        Linear::new(matrix(&places[0], h, &hidden), matrix(&places[1], w, &weight)).unwrap();
    if let Some(bias) = &bias {
        linear = linear.bias(bias).unwrap();
    }
    // As large as the type has: no gradient is that.
    let sentinel = [3e38, 65_504.0].map(|x| wide(T::from_f64(x))).into_iter();
    let sentinel = sentinel.fold(0.0, |best, x| if x.is_finite() { x.max(best) } else { best });
    let sentinel = wide(T::Real::from_f64(sentinel));
    let mut to_hidden = vec![T::from_f64(sentinel); places[2].len];
    let mut to_weight = vec![T::Real::from_f64(sentinel); places[3].len];
    let mut to_bias = vec![T::Real::from_f64(sentinel); classes];
    let needed: [bool; 3] = std::array::from_fn(|_| rng.random_bool(0.8));
    let into = Gradients {
        hidden: needed[0].then(|| {
            MatrixMut::strided(&mut to_hidden, h, places[2].strides, places[2].offset).unwrap()
        }),
        weight: needed[1].then(|| {
            MatrixMut::strided(&mut to_weight, w, places[3].strides, places[3].offset).unwrap()
        }),
        bias: needed[2].then_some(&mut to_bias[..]),
    };
    let mut workspace = Workspace::default();
    let largest_upstream = match &upstream {
        Upstream::Scalar(upstream) => *upstream,
        Upstream::Rows(_) => 2.0,
    };
    let expected = layer.expected(&criterion, batch.clone(), upstream.clone());
    let came =
        criterion.linear_forward_backward(&linear, batch.clone(), upstream, into, &mut workspace);
    let untouched = |len: usize, values: &mut dyn Iterator<Item = f64>| {
        values.filter(|value| *value == sentinel).count() == len
    };
    let (expected, came) = match (expected, came) {
        (Ok(expected), Ok(came)) => (expected, came),
        (Err(expected), Err(came)) => {
            assert_eq!(came.to_string(), expected.to_string(), "{name}");
            assert!(untouched(to_hidden.len(), &mut to_hidden.iter().map(|x| wide(*x))));
            assert!(untouched(to_weight.len(), &mut to_weight.iter().map(|x| wide(*x))));
            return true;
        }
        (Ok(_), Err(error)) => panic!("{name}: {error}"),
        (Err(error), Ok(_)) => panic!("{name}: not refused: {error}"),
    };
    check_output(&came, &expected.output, bar, &name);
    let forward = criterion.linear_forward(&linear, batch, &mut workspace).unwrap();
    assert_eq!(format!("{forward:?}"), format!("{came:?}"), "{name}");

    // With one class, gradients are 0 but for the rounding errors of what cancels.
    let divisor = match criterion.config().reduction {
        Reduction::Mean => came.denominator,
        _ => 1.0,
    };
    let of_one_class = if classes == 1 { largest_upstream * rows as f64 / divisor } else { 0.0 };
    let least = expected.terms.map(|terms| terms.max(of_one_class));
    // One unit of the type to which the gradient of H is rounded.
    let rounding = wide(T::from_f64(1.0 + bar)) - 1.0;
    let rounding =
        if rounding == 0.0 { [1e-3, 8e-3][usize::from(size_of::<T>() == 2)] } else { 0.0 };
    let checks = [
        (
            needed[0],
            distance(&places[2].read(h, &to_hidden), &expected.hidden, least[0]),
            bar + rounding,
        ),
        (needed[1], distance(&places[3].read(w, &to_weight), &expected.weight, least[1]), bar),
        (needed[2], distance(&to_bias, &expected.bias, least[2]), bar),
    ];
    for ((needed, distance, bar), what) in checks.into_iter().zip(["hidden", "weight", "bias"]) {
        assert!(!needed || distance <= bar, "{name}: {what} is {distance:e} away, {bar:e} allowed");
    }
    // Nothing beside a view is written, and nothing without a place.
    for (needed, len, buffer) in [
        (needed[0], rows * features, to_hidden.iter().map(|x| wide(*x)).collect::<Vec<_>>()),
        (needed[1], classes * features, to_weight.iter().map(|x| wide(*x)).collect()),
        (needed[2], classes, to_bias.iter().map(|x| wide(*x)).collect()),
    ] {
        let written = if needed { len } else { 0 };
        assert!(
            untouched(buffer.len() - written, &mut buffer.into_iter()),
            "{name}: beside a view"
        );
    }
    false
}

fn check_many<T: Element>(seeds: std::ops::Range<u64>, bar: f64) {
    let all = seeds.end - seeds.start;
    let refused = seeds.filter(|&seed| check::<T>(seed, bar)).count() as u64;
    assert!(refused < all / 5, "{refused} of {all} were refused");
}

// What is left of a gradient where nearly everything cancels has the rounding errors of the logits;
// `accuracy.rs` has the bars for gradients of the usual size.

#[test]
fn in_f64() {
    check_many::<f64>(0..1000, 1e-12);
}

#[test]
fn in_f32() {
    check_many::<f32>(1000..2000, 1e-5);
}

#[test]
fn in_f16() {
    check_many::<f16>(2000..3000, 1e-5);
}

#[test]
fn in_bf16() {
    check_many::<bf16>(3000..4000, 1e-5);
}
