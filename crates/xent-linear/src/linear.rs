//! What a call takes: a linear layer, the places of its gradients, and memory.

use xent::{Batch, Criterion, Element, Output, Upstream};

use crate::error::{Error, Result};
use crate::matrix::{Matrix, MatrixMut};
use crate::pass;

/// Hidden states and the output layer that makes logits of them: `z = H·Wᵀ + b`.
///
/// All are of one type: f32, f64, f16 or bf16.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a, T> {
    pub(crate) hidden: Matrix<'a, T>,
    pub(crate) weight: Matrix<'a, T>,
    pub(crate) bias: Option<&'a [T]>,
}

/// The places of the gradients: `None` for one that is not needed, which is then not computed.
///
/// Every element is written. `∂loss/∂H`, with 0 in ignored rows, is rounded to the type of H. What
/// is summed over the rows stays in the type that it is summed in: f32, or f64 for f64. An
/// optimiser that keeps its weights in f32 takes it as it is. To have it in a half, round it
/// once.
#[derive(Debug)]
pub struct Gradients<'a, T: Element> {
    /// `∂loss/∂H`, `[N, D]`.
    pub hidden: Option<MatrixMut<'a, T>>,
    /// `∂loss/∂W`, `[K, D]` (`[D, K]` [transposed](MatrixMut::transposed)).
    pub weight: Option<MatrixMut<'a, T::Real>>,
    /// `∂loss/∂b`, `[K]`, also for a layer without a bias.
    pub bias: Option<&'a mut [T::Real]>,
}

/// The memory of a call, kept for the next one: a chunk of the logits, and what is copied or
/// widened for a product. `R` is `f64` for matrices of `f64` and `f32` for all others.
#[derive(Debug, Clone)]
pub struct Workspace<R> {
    pub(crate) logits: Vec<R>,
    pub(crate) hidden: Vec<R>,
    pub(crate) weight: Vec<R>,
    pub(crate) bias: Vec<f64>,
}

impl<T: Element> Default for Gradients<'_, T> {
    /// None is needed.
    fn default() -> Self {
        Self { hidden: None, weight: None, bias: None }
    }
}

impl<R> Workspace<R> {
    /// The bytes that it holds.
    pub fn bytes(&self) -> usize {
        let numbers = self.logits.len() + self.hidden.len() + self.weight.len();
        numbers * size_of::<R>() + self.bias.len() * size_of::<f64>()
    }
}

impl<R> Default for Workspace<R> {
    /// Nothing yet.
    fn default() -> Self {
        Self { logits: Vec::new(), hidden: Vec::new(), weight: Vec::new(), bias: Vec::new() }
    }
}

impl<'a, T: Element> Linear<'a, T> {
    /// A layer without a bias: `hidden` is `[N, D]`, `weight` is `[K, D]`.
    ///
    /// A weight that lies as `[D, K]` is taken [transposed](Matrix::transposed), without a copy.
    ///
    /// # Errors
    /// [`Error::Shape`] if D is not the same, or if there are no classes.
    pub fn new(hidden: Matrix<'a, T>, weight: Matrix<'a, T>) -> Result<Self> {
        if weight.columns() != hidden.columns() {
            let expected = format!(
                "[classes, {}]: hidden states of shape {:?} have {0} features",
                hidden.columns(),
                hidden.shape()
            );
            return Err(Error::Shape { name: "the weight", found: weight.shape(), expected });
        }
        if weight.rows() == 0 || weight.columns() == 0 {
            let expected = "at least 1 class and 1 feature".to_owned();
            return Err(Error::Shape { name: "the weight", found: weight.shape(), expected });
        }
        Ok(Self { hidden, weight, bias: None })
    }

    /// With a bias `[K]`.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not as many entries as classes.
    pub fn bias(self, bias: &'a [T]) -> Result<Self> {
        self.expect_classes("the bias", bias.len())?;
        Ok(Self { bias: Some(bias), ..self })
    }

    /// N.
    pub fn rows(&self) -> usize {
        self.hidden.rows()
    }

    /// D.
    pub fn features(&self) -> usize {
        self.hidden.columns()
    }

    /// K.
    pub fn classes(&self) -> usize {
        self.weight.rows()
    }

