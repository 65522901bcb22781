//! `xent bench --linear`: the loss of linear layers without their logits, beside its products alone.

use comfy_table::CellAlignment;
use half::{bf16, f16};
use rand::RngExt;
use serde::ser::{Serialize, SerializeMap, Serializer};
use xent::{Config, Criterion, Element, Real};
use xent_linear::{Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};

use super::cases::in_gib;
use super::machine::Machine;
use super::measure::{Effort, Quartiles, pool, rounds};
use super::options::{BenchOptions, DType, LinearShape};
use super::table::{Column, column, fitted};
use super::{STEPS, head, table, timing};
use crate::args::{once, word};
use crate::error::{Error, Result};
use crate::report::Versions;
use crate::seed::{Purpose, stream};
use crate::terminal;

/// Of ten rows in step `padded`, so many are ignored.
const IGNORED_OF_TEN: usize = 4;
/// The target of an ignored row.
const IGNORE: i64 = -100;
/// What the largest workspace has beside 512 bytes per class.
const WORKSPACE: u64 = 80 << 20;
/// The steps of a round, as JSON names them.
const NAMES: [&str; 4] = ["products", "whole", "padded", "frozen"];

/// Times every case and prints.
///
/// # Errors
/// As [`bench`](super::bench).
pub fn bench(options: &BenchOptions, machine: &Machine, versions: &Versions) -> Result<()> {
    let cases = cases(options, machine)?;
    let config = Config::new().label_smoothing(options.epsilon).ignore_index(IGNORE);
    let criterion = config.build().map_err(Error::input)?;
    let effort = options.rounds.map_or(Effort::Seconds(options.seconds), Effort::Rounds);
    if versions.build == "debug" {
        terminal::warn("this is a debug build, which may take longer than a release build");
    }
    let bar = terminal::progress_bar("timing {wide_bar} {percent:>3} %  {msg}", false);
    bar.set_length(cases.len() as u64 * STEPS as u64);
    let timings = cases.iter().enumerate().map(|(index, case)| {
        bar.set_message(format!("case {} of {}", index + 1, cases.len()));
        let progress = |done: f64| bar.set_position(((index as f64 + done) * STEPS) as u64);
        match case.dtype {
            DType::F32 => measure::<f32>(case, &criterion, effort, &progress),
            DType::F64 => measure::<f64>(case, &criterion, effort, &progress),
            DType::F16 => measure::<f16>(case, &criterion, effort, &progress),
            DType::Bf16 => measure::<bf16>(case, &criterion, effort, &progress),
        }
        .map(|measured| Timing { case, measured, options, machine, versions })
    });
    let timings = timings.collect::<Result<Vec<Timing<'_>>>>();
    bar.finish_and_clear();
    let timings = timings?;
    terminal::print(&if options.json {
        timing::to_json(&timings).map_err(Error::failed)?
    } else {
        text(&timings)
    })
}

/// One combination: one row of the table.
#[derive(Debug)]
struct Case {
    shape: LinearShape,
    dtype: DType,
    threads: usize,
}

fn cases(options: &BenchOptions, machine: &Machine) -> Result<Vec<Case>> {
    once("linear", &options.linear, LinearShape::to_string)?;
    once("dtype", &options.dtype, word)?;
    once("threads", &options.threads, usize::to_string)?;
    let threads = match options.threads.is_empty() {
        true => vec![machine.cores],
        false => options.threads.clone(),
    };
    let mut cases = Vec::new();
    for &shape in &options.linear {
        for &dtype in &options.dtype {
            let name = || format!("linear layers of {shape} in {}", word(&dtype));
            let bytes = bytes(shape, dtype)
                .ok_or_else(|| Error::input(format!("{} need more than 16 EiB", name())))?;
            if bytes > machine.free {
                return Err(Error::input(format!(
                    "{} need {bytes} bytes ({}); {} ({}) are free",
                    name(),
                    in_gib(bytes),
                    machine.free,
                    in_gib(machine.free)
                )));
            }
            cases.extend(threads.iter().map(|&threads| Case { shape, dtype, threads }));
        }
    }
    Ok(cases)
}

