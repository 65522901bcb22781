//! A vocabulary in shards: the phases under the conformance suite, cut in several ways; and the
//! calls with threads as ranks, compared with one process, with their collectives counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use xent::shards::{AllGather, Shard, ShardError, Shards};
use xent::{
    AllowedClasses, Batch, Config, Criterion, Element, Form, Lambda, Masked, Output, Prior,
    PriorMatrix, Real, Reduction, Rows, RowsMut, Targets, Upstream, bf16, f16,
};
use xent_spec::translate::{Call, answer};
use xent_spec::{Allowed, Answer, Case, Dtype, Subject};

// The phases, one shard after another

struct Phases<const SHARDS: usize>;

impl<const SHARDS: usize> Subject for Phases<SHARDS> {
    const NAME: &'static str = "xent on the CPU, a vocabulary in shards";

    fn supports(case: &Case) -> bool {
        !matches!(case.targets, xent_spec::Targets::Probabilities { .. })
    }

    fn run(case: &Case) -> Result<Answer, String> {
        match case.dtype {
            Dtype::F64 => run_as::<f64>(case, SHARDS),
            Dtype::F32 => run_as::<f32>(case, SHARDS),
            Dtype::F16 => run_as::<f16>(case, SHARDS),
            Dtype::Bf16 => run_as::<bf16>(case, SHARDS),
        }
    }
}

mod one {
    use super::Phases;
    xent_spec::conformance!(Phases<1>);
}

mod two {
    use super::Phases;
    xent_spec::conformance!(Phases<2>);
}

mod three {
    use super::Phases;
    xent_spec::conformance!(Phases<3>);
}

mod seven {
    use super::Phases;
    xent_spec::conformance!(Phases<7>);
}

/// Where the classes of a case are cut: into shards of any sizes, 0 included. It follows from the
/// criterion and K, since bits follow from the cut.
fn cuts(case: &Case, shards: usize) -> Vec<std::ops::Range<usize>> {
    let classes = case.class_count();
    let of = (case.dtype, classes, &case.prior, case.masked, case.form, case.softcap, case.z_loss);
    let mut state = format!("{of:?}").bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut bounds: Vec<usize> = (1..shards).map(|_| random(classes + 1)).collect();
    bounds.extend([0, classes]);
    bounds.sort_unstable();
    bounds.windows(2).map(|ends| ends[0]..ends[1]).collect()
}

