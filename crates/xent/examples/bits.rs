//! Hashes of every bit that the CPU engine returns: the proof that a change of the code changes
//! no result.
//!
//! Run it before and after the change, with the same compiler on the same machine, and compare:
//!
//! ```text
//! cargo run --release -p xent --example bits > before.txt
//! git switch the-change
//! cargo run --release -p xent --example bits | diff before.txt -
//! ```
//!
//! Every case runs on every instruction set of the machine, by `forward`, by `forward_backward`
//! and in place. A hash takes in the loss, its parts, lse and counts of all three, and both
//! gradients with the memory around them. All NaN count as one, since Rust promises no more; a
//! refusal counts as a refusal, whatever its message.
//!
//! The table has a line per group of cases: the kind of target, the prior, whether classes have
//! weights, and z-loss. `weighted-mean` is z-loss under a mean that divides by class weights. The
//! column `inputs` hashes the cases themselves: where it differs, the generator has changed, and
//! the other hashes compare nothing. Where a hash differs, find the cases and look at one:
//!
//! ```text
//! … --example bits -- --each                a line per case, a hash of parts and one of gradients
//! … --example bits -- --show 'random 17'    the case of that name and what came out
//! ```
//!
//! Cases are random ones over all options (`xent_spec::cases`), the accuracy sweep, and shapes
//! that reach every path of the engine, with each option alone, in pairs and in random sets.
//! The program uses nothing of xent but its public calls, so that its text runs on older trees.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use xent::{Element, Instructions, Output, Real, Rows, RowsMut, bf16, f16};
use xent_spec::translate::Call;
use xent_spec::{
    Allowed, CLASSES, Case, ClassWeighting, Denominator, Dtype, EmptyMean, FAMILIES, Form,
    IndexDtype, Layout, Masked, Prior, Reduction, RowValue, Targets, Upstream, cases, sweep_case,
};

/// Random cases of `xent_spec::cases`.
const RANDOM: usize = 24_000;

/// Threads that a call may use, so that rows of more than one piece are shared.
const THREADS: usize = 2;

/// What a call returned: the hash of its parts and that of its gradients.
type Hashes = [u64; 2];

/// A case's hashes.
struct Line {
    name: String,
    group: String,
    details: String,
    inputs: u64,
    refused: bool,
    /// One per instruction set.
    answers: Vec<Hashes>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = every_case();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print_table(&run_all(&all)),
        ["--each"] => print_each(&run_all(&all)),
        ["--show", name] => match all.iter().map(|make| make()).find(|case| case.name == name) {
            Some(case) => println!("{case:#?}\n{}", on_all_sets(&case, true).text),
            None => eprintln!("no case is called {name:?}"),
        },
        _ => eprintln!("expected nothing, --each, or --show and the name of a case"),
    }
}

// What is printed.

fn print_table(lines: &[Line]) {
    let sets = Instructions::available();
    let mut groups: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    lines.iter().for_each(|line| groups.entry(&line.group).or_default().push(line));
    print!("{:48}{:>7}{:>9}  {:16}", "group", "cases", "refused", "inputs");
    println!(
        "{}",
        sets.iter().fold(String::new(), |text, set| text + &format!("  {:16}", set.name()))
    );
    for (group, lines) in groups {
        print_row(group, &lines);
    }
    print_row("all", &lines.iter().collect::<Vec<_>>());
}

fn print_row(name: &str, lines: &[&Line]) {
    let refused = lines.iter().filter(|line| line.refused).count();
    print!(
        "{name:48}{:>7}{refused:>9}  {:016x}",
        lines.len(),
        hash_of(lines.iter().map(|line| line.inputs))
    );
    for set in 0..lines[0].answers.len() {
        print!("  {:016x}", hash_of(lines.iter().map(|line| line.answers[set])));
    }
    println!();
}

fn print_each(lines: &[Line]) {
    println!(
        "name | group | details | inputs | parts and gradients on {:?}",
        Instructions::available()
    );
    for Line { name, group, details, inputs, answers, .. } in lines {
        print!("{name} | {group} | {details} | {:08x} |", *inputs as u32);
        answers.iter().for_each(|[parts, gradient]| {
            print!(" {:08x} {:08x}", *parts as u32, *gradient as u32)
        });
        println!();
    }
}