    /// What [`LinearCriterion::linear_forward_backward`] does for a batch without ignored rows,
    /// except for the loss: its products, in which the logits stand for their gradient. To see what
    /// the loss costs beside them.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Length`] for places of another shape; nothing has been written
    /// then.
    pub fn products_alone(
        &self,
        into: Gradients<'_, T>,
        workspace: &mut Workspace<T::Real>,
    ) -> Result<()> {
        self.expect(&into)?;
        pass::products_alone(self, into, workspace);
        Ok(())
    }

    fn expect_classes(&self, name: &'static str, len: usize) -> Result<()> {
        if len == self.classes() {
            return Ok(());
        }
        let expected = format!("{}, one per class", self.classes());
        Err(Error::Length { name, len, expected })
    }

    fn expect(&self, into: &Gradients<'_, T>) -> Result<()> {
        if let Some(hidden) = &into.hidden {
            let what = "the shape of the hidden states";
            hidden.expect("the gradient of the hidden states", self.hidden.shape(), what)?;
        }
        if let Some(weight) = &into.weight {
            let what = "the shape of the weight";
            weight.expect("the gradient of the weight", self.weight.shape(), what)?;
        }
        match &into.bias {
            Some(bias) => self.expect_classes("the gradient of the bias", bias.len()),
            None => Ok(()),
        }
    }
}

/// What a [`Criterion`] does with a linear layer.
pub trait LinearCriterion {
    /// The loss of a batch, without gradients: [`Criterion::forward`] of the logits `H·Wᵀ + b`,
    /// which exist a chunk at a time.
    ///
    /// ```
    /// use xent::Config;
    /// use xent_linear::{Linear, LinearCriterion, Matrix, Workspace};
    /// let criterion = Config::new().label_smoothing(0.1).build()?;
    /// let (hidden, weight) = ([2.0_f64, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    /// let linear = Linear::new(Matrix::new(&hidden, 2)?, Matrix::new(&weight, 2)?)?;
    /// let output = criterion.linear_forward(&linear, &[0u32], &mut Workspace::default())?;
    /// assert_eq!(format!("{:.6}", output.loss), "0.507606"); // of the logits 2, 1, 0
    /// # Ok::<(), xent_linear::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Xent`] as [`Criterion::forward`].
    fn linear_forward<'b, T: Element>(
        &self,
        linear: &Linear<'_, T>,
        batch: impl Into<Batch<'b>>,
        workspace: &mut Workspace<T::Real>,
    ) -> Result<Output<T::Real>>;

    /// The loss of a batch and the gradients of its linear layer, each where `into` has a place for
    /// it: what [`Criterion::forward_backward`] and the products of its gradient with W and H give.
    ///
    /// `upstream` is dL/dloss: one number, or without reduction also one per row. Logits, and
    /// everything that is summed over rows or classes, are in f32, or in f64 for f64; the
    /// gradient of the bias and the loss are summed in f64. Ignored rows enter no product, whatever
    /// they hold, and have gradients of 0. A row whose loss is NaN makes the gradients of W and b
    /// NaN.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Length`] for places of another shape, [`Error::Xent`] as
    /// [`Criterion::forward_backward`]; nothing has been written then.
    fn linear_forward_backward<'b, T: Element>(
        &self,
        linear: &Linear<'_, T>,
        batch: impl Into<Batch<'b>>,
        upstream: impl Into<Upstream<'b>>,
        into: Gradients<'_, T>,
        workspace: &mut Workspace<T::Real>,
    ) -> Result<Output<T::Real>>;
}

impl LinearCriterion for Criterion {
    fn linear_forward<'b, T: Element>(
        &self,
        linear: &Linear<'_, T>,
        batch: impl Into<Batch<'b>>,
        workspace: &mut Workspace<T::Real>,
    ) -> Result<Output<T::Real>> {
        let (batch, upstream) = (batch.into(), Upstream::Scalar(1.0));
        pass::run(self, linear, &batch, &upstream, Gradients::default(), workspace)
    }

    fn linear_forward_backward<'b, T: Element>(
        &self,
        linear: &Linear<'_, T>,
        batch: impl Into<Batch<'b>>,
        upstream: impl Into<Upstream<'b>>,
        into: Gradients<'_, T>,
        workspace: &mut Workspace<T::Real>,
    ) -> Result<Output<T::Real>> {
        linear.expect(&into)?;
        pass::run(self, linear, &batch.into(), &upstream.into(), into, workspace)
    }
}