fn run_as<T: Element>(case: &Case, shards: usize) -> Result<Answer, String> {
    let text = |error: xent::Error| error.to_string();
    let call = Call::new(case).map_err(text)?;
    let (rows, classes) = (case.row_count(), case.class_count());
    let of_all = call.batch().map_err(text)?;
    let mask: &[bool] = match &case.allowed {
        Allowed::All => &[],
        Allowed::Shared(allowed) | Allowed::Each(allowed) => allowed,
    };
    // A mask of another length than that of all logits is for a shard of all classes to refuse.
    let is_whole = [0, classes, rows * classes].contains(&mask.len());
    let cuts = if is_whole { cuts(case, shards) } else { std::iter::once(0..classes).collect() };
    let masks: Vec<Vec<bool>> = cuts
        .iter()
        .map(|here| {
            mask.chunks(classes)
                .flat_map(|row| row.get(here.clone()).unwrap_or(row))
                .copied()
                .collect()
        })
        .collect();
    let batches: Vec<Batch<'_>> = masks
        .iter()
        .map(|mask| match case.allowed {
            Allowed::All => of_all.clone(),
            Allowed::Shared(_) => of_all.clone().allowed_classes(AllowedClasses::Shared(mask)),
            Allowed::Each(_) => of_all.clone().allowed_classes(AllowedClasses::PerRow(mask)),
        })
        .collect();
    let shards: Vec<Shard<'_>> = cuts
        .iter()
        .zip(&batches)
        .map(|(here, batch)| {
            Shard::new(&call.criterion, batch, rows, classes, here.clone()).map_err(text)
        })
        .collect::<Result<_, _>>()?;

    let strides: Vec<isize> =
        case.layout.strides(&case.shape).into_iter().map(|stride| stride as isize).collect();
    let place = |here: &std::ops::Range<usize>| {
        let mut shape = case.shape.clone();
        shape[case.axis] = here.len();
        let first = case.layout.offset as isize + here.start as isize * strides[case.axis];
        (shape, usize::try_from(first).expect("a class of the buffer"))
    };
    let buffer: Vec<T> = case.buffer(f64::NAN).into_iter().map(T::from_f64).collect();
    let (mut sent, mut grad) = (Vec::new(), vec![T::from_f64(-77.0); buffer.len()]);
    for (here, shard) in cuts.iter().zip(&shards) {
        let ((shape, first), axis) = (place(here), case.axis as isize);
        let numbers = if here.is_empty() {
            shard.statistics_of_nothing()
        } else {
            let logits = Rows::strided(&buffer, &shape, &strides, first, axis).map_err(text)?;
            shard.statistics(&logits)
        };
        sent.push(numbers.map_err(text)?);
        assert_eq!(sent[sent.len() - 1].len(), rows * shard.columns());
    }
    let all: Vec<_> = cuts.iter().cloned().zip(sent.iter().map(Vec::as_slice)).collect();
    let merged = shards[0].merge(&all).map_err(text)?;
    let output: Output<T::Real> = shards[0].output(&merged);
    for (here, shard) in cuts.iter().zip(&shards) {
        let of_shard = shard.merge(&all).map_err(text)?;
        assert_eq!(bits(&shard.output::<T::Real>(&of_shard)), bits(&output), "{}", case.name);
        if here.is_empty() {
            continue;
        }
        let ((shape, first), axis) = (place(here), case.axis as isize);
        let logits = Rows::strided(&buffer, &shape, &strides, first, axis).map_err(text)?;
        let mut place = RowsMut::strided(&mut grad, &shape, &strides, first, axis).map_err(text)?;
        shard.gradient(&of_shard, &call.upstream(), &logits, &mut place).map_err(text)?;
        let mut in_place = buffer.clone();
        let mut view =
            RowsMut::strided(&mut in_place, &shape, &strides, first, axis).map_err(text)?;
        shard.gradient_in_place(&of_shard, &call.upstream(), &mut view).map_err(text)?;
        let (in_place, grad) = (
            Rows::strided(&in_place, &shape, &strides, first, axis).map_err(text)?,
            Rows::strided(&grad, &shape, &strides, first, axis).map_err(text)?,
        );
        for row in 0..rows {
            for class in 0..here.len() {
                let of = |view: &Rows<'_, T>| {
                    view.get(row, class).map(|g| g.to_real().to_f64().to_bits())
                };
                assert_eq!(of(&in_place), of(&grad), "{}", case.name);
            }
        }
    }
    let grad = (0..case.logits.len())
        .map(|position| grad[case.layout.place(&case.shape, position)].to_real().to_f64())
        .collect();
    Ok(answer(&output, grad))
}

/// An output to the last bit.
fn bits<F: Real>(output: &Output<F>) -> (Vec<u64>, Vec<i64>, Vec<bool>, [usize; 4]) {
    let parts = [&output.loss, &output.nll, &output.smoothing, &output.z_loss, &output.floor];
    let numbers = parts.into_iter().flat_map(|part| part.as_slice()).chain(&output.lse);
    (
        numbers.map(|number| number.to_f64().to_bits()).collect(),
        output.predicted.clone(),
        output.correct_rows.clone(),
        [output.correct, output.rows, output.ignored, output.non_finite],
    )
}

// The calls, with threads as ranks

#[derive(Default)]
struct Board {
    numbers: Mutex<Vec<f64>>,
    lengths: Mutex<Vec<usize>>,
    collectives: AtomicUsize,
}

