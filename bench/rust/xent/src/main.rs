//! xent in the benchmark, with the two yardsticks: a copy of the logits and their sum.
//!
//! `bench-xent reused` writes every gradient over the last one; `bench-xent new` takes new memory
//! for each, as frameworks do.

mod yardsticks;

use std::hint::black_box;

use bench_protocol::{Case, Contender, Logits, Prepared, Work, serve};
use half::bf16;
use half::vec::HalfBitsVecExt;
use xent::{Config, Criterion, Element, Real, Rows, RowsMut};

#[derive(Clone, Copy, PartialEq)]
enum GradientMemory {
    Reused,
    New,
}

struct Xent(GradientMemory);

impl Contender for Xent {
    fn prepare(
        &self,
        case: &Case,
        logits: Logits,
        targets: Vec<i64>,
    ) -> Result<Box<dyn Prepared>, String> {
        Ok(match logits {
            Logits::F32(logits) => Box::new(Ready::new(self.0, case, logits, targets)?),
            Logits::Bf16(logits) => Box::new(Ready::new(self.0, case, logits, targets)?),
        })
    }
}

/// Entries of logits, as the benchmark needs them beyond what xent asks of them.
trait Entry: Element {
    /// Memory fresh from the allocator, which gets it zeroed from the system.
    fn zeros(len: usize) -> Vec<Self>;
    fn to_f32(self) -> f32;
    fn wrap(values: Vec<Self>) -> Logits;
}

impl Entry for f32 {
    fn zeros(len: usize) -> Vec<Self> {
        vec![0.0; len]
    }
    fn to_f32(self) -> f32 {
        self
    }
    fn wrap(values: Vec<Self>) -> Logits {
        Logits::F32(values)
    }
}

impl Entry for bf16 {
    fn zeros(len: usize) -> Vec<Self> {
        vec![0u16; len].reinterpret_into()
    }
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    fn wrap(values: Vec<Self>) -> Logits {
        Logits::Bf16(values)
    }
}

struct Ready<T> {
    memory: GradientMemory,
    criterion: Criterion,
    shape: Vec<usize>,
    axis: isize,
    logits: Vec<T>,
    targets: Vec<i64>,
    grad: Vec<T>,
}

impl<T: Entry> Ready<T> {
    fn new(
        memory: GradientMemory,
        case: &Case,
        logits: Vec<T>,
        targets: Vec<i64>,
    ) -> Result<Self, String> {
        let criterion = Config::new()
            .label_smoothing(case.epsilon)
            .build()
            .map_err(|error| error.to_string())?;
        let grad = T::zeros(logits.len());
        Ok(Self {
            memory,
            criterion,
            shape: case.shape.clone(),
            axis: case.axis as isize,
            logits,
            targets,
            grad,
        })
    }

    fn forward(&self) -> Result<f64, String> {
        let logits = Rows::with_axis(&self.logits, &self.shape, self.axis)
            .map_err(|error| error.to_string())?;
        let output =
            self.criterion.forward(&logits, &self.targets).map_err(|error| error.to_string())?;
        scalar::<T>(output.loss.scalar())
    }

    fn forward_backward(&mut self) -> Result<f64, String> {
        if self.memory == GradientMemory::New {
            self.grad = Vec::new();
            self.grad = T::zeros(self.logits.len());
        }
        let logits = Rows::with_axis(&self.logits, &self.shape, self.axis)
            .map_err(|error| error.to_string())?;
        let mut grad = RowsMut::with_axis(&mut self.grad, &self.shape, self.axis)
            .map_err(|error| error.to_string())?;
        let output = self
            .criterion
            .forward_backward(&logits, &self.targets, 1.0, &mut grad)
            .map_err(|error| error.to_string())?;
        scalar::<T>(output.loss.scalar())
    }
}

fn scalar<T: Element>(loss: Option<T::Real>) -> Result<f64, String> {
    loss.map(Real::to_f64).ok_or_else(|| "a mean is one number".to_owned())
}

impl<T: Entry> Prepared for Ready<T> {
    fn run(&mut self, work: Work) -> Result<(), String> {
        match work {
            Work::Forward => drop(black_box(self.forward()?)),
            Work::ForwardBackward => drop(black_box(self.forward_backward()?)),
            Work::Copy => yardsticks::copy(&self.logits, &mut self.grad),
            Work::Sum => drop(black_box(yardsticks::sum(&self.logits, T::to_f32))),
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<(f64, Logits), String> {
        let loss = self.forward_backward()?;
        let forward = self.forward()?;
        if loss != forward {
            return Err(format!("forward says {forward}, forward_backward {loss}"));
        }
        Ok((loss, T::wrap(self.grad.clone())))
    }
}

fn main() {
    let memory = match std::env::args().nth(1).as_deref() {
        Some("reused") => GradientMemory::Reused,
        Some("new") => GradientMemory::New,
        _ => {
            eprintln!("usage: bench-xent reused|new");
            std::process::exit(2);
        }
    };
    serve(&Xent(memory));
}
