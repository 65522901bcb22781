//! From a [`Case`] to the call of xent that it describes: shared by all backends that take xent's configuration. Translates names and types only; nothing is computed.

use half::{bf16, f16};
use xent::{AllowedClasses, Batch, Config, ConfigError, Criterion, Lambda, PriorMatrix, Rows, Upstream};

use crate::answer::Answer;
use crate::case::{self, Allowed, Case, RowValue};
use crate::dtype::{Dtype, IndexDtype};

/// A [`Case`]'s criterion, and the batch's data in the types in which a caller would have them.
#[derive(Debug)]
pub struct Call<'a> {
    /// The case.
    pub case: &'a Case,
    /// Its criterion.
    pub criterion: Criterion,
    targets: OwnedTargets,
}

/// Typed targets.
#[derive(Debug)]
pub enum OwnedTargets {
    /// Class indices.
    Classes(Indices),
    /// Two labels; λ is in the case.
    TwoLabels(Indices, Indices),
    /// Probabilities, `[N, K]`.
    Probabilities(Floats),
}

/// Integers of one type.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Indices {
    U8(Vec<u8>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// Floats of one type.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Floats {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

/// What a case configures, in xent's types: for bindings that have a configuration of their own.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Options {
    pub epsilon: f64,
    pub prior: xent::Prior,
    pub class_weighting: xent::ClassWeighting,
    pub masked: xent::Masked,
    pub reduction: xent::Reduction,
    pub denominator: xent::Denominator,
    pub empty_mean: xent::EmptyMean,
    pub form: xent::Form,
}

impl Options {
    /// The options of a case.
    ///
    /// # Errors
    /// xent's, for a matrix that is none of priors.
    pub fn new(case: &Case) -> Result<Self, ConfigError> {
        Ok(Self {
            epsilon: match case.epsilon {
                RowValue::Shared(epsilon) => epsilon,
                RowValue::Each(_) => 0.0,
            },
            prior: match &case.prior {
                case::Prior::Uniform => xent::Prior::Uniform,
                case::Prior::WrongClasses => xent::Prior::WrongClasses,
                case::Prior::Excluding(classes) => xent::Prior::Excluding(classes.clone()),
                case::Prior::Fixed(u) => xent::Prior::Fixed(u.clone()),
                case::Prior::ByTrueClass(u) => xent::Prior::ByTrueClass(PriorMatrix::new(case.class_count(), u.clone())?),
            },
            class_weighting: match case.class_weighting {
                case::ClassWeighting::PerClass => xent::ClassWeighting::PerClass,
                case::ClassWeighting::PerRow => xent::ClassWeighting::PerRow,
            },
            masked: match case.masked {
                case::Masked::PyTorch => xent::Masked::PyTorch,
                case::Masked::Renormalise => xent::Masked::Renormalise,
            },
            reduction: match case.reduction {
                case::Reduction::None => xent::Reduction::None,
                case::Reduction::Sum => xent::Reduction::Sum,
                case::Reduction::Mean => xent::Reduction::Mean,
            },
            denominator: match case.denominator {
                case::Denominator::PyTorch | case::Denominator::Given(_) => xent::Denominator::PyTorch,
                case::Denominator::KeptRows => xent::Denominator::KeptRows,
                case::Denominator::Rows => xent::Denominator::Rows,
            },
            empty_mean: match case.empty_mean {
                case::EmptyMean::Nan => xent::EmptyMean::Nan,
                case::EmptyMean::Zero => xent::EmptyMean::Zero,
                case::EmptyMean::Error => xent::EmptyMean::Error,
            },
            form: match case.form {
                case::Form::CrossEntropy => xent::Form::CrossEntropy,
                case::Form::KlDivergence => xent::Form::KlDivergence,
            },
        })
    }
}

/// The criterion that a case configures.
///
/// # Errors
/// xent's.
pub fn config(case: &Case) -> Result<Config, ConfigError> {
    let Options { epsilon, prior, class_weighting, masked, reduction, denominator, empty_mean, form } = Options::new(case)?;
    let mut config = Config::new()
        .label_smoothing(epsilon)
        .prior(prior)
        .class_weighting(class_weighting)
        .masked(masked)
        .reduction(reduction)
        .denominator(denominator)
        .empty_mean(empty_mean)
        .form(form)
        .z_loss(case.z_loss)
        .temperature(case.temperature.unwrap_or(1.0));
    if let Some(weights) = &case.class_weights {
        config = config.class_weights(weights.clone());
    }
    if let Some(cap) = case.softcap {
        config = config.softcap(cap);
    }
    Ok(case.ignore_index.iter().fold(config, |config, &index| config.ignore_index(index)))
}

impl<'a> Call<'a> {
    /// The call that a case describes.
    ///
    /// # Errors
    /// xent's message, where it refuses the configuration.
    pub fn new(case: &'a Case) -> Result<Self, String> {
        let criterion = config(case).and_then(Config::build).map_err(|error| error.to_string())?;
        let targets = match &case.targets {
            case::Targets::Classes { dtype, labels } => OwnedTargets::Classes(Indices::new(*dtype, labels)),
            case::Targets::TwoLabels { dtype, a, b, .. } => OwnedTargets::TwoLabels(Indices::new(*dtype, a), Indices::new(*dtype, b)),
            case::Targets::Probabilities { dtype, values } => OwnedTargets::Probabilities(Floats::new(*dtype, values)),
        };
        Ok(Self { case, criterion, targets })
    }

