//! From a case to a call on burn's tensors, and back.

use burn::tensor::{Bool, DType, Device, Float, Int, Tensor, TensorData};
use xent_burn::{Call, CrossEntropyConfig, CrossEntropyOutput, Error, Lambda};
use xent_spec::translate;
use xent_spec::{Allowed, Answer, Case, Denominator, Dtype, IndexDtype, RowValue, Targets};

type Outcome<T> = Result<T, Error>;

/// burn's rows are tensors with at least one axis, and an upstream gradient of another shape is an
/// error of burn's.
pub fn supports(case: &Case) -> bool {
    let upstream = match &case.upstream.0 {
        RowValue::Shared(_) => true,
        RowValue::Each(upstream) => {
            case.reduction == xent_spec::Reduction::None && upstream.len() == case.row_count()
        }
    };
    (2..=4).contains(&case.shape.len()) && upstream
}

/// The answer on `device`, which has no autodiff.
pub fn run(case: &Case, device: &Device, composed: bool) -> Result<Answer, String> {
    match case.shape.len() {
        2 => Subject::<2, 1, 3>::new(case, device).run(composed),
        3 => Subject::<3, 2, 4>::new(case, device).run(composed),
        4 => Subject::<4, 3, 5>::new(case, device).run(composed),
        rank => unreachable!("rank {rank} is not supported"),
    }
    .map_err(|error| error.to_string())
}

/// `D` dimensions of logits, `R` of rows, `G` of the memory in which the logits lie: the axes and
/// the gap between neighbours.
struct Subject<'a, const D: usize, const R: usize, const G: usize> {
    case: &'a Case,
    device: Device,
    /// The axes from the outermost in memory to the innermost.
    order: Vec<usize>,
}

impl<'a, const D: usize, const R: usize, const G: usize> Subject<'a, D, R, G> {
    fn new(case: &'a Case, device: &Device) -> Self {
        let order =
            if case.layout.order.is_empty() { (0..D).collect() } else { case.layout.order.clone() };
        Self { case, device: device.clone(), order }
    }

    fn run(&self, composed: bool) -> Outcome<Answer> {
        let case = self.case;
        let criterion = self.config()?.try_init()?.composed(composed).checked(true);
        if case.row_count() == 0 {
            return self.without_rows(&criterion);
        }
        let buffer = self.buffer();
        let logits = self.view(buffer.clone());
        assert_eq!(logits.dims().as_slice(), case.shape);

        if case.reduction == xent_spec::Reduction::None {
            let call = |logits| self.call(&criterion, logits);
            let frozen: CrossEntropyOutput<R> =
                call(logits.clone().detach()).forward_no_reduction_with_output()?;
            let output: CrossEntropyOutput<R> =
                call(logits.clone()).forward_no_reduction_with_output()?;
            let loss: Tensor<R> = call(logits.clone()).forward_no_reduction()?;
            assert_same(case, &numbers(&loss), &numbers(&output.loss));
            Ok(self.answer(output, &frozen.loss, &logits, &buffer))
        } else {
            let call = |logits| self.call(&criterion, logits);
            let frozen = call(logits.clone().detach()).forward_with_output()?;
            let output = call(logits.clone()).forward_with_output()?;
            assert_same(case, &numbers(&call(logits.clone()).forward()?), &numbers(&output.loss));
            Ok(self.answer(output, &frozen.loss, &logits, &buffer))
        }
    }

    /// burn has no views without elements.
    fn without_rows(&self, criterion: &xent_burn::CrossEntropy) -> Outcome<Answer> {
        let shape: [usize; D] = self.case.shape.clone().try_into().unwrap();
        let logits =
            Tensor::<D>::zeros(shape, (&self.device.clone().autodiff(), dtype(self.case.dtype)))
                .require_grad();
        let call = self.call(criterion, logits.clone());
        if self.case.reduction == xent_spec::Reduction::None {
            let output: CrossEntropyOutput<R> = call.forward_no_reduction_with_output()?;
            let gradients = output.loss.clone().sum().backward();
            Ok(answer(output, logits.grad(&gradients).unwrap()))
        } else {
            let output = call.forward_with_output()?;
            let gradients = output.loss.backward();
            Ok(answer(output, logits.grad(&gradients).unwrap()))
        }
    }

    fn config(&self) -> Outcome<CrossEntropyConfig> {
        Ok(CrossEntropyConfig::new(translate::config(self.case)?)
            .with_class_axis(self.case.axis as isize))
    }

