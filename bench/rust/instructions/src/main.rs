//! Calls the loss so many times on one thread, so that two runs that differ in that number alone
//! tell what a call costs: `bench-instructions INSTRUCTIONS DTYPE LAYOUT ROWS CLASSES WHAT CALLS`,
//! with INSTRUCTIONS `avx2` or `portable`, LAYOUT `last` or `middle`, WHAT `forward` or
//! `forward_backward`.

use std::error::Error;

use half::{bf16, f16};
use xent::{Config, Element, Instructions, Rows, RowsMut};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [instructions, dtype, layout, rows, classes, what, calls] = arguments.as_slice() else {
        return Err("expected INSTRUCTIONS DTYPE LAYOUT ROWS CLASSES WHAT CALLS".into());
    };
    let instructions = match instructions.as_str() {
        "avx2" => Instructions::Avx2,
        "portable" => Instructions::Portable,
        other => return Err(format!("instructions {other:?}, expected avx2 or portable").into()),
    };
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let (rows, classes): (usize, usize) = (rows.parse()?, classes.parse()?);
    let shape = if layout == "middle" { vec![1, classes, rows] } else { vec![rows, classes] };
    let run = match dtype.as_str() {
        "f32" => run::<f32>,
        "f64" => run::<f64>,
        "bf16" => run::<bf16>,
        "f16" => run::<f16>,
        other => return Err(format!("dtype {other:?}, expected f32, f64, f16 or bf16").into()),
    };
    run(instructions, &shape, what == "forward_backward", calls.parse()?)
}

/// The classes are on axis 1 in both layouts.
const AXIS: isize = 1;

fn run<T: Element>(
    instructions: Instructions,
    shape: &[usize],
    backward: bool,
    calls: usize,
) -> Result<(), Box<dyn Error>> {
    let len = shape.iter().product();
    let classes = shape[1];
    let logits: Vec<T> = (0..len)
        .map(|i: usize| T::from_f64((i.wrapping_mul(2_654_435_761) % 65_536) as f64 / 8192.0 - 4.0))
        .collect();
    let targets: Vec<i64> = (0..len / classes).map(|row| (row * 7919 % classes) as i64).collect();
    let mut grad = logits.clone();
    let criterion = Config::new().label_smoothing(0.1).instructions(instructions).build()?;
    let logits = Rows::with_axis(&logits, shape, AXIS)?;
    for _ in 0..calls {
        if backward {
            criterion.forward_backward(
                &logits,
                &targets,
                1.0,
                &mut RowsMut::with_axis(&mut grad, shape, AXIS)?,
            )?;
        } else {
            criterion.forward(&logits, &targets)?;
        }
    }
    Ok(())
}