    /// The typed targets.
    pub fn targets(&self) -> &OwnedTargets {
        &self.targets
    }

    /// Everything that comes with the logits.
    ///
    /// # Errors
    /// xent's message, where probabilities are not `[N, K]`.
    pub fn batch(&self) -> Result<Batch<'_>, String> {
        let case = self.case;
        let mut batch = match &self.targets {
            OwnedTargets::Classes(indices) => Batch::new(indices.view()),
            OwnedTargets::TwoLabels(a, b) => Batch::new(xent::Targets::mix(a.view(), b.view(), self.lambda())),
            OwnedTargets::Probabilities(values) => Batch::new(values.view(case.row_count(), case.class_count())?),
        };
        if let RowValue::Each(epsilon) = &case.epsilon {
            batch = batch.label_smoothing_rows(epsilon);
        }
        if let Some(weights) = &case.row_weights {
            batch = batch.row_weights(weights);
        }
        if !case.ignored_rows.is_empty() {
            batch = batch.ignored_rows(&case.ignored_rows);
        }
        batch = match &case.allowed {
            Allowed::All => batch,
            Allowed::Shared(allowed) => batch.allowed_classes(AllowedClasses::Shared(allowed)),
            Allowed::Each(allowed) => batch.allowed_classes(AllowedClasses::PerRow(allowed)),
        };
        Ok(match case.denominator {
            case::Denominator::Given(denominator) => batch.denominator(denominator),
            _ => batch,
        })
    }

    /// The gradient from above.
    pub fn upstream(&self) -> Upstream<'_> {
        match &self.case.upstream.0 {
            RowValue::Shared(upstream) => Upstream::Scalar(*upstream),
            RowValue::Each(upstream) => Upstream::Rows(upstream),
        }
    }

    fn lambda(&self) -> Lambda<'_> {
        match &self.case.targets {
            case::Targets::TwoLabels { lambda: RowValue::Each(lambda), .. } => Lambda::Rows(lambda),
            case::Targets::TwoLabels { lambda: RowValue::Shared(lambda), .. } => Lambda::Scalar(*lambda),
            _ => Lambda::Scalar(1.0),
        }
    }
}

impl Indices {
    /// Those of `labels`, which the type holds.
    fn new(dtype: IndexDtype, labels: &[i64]) -> Self {
        match dtype {
            IndexDtype::U8 => Self::U8(labels.iter().map(|&label| label as u8).collect()),
            IndexDtype::U32 => Self::U32(labels.iter().map(|&label| label as u32).collect()),
            IndexDtype::I32 => Self::I32(labels.iter().map(|&label| label as i32).collect()),
            IndexDtype::I64 => Self::I64(labels.to_vec()),
        }
    }

    fn view(&self) -> xent::ClassIndices<'_> {
        match self {
            Self::U8(indices) => indices.into(),
            Self::U32(indices) => indices.into(),
            Self::I32(indices) => indices.into(),
            Self::I64(indices) => indices.into(),
        }
    }
}

impl Floats {
    /// `values`, which the type holds.
    pub fn new(dtype: Dtype, values: &[f64]) -> Self {
        match dtype {
            Dtype::F64 => Self::F64(values.to_vec()),
            Dtype::F32 => Self::F32(values.iter().map(|&value| value as f32).collect()),
            Dtype::F16 => Self::F16(values.iter().map(|&value| f16::from_f64(value)).collect()),
            Dtype::Bf16 => Self::Bf16(values.iter().map(|&value| bf16::from_f64(value)).collect()),
        }
    }

    fn view(&self, rows: usize, classes: usize) -> Result<xent::Targets<'_>, String> {
        match self {
            Self::F64(values) => Rows::new(values, rows, classes).map(Into::into),
            Self::F32(values) => Rows::new(values, rows, classes).map(Into::into),
            Self::F16(values) => Rows::new(values, rows, classes).map(Into::into),
            Self::Bf16(values) => Rows::new(values, rows, classes).map(Into::into),
        }
        .map_err(|error| error.to_string())
    }
}

/// What xent returned, as the answer to a case. `grad` is in C order of the case's shape.
pub fn answer<F: xent::Real>(output: &xent::Output<F>, grad: Vec<f64>) -> Answer {
    let wide = |values: &[F]| values.iter().map(|value| value.to_f64()).collect();
    Answer {
        loss: wide(output.loss.as_slice()),
        nll: wide(output.nll.as_slice()),
        smoothing: wide(output.smoothing.as_slice()),
        floor: wide(output.floor.as_slice()),
        z_loss: wide(output.z_loss.as_slice()),
        lse: wide(&output.lse),
        grad,
        correct: output.correct,
        denominator: output.denominator,
        ignored: output.ignored,
        non_finite: output.non_finite,
        first_non_finite: output.first_non_finite,
    }
}