/// The memory that a case needs; `None` if u64 cannot hold the number. Hidden states and their
/// gradient, the weight and its gradient, and the workspace.
fn bytes(shape: LinearShape, dtype: DType) -> Option<u64> {
    let [rows, features, classes] =
        [shape.rows, shape.features, shape.classes].map(|length| length as u64);
    let (size, real) = (dtype.size() as u64, dtype.size().max(4) as u64);
    let hidden = rows.checked_mul(features)?.checked_mul(2 * size)?;
    let weight = classes.checked_mul(features)?.checked_mul(size + real)?;
    let workspace = WORKSPACE.checked_add(classes.checked_mul(128 * real)?)?;
    hidden.checked_add(weight)?.checked_add(workspace)?.checked_add(rows.checked_mul(128)?)
}

/// A layer and its batch, in memory.
struct Workload<'a, T: Element> {
    criterion: &'a Criterion,
    shape: LinearShape,
    hidden: Vec<T>,
    weight: Vec<T>,
    targets: Vec<i64>,
    padded: Vec<i64>,
    to_hidden: Vec<T>,
    to_weight: Vec<T::Real>,
    workspace: Workspace<T::Real>,
}

impl<'a, T: Element> Workload<'a, T> {
    fn new(shape: LinearShape, criterion: &'a Criterion) -> Self {
        let LinearShape { rows, features, classes } = shape;
        let rng = &mut stream(0, Purpose::Bench);
        let mut draw = |len: usize, scale: f64| -> Vec<T> {
            (0..len).map(|_| T::from_f64(scale * rng.random_range(-1.0..1.0))).collect()
        };
        let (hidden, weight) =
            (draw(rows * features, 2.0), draw(classes * features, 4.0 / (features as f64).sqrt()));
        let targets: Vec<i64> = (0..rows).map(|row| (row * 7919 % classes) as i64).collect();
        let padded = targets.iter().enumerate();
        let padded = padded
            .map(|(row, &target)| if row % 10 < IGNORED_OF_TEN { IGNORE } else { target })
            .collect();
        Self {
            criterion,
            shape,
            to_hidden: vec![T::from_f64(0.0); hidden.len()],
            to_weight: vec![T::Real::from_f64(0.0); weight.len()],
            hidden,
            weight,
            targets,
            padded,
            workspace: Workspace::default(),
        }
    }

    /// The loss of some targets and the gradients, or the products alone.
    fn run(&mut self, targets: Option<fn(&Self) -> &[i64]>, frozen: bool) -> Result<f64> {
        let features = self.shape.features;
        let targets: Option<Vec<i64>> = targets.map(|targets| targets(self).to_vec());
        let call = || -> xent_linear::Result<f64> {
            let linear = Linear::new(
                Matrix::new(&self.hidden, features)?,
                Matrix::new(&self.weight, features)?,
            )?;
            let into = Gradients {
                hidden: Some(MatrixMut::new(&mut self.to_hidden, features)?),
                weight: match frozen {
                    true => None,
                    false => Some(MatrixMut::new(&mut self.to_weight, features)?),
                },
                bias: None,
            };
            let Some(targets) = targets else {
                linear.products_alone(into, &mut self.workspace)?;
                return Ok(0.0);
            };
            let workspace = &mut self.workspace;
            let output =
                self.criterion.linear_forward_backward(&linear, &targets, 1.0, into, workspace)?;
            Ok(output.loss.scalar().map_or(f64::NAN, Real::to_f64))
        };
        call().map_err(Error::failed)
    }

    fn products(&mut self) -> Result<()> {
        self.run(None, false).map(drop)
    }

