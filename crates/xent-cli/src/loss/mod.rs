//! `xent loss`: the criterion on arrays from any framework.

mod criterion;
mod entries;
mod inputs;
mod layout;
mod options;
mod report;

use std::path::Path;

use xent::{Criterion, Element, Rows, RowsMut};

pub use options::LossOptions;

use crate::error::{Error, Result};
use crate::files::write_whole;
use inputs::Inputs;
use layout::Layout;
use report::{Figure, Report};
use xent_arrays::npy::{self, Array, Values};

/// Computes the loss that the options describe, writes its gradient if asked to, and prints.
///
/// # Errors
/// Options or files that cannot be used; a system that fails. Nothing has been written or printed then.
pub fn loss(options: &LossOptions) -> Result<()> {
    if let Some(path) = &options.grad {
        check_destination(path, options)?;
    }
    let mut logits = layout::read(&options.logits)?;
    let layout = Layout::new(logits.shape(), options.axis).map_err(|error| Error::in_file(&options.logits, error))?;
    let criterion = criterion::criterion(options, &layout)?;
    let inputs = Inputs::read(options, &layout)?;
    let report = evaluate(&mut logits, &criterion, &inputs)?;
    if let Some(path) = &options.grad {
        write_whole(path, &npy::encode(logits))?;
    }
    report.print(options.json)
}

/// What is there already is replaced: that must not be a device or a folder, nor one of the files that are read.
fn check_destination(path: &Path, options: &LossOptions) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Error::in_file(path, format!("{} is not a folder, expected one that exists", folder.display())));
    }
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(Error::in_file(path, "it is a folder, pipe or device, expected a file, or a name for one")),
        Ok(_) if options.files().any(|input| same_file(input, path)) => {
            Err(Error::in_file(path, "the gradient would replace a file that is read, expected another name for it"))
        }
        _ => Ok(()),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Where a gradient is asked for, it takes the place of the logits.
fn evaluate(logits: &mut Array, criterion: &Criterion, inputs: &Inputs<'_>) -> Result<Report> {
    let strides = logits.strides();
    match logits.values_mut() {
        Values::F16(values) => evaluate_as(values, &strides, criterion, inputs),
        Values::Bf16(values) => evaluate_as(values, &strides, criterion, inputs),
        Values::F32(values) => evaluate_as(values, &strides, criterion, inputs),
        Values::F64(values) => evaluate_as(values, &strides, criterion, inputs),
        other => Err(inputs.in_logits(format!("dtype {}, expected float16, bfloat16, float32 or float64", other.dtype().name()))),
    }
}

fn evaluate_as<T>(values: &mut [T], strides: &[isize], criterion: &Criterion, inputs: &Inputs<'_>) -> Result<Report>
where
    T: Element,
    T::Real: Into<Figure>,
{
    let (layout, batch) = (inputs.layout(), inputs.batch()?);
    let output = if inputs.options().grad.is_some() {
        let mut view = RowsMut::strided(values, layout.shape(), strides, 0, layout.axis()).map_err(|error| inputs.in_logits(error))?;
        criterion.forward_backward_in_place(&mut view, batch, 1.0)
    } else {
        let view = Rows::strided(values, layout.shape(), strides, 0, layout.axis()).map_err(|error| inputs.in_logits(error))?;
        criterion.forward(&view, batch)
    };
    output.map(|output| Report::new(output, layout)).map_err(|error| inputs.explain(&error))
}