/// A rank among threads. It refuses buffers of two lengths, where MPI would abort or hang.
struct Thread<'a> {
    rank: usize,
    size: usize,
    board: &'a Board,
    barrier: &'a Barrier,
    breaks_at: usize,
}

impl AllGather for Thread<'_> {
    type Error = &'static str;

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_gather(&self, mine: &[f64], all: &mut [f64]) -> Result<(), Self::Error> {
        assert_eq!(all.len(), mine.len() * self.size);
        if self.rank == 0 {
            self.board.collectives.fetch_add(1, Ordering::Relaxed);
        }
        self.board.lengths.lock().unwrap().push(mine.len());
        self.barrier.wait();
        {
            let lengths = self.board.lengths.lock().unwrap();
            assert!(lengths.iter().all(|length| *length == mine.len()), "{lengths:?}");
            let mut board = self.board.numbers.lock().unwrap();
            board.resize(all.len(), 0.0);
            board[self.rank * mine.len()..][..mine.len()].copy_from_slice(mine);
        }
        self.barrier.wait();
        all.copy_from_slice(&self.board.numbers.lock().unwrap());
        self.board.lengths.lock().unwrap().clear();
        self.barrier.wait();
        match self.board.collectives.load(Ordering::Relaxed) >= self.breaks_at {
            true => Err("the cable is cut"),
            false => Ok(()),
        }
    }
}

