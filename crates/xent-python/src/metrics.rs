//! `Evaluation`: xent-metrics' evaluation of a classifier, with rows from arrays.
//!
//! An update changes nothing unless it succeeds. A small batch is checked, then added. A large one
//! is summed up beside the evaluation, in blocks of rows that threads take when they are free, and
//! merged at the end: sums are exact, so the bits do not depend on who took which block.

use std::borrow::Cow;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rayon::ThreadPool;
use xent::host::LogitsShape;
use xent_metrics::{
    Binning, Evaluated, Evaluation as Sums, InputError, LabelledRows, Logits, MergeError, Sample,
    Settings, Tallies, read_partial, write_partial,
};

use crate::array::Array;
use crate::dtype::Dtype;
use crate::error::{error, invalid_index, panicked, type_error, value_error};
use crate::threads;

/// Batches of fewer rows or logits are added where they are: sums of their own take as long as
/// about a hundred rows.
const LARGE_ROWS: usize = 1 << 10;
const LARGE_LOGITS: usize = 1 << 16;
/// About as many logits are in a block.
const BLOCK: usize = 1 << 16;

/// `xent/metrics.py` documents it.
#[pyclass(frozen, module = "xent._xent")]
pub(crate) struct Evaluation(Mutex<Sums>);

/// Why rows were not added.
enum Failure {
    /// The number of the first row.
    First(u64),
    Rows(InputError),
    Merge(MergeError),
    /// An exception of Python's: Ctrl-C.
    Signal(PyErr),
}

#[pymethods]
impl Evaluation {
    #[new]
    #[pyo3(signature = (classes, *, bins, compat, ignored, temperature, skip_non_finite, sample_logits))]
    fn new(
        classes: usize,
        bins: usize,
        compat: Option<&str>,
        ignored: Vec<i64>,
        temperature: Option<f64>,
        skip_non_finite: bool,
        sample_logits: Option<usize>,
    ) -> PyResult<Self> {
        let usual = Settings::new(classes);
        let settings = Settings {
            binning: match compat {
                None => Binning::RightClosed,
                Some("torchmetrics") => Binning::Torchmetrics,
                Some("netcal") => Binning::Netcal,
                Some(other) => {
                    return Err(value_error(format!(
                        "compat is {other:?}, expected None, 'torchmetrics' or 'netcal'"
                    )));
                }
            },
            bins,
            ignored,
            temperature,
            skip_not_finite: skip_non_finite,
            // With a temperature nothing is fitted to the sample.
            sample_logits: sample_logits.unwrap_or(if temperature.is_some() {
                1
            } else {
                usual.sample_logits
            }),
            ..usual
        };
        settings.check().map_err(|error| value_error(error.to_string()))?;
        Ok(Self(Mutex::new(Sums::new(settings))))
    }

    /// Adds the rows of a batch; `first` is the number of the first one in its source, or that of
    /// the rows before.
    #[pyo3(signature = (logits, class_axis, labels, *, source, first=None, threads=0))]
    #[allow(clippy::too_many_arguments)]
    fn update(
        &self,
        py: Python<'_>,
        logits: Array,
        class_axis: isize,
        labels: Array,
        source: &str,
        first: Option<u64>,
        threads: usize,
    ) -> PyResult<()> {
        let shape = LogitsShape::new(logits.shape.clone(), class_axis).map_err(error)?;
        let classes = self.with(py, |sums| sums.settings().classes)?;
        if shape.classes() != classes {
            return Err(value_error(format!(
                "logits has shape {:?} with {} classes on axis {}, expected {classes} classes",
                shape.dims(),
                shape.classes(),
                shape.axis(),
            )));
        }
        shape.expect_rows("labels", &labels.shape).map_err(error)?;
        let batch = Batch {
            logits: Stored::read(&logits, shape.axis())?,
            labels: labels.labels("labels")?,
            classes,
            source,
        };
        let is_large =
            batch.labels.len() >= LARGE_ROWS && batch.labels.len() * classes >= LARGE_LOGITS;
        let helpers = if is_large { threads::helpers(threads)? } else { None };
        let added = self.with(py, |sums| {
            let before = || sums.sources().get(source).map_or(0, |source| source.rows);
            let first = first.unwrap_or_else(before);
            if first.checked_add(batch.labels.len() as u64).is_none() {
                return Err(Failure::First(first));
            }
            if is_large {
                batch.add_beside(sums, first, helpers.as_ref())
            } else {
                batch.add(sums, first)
            }
        })?;
        added.map_err(|failure| match failure {
            Failure::First(first) => {
                value_error(format!("first_row is {first}, expected row numbers below 2⁶⁴"))
            }
            Failure::Rows(error) => input_error(&error),
            Failure::Merge(error) => value_error(error.to_string()),
            Failure::Signal(error) => error,
        })
    }