    fn whole(&mut self) -> Result<()> {
        self.run(Some(|workload| &workload.targets), false).map(drop)
    }

    fn padded(&mut self) -> Result<()> {
        self.run(Some(|workload| &workload.padded), false).map(drop)
    }

    fn frozen(&mut self) -> Result<()> {
        self.run(Some(|workload| &workload.targets), true).map(drop)
    }

    /// Checks the gradient of the first row's hidden states, because wrong results need not be
    /// timed: coarsely, since the test suite checks the accuracy.
    ///
    /// # Errors
    /// The loss is not finite, or an entry is not `Σ (p_k − y_k)·W_k / N`.
    fn check(&mut self) -> Result<()> {
        let loss = self.run(Some(|workload| &workload.targets), false)?;
        let wrong =
            |what: String| Error::failed(format!("wrong result, nothing was timed: {what}"));
        if !loss.is_finite() {
            return Err(wrong(format!("the loss is {loss}, expected a finite number")));
        }
        let LinearShape { rows, features, classes } = self.shape;
        let wide = |value: &T| value.to_real().to_f64();
        let hidden: Vec<f64> = self.hidden[..features].iter().map(wide).collect();
        let weight = |class: usize| self.weight[class * features..][..features].iter().map(wide);
        let logits: Vec<f64> = (0..classes)
            .map(|class| weight(class).zip(&hidden).map(|(w, h)| w * h).sum())
            .collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|z| (z - max).exp()).sum();
        let epsilon = self.criterion.config().label_smoothing;
        let mut expected = vec![0.0; features];
        for (class, z) in logits.iter().enumerate() {
            let hot = if self.targets[0] == class as i64 { 1.0 - epsilon } else { 0.0 };
            let g = (z - max).exp() / sum - hot - epsilon / classes as f64;
            expected.iter_mut().zip(weight(class)).for_each(|(e, w)| *e += g * w / rows as f64);
        }
        let largest = expected.iter().fold(1e-9f64, |largest, e| largest.max(e.abs()));
        for (feature, (came, expected)) in self.to_hidden.iter().zip(expected).enumerate() {
            let came = wide(came);
            let difference = (came - expected).abs();
            if difference.is_nan() || difference > 0.02 * largest {
                return Err(wrong(format!(
                    "the gradient of row 0, feature {feature} is {came}, expected {expected}"
                )));
            }
        }
        Ok(())
    }
}

/// Milliseconds over the rounds of a case.
struct Measured {
    rounds: usize,
    steps: [Quartiles; 4],
    workspace: usize,
}

fn measure<T: Element>(
    case: &Case,
    criterion: &Criterion,
    effort: Effort,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<Measured> {
    pool(case.threads)?.install(|| {
        let mut workload = Workload::<T>::new(case.shape, criterion);
        workload.check()?;
        let steps = [Workload::products, Workload::whole, Workload::padded, Workload::frozen];
        let nanoseconds = rounds(&mut workload, steps, effort, progress)?;
        let rounds = nanoseconds[0].len();
        let steps = nanoseconds
            .map(|values| Quartiles::new(values.into_iter().map(|value| value / 1e6).collect()));
        Ok(Measured { rounds, steps, workspace: workload.workspace.bytes() })
    })
}

/// A case and how long it took.
struct Timing<'a> {
    case: &'a Case,
    measured: Measured,
    options: &'a BenchOptions,
    machine: &'a Machine,
    versions: &'a Versions,
}

impl Timing<'_> {
    fn ratio(&self, step: usize, to: usize) -> f64 {
        self.measured.steps[step].median / self.measured.steps[to].median
    }

    /// 10⁹ multiplications and additions per second of the three products.
    fn gflop_per_second(&self) -> f64 {
        let LinearShape { rows, features, classes } = self.case.shape;
        6.0 * rows as f64 * features as f64 * classes as f64 / self.measured.steps[0].median / 1e6
    }

    /// Of the logits and their gradient, had they memory.
    fn logits_bytes(&self) -> f64 {
        let LinearShape { rows, classes, .. } = self.case.shape;
        2.0 * rows as f64 * classes as f64 * self.case.dtype.size() as f64
    }
}

