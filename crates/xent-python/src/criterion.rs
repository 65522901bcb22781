//! `Criterion`: a checked configuration, and the call of xent.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
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

/// One of some words.
fn choose<T: Copy>(name: &str, word: &str, choices: &[(&str, T)]) -> PyResult<T> {
    choices.iter().find(|(choice, _)| *choice == word).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(choice, _)| format!("'{choice}'")).collect();
        value_error(format!("{name} is '{word}', expected {}", words.join(", ")))
    })
}

#[pymethods]
impl Criterion {
    #[new]
    #[pyo3(signature = (
        *, reduction="mean", label_smoothing=0.0, prior="uniform", exclude=None, ignore_index=vec![], weighting="per_class", masked="pytorch",
        denominator="pytorch", empty_mean="nan", form="cross_entropy", z_loss=0.0, softcap=None, temperature=1.0,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        reduction: &str,
        label_smoothing: f64,
        prior: &str,
        exclude: Option<Vec<usize>>,
        ignore_index: Vec<i64>,
        weighting: &str,
        masked: &str,
        denominator: &str,
        empty_mean: &str,
        form: &str,
        z_loss: f64,
        softcap: Option<f64>,
        temperature: f64,
    ) -> PyResult<Self> {
        let prior = match (choose("prior", prior, &[("uniform", false), ("wrong_classes", true)])?, exclude) {
            (_, Some(classes)) => Prior::Excluding(classes),
            (true, None) => Prior::WrongClasses,
            (false, None) => Prior::Uniform,
        };
        let mut config = Config::new()
            .reduction(choose("reduction", reduction, &[("none", Reduction::None), ("mean", Reduction::Mean), ("sum", Reduction::Sum)])?)
            .label_smoothing(label_smoothing)
            .prior(prior)
            .class_weighting(choose("weighting", weighting, &[("per_class", ClassWeighting::PerClass), ("per_row", ClassWeighting::PerRow)])?)
            .masked(choose("masked", masked, &[("pytorch", Masked::PyTorch), ("renormalise", Masked::Renormalise)])?)
            .denominator(choose(
                "denominator",
                denominator,
                &[("pytorch", Denominator::PyTorch), ("kept_rows", Denominator::KeptRows), ("rows", Denominator::Rows)],
            )?)
            .empty_mean(choose("empty_mean", empty_mean, &[("nan", EmptyMean::Nan), ("zero", EmptyMean::Zero), ("error", EmptyMean::Error)])?)
            .form(choose("form", form, &[("cross_entropy", Form::CrossEntropy), ("kl", Form::KlDivergence)])?)
            .z_loss(z_loss)
            .temperature(temperature);
        if let Some(cap) = softcap {
            config = config.softcap(cap);
        }
        config = ignore_index.into_iter().fold(config, Config::ignore_index);
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