    /// Adds an evaluation of other rows.
    fn merge(&self, py: Python<'_>, other: &Bound<'_, Self>) -> PyResult<()> {
        let other = other.get();
        let (here, there) = (std::ptr::from_ref(self).addr(), std::ptr::from_ref(other).addr());
        if here == there {
            return Err(value_error("an evaluation cannot be merged with itself"));
        }
        let merged = detached(py, || {
            // Always in the same order: two threads may merge two evaluations with each other.
            let (mut sums, others) = if here < there {
                let sums = self.lock();
                (sums, other.lock())
            } else {
                let others = other.lock();
                (self.lock(), others)
            };
            if let Some((one, same)) = sums.shared_rows(&others)
                && sums.settings() == others.settings()
            {
                return Err(format!(
                    "the other has the rows of {same:?}, which are here, too, as those of {one:?}; expected each once"
                ));
            }
            sums.merge(&others).map_err(|error| error.to_string())
        })?;
        merged.map_err(value_error)
    }

    /// The metrics as JSON, as `xent eval` writes them in report.json.
    fn scores(&self, py: Python<'_>, threads: usize) -> PyResult<String> {
        // Rayon's global pool does not survive a fork, so one of these computes in any case.
        let helpers = match threads::helpers(threads)? {
            None => threads::helpers(2)?,
            helpers => helpers,
        };
        let scores = self.with(py, |sums| match (sums.raw().is_empty(), &helpers) {
            (true, _) => None,
            (false, Some(helpers)) => Some(helpers.install(|| sums.scores())),
            (false, None) => Some(sums.scores()),
        })?;
        let scores = scores.ok_or_else(|| value_error("no rows to evaluate"))?;
        serde_json::to_string(&scores).map_err(|error| value_error(error.to_string()))
    }

    /// What `xent eval --partial` writes.
    fn to_bytes<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        named: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.with(py, |sums| {
            let mut bytes = Vec::new();
            let evaluation = sums.clone();
            let model = Evaluated { name: name.to_string(), named, evaluation };
            write_partial(&mut bytes, &[model]).map(|()| bytes)
        })?;
        let bytes = bytes.map_err(|error| value_error(error.to_string()))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The model of this name, or the only one.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, bytes: &[u8], name: Option<&str>) -> PyResult<Self> {
        let models = detached(py, || read_partial(bytes))?;
        let mut models = models.map_err(|error| value_error(error.to_string()))?;
        let place = match name {
            Some(name) => models.iter().position(|model| model.name == name),
            None => (models.len() == 1).then_some(0),
        };
        let Some(place) = place else {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            return Err(value_error(match name {
                Some(name) => format!("there is no model {name:?}, expected one of {names:?}"),
                None => format!("there are the models {names:?}, expected the name of one of them"),
            }));
        };
        Ok(Self(Mutex::new(models.swap_remove(place).evaluation)))
    }

    /// Forgets all rows.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |sums| *sums = Sums::new(sums.settings().clone()))
    }

    #[getter]
    fn classes(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |sums| sums.settings().classes)
    }

    /// The number of rows that were evaluated.
    #[getter]
    fn rows(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |sums| sums.raw().rows())
    }

    /// The number of rows that were read of each source, ignored ones included.
    #[getter]
    fn sources(&self, py: Python<'_>) -> PyResult<std::collections::BTreeMap<String, u64>> {
        self.with(py, |sums| {
            sums.sources().iter().map(|(name, source)| (name.clone(), source.rows)).collect()
        })
    }
}

impl Evaluation {
    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits with the interpreter's lock, which whoever has this one may need.
    fn with<R: Send>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&mut Sums) -> R + Send,
    ) -> PyResult<R> {
        detached(py, || run(&mut self.lock()))
    }
}

/// Runs without the interpreter's lock.
fn detached<R: Send>(py: Python<'_>, run: impl FnOnce() -> R + Send) -> PyResult<R> {
    py.detach(|| catch_unwind(AssertUnwindSafe(run))).map_err(|panic| panicked(&*panic))
}

fn input_error(error: &InputError) -> PyErr {
    let message = error.to_string();
    // Rows without a source.
    let message = message.trim_start_matches(": ");
    match error {
        InputError::Label { label, .. } if *label < 0 => {
            invalid_index(format!("{message}; ignore_index={label} leaves such rows out"))
        }
        InputError::Label { .. } => invalid_index(message),
        InputError::NotFinite { .. } => {
            value_error(format!("{message}; skip_non_finite=True leaves such rows out"))
        }
        InputError::Lengths { .. } => value_error(message),
    }
}