/// Runs `rank` on as many threads as there are shards, and returns what each returned and the number
/// of collectives.
fn ranks<R: Send>(
    size: usize,
    breaks_at: usize,
    rank: impl Fn(Thread<'_>) -> R + Sync,
) -> (Vec<R>, usize) {
    let (board, barrier) = (Board::default(), Barrier::new(size));
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|number| {
                let group =
                    Thread { rank: number, size, board: &board, barrier: &barrier, breaks_at };
                let rank = &rank;
                scope.spawn(move || rank(group))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (results, board.collectives.into_inner())
}

const NEVER: usize = usize::MAX;
const ROWS: usize = 6;
const CLASSES: usize = 101;

fn logits() -> Vec<f32> {
    let mut logits: Vec<f32> =
        (0..ROWS * CLASSES).map(|i| (i * 7919 % 1013) as f32 / 100.0 - 5.0).collect();
    // A tie between two shards, and classes 40..60 without any probability.
    (logits[3], logits[70]) = (9.0, 9.0);
    logits.chunks_mut(CLASSES).for_each(|row| row[40..60].fill(f32::NEG_INFINITY));
    logits
}

/// Some classes of all rows.
fn cut<V: Copy>(all: &[V], here: &std::ops::Range<usize>) -> Vec<V> {
    all.chunks(CLASSES).flat_map(|row| &row[here.clone()]).copied().collect()
}

/// The batch with a mask that is shared by all rows, or not, as `allowed` is.
fn masked<'a>(batch: &Batch<'a>, allowed: Option<&[bool]>, mask: &'a [bool]) -> Batch<'a> {
    let batch = batch.clone();
    match allowed {
        Some(allowed) if allowed.len() == CLASSES => {
            batch.allowed_classes(AllowedClasses::Shared(mask))
        }
        Some(_) => batch.allowed_classes(AllowedClasses::PerRow(mask)),
        None => batch,
    }
}

/// Every way to call on every rank: loss and gradient are those of one process, outputs have the same
/// bits everywhere, and steps take one collective each once the length of buffers is agreed.
fn check(criterion: &Criterion, batch: &Batch<'_>, allowed: Option<&[bool]>, ends: &[usize]) {
    let (all, upstream) = (logits(), Upstream::Scalar(1.5));
    let mut gradient = vec![0f32; all.len()];
    let expected = criterion
        .forward_backward(
            &Rows::new(&all, CLASSES).unwrap(),
            masked(batch, allowed, allowed.unwrap_or(&[])),
            upstream.clone(),
            &mut RowsMut::new(&mut gradient, CLASSES).unwrap(),
        )
        .unwrap();
    let (outputs, collectives) = ranks(ends.len(), NEVER, |group| {
        let start = if group.rank() == 0 { 0 } else { ends[group.rank() - 1] };
        let here = start..ends[group.rank()];
        let mut shards = Shards::new(group, here.clone()).unwrap();
        assert_eq!((shards.here(), shards.classes()), (here.clone(), CLASSES));
        let mask = cut(allowed.unwrap_or(&[]), &here);
        let batch = || masked(batch, allowed, &mask);
        let (mut mine, of_one) = (cut(&all, &here), cut(&gradient, &here));
        let (view, mut place) = (mine.clone(), vec![f32::NAN; mine.len()]);
        let view = (!here.is_empty()).then(|| Rows::new(&view, here.len()).unwrap());
        let output = {
            let mut place =
                (!here.is_empty()).then(|| RowsMut::new(&mut place, here.len()).unwrap());
            let both = view.as_ref().zip(place.as_mut());
            criterion
                .forward_backward_sharded(both, batch(), upstream.clone(), &mut shards)
                .unwrap()
        };
        let alone = criterion.forward_sharded(view.as_ref(), batch(), &mut shards).unwrap();
        assert_eq!(bits(&alone), bits(&output));
        let mut over = (!here.is_empty()).then(|| RowsMut::new(&mut mine, here.len()).unwrap());
        let in_place = criterion
            .forward_backward_sharded_in_place(
                over.as_mut(),
                batch(),
                upstream.clone(),
                &mut shards,
            )
            .unwrap();
        assert_eq!(bits(&in_place), bits(&output));
        for ((a, b), expected) in mine.iter().zip(&place).zip(&of_one) {
            assert_eq!(a.to_bits(), b.to_bits());
            let near = (a - expected).abs() <= 1e-6 * expected.abs().max(1e-3);
            assert!(near || (a.is_nan() && expected.is_nan()), "{a} {expected}");
        }
        output
    });
    // The ranges, the length of the first step, and one for each of three steps.
    assert_eq!(collectives, 5);
    for output in outputs {
        let [of_one, found] = [&expected, &output].map(bits);
        assert_eq!((of_one.1, of_one.2, of_one.3), (found.1, found.2, found.3));
        for (a, b) in of_one.0.into_iter().zip(found.0) {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            assert!(
                a == b || (a - b).abs() <= 1e-6 * a.abs() || (a.is_nan() && b.is_nan()),
                "{a} {b}"
            );
        }
        assert_eq!(output.denominator, expected.denominator);
    }
}

#[test]
fn ranks_agree_with_one_process() {
    let labels = [3i64, -100, 100, 0, 45, 70];
    let others = [70i64, 1, -100, 0, 3, 99];
    let (numbers, mask) =
        ([0.1, 0.2, 0.0, 1.0, 0.5, 0.3], [false, false, false, true, false, false]);
    let per_class: Vec<f64> = (0..CLASSES).map(|class| (class % 7) as f64 / 3.0).collect();
    let shared: Vec<bool> = (0..CLASSES).map(|class| class % 9 != 5).collect();
    let each: Vec<bool> = (0..ROWS * CLASSES).map(|i| i % 11 != 4).collect();
    let unnormalised: Vec<f64> = (1..=CLASSES).map(|rank| 1.0 / rank as f64).collect();
    let total: f64 = unnormalised.iter().sum();
    let zipf: Vec<f64> = unnormalised.iter().map(|u| u / total).collect();
    let matrix: Vec<f64> = (0..CLASSES)
        .flat_map(|row| zipf.iter().cycle().skip(row).take(CLASSES).copied().collect::<Vec<_>>())
        .collect();
    let config = || Config::new().label_smoothing(0.1).ignore_index(-100);
    let priors = [
        Prior::Uniform,
        Prior::WrongClasses,
        Prior::Excluding(vec![5, 41, 100]),
        Prior::fixed(&zipf),
        Prior::ByTrueClass(PriorMatrix::new(CLASSES, &matrix).unwrap()),
    ];
    // Uneven, of nothing but −∞ (40..60), and empty.
    let layouts: [&[usize]; 4] = [&[101], &[40, 101], &[1, 1, 101], &[0, 26, 40, 60, 60, 99, 101]];
    for ends in layouts {
        for prior in &priors {
            for masked in [Masked::PyTorch, Masked::Renormalise] {
                for form in [Form::CrossEntropy, Form::KlDivergence] {
                    let criterion = config()
                        .prior(prior.clone())
                        .class_weights(&per_class)
                        .masked(masked)
                        .form(form)
                        .z_loss(0.01)
                        .softcap(20.0)
                        .temperature(1.3)
                        .build()
                        .unwrap();
                    let batch = Batch::new(&labels).predictions(true).row_weights(&numbers);
                    check(&criterion, &batch, Some(&each), ends);
                    let mix = Targets::mix(&labels, &others, Lambda::from(&numbers));
                    check(&criterion, &Batch::new(mix).ignored_rows(&mask), Some(&shared), ends);
                }
            }
        }
        let none = config().reduction(Reduction::None).build().unwrap();
        let batch = Batch::new(&labels).label_smoothing_rows(&numbers).predictions(true);
        check(&none, &batch, None, ends);
        let plain = Config::new().ignore_index(-100).build().unwrap();
        check(&plain, &Batch::new(&labels).denominator(7.0), None, ends);
    }
}

#[test]
fn ranges_in_any_order_are_merged_in_the_order_of_classes() {
    let all = logits();
    let criterion = Config::new().label_smoothing(0.1).build().unwrap();
    let labels = [3u8, 1, 2, 0, 5, 70];
    let ranges = [70..101, 0..30, 30..70];
    let expected = criterion.forward(&Rows::new(&all, CLASSES).unwrap(), &labels).unwrap();
    let (outputs, _) = ranks(3, NEVER, |group| {
        let here = ranges[group.rank()].clone();
        let mut shards = Shards::new(group, here.clone()).unwrap();
        assert_eq!(shards.ranges(), ranges);
        let mine = cut(&all, &here);
        let batch = Batch::new(&labels).predictions(true);
        criterion.forward_sharded(Some(&Rows::new(&mine, here.len()).unwrap()), batch, &mut shards)
    });
    for output in outputs {
        let output = output.unwrap();
        assert_eq!(output.predicted[0], 3); // not 70, which ties with it
        assert_eq!((output.correct, output.loss.as_slice()[0]), (expected.correct, f32::INFINITY));
    }
}

// What is wrong with one rank is said by all

type Failed = ShardError<&'static str>;

/// What each of three ranks says, of 2 + 3 + 1 classes; `call` is the call of each, which is wrong on
/// some rank. Afterwards a right call works on all.
fn refused(
    call: impl Fn(usize, &mut Shards<Thread<'_>>) -> Result<Output<f32>, Failed> + Sync,
) -> Vec<String> {
    let (errors, _) = ranks(3, NEVER, |group| {
        let (rank, classes) = (group.rank(), [2, 3, 1][group.rank()]);
        let mut shards = Shards::in_rank_order(group, classes).unwrap();
        let error = call(rank, &mut shards).unwrap_err().to_string();
        let right = plain(&mut shards, &[0i64, 5, 3], classes);
        assert!(right.unwrap().loss.as_slice()[0].is_finite());
        error
    });
    errors
}

fn plain(
    shards: &mut Shards<Thread<'_>>,
    labels: &[i64],
    classes: usize,
) -> Result<Output<f32>, Failed> {
    let logits = vec![0.5f32; labels.len() * classes];
    let criterion = Config::new().build().unwrap();
    criterion.forward_sharded(Some(&Rows::new(&logits, classes).unwrap()), labels, shards)
}

#[test]
fn a_bad_label_on_one_rank_is_an_error_on_all() {
    let errors = refused(|rank, shards| {
        let labels = [0, if rank == 1 { 6 } else { 5 }];
        plain(shards, &labels, shards.here().len())
    });
    let other = "the call of rank 1 is wrong, and returns why: there is no loss on any rank";
    let own = "rank 1: target 6 in row 1 is outside 0..6 and not an ignore index";
    assert_eq!(errors, [other, own, other]);
    let errors = refused(|_, shards| plain(shards, &[0, -1], shards.here().len()));
    for (rank, error) in errors.iter().enumerate() {
        assert!(
            error.starts_with(&format!("rank {rank}: target -1 in row 1 is outside 0..6")),
            "{error}"
        );
    }
}

#[test]
fn another_number_of_rows_or_classes_is_an_error_on_all() {
    let errors = refused(|rank, shards| {
        plain(shards, if rank == 2 { &[0, 1, 2, 3] } else { &[0, 1] }, shards.here().len())
    });
    assert_eq!(errors, ["rank 2 has 4 rows, expected 2, as rank 0"; 3]);
    let errors = refused(|rank, shards| {
        plain(shards, &[0, 1], if rank == 0 { 3 } else { shards.here().len() })
    });
    assert_eq!(errors[0], "rank 0: the logits have 3 classes, expected 2, those of the shard 0..2");
    assert!(errors[1..].iter().all(|error| error.starts_with("the call of rank 0 is wrong")));
    let errors = refused(|rank, shards| match rank {
        2 => Config::new().build().unwrap().forward_sharded(
            None::<&Rows<'_, f32>>,
            &[0u8, 1],
            shards,
        ),
        _ => plain(shards, &[0, 1], shards.here().len()),
    });
    assert_eq!(errors[2], "rank 2: the logits have 0 classes, expected 1, those of the shard 5..6");
}

#[test]
fn other_options_or_number_types_on_one_rank_are_errors_on_all() {
    let errors = refused(|rank, shards| {
        let (classes, criterion) =
            (shards.here().len(), Config::new().label_smoothing(0.1).build().unwrap());
        match rank {
            1 => criterion.forward_sharded(
                Some(&Rows::new(&vec![0f32; 2 * classes], classes).unwrap()),
                &[0u8, 1],
                shards,
            ),
            _ => plain(shards, &[0, 1], classes),
        }
    });
    let expected =
        "rank 1 has 8 numbers per row, which follow from its options, expected 4, as rank 0";
    assert_eq!(errors, [expected; 3]);
    let errors = refused(|rank, shards| {
        let classes = shards.here().len();
        match rank {
            1 => Config::new()
                .build()
                .unwrap()
                .forward_sharded(
                    Some(&Rows::new(&vec![0f64; 2 * classes], classes).unwrap()),
                    &[0u8, 1],
                    shards,
                )
                .map(|_| unreachable!("another type")),
            _ => plain(shards, &[0, 1], classes),
        }
    });
    assert_eq!(errors, ["rank 1 has 64 bits of arithmetic, expected 32, as rank 0"; 3]);
}

#[test]
fn nothing_is_written_by_a_call_that_is_refused() {
    refused(|rank, shards| {
        let classes = shards.here().len();
        let (logits, mut grad) = (vec![0f32; 2 * classes], vec![-7f32; 2 * classes]);
        let upstream = if rank == 0 { Upstream::from(&[1.0, 2.0]) } else { Upstream::Scalar(1.0) };
        let result = Config::new().build().unwrap().forward_backward_sharded(
            Some((
                &Rows::new(&logits, classes).unwrap(),
                &mut RowsMut::new(&mut grad, classes).unwrap(),
            )),
            &[0u8, 1],
            upstream,
            shards,
        );
        assert!(grad.iter().all(|g| *g == -7.0));
        result
    });
}

#[test]
fn what_shards_do_not_have_is_refused_by_name() {
    let errors = refused(|_, shards| {
        let (classes, rows) = (shards.here().len(), vec![0.5f32; 12]);
        Config::new().build().unwrap().forward_sharded(
            Some(&Rows::new(&vec![0f32; 2 * classes], classes).unwrap()),
            Rows::new(&rows, 6).unwrap(),
            shards,
        )
    });
    for (rank, error) in errors.iter().enumerate() {
        assert_eq!(
            *error,
            format!(
                "rank {rank}: targets that are probabilities of a vocabulary in shards are not supported, expected class indices or two labels"
            )
        );
    }
}

#[test]
fn ranges_that_are_not_all_classes_once_are_refused() {
    let backwards = std::ops::Range { start: 5, end: 4 };
    for ranges in [[0..2, 3..4], [0..2, 1..4], [1..2, 2..4], [0..0, 0..0], [0..4, backwards]] {
        let (errors, collectives) = ranks(2, NEVER, |group| {
            let here = ranges[group.rank()].clone();
            Shards::new(group, here).err().map(|error| error.to_string())
        });
        let expected = format!(
            "the classes of the ranks are {ranges:?}, expected all classes once, from 0 on"
        );
        assert_eq!((errors, collectives), (vec![Some(expected.clone()), Some(expected)], 1));
    }
}

#[test]
fn a_connection_that_breaks_is_an_error() {
    let (errors, _) = ranks(2, 2, |group| {
        let mut shards = Shards::in_rank_order(group, 3).unwrap();
        plain(&mut shards, &[0, 1], 3).unwrap_err()
    });
    assert_eq!(
        errors,
        [Failed::Exchange("the cable is cut"), Failed::Exchange("the cable is cut")]
    );
    let board = (Board::default(), Barrier::new(1));
    let group = Thread { rank: 1, size: 1, board: &board.0, barrier: &board.1, breaks_at: NEVER };
    assert!(matches!(Shards::in_rank_order(group, 3), Err(ShardError::Rank { rank: 1, size: 1 })));
}

#[test]
fn phases_refuse_what_does_not_go_together() {
    let criterion = Config::new().build().unwrap();
    let (batch, longer) = (Batch::new(&[0u8, 1]), Batch::new(&[0u8, 1, 2]));
    let text = |result: xent::Result<Shard<'_>>| result.unwrap_err().to_string();
    assert_eq!(
        text(Shard::new(&criterion, &batch, 2, 4, 2..5)),
        "the shard has the classes 2..5, expected some of 0..4, at least 1 class in all"
    );
    assert!(text(Shard::new(&criterion, &batch, 2, 0, 0..0)).contains("at least 1 class"));
    let shard = Shard::new(&criterion, &batch, 2, 4, 2..4).unwrap();
    let logits = [0f32; 6];
    assert!(shard.statistics(&Rows::new(&logits, 3).unwrap()).is_err());
    assert_eq!(
        shard.statistics(&Rows::new(&logits, 2).unwrap()).unwrap_err().to_string(),
        "the logits: 3 entries, expected 2 (the batch's rows)"
    );
    assert!(shard.statistics_of_nothing().is_err());
    assert!(shard.merge(&[(0..4, &[0.0; 7])]).is_err());
    let other = Shard::new(&criterion, &longer, 3, 4, 0..2).unwrap();
    let rows = other.merge(&[]).unwrap();
    let mut grad = [-7f32; 4];
    let refusal = shard
        .gradient_in_place(&rows, &Upstream::Scalar(1.0), &mut RowsMut::new(&mut grad, 2).unwrap())
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the statistics of whole rows: 3 entries, expected 2 (one per row)"
    );
    assert_eq!(grad, [-7.0; 4]);
}