fn hash_of(values: impl Iterator<Item = impl Hash>) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.for_each(|value| value.hash(&mut hasher));
    hasher.finish()
}

/// The options by which a difference that is meant is told from one that is not.
fn group(case: &Case) -> String {
    let weighted = case.class_weights.is_some();
    let target = match &case.targets {
        Targets::Classes { .. } => "class",
        Targets::TwoLabels { .. } => "mix",
        Targets::Probabilities { .. } => "probabilities",
    };
    let prior = match &case.prior {
        Prior::Uniform => "uniform",
        Prior::WrongClasses => "wrong-classes",
        Prior::Excluding(_) => "excluding",
        Prior::Fixed(_) => "fixed",
        Prior::ByTrueClass(_) => "by-true-class",
    };
    let mean_of_weights = weighted
        && target != "probabilities"
        && case.reduction == Reduction::Mean
        && case.denominator == Denominator::PyTorch;
    let z_loss = match (case.z_loss > 0.0, mean_of_weights) {
        (false, _) => "-",
        (true, false) => "z-loss",
        (true, true) => "z-loss weighted-mean",
    };
    format!("{target} {prior} {} {z_loss}", if weighted { "weighted" } else { "-" })
}

/// Shape, format and whatever else is not at its default.
fn details(case: &Case) -> String {
    let mut text =
        format!("{:?} {:?} axis {}, {:?}", case.dtype, case.shape, case.axis, case.reduction);
    let mut add = |is_set: bool, what: &str| {
        if is_set {
            text.push_str(", ");
            text.push_str(what);
        }
    };
    add(case.layout != Layout::default(), "layout");
    match &case.epsilon {
        RowValue::Shared(epsilon) => add(true, &format!("ε {epsilon}")),
        RowValue::Each(_) => add(true, "ε per row"),
    }
    add(case.class_weighting == ClassWeighting::PerRow, "per-row weighting");
    add(case.row_weights.is_some(), "row weights");
    add(!case.ignore_index.is_empty(), "ignore index");
    add(!case.ignored_rows.is_empty(), "ignored rows");
    add(case.allowed != Allowed::All, "allowed");
    add(case.masked == Masked::Renormalise, "renormalise");
    add(case.denominator != Denominator::PyTorch, &format!("denominator {:?}", case.denominator));
    add(case.empty_mean != EmptyMean::Nan, &format!("empty mean {:?}", case.empty_mean));
    add(case.form == Form::KlDivergence, "KL");
    add(case.softcap.is_some(), "softcap");
    add(case.temperature.is_some(), "temperature");
    add(!case.upstream.is_unit(), "upstream");
    add(case.logits.contains(&f64::NEG_INFINITY), "−∞ logits");
    add(case.logits.iter().any(|z| z.is_nan() || *z == f64::INFINITY), "NaN or +∞ logits");
    text
}

// Running.

/// A case is made when it is its turn: all of them together would not fit in memory.
type Make = Box<dyn Fn() -> Case + Send + Sync>;

/// The lines of all cases, in order. Each processor takes the next case that nobody has.
fn run_all(all: &[Make]) -> Vec<Line> {
    let next = AtomicUsize::new(0);
    let lines = Mutex::new(Vec::with_capacity(all.len()));
    let worker = || {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(THREADS)
            .build()
            .expect("threads for a pool");
        pool.install(|| {
            while let Some((number, make)) = take(&next, all) {
                let line = line(&make());
                lines
                    .lock()
                    .expect("no thread panics while it holds the lock")
                    .push((number, line));
            }
        });
    };
    std::thread::scope(|scope| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        (0..processors).for_each(|_| drop(scope.spawn(worker)));
    });
    let mut lines = lines.into_inner().expect("no thread panicked");
    lines.sort_by_key(|(number, _)| *number);
    lines.into_iter().map(|(_, line)| line).collect()
}

fn take<'a>(next: &AtomicUsize, all: &'a [Make]) -> Option<(usize, &'a Make)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    all.get(number).map(|make| (number, make))
}

