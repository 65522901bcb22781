//! candle in the benchmark: label smoothing composed of candle's and candle-nn's operations, since
//! candle-nn's own loss has none.

use std::hint::black_box;

use bench_protocol::{Case, Contender, Logits, Prepared, Work, serve};
use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::ops::log_softmax;

struct Candle;

struct Ready {
    logits: Var,
    targets: Tensor,
    classes: usize,
    /// The logits' axes with the classes at the end, where that is not where they are.
    classes_last: Option<Vec<usize>>,
    epsilon: f64,
    grad: Option<Tensor>,
}

impl Contender for Candle {
    fn prepare(
        &self,
        case: &Case,
        logits: Logits,
        targets: Vec<i64>,
    ) -> std::result::Result<Box<dyn Prepared>, String> {
        Ready::new(case, logits, targets)
            .map(|ready| Box::new(ready) as Box<dyn Prepared>)
            .map_err(|error| error.to_string())
    }
}

impl Ready {
    fn new(case: &Case, logits: Logits, targets: Vec<i64>) -> Result<Self> {
        let logits = match logits {
            Logits::F32(values) => Tensor::from_vec(values, case.shape.as_slice(), &Device::Cpu),
            Logits::Bf16(values) => Tensor::from_vec(values, case.shape.as_slice(), &Device::Cpu),
        }?;
        let last = case.shape.len() - 1;
        let classes_last = (case.axis != last)
            .then(|| (0..=last).filter(|&axis| axis != case.axis).chain([case.axis]).collect());
        Ok(Self {
            logits: Var::from_tensor(&logits)?,
            targets: Tensor::from_vec(targets, (case.rows(), 1), &Device::Cpu)?,
            classes: case.classes(),
            classes_last,
            epsilon: case.epsilon,
            grad: None,
        })
    }

    fn loss(&self, logits: &Tensor) -> Result<Tensor> {
        let logits = match &self.classes_last {
            Some(axes) => logits.permute(axes.as_slice())?.reshape(((), self.classes))?,
            None => logits.clone(),
        };
        let log_probs = log_softmax(&logits.to_dtype(DType::F32)?, D::Minus1)?; // halves are widened; f32 stays as it is
        let at_target = log_probs.gather(&self.targets, 1)?.mean_all()?;
        let over_classes = log_probs.mean_all()?;
        (at_target * (self.epsilon - 1.0))? + (over_classes * -self.epsilon)?
    }

    fn forward(&self) -> Result<Tensor> {
        self.loss(&self.logits.as_detached_tensor())
    }

    fn forward_backward(&mut self) -> Result<Tensor> {
        self.grad = None;
        let loss = self.loss(&self.logits)?;
        self.grad = loss.backward()?.remove(&self.logits);
        Ok(loss)
    }

    fn try_answer(&mut self) -> Result<(f64, Logits)> {
        let loss = self.forward_backward()?.to_scalar::<f32>()?;
        let Some(grad) = &self.grad else { candle_core::bail!("no gradient reached the logits") };
        let grad = grad.flatten_all()?;
        let grad = if grad.dtype() == DType::BF16 {
            Logits::Bf16(grad.to_vec1()?)
        } else {
            Logits::F32(grad.to_vec1()?)
        };
        Ok((f64::from(loss), grad))
    }
}

impl Prepared for Ready {
    fn run(&mut self, work: Work) -> std::result::Result<(), String> {
        let loss = match work {
            Work::Forward => self.forward(),
            Work::ForwardBackward => self.forward_backward(),
            Work::Copy | Work::Sum => return Err("the yardsticks are xent's worker's".to_owned()),
        };
        black_box(loss.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn answer(&mut self) -> std::result::Result<(f64, Logits), String> {
        self.try_answer().map_err(|error| error.to_string())
    }
}

fn main() {
    serve(&Candle);
}
