//! `Criterion`: a checked configuration, and the call of xent.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rayon::ThreadPool;
use xent::host::{LogitsShape, on_this_thread, stopped_by};
use xent::{
    ClassWeighting, Config, Denominator, Element, EmptyMean, Form, Masked, Prior, PriorKind,
    PriorMatrix, Reduction, Rows, RowsMut, Upstream,
};

use crate::array::Array;
use crate::batch::{Arrays, Given, row_numbers};
use crate::dtype::{Dtype, Number, with_float};
use crate::error::{error, panicked, type_error, value_error};
use crate::output::Output;
use crate::{pages, threads};

/// What is measured, except for class weights and priors that are arrays: those come with each
/// call.
#[pyclass(frozen, module = "xent._xent")]
pub(crate) struct Criterion(xent::Criterion);

/// Logits that one thread has done before another has woken.
const SMALL: usize = 1 << 15;

/// Logits that one thread has done before anybody would interrupt it.
const SOON: usize = 1 << 22;

/// For each option that is a word, the words that it accepts, and the canonical word for each.
pub(crate) fn words(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    macro_rules! words {
        ($($option:literal: $choices:expr),*) => {$(
            let words = PyDict::new(py);
            for choice in $choices {
                for word in [choice.word()].iter().chain(choice.aliases()) {
                    words.set_item(word, choice.word())?;
                }
            }
            all.set_item($option, words)?;
        )*};
    }
    words!(
        "reduction": Reduction::ALL,
        "prior": [PriorKind::Uniform, PriorKind::WrongClasses],
        "weighting": ClassWeighting::ALL,
        "masked": Masked::ALL,
        "denominator": Denominator::ALL,
        "empty_mean": EmptyMean::ALL,
        "form": Form::ALL
    );
    Ok(all)
}

fn word<T: FromStr<Err = xent::Error>>(word: &Bound<'_, PyAny>) -> PyResult<T> {
    word.extract::<String>()?.parse().map_err(error)
}

#[pymethods]
impl Criterion {
    /// `xent/options.py` documents the options.
    #[new]
    #[pyo3(signature = (**options))]
    fn new(options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut config = Config::new();
        let mut excluded = None;
        for (name, value) in options.into_iter().flatten() {
            match &*name.extract::<String>()? {
                "reduction" => config.reduction = word(&value)?,
                "label_smoothing" => config.label_smoothing = value.extract()?,
                "prior" => {
                    config.prior = match word(&value)? {
                        PriorKind::WrongClasses => Prior::WrongClasses,
                        _ => Prior::Uniform,
                    }
                }
                "exclude" => excluded = value.extract()?,
                "ignore_index" => {
                    config.ignore_indices = value.extract::<Option<_>>()?.unwrap_or_default()
                }
                "weighting" => config.class_weighting = word(&value)?,
                "masked" => config.masked = word(&value)?,
                "denominator" => config.denominator = word(&value)?,
                "empty_mean" => config.empty_mean = word(&value)?,
                "form" => config.form = word(&value)?,
                "z_loss" => config.z_loss = value.extract()?,
                "softcap" => config.softcap = value.extract()?,
                "temperature" => config.temperature = value.extract()?,
                name => return Err(type_error(format!("{name} is not an option"))),
            }
        }
        if let Some(classes) = excluded {
            config.prior = Prior::Excluding(classes);
        }
        config.build().map(Self).map_err(error)
    }