fn line(case: &Case) -> Line {
    let answer = on_all_sets(case, false);
    Line {
        name: case.name.clone(),
        group: group(case),
        details: details(case),
        inputs: hash_of_inputs(case),
        refused: answer.refused,
        answers: answer.hashes,
    }
}

fn hash_of_inputs(case: &Case) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut rest = case.clone();
    rest.name.clear();
    // What is long would take long to print.
    put_all(&mut hasher, std::mem::take(&mut rest.logits).into_iter());
    if let Targets::Probabilities { values, .. } = &mut rest.targets {
        put_all(&mut hasher, std::mem::take(values).into_iter());
    }
    if let Prior::ByTrueClass(priors) = &mut rest.prior {
        put_all(&mut hasher, std::mem::take(priors).into_iter());
    }
    if let Allowed::Each(allowed) = &mut rest.allowed {
        std::mem::take(allowed).hash(&mut hasher);
    }
    format!("{rest:?}").hash(&mut hasher);
    hasher.finish()
}

/// What the instruction sets answered.
struct Answers {
    hashes: Vec<Hashes>,
    refused: bool,
    /// The answers themselves, if asked for.
    text: String,
}

fn on_all_sets(case: &Case, show: bool) -> Answers {
    // The layout's own way of placing a logit takes longer than its loss.
    let memory =
        if case.layout == Layout::default() { case.logits.clone() } else { case.buffer(f64::NAN) };
    let mut answers = Answers { hashes: Vec::new(), refused: false, text: String::new() };
    for set in Instructions::available() {
        let answer = match case.dtype {
            Dtype::F64 => run::<f64>(case, &memory, set, show),
            Dtype::F32 => run::<f32>(case, &memory, set, show),
            Dtype::F16 => run::<f16>(case, &memory, set, show),
            Dtype::Bf16 => run::<bf16>(case, &memory, set, show),
        };
        let (hashes, text) = answer.unwrap_or_else(|refusal| {
            answers.refused = true;
            ([0; 2], refusal)
        });
        answers.hashes.push(hashes);
        if show {
            let _ = writeln!(answers.text, "{}\n{text}", set.name());
        }
    }
    answers
}

