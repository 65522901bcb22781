//! `Criterion`: a checked configuration, and the call of xent.

use std::borrow::Cow;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rayon::ThreadPool;
use xent::host::{LogitsShape, helped_by, on_this_thread, stopped_by};
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
        let criterion = self.with_arrays(class_weights, prior, &shape)?;
        let call = Call { criterion, shape: &shape, arrays: &arrays, upstream, threads };
        let output = match (in_place, gradient) {
            (false, gradient) => {
                with_float!("logits", logits.dtype, F => call.run::<F>(py, &logits, gradient)?)
            }
            (true, None) => {
                with_float!("logits", logits.dtype, F => call.run_in_place::<F>(py, &mut logits)?)
            }
            (true, Some(_)) => {
                return Err(value_error("a gradient in place has no array of its own".to_owned()));
            }
        };
        Ok(Output(output))
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
    shape: &'a LogitsShape,
    arrays: &'a Arrays,
    upstream: Option<Given>,
    threads: usize,
}

impl Call<'_> {
    fn run<F: Element + Number>(
        &self,
        py: Python<'_>,
        logits: &Array,
        gradient: Option<Array>,
    ) -> PyResult<xent::Output<f64>> {
        let Self { criterion, shape, arrays, .. } = self;
        let axis = shape.axis() as isize;
        let rows: Rows<'_, F> = logits
            .rows(axis)?
            .ok_or_else(|| type_error("logits: the dtype changed during the call"))?;
        let batch = arrays.read(shape)?;
        let batch = batch.lend(arrays.probabilities(shape)?).predictions(arrays.predictions);
        let helpers = self.helpers(logits)?;
        let Some(mut gradient) = gradient else {
            return on(helpers.as_ref(), py, || criterion.forward(&rows, batch));
        };
        if gradient.overlaps(logits) {
            return Err(value_error(
                "the memory of the gradient overlaps that of logits".to_owned(),
            ));
        }
        self.expect_apart("the gradient", &gradient)?;
        let upstream = self.upstream()?;
        shape.expect_logits("the gradient", &gradient.shape).map_err(error)?;
        let mut gradient = rows_to_write("the gradient", &mut gradient, logits.dtype, axis)?;
        on(helpers.as_ref(), py, || {
            criterion.forward_backward(&rows, batch, upstream, &mut gradient)
        })
    }

    fn run_in_place<F: Element + Number>(
        &self,
        py: Python<'_>,
        logits: &mut Array,
    ) -> PyResult<xent::Output<f64>> {
        let Self { criterion, shape, arrays, .. } = self;
        let batch = arrays.read(shape)?;
        let batch = batch.lend(arrays.probabilities(shape)?).predictions(arrays.predictions);
        let helpers = self.helpers(logits)?;
        self.expect_apart("logits", logits)?;
        let upstream = self.upstream()?;
        let mut rows = rows_to_write::<F>("logits", logits, F::DTYPE, shape.axis() as isize)?;
        on(helpers.as_ref(), py, || criterion.forward_backward_in_place(&mut rows, batch, upstream))
    }

    fn helpers(&self, logits: &Array) -> PyResult<Option<Arc<ThreadPool>>> {
        if logits.len() <= SMALL { Ok(None) } else { threads::helpers(self.threads) }
    }

    fn upstream(&self) -> PyResult<Upstream<'_>> {
        Ok(match &self.upstream {
            Some(Given::Rows(upstream)) => {
                row_numbers("the upstream gradient", upstream, self.shape)?.into()
            }
            Some(Given::All(upstream)) => Upstream::Scalar(*upstream),
            None => Upstream::Scalar(1.0),
        })
    }

    /// Nothing that is read besides the logits has any of the memory that is written.
    fn expect_apart(&self, name: &str, written: &Array) -> PyResult<()> {
        let given = match &self.upstream {
            Some(Given::Rows(upstream)) => Some(("the upstream gradient", upstream)),
            _ => None,
        };
        for (of, array) in self.arrays.all().chain(given) {
            if written.overlaps(array) {
                return Err(value_error(format!("the memory of {name} overlaps that of {of}")));
            }
        }
        Ok(())
    }
}

/// An array as rows to write, of which nothing that is read meanwhile has any memory.
fn rows_to_write<'a, F: Element + Number>(
    name: &str,
    array: &'a mut Array,
    expected: Dtype,
    axis: isize,
) -> PyResult<RowsMut<'a, F>> {
    let (dims, strides, offset, dtype) =
        (array.shape.clone(), array.strides.clone(), array.offset, array.dtype);
    // SAFETY: Python's side made the array for this, and no array that is read has any of its
    // memory (contract).
    let buffer = unsafe { array.buffer_mut::<F>(name) }?;
    let buffer = buffer.ok_or_else(|| {
        type_error(format!("{name} has dtype {dtype}, expected the logits' {expected}"))
    })?;
    pages::advise(buffer);
    RowsMut::strided(buffer, &dims, &strides, offset, axis).map_err(error)
}

/// Runs on this thread and on those that help, without the interpreter's lock; whatever goes wrong
/// becomes an exception, and so does Ctrl-C.
fn on<F: xent::Real>(
    helpers: Option<&Arc<ThreadPool>>,
    py: Python<'_>,
    run: impl FnOnce() -> xent::Result<xent::Output<F>> + Send,
) -> PyResult<xent::Output<f64>> {
    let run = || catch_unwind(AssertUnwindSafe(run));
    let result = py.detach(|| {
        watched(|| match helpers {
            Some(helpers) => helped_by(helpers, run),
            None => on_this_thread(run),
        })
    });
    match result? {
        Ok(output) => Ok(output.map_err(error)?.to_f64()),
        Err(panic) => Err(panicked(&*panic)),
    }
}

/// Looks for signals now and then: Ctrl-C ends a call of minutes soon.
fn watched<R>(run: impl FnOnce() -> R) -> PyResult<R> {
    const LOOK: Duration = Duration::from_millis(100);
    let (looked, signal) = (Cell::new(Instant::now()), Rc::new(Cell::new(None)));
    let found = signal.clone();
    let output = stopped_by(
        move || {
            if looked.get().elapsed() < LOOK {
                return false;
            }
            looked.set(Instant::now());
            let error = Python::attach(|py| py.check_signals()).err();
            let is_found = error.is_some();
            found.set(error);
            is_found
        },
        run,
    );
    match (output, signal.take()) {
        (Some(output), _) => Ok(output),
        (None, Some(signal)) => Err(signal),
        (None, None) => Err(panicked(&"a call ended without a result")),
    }
}
