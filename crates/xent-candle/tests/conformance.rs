//! Both paths judged by the textbook, through candle's own backward pass.

use candle_core::{DType, Device, Tensor, Var};
use xent_candle::{Call, CrossEntropy};
use xent_spec::translate::{answer, config};
use xent_spec::{
    Allowed, Answer, Case, Denominator, Dtype, IndexDtype, RowValue, Subject, Targets,
};

type Outcome<T> = Result<T, xent_candle::Error>;

mod engine {
    use super::*;

    struct Engine;

    impl Subject for Engine {
        const NAME: &'static str = "xent-candle with xent's engine";

        fn run(case: &Case) -> Result<Answer, String> {
            run(case, false).map_err(|error| error.to_string())
        }
    }

    xent_spec::conformance!(Engine);
}

mod composed {
    use super::*;

    struct Composed;

    impl Subject for Composed {
        const NAME: &'static str = "xent-candle with candle's operations";

        fn run(case: &Case) -> Result<Answer, String> {
            run(case, true).map_err(|error| error.to_string())
        }
    }

    xent_spec::conformance!(Composed);
}

fn run(case: &Case, composed: bool) -> Outcome<Answer> {
    let criterion = CrossEntropy::new(config(case)?)?
        .class_axis(case.axis as isize)
        .composed(composed)
        .checked(true);
    let buffer = Buffer::new(case)?;
    let logits = buffer.view(buffer.variable.as_tensor())?;
    assert_eq!(logits.dims(), case.shape);
    let arguments = Arguments::new(case)?;

    let (loss, output) = arguments.call(&criterion, &logits).forward_with_output()?;
    let (frozen, _) = arguments.call(&criterion, &logits.detach()).forward_with_output()?;
    let reported = tensor_numbers(&loss)?;
    assert!(loss.track_op() && !frozen.track_op(), "{}", case.name);
    assert_same(case, "the tensor of the loss", &reported, output.loss.as_slice());
    assert_same(case, "the loss of frozen logits", &tensor_numbers(&frozen)?, &reported);

    let weighed = if case.upstream.0 == RowValue::Shared(1.0) {
        loss
    } else {
        let upstream =
            Tensor::new(case.upstream.0.values(), &Device::Cpu)?.to_dtype(loss.dtype())?;
        let upstream = match case.upstream.0 {
            RowValue::Shared(_) => upstream.reshape(())?.broadcast_as(loss.shape())?,
            RowValue::Each(_) => shaped(upstream, loss.dims())?,
        };
        (loss * upstream)?
    };
    let gradients = weighed.sum_all()?.backward()?;
    // Where there are no rows, candle's graph does not reach back to the variable.
    let Some(gradient) = gradients.get(&buffer.variable) else {
        assert_eq!(case.row_count(), 0, "{}: no gradient", case.name);
        return Ok(answer(&output, Vec::new()));
    };
    assert_eq!(gradient.dtype(), logits.dtype());
    buffer.assert_nothing_beside(case, gradient)?;
    Ok(answer(&output, tensor_numbers(&buffer.view(gradient)?)?))
}

fn tensor_numbers(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn assert_same(case: &Case, what: &str, a: &[f64], b: &[f64]) {
    let same =
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
    assert!(same, "{}: {what}: {a:?} and {b:?}", case.name);
}

fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    }
}

/// A variable in which the logits lie as the case's layout says (its padding rounded up to whole
/// steps of the innermost axis, which candle's views need), NaN elsewhere.
struct Buffer<'a> {
    case: &'a Case,
    variable: Var,
    /// The axes from the outermost in memory to the innermost.
    order: Vec<usize>,
}

impl<'a> Buffer<'a> {
    fn new(case: &'a Case) -> candle_core::Result<Self> {
        let rank = case.shape.len();
        let order: Vec<usize> = if case.layout.order.is_empty() {
            (0..rank).collect()
        } else {
            case.layout.order.clone()
        };
        let mut buffer = Self { case, variable: Var::zeros((), DType::F64, &Device::Cpu)?, order };
        let len = case.layout.offset + buffer.grid().iter().product::<usize>();
        let places =
            tensor_numbers(&buffer.view(&Tensor::arange(0u32, len as u32, &Device::Cpu)?)?)?;
        let mut numbers = vec![f64::NAN; len];
        places
            .iter()
            .zip(&case.logits)
            .for_each(|(&place, &logit)| numbers[place as usize] = logit);
        buffer.variable = Var::from_tensor(
            &Tensor::from_vec(numbers, len, &Device::Cpu)?.to_dtype(dtype(case.dtype))?,
        )?;
        Ok(buffer)
    }

    /// The shape of all memory after the offset: axes in their order, the innermost padded, and the
    /// gap as an axis of its own.
    fn grid(&self) -> Vec<usize> {
        let step = 1 + self.case.layout.gap;
        let mut grid: Vec<usize> = self.order.iter().map(|&axis| self.case.shape[axis]).collect();
        if let Some(innermost) = grid.last_mut() {
            *innermost += self.case.layout.padding.div_ceil(step);
        }
        grid.push(step);
        grid
    }