/// The hashes of one case on one instruction set and, with `show`, what they are of. All that
/// depends on how xent is called is here.
#[allow(clippy::unnecessary_cast, reason = "axes were usize once")]
fn run<T: Element>(
    case: &Case,
    memory: &[f64],
    set: Instructions,
    show: bool,
) -> Result<(Hashes, String), String> {
    let mut call = Call::new(case).map_err(text)?;
    call.criterion = call.criterion.config().clone().instructions(set).build().map_err(text)?;
    let strides: Vec<isize> =
        case.layout.strides(&case.shape).into_iter().map(|stride| stride as isize).collect();
    let (shape, offset, axis) = (&case.shape, case.layout.offset, case.axis as _);
    let logits: Vec<T> = memory.iter().map(|z| T::from_f64(*z)).collect();
    let (mut grad, mut in_place) = (vec![T::from_f64(-77.0); logits.len()], logits.clone());

    let rows = Rows::strided(&logits, shape, &strides, offset, axis).map_err(text)?;
    let mut to = RowsMut::strided(&mut grad, shape, &strides, offset, axis).map_err(text)?;
    let mut over = RowsMut::strided(&mut in_place, shape, &strides, offset, axis).map_err(text)?;
    let batch = || call.batch().map_err(text);
    let outputs = [
        call.criterion.forward(&rows, batch()?).map_err(text)?,
        call.criterion.forward_backward(&rows, batch()?, call.upstream(), &mut to).map_err(text)?,
        call.criterion
            .forward_backward_in_place(&mut over, batch()?, call.upstream())
            .map_err(text)?,
    ];

    let (mut parts, mut gradients) = (DefaultHasher::new(), DefaultHasher::new());
    outputs.iter().for_each(|output| put_output(&mut parts, output));
    [&grad, &in_place]
        .into_iter()
        .for_each(|values| put_all(&mut gradients, values.iter().map(|g| wide(*g))));
    let text = if show {
        format!("{outputs:#?}\ngradient {grad:?}\nin place {in_place:?}")
    } else {
        String::new()
    };
    Ok(([parts.finish(), gradients.finish()], text))
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn wide<T: Element>(value: T) -> f64 {
    value.to_real().to_f64()
}

fn put_output<F: Real>(hasher: &mut DefaultHasher, output: &Output<F>) {
    for part in [&output.loss, &output.nll, &output.smoothing, &output.floor, &output.z_loss] {
        part.as_slice().len().hash(hasher);
        put_all(hasher, part.as_slice().iter().map(|value| value.to_f64()));
    }
    put_all(hasher, output.lse.iter().map(|value| value.to_f64()).chain([output.denominator]));
    (output.correct, output.ignored, output.non_finite, output.first_non_finite).hash(hasher);
}

/// Bits; widening keeps all of them.
fn put_all(hasher: &mut DefaultHasher, values: impl Iterator<Item = f64>) {
    values.for_each(|value| {
        hasher.write_u64(if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
    });
}

// The cases.

fn every_case() -> Vec<Make> {
    let mut all = Vec::new();
    random(&mut all);
    sweep(&mut all);
    paths(&mut all);
    all
}

/// `xent_spec`'s random cases, always the same.
fn random(all: &mut Vec<Make>) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let (strategy, mut runner) = (cases(), TestRunner::new_with_rng(Config::default(), rng));
    for number in 0..RANDOM {
        let case = strategy.new_tree(&mut runner).expect("nothing is filtered out").current();
        let case = Case { name: format!("random {number}"), ..case };
        all.push(Box::new(move || case.clone()));
    }
}

/// Every number of classes and every family of logits.
fn sweep(all: &mut Vec<Make>) {
    for dtype in Dtype::ALL {
        for classes in CLASSES {
            for family in FAMILIES {
                for epsilon in [0.1, 0.0] {
                    all.push(Box::new(move || sweep_case(dtype, classes, family, epsilon)));
                }
            }
        }
    }
}

/// A shape and the axis of its classes.
type Shape = (&'static [usize], usize);

/// Shapes of a moment's work: options alone, in pairs and in random sets.
const SMALL: [Shape; 11] = [
    // Tiles of whole rows: a class, two, the widest tile, several tiles, the most classes.
    (&[40, 1], 1),
    (&[70, 2], 1),
    (&[530, 3], 1),
    (&[451, 19], 1),
    (&[301, 64], 1),
    // Tiles of neighbouring rows, also of more classes than rows in tiles have otherwise.
    (&[3, 19, 70], 1),
    (&[2, 65, 40], 1),
    // Rows: less than two segments, some, a block and the next one.
    (&[5, 65], 1),
    (&[3, 1000], 1),
    (&[4, 2048], 1),
    (&[3, 4101], 1),
];

/// Shapes that take longer: options alone and in some random sets.
const LARGE: [(Dtype, Shape); 16] = [
    // Rows of several pieces, shared by threads and not.
    (Dtype::F32, (&[1, 65_537], 1)),
    (Dtype::F64, (&[1, 131_072], 1)),
    (Dtype::Bf16, (&[3, 131_075], 1)),
    (Dtype::F16, (&[5, 70_001], 1)),
    (Dtype::F32, (&[5, 70_001], 1)),
    // Rows whose exponentials are not kept, shared and not.
    (Dtype::F32, (&[1, 524_289], 1)),
    (Dtype::F64, (&[1, 524_289], 1)),
    (Dtype::Bf16, (&[1, 600_011], 1)),
    (Dtype::F32, (&[4, 524_290], 1)),
    // Gradients that are written past the cache: rows, tiles of rows, tiles of neighbours.
    (Dtype::F32, (&[2_400, 1_000], 1)),
    (Dtype::F64, (&[1_100, 1_001], 1)),
    (Dtype::F16, (&[4_300, 1_003], 1)),
    (Dtype::F32, (&[220_000, 10], 1)),
    (Dtype::Bf16, (&[230_011, 19], 1)),
    (Dtype::F32, (&[2, 19, 240, 241], 1)),
    // Tiles of neighbours in which many classes leave the least width.
    (Dtype::F32, (&[2, 300, 9, 11], 1)),
];

/// Random sets of options, for each format of a small shape and for each large shape.
const SETS_OF_SMALL: usize = 400;
const SETS_OF_LARGE: usize = 12;

/// Each path of the engine with each option.
fn paths(all: &mut Vec<Make>) {
    let choices = 0..CHOICES.len();
    for shape in SMALL {
        for dtype in Dtype::ALL {
            path(all, (dtype, shape), Vec::new());
            choices.clone().for_each(|i| path(all, (dtype, shape), vec![i]));
            for i in choices.clone() {
                (i + 1..CHOICES.len()).for_each(|j| path(all, (dtype, shape), vec![i, j]));
            }
            random_sets(SETS_OF_SMALL).for_each(|set| path(all, (dtype, shape), set));
        }
    }
    for (dtype, shape) in LARGE {
        path(all, (dtype, shape), Vec::new());
        choices.clone().for_each(|i| path(all, (dtype, shape), vec![i]));
        random_sets(SETS_OF_LARGE).for_each(|set| path(all, (dtype, shape), set));
    }
}

/// Of each thing that there are options of, one of them with a probability of a third, in every
/// other set of a half.
fn random_sets(count: usize) -> impl Iterator<Item = Vec<usize>> {
    let choices: Vec<usize> = (0..CHOICES.len()).collect();
    (0..count).map(move |set| {
        let mut numbers = noise(set as u64 + 1, CHOICES.len()).into_iter();
        let share = [3.0, 2.0][set % 2];
        let of_one_thing = choices.chunk_by(|a, b| CHOICES[*a].0 == CHOICES[*b].0);
        let chosen = of_one_thing.filter_map(|options| {
            let place = share * numbers.next()?;
            (place < 1.0).then(|| options[(place * options.len() as f64) as usize])
        });
        chosen.collect()
    })
}

/// The case of a shape with some options, unless two of them contradict each other.
fn path(all: &mut Vec<Make>, (dtype, (shape, axis)): (Dtype, Shape), chosen: Vec<usize>) {
    let classes = shape[axis];
    let contradict = |pair: &[usize]| CHOICES[pair[0]].0 == CHOICES[pair[1]].0;
    let matrix = chosen.iter().any(|&choice| CHOICES[choice].1 == BY_TRUE_CLASS);
    if chosen.windows(2).any(contradict) || (matrix && classes > LARGEST_MATRIX) {
        return;
    }
    all.push(Box::new(move || {
        let mut case = plain(dtype, (shape, axis));
        for &choice in &chosen {
            let (_, name, choose) = CHOICES[choice];
            case.name = format!("{} + {name}", case.name);
            choose(&mut case);
        }
        if dtype != Dtype::F64 {
            case.logits.iter_mut().for_each(|z| *z = dtype.round(*z));
        }
        case
    }));
}

/// Noise, of another scale in every third row, with a class per row and ε = 0.1.
fn plain(dtype: Dtype, (shape, axis): Shape) -> Case {
    let mut case = Case {
        name: format!("{dtype:?} {shape:?}"),
        dtype,
        shape: shape.to_vec(),
        axis,
        epsilon: RowValue::Shared(0.1),
        ..Case::default()
    };
    let (rows, classes) = (case.row_count(), case.class_count());
    let inner: usize = shape[axis + 1..].iter().product();
    let scale = |position: usize| {
        let row = position / (classes * inner) * inner + position % inner;
        [1.0, 4.0, 20.0][row % 3]
    };
    let numbers = noise(classes as u64, rows * classes).into_iter().enumerate();
    case.logits =
        numbers.map(|(position, number)| scale(position) * (2.0 * number - 1.0)).collect();
    case.targets = Targets::Classes {
        dtype: index_dtype(rows, classes as i64),
        labels: labels(rows, classes, 7919),
    };
    case
}

/// Another format for each shape, among those that hold the classes.
fn index_dtype(rows: usize, classes: i64) -> IndexDtype {
    let formats = [IndexDtype::U8, IndexDtype::U32, IndexDtype::I32, IndexDtype::I64];
    let mut formats = formats.into_iter().cycle().skip((rows + classes as usize) % 4);
    formats.find(|dtype| dtype.holds(classes)).expect("i64 holds it")
}

fn labels(rows: usize, classes: usize, step: usize) -> Vec<i64> {
    (0..rows).map(|row| (row * step % classes) as i64).collect()
}

/// Numbers in [0, 1), the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0xd134_2543_de82_ef95);
    let mut number = || {
        state = u64::wrapping_mul(state, 6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..len).map(|_| number()).collect()
}

/// A distribution, every fifth class with nothing.
fn distribution(seed: u64, classes: usize) -> Vec<f64> {
    let mut values = noise(seed, classes);
    values.iter_mut().skip(2).step_by(5).for_each(|value| *value = 0.0);
    let total: f64 = values.iter().sum();
    values.iter().map(|value| value / total).collect()
}

// The options.

/// What an option is of, its name, and what it does to a case. Those that contradict each other
/// are of the same thing and stand together; targets come first, since others change labels.
type Choice = (&'static str, &'static str, fn(&mut Case));

const BY_TRUE_CLASS: &str = "prior by true class";
/// Classes up to which a prior by true class is tried: it has a row per class.
const LARGEST_MATRIX: usize = 1003;

const CHOICES: [Choice; 38] = [
    ("target", "mix", |case| mix(case, RowValue::Shared(0.7))),
    ("target", "mix per row", |case| mix(case, RowValue::Each(noise(5, case.row_count())))),
    ("target", "probabilities", |case| probabilities(case, case.dtype)),
    ("target", "probabilities of another dtype", |case| {
        probabilities(case, if case.dtype == Dtype::F32 { Dtype::F64 } else { Dtype::F32 })
    }),
    ("ignored", "ignore index", ignore_index),
    ("ignored", "ignored rows", |case| {
        case.ignored_rows = (0..case.row_count()).map(|row| row % 7 == 2).collect()
    }),
    ("ε", "ε 0", |case| case.epsilon = RowValue::Shared(0.0)),
    ("ε", "ε 1", |case| case.epsilon = RowValue::Shared(1.0)),
    ("ε", "ε per row", |case| {
        case.epsilon =
            RowValue::Each((0..case.row_count()).map(|row| (row % 5) as f64 / 4.0).collect());
    }),
    ("prior", "wrong classes", |case| case.prior = Prior::WrongClasses),
    ("prior", "excluding", |case| {
        case.prior =
            Prior::Excluding((0..case.class_count()).filter(|class| class % 4 == 1).collect());
    }),
    ("prior", "fixed prior", |case| case.prior = Prior::Fixed(distribution(6, case.class_count()))),
    ("prior", BY_TRUE_CLASS, |case| {
        let classes = case.class_count();
        let priors = (0..classes).flat_map(|class| distribution(7 + class as u64, classes));
        case.prior = Prior::ByTrueClass(priors.collect());
    }),
    ("class weights", "class weights", class_weights),
    ("class weights", "class weights per row", |case| {
        class_weights(case);
        case.class_weighting = ClassWeighting::PerRow;
    }),
    ("row weights", "row weights", |case| {
        case.row_weights = Some((0..case.row_count()).map(|row| (row % 3) as f64 / 2.0).collect());
    }),
    ("allowed", "allowed", |case| {
        case.allowed =
            Allowed::Shared((0..case.class_count()).map(|class| class % 5 != 3).collect());
    }),
    ("allowed", "allowed per row", |case| {
        let entries = case.row_count() * case.class_count();
        case.allowed =
            Allowed::Each(noise(8, entries).into_iter().map(|number| number < 0.8).collect());
    }),
    ("masked", "renormalise", |case| case.masked = Masked::Renormalise),
    ("reduction", "none", |case| case.reduction = Reduction::None),
    ("reduction", "none, upstream per row", |case| {
        case.reduction = Reduction::None;
        let upstream = (0..case.row_count()).map(|row| (row % 5) as f64 - 1.5).collect();
        case.upstream = Upstream(RowValue::Each(upstream));
    }),
    ("reduction", "sum", |case| case.reduction = Reduction::Sum),
    ("reduction", "kept rows", |case| case.denominator = Denominator::KeptRows),
    ("reduction", "all rows", |case| case.denominator = Denominator::Rows),
    ("reduction", "denominator", |case| case.denominator = Denominator::Given(7.5)),
    ("reduction", "upstream", |case| case.upstream = Upstream(RowValue::Shared(-0.3))),
    ("form", "KL", |case| case.form = Form::KlDivergence),
    ("z-loss", "z-loss", |case| case.z_loss = 1e-3),
    ("softcap", "softcap", |case| case.softcap = Some(3.0)),
    ("temperature", "temperature", |case| case.temperature = Some(0.7)),
    ("layout", "offset", |case| case.layout = Layout { offset: 3, ..Layout::default() }),
    ("layout", "padding", |case| {
        case.layout = Layout { offset: 1, padding: 5, ..Layout::default() }
    }),
    ("layout", "gap", |case| case.layout = Layout { gap: 1, ..Layout::default() }),
    ("layout", "transposed", |case| {
        case.layout = Layout { order: (0..case.shape.len()).rev().collect(), ..Layout::default() };
    }),
    ("logits", "−∞", |case| {
        every_third_row(case, |row, classes, z| z[row * 31 % classes] = f64::NEG_INFINITY)
    }),
    ("logits", "NaN and ∞", |case| {
        every_third_row(case, |row, classes, z| {
            z[row * 31 % classes] = if row % 2 == 0 { f64::NAN } else { f64::INFINITY }
        });
    }),
    ("logits", "whole rows of −∞", |case| {
        every_third_row(case, |_, _, z| z.fill(f64::NEG_INFINITY))
    }),
    ("logits", "as far apart as can be", |case| {
        every_third_row(case, |row, classes, z| {
            z.fill(-3e38);
            z[row * 31 % classes] = 3e38;
        });
    }),
];

fn mix(case: &mut Case, lambda: RowValue) {
    let (rows, classes) = (case.row_count(), case.class_count());
    // The same class twice in some rows.
    let b = (0..rows).map(|row| ((row * 7919 + row % 4 * 17) % classes) as i64).collect();
    let a = labels(rows, classes, 7919);
    case.targets = Targets::TwoLabels { dtype: index_dtype(rows, classes as i64), a, b, lambda };
}

fn probabilities(case: &mut Case, dtype: Dtype) {
    let (rows, classes) = (case.row_count(), case.class_count());
    let values = noise(9, rows * classes).into_iter().enumerate();
    let values = values
        .map(|(i, value)| if i % 6 == 4 { 0.0 } else { dtype.round(2.0 * value / classes as f64) });
    case.targets = Targets::Probabilities { dtype, values: values.collect() };
}

fn ignore_index(case: &mut Case) {
    let (dtype, labels) = match &mut case.targets {
        Targets::Classes { dtype, labels } => (dtype, vec![labels]),
        Targets::TwoLabels { dtype, a, b, .. } => (dtype, vec![a, b]),
        Targets::Probabilities { .. } => return,
    };
    let index = [-100, 255, 0].into_iter().find(|index| dtype.holds(*index)).expect("0 is held");
    case.ignore_index = vec![index];
    labels
        .into_iter()
        .flat_map(|labels| labels.iter_mut().step_by(5))
        .for_each(|label| *label = index);
}

fn class_weights(case: &mut Case) {
    case.class_weights =
        Some(noise(10, case.class_count()).into_iter().map(|number| 2.0 * number + 0.25).collect());
}

/// Changes the logits of every third row, given the row's number and K.
fn every_third_row(case: &mut Case, change: fn(usize, usize, &mut [f64])) {
    let classes = case.class_count();
    for row in (1..case.row_count()).step_by(3) {
        let mut logits = case.row(row);
        change(row, classes, &mut logits);
        for (class, logit) in logits.into_iter().enumerate() {
            let position = case.position(row, class);
            case.logits[position] = logit;
        }
    }
}