/// Logits in C order, the classes last.
enum Stored<'a> {
    F32(Cow<'a, [f32]>),
    F64(Cow<'a, [f64]>),
    F16(Cow<'a, [f16]>),
    Bf16(Cow<'a, [bf16]>),
}

impl<'a> Stored<'a> {
    fn read(array: &'a Array, axis: usize) -> PyResult<Self> {
        match array.dtype {
            Dtype::F32 => array.classes_last(axis).map(Self::F32),
            Dtype::F64 => array.classes_last(axis).map(Self::F64),
            Dtype::F16 => array.classes_last(axis).map(Self::F16),
            Dtype::Bf16 => array.classes_last(axis).map(Self::Bf16),
            _ => None,
        }
        .ok_or_else(|| {
            type_error(format!(
                "logits has dtype {}, expected float16, bfloat16, float32 or float64",
                array.dtype
            ))
        })
    }

    /// Some of them, half precision widened into `wide`.
    fn part<'b>(&'b self, range: Range<usize>, wide: &'b mut Vec<f32>) -> Logits<'b> {
        wide.clear();
        wide.resize(range.len() * usize::from(matches!(self, Self::F16(_) | Self::Bf16(_))), 0.0);
        match self {
            Self::F32(values) => return Logits::F32(&values[range]),
            Self::F64(values) => return Logits::F64(&values[range]),
            Self::F16(values) => values[range].convert_to_f32_slice(wide),
            Self::Bf16(values) => values[range].convert_to_f32_slice(wide),
        }
        Logits::F32(wide)
    }
}

struct Batch<'a> {
    logits: Stored<'a>,
    labels: Vec<i64>,
    classes: usize,
    source: &'a str,
}

impl Batch<'_> {
    fn block_rows(&self) -> usize {
        (BLOCK / self.classes).max(1)
    }

    fn blocks(&self) -> usize {
        self.labels.len().div_ceil(self.block_rows())
    }

    fn block<'a>(&'a self, number: usize, first: u64, wide: &'a mut Vec<f32>) -> LabelledRows<'a> {
        let start = number * self.block_rows();
        let end = (start + self.block_rows()).min(self.labels.len());
        LabelledRows {
            source: self.source,
            first: first + start as u64,
            logits: self.logits.part(start * self.classes..end * self.classes, wide),
            labels: &self.labels[start..end],
        }
    }

    /// Adds the rows on this thread, after a look at all of them.
    fn add(&self, sums: &mut Sums, first: u64) -> Result<(), Failure> {
        let mut wide = Vec::new();
        for number in 0..self.blocks() {
            let rows = self.block(number, first, &mut wide);
            rows.check(sums.settings()).map_err(Failure::Rows)?;
        }
        for number in 0..self.blocks() {
            sums.add(&self.block(number, first, &mut wide)).map_err(Failure::Rows)?;
        }
        Ok(())
    }

    /// Adds the rows on this thread and on those that help. Ctrl-C ends it, with nothing added.
    fn add_beside(
        &self,
        sums: &mut Sums,
        first: u64,
        helpers: Option<&Arc<ThreadPool>>,
    ) -> Result<(), Failure> {
        let settings = sums.settings().clone();
        let sample = Mutex::new(Sample::new(settings.classes, settings.sample_logits));
        let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let summed: Mutex<Vec<Tallies>> = Mutex::new(Vec::new());
        // The first one by order of the rows: a signal is before all.
        let failure: Mutex<Option<(usize, Failure)>> = Mutex::new(None);
        let fail = |number: usize, error: Failure| {
            is_over.store(true, Relaxed);
            let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
            if first.as_ref().is_none_or(|(other, _)| number < *other) {
                *first = Some((number, error));
            }
        };
        let work = |is_caller: bool| {
            let mut tallies = Tallies::new(settings.clone());
            let (mut wide, mut evaluated) = (Vec::new(), Vec::new());
            while !is_over.load(Relaxed) {
                let number = next.fetch_add(1, Relaxed);
                if number >= self.blocks() {
                    break;
                }
                let rows = self.block(number, first, &mut wide);
                evaluated.clear();
                if let Err(error) = tallies.add(&rows, &mut evaluated) {
                    fail(number, Failure::Rows(error));
                    break;
                }
                sample.lock().unwrap_or_else(PoisonError::into_inner).offer(&rows, &evaluated);
                if is_caller && let Err(signal) = Python::attach(|py| py.check_signals()) {
                    fail(0, Failure::Signal(signal));
                }
            }
            summed.lock().unwrap_or_else(PoisonError::into_inner).push(tallies);
        };
        match helpers {
            None => work(true),
            Some(pool) => pool.in_place_scope(|scope| {
                let most = Tallies::most_beside(self.classes).min(self.blocks().max(2));
                for _ in 0..pool.current_num_threads().min(most - 1) {
                    scope.spawn(|_| work(false));
                }
                work(true);
            }),
        }
        if let Some((_, failure)) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(failure);
        }
        let mut all = Tallies::new(settings);
        let summed = summed.into_inner().unwrap_or_else(PoisonError::into_inner);
        summed.iter().for_each(|tallies| all.merge(tallies));
        let sample = sample.into_inner().unwrap_or_else(PoisonError::into_inner);
        sums.merge(&Sums::from_parts(all, sample)).map_err(Failure::Merge)
    }
}