    /// The loss; and, if `gradient` is an array of the logits' shape and dtype, the gradient
    /// written into it, or with `in_place` over the logits.
    ///
    /// Arrays are whatever has `__dlpack__`, in host memory; `class_axis` is an axis of `logits`,
    /// negative from the end; `upstream` is dL/dloss, a number or one per row; `threads` is 0 for
    /// all available ones; `predictions` says whether the output is to say what rows predict.
    #[pyo3(signature = (
        logits, class_axis, targets, *, second_targets=None, lam=None, label_smoothing=None, row_weights=None, ignored_rows=None, allowed_classes=None,
        denominator=None, class_weights=None, prior=None, gradient=None, upstream=None, threads=0,
        predictions=false, in_place=false,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn call(
        &self,
        py: Python<'_>,
        mut logits: Array,
        class_axis: isize,
        targets: Array,
        second_targets: Option<Array>,
        lam: Option<Given>,
        label_smoothing: Option<Array>,
        row_weights: Option<Array>,
        ignored_rows: Option<Array>,
        allowed_classes: Option<Array>,
        denominator: Option<f64>,
        class_weights: Option<Array>,
        prior: Option<Array>,
        gradient: Option<Array>,
        upstream: Option<Given>,
        threads: usize,
        predictions: bool,
        in_place: bool,
    ) -> PyResult<Output> {
        let arrays = Arrays {
            targets,
            second_targets,
            lam,
            label_smoothing,
            row_weights,
            ignored_rows,
            allowed_classes,
            denominator,
            predictions,
        };
        let shape = LogitsShape::new(logits.shape.clone(), class_axis).map_err(error)?;
        if logits.len() > SMALL {
            let copied = [&class_weights, &prior].into_iter().flatten().map(Array::len).sum();
            expect_memory(&arrays, &shape, copied)?;
        }
        if in_place && gradient.is_some() {
            return Err(value_error("a gradient in place needs no other array for it".to_owned()));
        }
        let criterion = self.with_arrays(class_weights, prior, &shape)?;
        let dtype = logits.dtype;
        let call =
            Call { criterion, logits: &mut logits, shape: &shape, arrays: &arrays, upstream, threads };
        Ok(Output(with_float!("logits", dtype, F => call.run::<F>(py, gradient, in_place)?)))
    }
}

impl Criterion {
    fn with_arrays(
        &self,
        class_weights: Option<Array>,
        prior: Option<Array>,
        shape: &LogitsShape,
    ) -> PyResult<Cow<'_, xent::Criterion>> {
        if class_weights.is_none() && prior.is_none() {
            return Ok(Cow::Borrowed(&self.0));
        }
        let mut config = self.0.config().clone();
        let classes = shape.classes();
        if let Some(weights) = class_weights {
            let name = "class_weights";
            shape.expect_classes(name, &weights.shape).map_err(error)?;
            config = config.class_weights(weights.numbers(name)?);
        }
        if let Some(prior) = prior {
            if prior.shape != [classes] && prior.shape != [classes, classes] {
                return Err(value_error(format!(
                    "prior has shape {:?}, expected [{classes}], one entry per class, or [{classes}, {classes}], one row per true class",
                    prior.shape
                )));
            }
            let entries = prior.numbers("prior")?;
            config.prior = match prior.shape.len() {
                1 => Prior::fixed(entries),
                _ => Prior::ByTrueClass(PriorMatrix::new(classes, entries).map_err(error)?),
            };
        }
        config.build().map(Cow::Owned).map_err(error)
    }
}

/// Raises MemoryError where a call would abort the process: what it takes besides the gradient is
/// reserved for a moment. `copied` is the number of entries that become f64.
fn expect_memory(arrays: &Arrays, shape: &LogitsShape, copied: usize) -> PyResult<()> {
    const PER_ROW: usize = 128;
    const PER_CLASS_AND_THREAD: usize = 64;
    const MARGIN: usize = 8 << 20;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let bytes = (shape.rows() * PER_ROW)
        .saturating_add(shape.classes().saturating_mul(threads * PER_CLASS_AND_THREAD))
        .saturating_add(copied.saturating_mul(size_of::<f64>()))
        .saturating_add(arrays.copied_bytes())
        .saturating_add(MARGIN);
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| {
        PyMemoryError::new_err(format!("not enough memory for a call, about {bytes} bytes"))
    })
}

struct Call<'a> {
    criterion: Cow<'a, xent::Criterion>,
    logits: &'a mut Array,
    shape: &'a LogitsShape,
    arrays: &'a Arrays,
    upstream: Option<Given>,
    threads: usize,
}

