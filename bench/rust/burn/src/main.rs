//! burn in the benchmark: its own cross-entropy with label smoothing, on its CPU backend with
//! autodiff.

use std::hint::black_box;

use bench_protocol::{Case, Contender, Logits, Prepared, Work, serve};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use half::bf16;

struct Burn;

/// `D` is the number of the logits' axes.
struct Ready<const D: usize> {
    criterion: CrossEntropyLoss,
    /// Without autodiff, for the loss alone.
    logits: Tensor<D>,
    leaf: Tensor<D>,
    targets: Tensor<1, Int>,
    /// The logits' axes with the classes at the end, where that is not where they are.
    classes_last: Option<[usize; D]>,
    classes: usize,
    grad: Option<Tensor<D>>,
}

impl Contender for Burn {
    fn prepare(
        &self,
        case: &Case,
        logits: Logits,
        targets: Vec<i64>,
    ) -> Result<Box<dyn Prepared>, String> {
        match case.shape.len() {
            2 => Ok(Box::new(Ready::<2>::new(case, logits, targets))),
            4 => Ok(Box::new(Ready::<4>::new(case, logits, targets))),
            axes => Err(format!("this worker knows logits of two or four axes, these have {axes}")),
        }
    }
}

impl<const D: usize> Ready<D> {
    fn new(case: &Case, logits: Logits, targets: Vec<i64>) -> Self {
        let device = Device::flex();
        let (data, dtype) = match logits {
            Logits::F32(values) => (TensorData::new(values, case.shape.clone()), DType::F32),
            Logits::Bf16(values) => (TensorData::new(values, case.shape.clone()), DType::BF16),
        };
        let logits = Tensor::from_data(data, (&device, dtype));
        let mut axes = (0..D).filter(|&axis| axis != case.axis).chain([case.axis]);
        Self {
            criterion: CrossEntropyLossConfig::new()
                .with_smoothing(Some(case.epsilon as f32))
                .init(&device),
            leaf: logits.clone().autodiff().require_grad(),
            logits,
            targets: Tensor::from_data(TensorData::new(targets, [case.rows()]), &device),
            classes_last: (case.axis + 1 != D)
                .then(|| std::array::from_fn(|_| axes.next().expect("as many axes as D"))),
            classes: case.classes(),
            grad: None,
        }
    }

    fn loss(&self, logits: Tensor<D>) -> Tensor<1> {
        let logits = match self.classes_last {
            Some(axes) => logits.permute(axes),
            None => logits,
        };
        let rows: Tensor<2> = logits.reshape([-1, self.classes as i64]);
        // burn's smoothed loss panics on anything but the device's own dtype: halves are widened.
        let rows = if rows.dtype() == DType::F32 { rows } else { rows.cast(DType::F32) };
        self.criterion.forward(rows, self.targets.clone())
    }

    fn forward_backward(&mut self) -> Tensor<1> {
        self.grad = None;
        let loss = self.loss(self.leaf.clone());
        let mut grads = loss.backward();
        self.grad = self.leaf.grad_remove(&mut grads);
        loss
    }
}

impl<const D: usize> Prepared for Ready<D> {
    fn run(&mut self, work: Work) -> Result<(), String> {
        match work {
            Work::Forward => black_box(self.loss(self.logits.clone())),
            Work::ForwardBackward => black_box(self.forward_backward()),
            Work::Copy | Work::Sum => return Err("the yardsticks are xent's worker's".to_owned()),
        };
        Ok(())
    }

    fn answer(&mut self) -> Result<(f64, Logits), String> {
        let loss = self.forward_backward().into_scalar::<f32>();
        let grad = self.grad.clone().ok_or("no gradient reached the logits")?.into_data();
        let values = match grad.dtype() {
            DType::BF16 => grad.try_to_vec::<bf16>().map(Logits::Bf16),
            _ => grad.try_to_vec::<f32>().map(Logits::F32),
        };
        Ok((f64::from(loss), values.map_err(|error| format!("{error:?}"))?))
    }
}

fn main() {
    serve(&Burn);
}