    /// The logits' place in a tensor of the buffer's length, without a copy.
    fn view(&self, buffer: &Tensor) -> candle_core::Result<Tensor> {
        let rank = self.order.len();
        let len: usize = self.grid().iter().product();
        let grid = buffer
            .narrow(0, self.case.layout.offset, len)?
            .reshape(self.grid())?
            .narrow(rank, 0, 1)?
            .squeeze(rank)?;
        let unpadded = match self.order.last() {
            Some(&innermost) => grid.narrow(rank - 1, 0, self.case.shape[innermost])?,
            None => grid,
        };
        let mut back = vec![0; rank];
        self.order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
        unpadded.permute(back)
    }

    fn assert_nothing_beside(&self, case: &Case, gradient: &Tensor) -> candle_core::Result<()> {
        let mut beside = tensor_numbers(gradient)?;
        let places = self.view(&Tensor::arange(0u32, beside.len() as u32, &Device::Cpu)?)?;
        tensor_numbers(&places)?.iter().for_each(|&place| beside[place as usize] = 0.0);
        assert!(
            beside.iter().all(|&entry| entry == 0.0),
            "{}: a gradient beside the logits",
            case.name
        );
        Ok(())
    }
}

/// A case's tensors.
struct Arguments {
    targets: Tensor,
    second: Option<(Tensor, Result<Tensor, f64>)>,
    epsilon: Option<Tensor>,
    row_weights: Option<Tensor>,
    ignored: Option<Tensor>,
    allowed: Option<Tensor>,
    denominator: Option<f64>,
}

impl Arguments {
    fn new(case: &Case) -> candle_core::Result<Self> {
        let mut row_dims = case.shape.clone();
        row_dims.remove(case.axis);
        let row_dims = row_dims.as_slice();
        let device = &Device::Cpu;
        let labels = |dtype, labels: &[i64]| {
            let dtype = match dtype {
                IndexDtype::U8 => DType::U8,
                IndexDtype::U32 => DType::U32,
                IndexDtype::I32 => DType::I32,
                // candle has neither u16 nor u64.
                IndexDtype::U16 | IndexDtype::U64 | IndexDtype::I64 => DType::I64,
            };
            shaped(Tensor::new(labels, device)?, row_dims)?.to_dtype(dtype)
        };
        let rows = |numbers: &[f64]| shaped(Tensor::new(numbers, device)?, row_dims);
        let each = |value: &RowValue| match value {
            RowValue::Shared(value) => Ok(Err(*value)),
            RowValue::Each(values) => rows(values).map(Ok),
        };
        // `[N, K]` to the case's shape.
        let like_logits = |tensor: Tensor| {
            let rank = case.shape.len();
            let mut permuted = row_dims.to_vec();
            permuted.push(case.class_count());
            let order: Vec<usize> =
                (0..case.axis).chain([rank - 1]).chain(case.axis..rank - 1).collect();
            tensor.reshape(permuted)?.permute(order)
        };
        let mask =
            |mask: &[bool]| Tensor::from_iter(mask.iter().map(|&entry| u8::from(entry)), device);
        let (targets, second) = match &case.targets {
            Targets::Classes { dtype, labels: classes } => (labels(*dtype, classes)?, None),
            Targets::TwoLabels { dtype, a, b, lambda } => {
                (labels(*dtype, a)?, Some((labels(*dtype, b)?, each(lambda)?)))
            }
            Targets::Probabilities { dtype: of, values } => {
                (like_logits(Tensor::new(values.as_slice(), device)?.to_dtype(dtype(*of))?)?, None)
            }
        };
        Ok(Self {
            targets,
            second,
            epsilon: each(&case.epsilon)?.ok(),
            row_weights: case.row_weights.as_deref().map(rows).transpose()?,
            ignored: if case.ignored_rows.is_empty() {
                None
            } else {
                Some(shaped(mask(&case.ignored_rows)?, row_dims)?)
            },
            allowed: match &case.allowed {
                Allowed::All => None,
                Allowed::Shared(allowed) => Some(mask(allowed)?),
                Allowed::Each(allowed) => Some(like_logits(mask(allowed)?)?),
            },
            denominator: match case.denominator {
                Denominator::Given(denominator) => Some(denominator),
                _ => None,
            },
        })
    }

    fn call<'a>(&'a self, criterion: &'a CrossEntropy, logits: &'a Tensor) -> Call<'a> {
        let mut call = criterion.on(logits, &self.targets);
        if let Some((second, lambda)) = &self.second {
            call = match lambda {
                Ok(rows) => call.mixed_with(second, rows),
                Err(lambda) => call.mixed_with(second, *lambda),
            };
        }
        if let Some(epsilon) = &self.epsilon {
            call = call.label_smoothing_rows(epsilon);
        }
        if let Some(weights) = &self.row_weights {
            call = call.row_weights(weights);
        }
        if let Some(ignored) = &self.ignored {
            call = call.ignored_rows(ignored);
        }
        if let Some(allowed) = &self.allowed {
            call = call.allowed_classes(allowed);
        }
        match self.denominator {
            Some(denominator) => call.denominator(denominator),
            None => call,
        }
    }
}

/// In the shape of the rows, where there is an entry for each; a refusal is due otherwise.
fn shaped(entries: Tensor, dims: &[usize]) -> candle_core::Result<Tensor> {
    if entries.elem_count() == dims.iter().product::<usize>() {
        entries.reshape(dims)
    } else {
        Ok(entries)
    }
}
