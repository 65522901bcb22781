//! `xent loss`: the criterion on arrays from any framework.

mod arrays;
mod criterion;
mod inputs;
mod options;
mod report;

use std::path::Path;

use xent::host::LogitsShape;
use xent::{Criterion, Element, Rows, RowsMut};

pub use options::LossOptions;

use crate::error::{Error, Result};
use crate::files::write_whole;
use inputs::Inputs;
use report::{Figure, LossReport};
use xent_arrays::npy::{self, Array, Values};

/// Computes the loss that the options describe, writes its gradient if asked to, and prints.
///
/// # Errors
/// Options or files that cannot be used; a system that fails. Nothing has been written or printed
/// then.
pub fn loss(options: &LossOptions) -> Result<()> {
    if let Some(path) = &options.grad {
        check_destination(path, options)?;
    }
    let (mut logits, shape) =
        arrays::read_shaped(&options.logits, |shape| LogitsShape::new(shape, options.axis))?;
    let criterion = criterion::criterion(options, &shape)?;
    let inputs = Inputs::read(options, &shape)?;
    let report = evaluate(&mut logits, &criterion, &inputs)?;
    if let Some(path) = &options.grad {
        write_whole(path, &npy::encode(logits))?;
    }
    report.print(options.json)
}

/// An existing file is replaced: it must not be a device, a folder, or one of the files that are
/// read.
fn check_destination(path: &Path, options: &LossOptions) -> Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Error::in_file(
            path,
            format!("{} is not a folder, expected one that exists", folder.display()),
        ));
    }
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(Error::in_file(
            path,
            "it is a folder, pipe or device, expected a file, or a name for one",
        )),
        Ok(_) if options.files().any(|input| same_file(input, path)) => Err(Error::in_file(
            path,
            "the gradient would replace a file that is read, expected another name for it",
        )),
        _ => Ok(()),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
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
            Err(Error::in_file(&inputs.options().logits, message))
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
    let in_logits = |error| Error::in_file(&options.logits, error);
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