impl Call<'_> {
    fn run<F: Element + Number>(
        self,
        py: Python<'_>,
        gradient: Option<Array>,
        in_place: bool,
    ) -> PyResult<xent::Output<f64>> {
        let Self { criterion, logits, shape, arrays, upstream, threads } = self;
        let axis = shape.axis() as isize;
        let batch = arrays.read(shape)?;
        let batch = batch.lend(arrays.probabilities(shape)?).predictions(arrays.predictions);
        let here = if threads == 1 { SOON } else { SMALL };
        let pool = if logits.len() <= here { None } else { threads::pool(threads)? };
        let pool = pool.as_deref();
        let given = match &upstream {
            Some(Given::Rows(upstream)) => Some(("the upstream gradient", upstream)),
            _ => None,
        };
        let read = || arrays.all().chain(given);
        let factors = || -> PyResult<Upstream<'_>> {
            Ok(match &upstream {
                Some(Given::Rows(upstream)) => {
                    row_numbers("the upstream gradient", upstream, shape)?.into()
                }
                Some(Given::All(upstream)) => Upstream::Scalar(*upstream),
                None => Upstream::Scalar(1.0),
            })
        };
        if in_place {
            expect_apart("logits", logits, read())?;
            let mut rows = rows_to_write::<F>("logits", logits, F::DTYPE, axis)?;
            let upstream = factors()?;
            return on(pool, py, || {
                criterion.forward_backward_in_place(&mut rows, batch, upstream)
            });
        }
        let logits = &*logits;
        let rows: Rows<'_, F> = logits
            .rows(axis)?
            .ok_or_else(|| type_error("logits: the dtype changed during the call"))?;
        let Some(mut gradient) = gradient else {
            return on(pool, py, || criterion.forward(&rows, batch));
        };
        expect_apart("the gradient", &gradient, std::iter::once(("logits", logits)).chain(read()))?;
        let upstream = factors()?;
        shape.expect_logits("the gradient", &gradient.shape).map_err(error)?;
        let mut gradient =
            rows_to_write::<F>("the gradient", &mut gradient, logits.dtype, axis)?;
        on(pool, py, || criterion.forward_backward(&rows, batch, upstream, &mut gradient))
    }
}

fn expect_apart<'a>(
    name: &str,
    written: &Array,
    read: impl Iterator<Item = (&'static str, &'a Array)>,
) -> PyResult<()> {
    for (of, array) in read {
        if written.overlaps(array) {
            return Err(value_error(format!("{name}'s memory overlaps that of {of}")));
        }
    }
    Ok(())
}

/// An array as rows that are written; [`expect_apart`] comes first.
fn rows_to_write<'a, F: Element + Number>(
    name: &str,
    array: &'a mut Array,
    expected: Dtype,
    axis: isize,
) -> PyResult<RowsMut<'a, F>> {
    let (dims, strides, offset, dtype) =
        (array.shape.clone(), array.strides.clone(), array.offset, array.dtype);
    // SAFETY: Python's side made the array for this, and no array that is read has any of its
    // memory.
    let buffer = unsafe { array.buffer_mut::<F>(name) }?;
    let buffer = buffer.ok_or_else(|| {
        type_error(format!("{name} has dtype {dtype}, expected the logits' {expected}"))
    })?;
    pages::advise(buffer);
    RowsMut::strided(buffer, &dims, &strides, offset, axis).map_err(error)
}

/// Runs on a pool's threads, or on this one alone, without the interpreter's lock; whatever goes
/// wrong becomes an exception.
fn on<F: xent::Real>(
    pool: Option<&ThreadPool>,
    py: Python<'_>,
    run: impl FnOnce() -> xent::Result<xent::Output<F>> + Send,
) -> PyResult<xent::Output<f64>> {
    let run = || catch_unwind(AssertUnwindSafe(run));
    let result = py.detach(|| match pool {
        Some(pool) => watched(pool, run),
        None => Ok(on_this_thread(run)),
    });
    match result? {
        Ok(output) => Ok(output.map_err(error)?.to_f64()),
        Err(panic) => Err(panicked(&*panic)),
    }
}

/// Runs on a pool's threads, while this one looks for signals: Ctrl-C ends a call of minutes soon.
fn watched<R: Send>(pool: &ThreadPool, run: impl FnOnce() -> R + Send) -> PyResult<R> {
    const LOOK: Duration = Duration::from_millis(100);
    let stop = Arc::new(AtomicBool::new(false));
    let (done, result) = sync_channel(1);
    let (output, signal) = pool.in_place_scope(|scope| {
        let to_stop = stop.clone();
        // The other end is there until this has been received.
        scope.spawn(move |_| done.send(stopped_by(&to_stop, run)).unwrap_or_default());
        let mut signal = Ok(());
        loop {
            match result.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) if signal.is_ok() => {
                    signal = Python::attach(|py| py.check_signals());
                    stop.store(signal.is_err(), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(output) => break (output, signal),
                Err(RecvTimeoutError::Disconnected) => break (None, signal),
            }
        }
    });
    signal?;
    output.ok_or_else(|| panicked(&"a call ended without a result"))
}