    fn call<'c>(&self, criterion: &'c xent_burn::CrossEntropy, logits: Tensor<D>) -> Call<'c, D> {
        let case = self.case;
        let mut call = match &case.targets {
            Targets::Classes { dtype, labels } => criterion.on(logits, self.labels(*dtype, labels)),
            Targets::TwoLabels { dtype, a, b, lambda } => {
                let lambda: Lambda = match lambda {
                    RowValue::Shared(lambda) => (*lambda).into(),
                    RowValue::Each(lambda) => self.row_numbers(lambda).into(),
                };
                criterion
                    .on(logits, self.labels(*dtype, a))
                    .mixed_with(self.labels(*dtype, b), lambda)
            }
            Targets::Probabilities { dtype: of, values } => criterion.on(
                logits,
                self.like_logits::<Float>(values.clone(), self.dtype(dtype(*of), DType::F32)),
            ),
        };
        if let RowValue::Each(epsilon) = &case.epsilon {
            call = call.label_smoothing_rows(self.row_numbers(epsilon));
        }
        if let Some(weights) = &case.row_weights {
            call = call.row_weights(self.row_numbers(weights));
        }
        if !case.ignored_rows.is_empty() {
            call = call.ignored_rows(Tensor::<R, Bool>::from_data(
                TensorData::new(case.ignored_rows.clone(), self.row_shape(case.ignored_rows.len())),
                &self.device,
            ));
        }
        call = match &case.allowed {
            Allowed::All => call,
            Allowed::Shared(allowed) => call.allowed_classes(Tensor::from_data(
                TensorData::new(allowed.clone(), [allowed.len()]),
                &self.device,
            )),
            Allowed::Each(allowed) => {
                let dtype = Tensor::<1, Bool>::from_bool([true], &self.device).dtype();
                call.allowed_classes_rows(self.like_logits::<Bool>(allowed.clone(), dtype))
            }
        };
        match case.denominator {
            Denominator::Given(denominator) => call.denominator(denominator),
            _ => call,
        }
    }

    /// The dtype, or what comes nearest on the device.
    fn dtype(&self, dtype: DType, otherwise: DType) -> DType {
        if self.device.supports_dtype(dtype) { dtype } else { otherwise }
    }

    /// The rows' shape where there is an entry for each; a refusal is due otherwise.
    fn row_shape(&self, len: usize) -> [usize; R] {
        let mut dims = self.case.shape.clone();
        dims.remove(self.case.axis);
        let mut shape = [1; R];
        shape[0] = len;
        if len == dims.iter().product::<usize>() { dims.try_into().unwrap() } else { shape }
    }

    fn labels(&self, dtype: IndexDtype, labels: &[i64]) -> Tensor<R, Int> {
        let dtype = match dtype {
            IndexDtype::U8 => DType::U8,
            IndexDtype::U16 => DType::U16,
            IndexDtype::U64 => DType::U64,
            IndexDtype::U32 => DType::U32,
            IndexDtype::I32 => DType::I32,
            IndexDtype::I64 => DType::I64,
        };
        let dtype = self.dtype(dtype, DType::I32);
        Tensor::from_data(
            TensorData::new(labels.to_vec(), self.row_shape(labels.len())).convert_dtype(dtype),
            (&self.device, dtype),
        )
    }

    fn row_numbers(&self, numbers: &[f64]) -> Tensor<R> {
        let dtype = self.dtype(DType::F64, DType::F32);
        Tensor::from_data(
            TensorData::new(numbers.to_vec(), self.row_shape(numbers.len())).convert_dtype(dtype),
            (&self.device, dtype),
        )
    }

    /// `[N, K]` to the case's shape.
    fn like_logits<K: burn::tensor::kind::Basic>(
        &self,
        entries: Vec<impl burn::tensor::Element>,
        dtype: DType,
    ) -> Tensor<D, K> {
        let mut shape = [1; D];
        shape[0] = entries.len();
        let rows = self.case.row_count() * self.case.class_count();
        if entries.len() == rows {
            let mut dims = self.case.shape.clone();
            let classes = dims.remove(self.case.axis);
            dims.push(classes);
            shape = dims.try_into().unwrap();
        }
        let tensor = Tensor::<D, K>::from_data(
            TensorData::new(entries, shape).convert_dtype(dtype),
            (&self.device, dtype),
        );
        if tensor.shape().num_elements() == rows {
            tensor.movedim(D - 1, self.case.axis)
        } else {
            tensor
        }
    }

    /// A leaf of burn's graph in which the logits lie as the case's layout says (its padding
    /// rounded up to whole steps of the innermost axis, which burn's views need), NaN elsewhere.
    fn buffer(&self) -> Tensor<1> {
        let case = self.case;
        let len = case.layout.offset + self.grid().iter().product::<usize>();
        let places = Tensor::<1>::from_data(
            TensorData::new((0..len).map(|place| place as f32).collect(), [len]),
            (&Device::flex(), DType::F32),
        );
        let mut entries = vec![f64::NAN; len];
        numbers(&self.view(places))
            .iter()
            .zip(&case.logits)
            .for_each(|(&place, &logit)| entries[place as usize] = logit);
        let dtype = dtype(case.dtype);
        Tensor::from_data(
            TensorData::new(entries, [len]).convert_dtype(dtype),
            (&self.device.clone().autodiff(), dtype),
        )
        .require_grad()
    }

    /// The shape of all memory after the offset: axes in their order, the innermost padded, and the
    /// gap as an axis of its own.
    fn grid(&self) -> [usize; G] {
        let step = 1 + self.case.layout.gap;
        let mut grid = [step; G];
        grid.iter_mut()
            .zip(&self.order)
            .for_each(|(length, &axis)| *length = self.case.shape[axis]);
        grid[D - 1] += self.case.layout.padding.div_ceil(step);
        grid
    }

    /// The logits' place in a tensor of the buffer's length, without a copy.
    fn view(&self, buffer: Tensor<1>) -> Tensor<D> {
        let grid = self.grid();
        let len: usize = grid.iter().product();
        let grid = buffer
            .slice_dim(0, self.case.layout.offset..self.case.layout.offset + len)
            .reshape(grid)
            .slice_dim(G - 1, 0..1)
            .squeeze_dim::<D>(G - 1);
        let innermost = self.order[D - 1];
        let mut back = [0; D];
        self.order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place as isize);
        grid.slice_dim(D - 1, 0..self.case.shape[innermost]).permute(back)
    }

    fn answer<const P: usize>(
        &self,
        output: CrossEntropyOutput<P>,
        frozen: &Tensor<P>,
        logits: &Tensor<D>,
        buffer: &Tensor<1>,
    ) -> Answer {
        let case = self.case;
        let loss = output.loss.clone();
        assert!(loss.is_tracked() && !frozen.is_tracked(), "{}", case.name);
        assert_same(case, &numbers(&loss), &numbers(frozen));
        let reported = if case.dtype == Dtype::F64 { DType::F64 } else { DType::F32 };
        assert_eq!((loss.dtype(), output.lse.dtype()), (reported, reported));

        let upstream = case.upstream.0.values().to_vec();
        let weighed = match case.upstream.0 {
            RowValue::Shared(1.0) => loss.clone(),
            RowValue::Shared(upstream) => loss.clone() * upstream,
            RowValue::Each(_) => {
                let upstream = TensorData::new(upstream, loss.dims()).convert_dtype(reported);
                loss.clone()
                    * Tensor::from_data(upstream, (&self.device.clone().autodiff(), reported))
            }
        };
        let gradients = weighed.sum().backward();
        let gradient =
            buffer.grad(&gradients).unwrap_or_else(|| panic!("{}: no gradient", case.name));
        assert_eq!(gradient.dtype(), logits.dtype());
        let mut beside = numbers(&gradient);
        let places = Tensor::<1>::from_data(
            TensorData::new((0..beside.len()).map(|place| place as f32).collect(), [beside.len()]),
            (&Device::flex(), DType::F32),
        );
        numbers(&self.view(places)).iter().for_each(|&place| beside[place as usize] = 0.0);
        assert!(
            beside.iter().all(|&entry| entry == 0.0),
            "{}: a gradient beside the logits",
            case.name
        );

        answer(output, self.view(gradient))
    }
}

fn answer<const P: usize, const D: usize>(
    output: CrossEntropyOutput<P>,
    gradient: Tensor<D>,
) -> Answer {
    let first = integer(&output.first_non_finite);
    Answer {
        loss: numbers(&output.loss),
        nll: numbers(&output.nll),
        smoothing: numbers(&output.smoothing),
        floor: numbers(&output.floor),
        z_loss: numbers(&output.z_loss),
        lse: numbers(&output.lse),
        grad: numbers(&gradient),
        correct: integer(&output.correct) as usize,
        denominator: numbers(&output.denominator)[0],
        ignored: integer(&output.ignored) as usize,
        non_finite: integer(&output.non_finite) as usize,
        first_non_finite: usize::try_from(first).ok(),
    }
}

fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter().collect()
}

fn integer(tensor: &Tensor<1, Int>) -> i64 {
    tensor.to_data().iter().next().unwrap()
}

fn assert_same(case: &Case, a: &[f64], b: &[f64]) {
    let same =
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
    assert!(same, "{}: {a:?} and {b:?}", case.name);
}

fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    }
}