impl Serialize for Timing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let LinearShape { rows, features, classes } = self.case.shape;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("rows", &rows)?;
        map.serialize_entry("features", &features)?;
        map.serialize_entry("classes", &classes)?;
        map.serialize_entry("dtype", &self.case.dtype)?;
        map.serialize_entry("threads", &self.case.threads)?;
        map.serialize_entry("epsilon", &self.options.epsilon)?;
        map.serialize_entry("rounds", &self.measured.rounds)?;
        for (name, times) in NAMES.iter().zip(&self.measured.steps) {
            map.serialize_entry(&format!("{name}_ms"), &times.median)?;
            map.serialize_entry(&format!("{name}_ms_low"), &times.low)?;
            map.serialize_entry(&format!("{name}_ms_high"), &times.high)?;
        }
        map.serialize_entry("gflop_per_second", &self.gflop_per_second())?;
        map.serialize_entry("whole_per_products", &self.ratio(1, 0))?;
        map.serialize_entry("padded_per_whole", &self.ratio(2, 1))?;
        map.serialize_entry("frozen_per_whole", &self.ratio(3, 1))?;
        map.serialize_entry("workspace_bytes", &self.measured.workspace)?;
        map.serialize_entry("logits_bytes", &(self.logits_bytes() as u64))?;
        map.serialize_entry("cores", &self.machine.cores)?;
        map.serialize_entry("cpu", &self.machine.cpu)?;
        map.serialize_entry("xent_version", self.versions.xent)?;
        map.serialize_entry("build", self.versions.build)?;
        map.end()
    }
}

fn columns<'a>() -> [Column<Timing<'a>>; 11] {
    [
        column("N x D x K", |timing| timing.case.shape.to_string(), 0),
        column("dtype", |timing| word(&timing.case.dtype), 0),
        column("threads", |timing| timing.case.threads.to_string(), 0),
        column("products\nms", |timing| table::time(&timing.measured.steps[0]), 0),
        column("GFLOP/s", |timing| table::short(timing.gflop_per_second()), 3),
        column("whole\nms", |timing| table::time(&timing.measured.steps[1]), 0),
        column("per\nproducts", |timing| format!("{:.3}", timing.ratio(1, 0)), 0),
        column("padded\nper whole", |timing| format!("{:.2}", timing.ratio(2, 1)), 1),
        column("frozen\nper whole", |timing| format!("{:.2}", timing.ratio(3, 1)), 2),
        column("MiB", |timing| mib(timing.measured.workspace as f64), 0),
        column("for\nMiB", |timing| mib(timing.logits_bytes()), 4),
    ]
}

fn mib(bytes: f64) -> String {
    format!("{:.0}", bytes / f64::from(1 << 20))
}

fn text(timings: &[Timing<'_>]) -> String {
    let table = fitted(&columns(), timings, terminal::width(), CellAlignment::Left);
    let width = terminal::width();
    let wrapped = |text: &str| terminal::wrapped(text, "", width);
    let Some(first) = timings.first() else { return String::new() };
    let rounds = super::rounds(timings.iter().map(|timing| timing.measured.rounds));
    let foot = format!(
        "Medians of {rounds}; ± is half the distance between the quartiles. products: the three products of matrices alone. whole: loss, and gradients of hidden states and weight. \
         padded: with 40 % of the rows ignored. frozen: without the gradient of the weight. MiB: memory beside the gradients, for logits and their gradient of so many MiB. --json prints every number."
    );
    let head = head(first.machine, first.versions, first.options);
    [wrapped(&head), String::new(), table, String::new(), wrapped(&foot)].join("\n")
}
