//! A case as calls of xent, and what came out. Shared by test programs, none of which uses all of
//! it.
#![allow(dead_code)]

use xent::{Element, Instructions, Real, Rows, RowsMut, bf16, f16};
use xent_spec::translate::{Call, answer};
use xent_spec::{Answer, Case, Dtype};

/// The answer on some instruction set, through every way of calling; `None` is the default.
pub fn run(case: &Case, instructions: Option<Instructions>) -> Result<Answer, String> {
    match case.dtype {
        Dtype::F64 => run_as::<f64>(case, instructions),
        Dtype::F32 => run_as::<f32>(case, instructions),
        Dtype::F16 => run_as::<f16>(case, instructions),
        Dtype::Bf16 => run_as::<bf16>(case, instructions),
    }
}

/// `forward`, `loss_and_gradient`, `forward_backward` and `forward_backward_in_place` must agree to
/// the last bit, write every position of the view and none outside it, and nothing at all when they
/// refuse. Axes are counted from either end.
fn run_as<T: Element>(case: &Case, instructions: Option<Instructions>) -> Result<Answer, String> {
    let mut call = Call::new(case).map_err(|error| error.to_string())?;
    if let Some(instructions) = instructions {
        call.criterion = call
            .criterion
            .config()
            .clone()
            .instructions(instructions)
            .build()
            .map_err(|error| error.to_string())?;
    }
    let strides: Vec<isize> =
        case.layout.strides(&case.shape).into_iter().map(|stride| stride as isize).collect();
    let offset = case.layout.offset;
    let buffer: Vec<T> = case.buffer(f64::NAN).into_iter().map(T::from_f64).collect();
    let sentinel = T::from_f64(-77.0);
    let mut grad = vec![sentinel; buffer.len()];
    let mut in_place = buffer.clone();

    let (axis, from_the_end) = (case.axis as isize, case.axis as isize - case.shape.len() as isize);
    let logits = Rows::strided(&buffer, &case.shape, &strides, offset, axis)
        .map_err(|error| error.to_string())?;
    let mut grad_view = RowsMut::strided(&mut grad, &case.shape, &strides, offset, from_the_end)
        .map_err(|error| error.to_string())?;
    let mut in_place_view =
        RowsMut::strided(&mut in_place, &case.shape, &strides, offset, from_the_end)
            .map_err(|error| error.to_string())?;

    let batch = || call.batch().map_err(|error| error.to_string());
    let output =
        call.criterion.forward_backward(&logits, batch()?, call.upstream(), &mut grad_view);
    let over_logits =
        call.criterion.forward_backward_in_place(&mut in_place_view, batch()?, call.upstream());
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            assert!(
                grad.iter().all(|g| same_bits(*g, sentinel)),
                "{}: written although refused: {error}",
                case.name
            );
            assert!(
                in_place.iter().zip(&buffer).all(|(a, b)| same_bits(*a, *b)),
                "{}: logits changed although refused: {error}",
                case.name
            );
            assert_eq!(over_logits.unwrap_err().to_string(), error.to_string(), "{}", case.name);
            return Err(error.to_string());
        }
    };
    let alone = call.criterion.forward(&logits, batch()?).map_err(|error| error.to_string())?;
    let over_logits = over_logits.map_err(|error| error.to_string())?;
    assert_same_output(case, "forward", &alone, &output);
    assert_same_output(case, "in place", &over_logits, &output);
    assert_eq!(output.rows, case.row_count(), "{}", case.name);
    if case.upstream.is_unit() {
        let (with_new, new) = call
            .criterion
            .loss_and_gradient(&logits, batch()?)
            .map_err(|error| error.to_string())?;
        assert_same_output(case, "with a new gradient", &with_new, &output);
        for (i, g) in new.iter().enumerate() {
            let (row, class) = (i / logits.classes(), i % logits.classes());
            let place = case.layout.place(&case.shape, case.position(row, class));
            assert!(
                same_bits(*g, grad[place]),
                "{}: new gradient differs in row {row}, class {class}",
                case.name
            );
        }
    }

    let mut in_view = vec![false; buffer.len()];
    let mut values = Vec::with_capacity(case.logits.len());
    for position in 0..case.logits.len() {
        let place = case.layout.place(&case.shape, position);
        in_view[place] = true;
        values.push(grad[place].to_real().to_f64());
        assert!(
            same_bits(grad[place], in_place[place]),
            "{}: in-place gradient differs at {position}",
            case.name
        );
    }
    for (place, _) in in_view.iter().enumerate().filter(|(_, in_view)| !**in_view) {
        assert!(
            same_bits(grad[place], sentinel),
            "{}: element {place} beside the gradient written",
            case.name
        );
        assert!(
            same_bits(in_place[place], buffer[place]),
            "{}: element {place} beside the logits written",
            case.name
        );
    }
    Ok(answer(&output, values))
}

pub fn same_bits<T: Element>(a: T, b: T) -> bool {
    let (a, b) = (a.to_real().to_f64(), b.to_real().to_f64());
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Debug prints the shortest number that reads back as the same, so equal text is equal bits (and
/// NaN equals NaN).
fn assert_same_output<F: Real>(case: &Case, way: &str, a: &xent::Output<F>, b: &xent::Output<F>) {
    assert_eq!(format!("{a:?}"), format!("{b:?}"), "{}: {way}", case.name);
}

/// Numbers in [−1, 1), the same each time.
pub fn noise(len: usize) -> impl Iterator<Item = f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len).map(move |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}
