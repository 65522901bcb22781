//! `xent bench`: how long the loss takes on this machine, for given shapes.

mod cases;
mod linear;
mod machine;
mod measure;
mod options;
mod table;
mod timing;
mod workload;

use half::{bf16, f16};
use xent::{Config, Criterion};

pub use options::BenchOptions;

use crate::error::{Error, Result};
use crate::report::Versions;
use crate::terminal;
use cases::Case;
use machine::Machine;
use measure::{Effort, Measured, measure};
use options::DType;
use timing::Timing;

/// Times every case and prints.
///
/// # Errors
/// The options cannot be used, the system fails, or a result is wrong. Nothing has been printed
/// then.
pub fn bench(options: &BenchOptions) -> Result<()> {
    let (machine, versions) = (Machine::here(), Versions::of_this_build());
    if !options.linear.is_empty() {
        return linear::bench(options, &machine, &versions);
    }
    let cases = cases::cases(options, machine.cores, machine.free)?;
    let criterion = Config::new().label_smoothing(options.epsilon).build().map_err(Error::input)?;
    let effort = options.rounds.map_or(Effort::Seconds(options.seconds), Effort::Rounds);
    if versions.build == "debug" {
        terminal::warn("this is a debug build, which may take longer than a release build");
    }

    // It is drawn between rounds only, by the thread that times.
    let bar = terminal::progress_bar("timing {wide_bar} {percent:>3} %  {msg}", false);
    bar.set_length(cases.len() as u64 * STEPS as u64);
    let measured = cases.iter().enumerate().map(|(index, case)| {
        bar.set_message(format!("case {} of {}", index + 1, cases.len()));
        measure_case(case, &criterion, effort, &|done| {
            bar.set_position(((index as f64 + done) * STEPS) as u64)
        })
    });
    let measured = measured.collect::<Result<Vec<Measured>>>();
    bar.finish_and_clear();

    let timings: Vec<Timing> = cases
        .into_iter()
        .zip(measured?)
        .map(|(case, measured)| Timing {
            case,
            measured,
            epsilon: options.epsilon,
            machine: &machine,
            versions: &versions,
        })
        .collect();
    terminal::print(&if options.json {
        timing::to_json(&timings).map_err(Error::failed)?
    } else {
        text(&timings, &machine, &versions, options)
    })
}

fn measure_case(
    case: &Case,
    criterion: &Criterion,
    effort: Effort,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<Measured> {
    match case.dtype {
        DType::F32 => measure::<f32>(case, criterion, effort, progress),
        DType::F64 => measure::<f64>(case, criterion, effort, progress),
        DType::F16 => measure::<f16>(case, criterion, effort, progress),
        DType::Bf16 => measure::<bf16>(case, criterion, effort, progress),
    }
}

/// Steps of the progress bar per case.
const STEPS: f64 = 1000.0;

/// The machine and the program, the table, and how to read it.
fn text(
    timings: &[Timing<'_>],
    machine: &Machine,
    versions: &Versions,
    options: &BenchOptions,
) -> String {
    let width = terminal::width();
    let wrapped = |text: &str| terminal::wrapped(text, "", width);
    let table = table::to_text(timings, width);
    let head = head(machine, versions, options);
    let rounds = rounds(timings.iter().map(|timing| timing.measured.rounds));
    let foot = format!(
        "Medians of {rounds}; ± is half the distance between the quartiles. GB/s: forward reads the logits, forward+backward reads them and writes as many bytes. \
         Per read, per copy: the time of forward relative to reading the logits, and of forward+backward relative to copying them, on the same threads. --json prints every number."
    );
    [wrapped(&head), String::new(), table, String::new(), wrapped(&foot)].join("\n")
}

/// What ran, and where.
fn head(machine: &Machine, versions: &Versions, options: &BenchOptions) -> String {
    let cpu = machine.cpu.as_ref().map(|cpu| format!(" of {cpu}")).unwrap_or_default();
    let cores =
        if machine.cores == 1 { "1 core".to_string() } else { format!("{} cores", machine.cores) };
    format!(
        "xent {} ({} build) on {cores}{cpu}. Label smoothing {}, mean over the rows.",
        versions.xent, versions.build, options.epsilon
    )
}

/// The numbers of rounds of all cases, in words.
fn rounds(rounds: impl Iterator<Item = usize> + Clone) -> String {
    match (rounds.clone().min().unwrap_or(0), rounds.max().unwrap_or(0)) {
        (1, 1) => "1 round".to_string(),
        (least, most) if least == most => format!("{least} rounds"),
        (least, most) => format!("{least} to {most} rounds"),
    }
}
