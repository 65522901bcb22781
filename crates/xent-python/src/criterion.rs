//! `Criterion`: a checked configuration, and the call of xent.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use xent::{ClassWeighting, Config, Denominator, Element, EmptyMean, Form, Masked, Prior, PriorMatrix, Reduction, Rows, RowsMut, Upstream};

use crate::array::{Array, Dtype, Number};
use crate::batch::{Arrays, Given, HostBatch, Shape};
use crate::error::{config_error, input_error, panicked, type_error, value_error, view_error};
use crate::output::Output;
use crate::read::with_float;
use crate::{pages, threads};

/// What is measured, but for class weights and priors that are arrays: those come with each call.
#[pyclass(frozen, module = "xent._xent")]
pub(crate) struct Criterion(Config);

/// The words of an option: each with what it means, the canonical word first.
type Words<T> = &'static [(&'static [&'static str], T)];

const REDUCTION: Words<Reduction> = &[(&["none"], Reduction::None), (&["mean"], Reduction::Mean), (&["sum"], Reduction::Sum)];
const PRIOR: Words<fn() -> Prior> = &[(&["uniform"], || Prior::Uniform), (&["wrong_classes", "others"], || Prior::WrongClasses)];
const WEIGHTING: Words<ClassWeighting> = &[(&["per_class"], ClassWeighting::PerClass), (&["per_row", "row"], ClassWeighting::PerRow)];
const MASKED: Words<Masked> = &[(&["pytorch"], Masked::PyTorch), (&["renormalise", "renormalize"], Masked::Renormalise)];
const DENOMINATOR: Words<Denominator> =
    &[(&["pytorch"], Denominator::PyTorch), (&["kept_rows", "kept"], Denominator::KeptRows), (&["rows", "all"], Denominator::Rows)];
const EMPTY_MEAN: Words<EmptyMean> = &[(&["nan"], EmptyMean::Nan), (&["zero"], EmptyMean::Zero), (&["error"], EmptyMean::Error)];
const FORM: Words<Form> = &[(&["cross_entropy", "ce"], Form::CrossEntropy), (&["kl_divergence", "kl"], Form::KlDivergence)];

/// For each option that is a word, its words and the canonical word for each.
pub(crate) fn words(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    fn of<T>(words: Words<T>) -> Vec<(&'static str, &'static str)> {
        words.iter().flat_map(|(words, _)| words.iter().map(|word| (*word, words[0]))).collect()
    }
    let all = PyDict::new(py);
    let options = [
        ("reduction", of(REDUCTION)),
        ("prior", of(PRIOR)),
        ("weighting", of(WEIGHTING)),
        ("masked", of(MASKED)),
        ("denominator", of(DENOMINATOR)),
        ("empty_mean", of(EMPTY_MEAN)),
        ("form", of(FORM)),
    ];
    for (name, words) in options {
        all.set_item(name, words.into_py_dict(py)?)?;
    }
    Ok(all)
}

fn choose<T: Copy>(words: Words<T>, word: &Bound<'_, PyAny>) -> PyResult<T> {
    let word: String = word.extract()?;
    let found = words.iter().find(|(words, _)| words.contains(&&*word)).map(|(_, choice)| *choice);
    found.ok_or_else(|| value_error(format!("'{word}', expected {}", words.iter().map(|(words, _)| format!("'{}'", words[0])).collect::<Vec<_>>().join(", "))))
}

#[pymethods]
impl Criterion {
    /// `xent/options.py` names the options.
    #[new]
    #[pyo3(signature = (**options))]
    fn new(options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut config = Config::new().label_smoothing(0.0);
        let mut prior = Prior::Uniform;
        let mut excluded = None;
        for (name, value) in options.into_iter().flatten() {
            config = match &*name.extract::<String>()? {
                "reduction" => config.reduction(choose(REDUCTION, &value)?),
                "label_smoothing" => config.label_smoothing(value.extract()?),
                "prior" => {
                    prior = choose(PRIOR, &value)?();
                    config
                }
                "exclude" => {
                    excluded = value.extract()?;
                    config
                }
                "ignore_index" => value.extract::<Option<Vec<i64>>>()?.into_iter().flatten().fold(config, Config::ignore_index),
                "weighting" => config.class_weighting(choose(WEIGHTING, &value)?),
                "masked" => config.masked(choose(MASKED, &value)?),
                "denominator" => config.denominator(choose(DENOMINATOR, &value)?),
                "empty_mean" => config.empty_mean(choose(EMPTY_MEAN, &value)?),
                "form" => config.form(choose(FORM, &value)?),
                "z_loss" => config.z_loss(value.extract()?),
                "softcap" => match value.extract()? {
                    Some(cap) => config.softcap(cap),
                    None => config,
                },
                "temperature" => config.temperature(value.extract()?),
                name => return Err(type_error(format!("no option is called {name}"))),
            };
        }
        config = config.prior(excluded.map_or(prior, Prior::Excluding));
        Ok(Self(config.build().map_err(config_error)?.config().clone()))
    }

    /// The loss; and, if `gradient` is an array of the logits' shape and dtype, the gradient written into it.
    ///
    /// Arrays are whatever has `__dlpack__`, in main memory; `class_axis` is an axis of `logits`; `upstream` is dL/dloss, a number or one a row; `threads` is 0 for all.
    #[pyo3(signature = (
        logits, class_axis, targets, *, second_targets=None, lam=None, label_smoothing=None, row_weights=None, ignored_rows=None, allowed_classes=None,
        denominator=None, class_weights=None, prior=None, gradient=None, upstream=None, threads=0,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn call(
        &self,
        py: Python<'_>,
        logits: Array,
        class_axis: usize,
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
    ) -> PyResult<Output> {
        let arrays = Arrays { targets, second_targets, lam, label_smoothing, row_weights, ignored_rows, allowed_classes, denominator };
        let shape = Shape::new(&logits, class_axis)?;
        let criterion = self.with_arrays(class_weights, prior, shape.classes())?;
        let batch = HostBatch::new(&arrays, &shape)?;
        let output = with_float!("logits", logits.dtype, F => run::<F>(py, &criterion, &logits, &shape, &arrays, &batch, gradient, upstream, threads)?);
        Ok(Output(output))
    }
}

impl Criterion {
    fn with_arrays(&self, class_weights: Option<Array>, prior: Option<Array>, classes: usize) -> PyResult<xent::Criterion> {
        let mut config = self.0.clone();
        if let Some(weights) = class_weights {
            weights.expect_shape("class weights", &[classes], "one a class")?;
            config = config.class_weights(weights.numbers("class weights")?);
        }
        if let Some(prior) = prior {
            if prior.shape != [classes] && prior.shape != [classes, classes] {
                return Err(value_error(format!(
                    "prior of shape {:?}, expected [{classes}], one a class, or [{classes}, {classes}], a row for each true class",
                    prior.shape
                )));
            }
            let entries = prior.numbers("prior")?.into_owned();
            config = config.prior(match prior.shape.len() {
                1 => Prior::Fixed(entries),
                _ => Prior::ByTrueClass(PriorMatrix::new(classes, entries).map_err(config_error)?),
            });
        }
        config.build().map_err(config_error)
    }
}

#[allow(clippy::too_many_arguments)]
fn run<F: Element + Number>(
    py: Python<'_>,
    criterion: &xent::Criterion,
    logits: &Array,
    shape: &Shape,
    arrays: &Arrays,
    batch: &HostBatch<'_>,
    gradient: Option<Array>,
    upstream: Option<Given>,
    threads: usize,
) -> PyResult<xent::Output<f64>> {
    let rows: Rows<'_, F> = logits.rows(shape.axis)?.ok_or_else(|| type_error("logits changed their dtype"))?;
    let batch = batch.as_xent()?;
    let pool = threads::pool(threads)?;
    let Some(mut gradient) = gradient else {
        return catch(py, || pool.install(|| criterion.forward(&rows, batch)));
    };
    let overlapping = [Some(logits), Some(&arrays.targets)].into_iter().flatten().any(|array| gradient.overlaps(array));
    if overlapping {
        return Err(value_error("the gradient's memory overlaps that of logits or targets"));
    }
    let rows_of_upstream = match &upstream {
        Some(Given::Rows(upstream)) => {
            shape.expect_rows("upstream gradient", upstream)?;
            Some(upstream.numbers("upstream gradient")?)
        }
        _ => None,
    };
    let upstream = match (&rows_of_upstream, &upstream) {
        (Some(rows), _) => Upstream::Rows(rows),
        (None, Some(Given::All(upstream))) => Upstream::Scalar(*upstream),
        _ => Upstream::Scalar(1.0),
    };
    gradient.expect_shape("gradient", &shape.dims, "the shape of the logits")?;
    let (dims, strides, offset, dtype) = (gradient.shape.clone(), gradient.strides.clone(), gradient.offset, gradient.dtype);
    // SAFETY: Python's side made the array for this, and no array that is read has any of its memory.
    let buffer = unsafe { gradient.buffer_mut::<F>("gradient") }?;
    let buffer = buffer.ok_or_else(|| type_error(format!("gradient of dtype {dtype}, expected the logits' {}", logits.dtype)))?;
    pages::advise(buffer);
    let mut gradient = RowsMut::strided(buffer, &dims, &strides, offset, shape.axis).map_err(view_error)?;
    catch(py, || pool.install(|| criterion.forward_backward(&rows, batch, upstream, &mut gradient)))
}

/// Runs without the interpreter's lock; whatever goes wrong becomes an exception.
fn catch<F: xent::Real>(py: Python<'_>, run: impl FnOnce() -> Result<xent::Output<F>, xent::InputError> + Send) -> PyResult<xent::Output<f64>> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(run))) {
        Ok(output) => Ok(output.map_err(input_error)?.to_f64()),
        Err(panic) => Err(panicked(&*panic)),
    }
}
