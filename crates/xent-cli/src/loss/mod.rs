//! `xent loss`: the criterion on arrays from any framework.

mod arrays;
mod criterion;
mod inputs;
mod options;
mod report;

use xent::host::LogitsShape;
use xent::{Criterion, Element, Rows, RowsMut};

pub use options::LossOptions;

use crate::data::{NO_DISTRIBUTION, SEEM_PROBABILITIES};
use crate::error::{Error, Result};
use crate::output::Outputs;
use crate::terminal::warn;
use inputs::Inputs;
use report::{Figure, LossReport};
use xent_arrays::npy::{self, Array, Values};

/// Computes the loss that the options describe, writes its gradient if asked to, and prints.
///
/// # Errors
/// Options or files that cannot be used; a system that fails. Nothing has been written or printed
/// then.
pub fn loss(options: &LossOptions) -> Result<()> {
    let mut outputs = Outputs::beside(options.files().map(|place| place.file.clone()).collect());
    let grad = options.grad.as_deref().map(|path| outputs.open(path)).transpose()?;
    let (mut logits, classes) = arrays::logits(&options.logits, &options.targets)?;
    let shape = LogitsShape::new(logits.shape(), options.axis)
        .map_err(|error| Error::in_file(&options.logits.file, error))?;
    let unlikely = expect_logits(options, &mut logits, &shape)?;
    let criterion = criterion::criterion(options, &shape)?;
    let inputs = Inputs::read(options, &shape, &classes)?;
    let sums = inputs.unusual_sum();
    let report = evaluate(&mut logits, &criterion, &inputs)?;
    unlikely.iter().chain(&sums).for_each(|warning| warn(warning));
    if let Some(destination) = grad {
        destination.write(|out| npy::write(&logits, out))?;
    }
    report.print(options.json)
}

/// Takes the logarithms of probabilities, if that is what the logits are said to be. If they only
/// seem to be, the result is a warning.
fn expect_logits(
    options: &LossOptions,
    logits: &mut Array,
    shape: &LogitsShape,
) -> Result<Option<String>> {
    let file = &options.logits.file;
    match (options.probabilities, arrays::no_distribution(logits, shape, None)) {
        (true, None) => {
            arrays::take_logarithms(logits.values_mut());
            Ok(None)
        }
        (true, Some((row, _))) => Err(Error::in_file(file, format!("row {row} {NO_DISTRIBUTION}"))),
        (false, None) if shape.rows() > 0 && shape.classes() > 1 => {
            Ok(Some(format!("{}: {SEEM_PROBABILITIES}", file.display())))
        }
        (false, _) => Ok(None),
    }
}

/// Computes the loss; a requested gradient replaces the logits.
fn evaluate(logits: &mut Array, criterion: &Criterion, inputs: &Inputs<'_>) -> Result<LossReport> {
    let strides = logits.strides();
    match logits.values_mut() {
        Values::F16(values) => evaluate_as(values, &strides, criterion, inputs),
        Values::Bf16(values) => evaluate_as(values, &strides, criterion, inputs),
        Values::F32(values) => evaluate_as(values, &strides, criterion, inputs),
        Values::F64(values) => evaluate_as(values, &strides, criterion, inputs),
        other => {
            let message = format!(
                "dtype {}, expected float16, bfloat16, float32 or float64",
                other.dtype().name()
            );
            Err(Error::in_file(&inputs.options().logits.file, message))
        }
    }
}

fn evaluate_as<T>(
    values: &mut [T],
    strides: &[isize],
    criterion: &Criterion,
    inputs: &Inputs<'_>,
) -> Result<LossReport>
where
    T: Element,
    T::Real: Into<Figure>,
{
    let (options, shape, batch) = (inputs.options(), inputs.shape(), inputs.batch()?);
    let axis = shape.axis() as isize;
    let in_logits = |error| Error::in_file(&options.logits.file, error);
    let output = if options.grad.is_some() {
        let mut view =
            RowsMut::strided(values, shape.dims(), strides, 0, axis).map_err(in_logits)?;
        criterion.forward_backward_in_place(&mut view, batch, 1.0)
    } else {
        let view = Rows::strided(values, shape.dims(), strides, 0, axis).map_err(in_logits)?;
        criterion.forward(&view, batch)
    };
    output.map(|output| LossReport::new(output, shape)).map_err(|error| inputs.explain(&error))
}
