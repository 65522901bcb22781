//! From a [`Case`] to the call of xent that it describes: shared by all backends that take xent's
//! configuration. Translates names and types only; nothing is computed.

use half::{bf16, f16};
use xent::host::{HostAllowed, HostBatch, HostIndices, HostTargets};
use xent::{Batch, Config, Criterion, Lambda, PriorMatrix, Result, Rows, Upstream};

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
    batch: HostBatch<'a>,
    /// `[N, K]`, where the targets are probabilities.
    probabilities: Option<Floats>,
}

/// Floats of one type.
#[derive(Debug)]
enum Floats {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

/// What a case configures. ε per row, a given denominator and everything else of a batch are in the
/// case alone.
///
/// # Errors
/// xent's, for a matrix that is none of priors.
pub fn config(case: &Case) -> Result<Config> {
    let mut config = Config::new().ignore_indices(case.ignore_index.iter().copied());
    config.label_smoothing = match case.epsilon {
        RowValue::Shared(epsilon) => epsilon,
        RowValue::Each(_) => 0.0,
    };
    config.prior = match &case.prior {
        case::Prior::Uniform => xent::Prior::Uniform,
        case::Prior::WrongClasses => xent::Prior::WrongClasses,
        case::Prior::Excluding(classes) => xent::Prior::Excluding(classes.clone()),
        case::Prior::Fixed(u) => xent::Prior::fixed(u),
        case::Prior::ByTrueClass(u) => {
            xent::Prior::ByTrueClass(PriorMatrix::new(case.class_count(), u)?)
        }
    };
    config.class_weights = case.class_weights.clone();
    config.class_weighting = match case.class_weighting {
        case::ClassWeighting::PerClass => xent::ClassWeighting::PerClass,
        case::ClassWeighting::PerRow => xent::ClassWeighting::PerRow,
    };
    config.masked = match case.masked {
        case::Masked::PyTorch => xent::Masked::PyTorch,
        case::Masked::Renormalise => xent::Masked::Renormalise,
    };
    config.reduction = match case.reduction {
        case::Reduction::None => xent::Reduction::None,
        case::Reduction::Sum => xent::Reduction::Sum,
        case::Reduction::Mean => xent::Reduction::Mean,
    };
    config.denominator = match case.denominator {
        case::Denominator::PyTorch | case::Denominator::Given(_) => xent::Denominator::PyTorch,
        case::Denominator::KeptRows => xent::Denominator::KeptRows,
        case::Denominator::Rows => xent::Denominator::Rows,
    };
    config.empty_mean = match case.empty_mean {
        case::EmptyMean::Nan => xent::EmptyMean::Nan,
        case::EmptyMean::Zero => xent::EmptyMean::Zero,
        case::EmptyMean::Error => xent::EmptyMean::Error,
    };
    config.form = match case.form {
        case::Form::CrossEntropy => xent::Form::CrossEntropy,
        case::Form::KlDivergence => xent::Form::KlDivergence,
    };
    config.z_loss = case.z_loss;
    config.softcap = case.softcap;
    config.temperature = case.temperature.unwrap_or(1.0);
    Ok(config)
}

impl<'a> Call<'a> {
    /// The call that a case describes.
    ///
    /// # Errors
    /// xent's, where it refuses the configuration.
    pub fn new(case: &'a Case) -> Result<Self> {
        let criterion = config(case)?.build()?;
        let (targets, probabilities) = match &case.targets {
            case::Targets::Classes { dtype, labels } => {
                (HostTargets::Classes(indices(*dtype, labels)), None)
            }
            case::Targets::TwoLabels { dtype, a, b, lambda } => {
                let lambda = match lambda {
                    RowValue::Shared(lambda) => Lambda::Scalar(*lambda),
                    RowValue::Each(lambda) => Lambda::from(lambda),
                };
                (HostTargets::Mix { a: indices(*dtype, a), b: indices(*dtype, b), lambda }, None)
            }
            case::Targets::Probabilities { dtype, values } => {
                (HostTargets::Probabilities, Some(Floats::new(*dtype, values)))
            }
        };
        let batch = HostBatch {
            targets,
            label_smoothing: match &case.epsilon {
                RowValue::Shared(_) => None,
                RowValue::Each(epsilon) => Some(epsilon.into()),
            },
            row_weights: case.row_weights.as_ref().map(Into::into),
            ignored_rows: (!case.ignored_rows.is_empty()).then(|| case.ignored_rows.clone()),
            allowed_classes: match &case.allowed {
                Allowed::All => None,
                Allowed::Shared(entries) => {
                    Some(HostAllowed { entries: entries.clone(), shared: true })
                }
                Allowed::Each(entries) => {
                    Some(HostAllowed { entries: entries.clone(), shared: false })
                }
            },
            denominator: match case.denominator {
                case::Denominator::Given(denominator) => Some(denominator),
                _ => None,
            },
        };
        Ok(Self { case, criterion, batch, probabilities })
    }

    /// Everything that comes with the logits.
    ///
    /// # Errors
    /// xent's, where probabilities are not `[N, K]`.
    pub fn batch(&self) -> Result<Batch<'_>> {
        let shape = [self.case.row_count(), self.case.class_count()];
        Ok(self
            .batch
            .lend(self.probabilities.as_ref().map(|values| values.view(&shape)).transpose()?))
    }

    /// The gradient from above.
    pub fn upstream(&self) -> Upstream<'_> {
        match &self.case.upstream.0 {
            RowValue::Shared(upstream) => Upstream::Scalar(*upstream),
            RowValue::Each(upstream) => Upstream::from(upstream),
        }
    }
}

/// Labels in their format, which holds them.
fn indices(dtype: IndexDtype, labels: &[i64]) -> HostIndices<'_> {
    match dtype {
        IndexDtype::U8 => labels.iter().map(|&label| label as u8).collect::<Vec<_>>().into(),
        IndexDtype::U16 => labels.iter().map(|&label| label as u16).collect::<Vec<_>>().into(),
        IndexDtype::U32 => labels.iter().map(|&label| label as u32).collect::<Vec<_>>().into(),
        IndexDtype::U64 => labels.iter().map(|&label| label as u64).collect::<Vec<_>>().into(),
        IndexDtype::I32 => labels.iter().map(|&label| label as i32).collect::<Vec<_>>().into(),
        IndexDtype::I64 => labels.into(),
    }
}

impl Floats {
    /// `values`, which the type holds.
    fn new(dtype: Dtype, values: &[f64]) -> Self {
        match dtype {
            Dtype::F64 => Self::F64(values.to_vec()),
            Dtype::F32 => Self::F32(values.iter().map(|&value| value as f32).collect()),
            Dtype::F16 => Self::F16(values.iter().map(|&value| f16::from_f64(value)).collect()),
            Dtype::Bf16 => Self::Bf16(values.iter().map(|&value| bf16::from_f64(value)).collect()),
        }
    }

    fn view(&self, shape: &[usize]) -> Result<xent::Targets<'_>> {
        match self {
            Self::F64(values) => Rows::with_axis(values, shape, -1).map(Into::into),
            Self::F32(values) => Rows::with_axis(values, shape, -1).map(Into::into),
            Self::F16(values) => Rows::with_axis(values, shape, -1).map(Into::into),
            Self::Bf16(values) => Rows::with_axis(values, shape, -1).map(Into::into),
        }
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
