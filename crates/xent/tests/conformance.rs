//! The CPU engine judged by the textbook, through every way of calling it.

use std::sync::Once;

use xent::{Element, Instructions, Real, Rows, RowsMut, bf16, f16};
use xent_spec::translate::{Call, answer, config};
use xent_spec::{Answer, Case, Dtype, Subject, conformance};

/// One suite for each instruction set. Where the processor lacks it, the portable kernels pass in its place, and the output says so.
macro_rules! on {
    ($module:ident: $instructions:ident) => {
        mod $module {
            use super::*;

            struct Cpu;

            impl Subject for Cpu {
                const NAME: &'static str = concat!("xent on the CPU, ", stringify!($module));

                fn run(case: &Case) -> Result<Answer, String> {
                    super::run_on(available(Instructions::$instructions), case)
                }
            }

            conformance!(Cpu);
        }
    };
}

on!(portable: Portable);
on!(avx2: Avx2);
on!(avx512: Avx512);

fn available(asked: Instructions) -> Instructions {
    static SAID: Once = Once::new();
    if Instructions::available().contains(&asked) {
        return asked;
    }
    SAID.call_once(|| println!("SKIPPED: {asked} is not to be had on this processor"));
    Instructions::Portable
}

fn run_on(instructions: Instructions, case: &Case) -> Result<Answer, String> {
    match case.dtype {
        Dtype::F64 => run::<f64>(instructions, case),
        Dtype::F32 => run::<f32>(instructions, case),
        Dtype::F16 => run::<f16>(instructions, case),
        Dtype::Bf16 => run::<bf16>(instructions, case),
    }
}

/// `forward`, `forward_backward` and `forward_backward_in_place` must agree to the last bit, write every position of the view and none beside it, and nothing at all
/// when they refuse.
fn run<T: Element>(instructions: Instructions, case: &Case) -> Result<Answer, String> {
    let mut call = Call::new(case)?;
    call.criterion = config(case).and_then(|config| config.instructions(instructions).build()).map_err(|error| error.to_string())?;
    let strides: Vec<isize> = case.layout.strides(&case.shape).into_iter().map(|stride| stride as isize).collect();
    let offset = case.layout.offset;
    let buffer: Vec<T> = case.buffer(f64::NAN).into_iter().map(T::from_f64).collect();
    let sentinel = T::from_f64(-77.0);
    let mut grad = vec![sentinel; buffer.len()];
    let mut in_place = buffer.clone();

    let logits = Rows::strided(&buffer, &case.shape, &strides, offset, case.axis).map_err(|error| error.to_string())?;
    let mut grad_view = RowsMut::strided(&mut grad, &case.shape, &strides, offset, case.axis).map_err(|error| error.to_string())?;
    let mut in_place_view = RowsMut::strided(&mut in_place, &case.shape, &strides, offset, case.axis).map_err(|error| error.to_string())?;

    let output = call.criterion.forward_backward(&logits, call.batch()?, call.upstream(), &mut grad_view);
    let over_logits = call.criterion.forward_backward_in_place(&mut in_place_view, call.batch()?, call.upstream());
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            assert!(grad.iter().all(|g| same_bits(*g, sentinel)), "{}: written although refused: {error}", case.name);
            assert!(in_place.iter().zip(&buffer).all(|(a, b)| same_bits(*a, *b)), "{}: logits changed although refused: {error}", case.name);
            assert_eq!(over_logits.unwrap_err().to_string(), error.to_string(), "{}", case.name);
            return Err(error.to_string());
        }
    };
    let alone = call.criterion.forward(&logits, call.batch()?).map_err(|error| error.to_string())?;
    let over_logits = over_logits.map_err(|error| error.to_string())?;
    assert_same_output(case, "forward", &alone, &output);
    assert_same_output(case, "in place", &over_logits, &output);

    let mut in_view = vec![false; buffer.len()];
    let mut values = Vec::with_capacity(case.logits.len());
    for position in 0..case.logits.len() {
        let place = case.layout.place(&case.shape, position);
        in_view[place] = true;
        values.push(grad[place].to_real().to_f64());
        assert!(same_bits(grad[place], in_place[place]), "{}: in-place gradient differs at {position}", case.name);
    }
    for (place, _) in in_view.iter().enumerate().filter(|(_, in_view)| !**in_view) {
        assert!(same_bits(grad[place], sentinel), "{}: element {place} beside the gradient written", case.name);
        assert!(same_bits(in_place[place], buffer[place]), "{}: element {place} beside the logits written", case.name);
    }
    Ok(answer(&output, values))
}

fn same_bits<T: Element>(a: T, b: T) -> bool {
    let (a, b) = (a.to_real().to_f64(), b.to_real().to_f64());
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Debug prints the shortest number that reads back as the same, so equal text is equal bits (and NaN equals NaN).
fn assert_same_output<F: Real>(case: &Case, way: &str, a: &xent::Output<F>, b: &xent::Output<F>) {
    assert_eq!(format!("{a:?}"), format!("{b:?}"), "{}: {way}", case.name);
}
