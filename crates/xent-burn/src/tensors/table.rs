//! The table by class ([`ClassTable`]) on a device: uploaded once for each criterion, number of classes, device and dtype. No
//! other file of this folder makes tensors from host data.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use xent::rules::{ClassTable, Column, SharedPrior, TargetKind};
use xent::{Criterion, InputError, Prior};

use super::ops::{Value, sum};
use crate::autodiff;

/// How many tables a criterion keeps. More are made only if K, the device or the dtype keeps changing.
const KEPT: usize = 8;

/// The columns of [`ClassTable`], each `[1, K]` where classes differ.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) device: Device,
    pub(super) classes: usize,
    /// Of what is `[N, K]`; of per-row values; and of class indices.
    pub(super) dtype: DType,
    pub(super) wide: DType,
    pub(super) index: DType,
    pub(super) term: Value,
    pub(super) whole: Value,
    pub(super) sigma: Value,
    pub(super) pi: Value,
    pub(super) prior: PriorVector,
    /// 0 to K − 1, `[1, K]`.
    pub(super) numbers: Tensor<2, Int>,
    /// `[1, 1]`, uploaded because not every shading language can write them.
    pub(super) nan: Tensor<2>,
    pub(super) infinity: Tensor<2>,
}

/// v.
#[derive(Debug)]
pub(super) enum PriorVector {
    Shared(Arc<Vector>),
    /// U, `[K, K]`: the v of a row follows from its label.
    ByTrueClass(Tensor<2>),
}

/// A vector over the classes, `[1, K]` or `[N, K]`: the prior's v or a dense target.
#[derive(Debug)]
pub(super) struct Vector {
    pub(super) plain: Tensor<2>,
    /// With the class weights that act on terms; `None` is 1 on every class.
    pub(super) weighted: Option<Tensor<2>>,
    /// The sum of `weighted`.
    pub(super) mass: Value,
}

impl Table {
    fn new<const D: usize>(criterion: &Criterion, logits: &Tensor<D>, classes: usize) -> Result<Self, InputError> {
        let host = ClassTable::new(criterion, classes, TargetKind::Labels)?;
        let (device, dtype) = place(logits);
        // Graphics devices that claim f64 may have wrong logarithms in it: ln 1 was −88 on Mesa's lavapipe.
        let wide = if autodiff::has_engine(logits) { DType::F64 } else { dtype };
        let index = if device.supports_dtype(DType::I64) { DType::I64 } else { DType::I32 };
        let upload = |numbers: &[f64], shape: [usize; 2], dtype: DType| {
            Tensor::<2>::from_data(TensorData::new(numbers.to_vec(), shape).convert_dtype(dtype), (&device, dtype))
        };
        let column = |column: Column<'_>| match column {
            Column::Same(number) => Value::Same(number),
            Column::Each(numbers) => Value::Each(upload(&numbers, [1, classes], wide)),
        };
        let term = column(host.term());
        let prior = match (host.prior(), &criterion.config().prior) {
            (_, Prior::ByTrueClass(matrix)) => PriorVector::ByTrueClass(upload(matrix.entries(), [classes; 2], dtype)),
            (SharedPrior::Vector(v), _) => PriorVector::Shared(Arc::new(Vector::new(upload(v, [1, classes], dtype), &term, wide))),
            _ => {
                let mut uniform = Vector::new(Tensor::ones([1, classes], (&device, dtype)), &term, wide);
                if host.is_uniform() {
                    (uniform.weighted, uniform.mass) = (None, Value::Same(classes as f64));
                }
                PriorVector::Shared(Arc::new(uniform))
            }
        };
        Ok(Self {
            whole: column(host.whole()),
            sigma: column(host.sigma()),
            pi: column(host.pi()),
            numbers: Tensor::arange(0..classes as i64, (&device, index)).reshape([1, classes]),
            nan: upload(&[f64::NAN], [1, 1], wide),
            infinity: upload(&[f64::INFINITY], [1, 1], wide),
            device,
            classes,
            dtype,
            wide,
            index,
            term,
            prior,
        })
    }
}

/// The device that computes, and the dtype of what is `[N, K]`.
fn place<const D: usize>(logits: &Tensor<D>) -> (Device, DType) {
    (logits.device().inner(), if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 })
}

impl Vector {
    pub(super) fn new(plain: Tensor<2>, term: &Value, wide: DType) -> Self {
        let weighted = match term {
            Value::Same(_) => plain.clone(),
            Value::Each(weights) => plain.clone() * weights.clone().cast(plain.dtype()),
        };
        Self { plain, mass: Value::Each(sum(&weighted).cast(wide)), weighted: Some(weighted) }
    }
}

/// The tables that a criterion has on devices already.
#[derive(Debug, Default)]
pub(crate) struct Tables(Mutex<Vec<Arc<Table>>>);

impl Tables {
    /// The table for logits of `classes` classes.
    ///
    /// # Errors
    /// [`InputError`] if the criterion is for another number of classes.
    pub(super) fn get<const D: usize>(&self, criterion: &Criterion, logits: &Tensor<D>, classes: usize) -> Result<Arc<Table>, InputError> {
        let (device, dtype) = place(logits);
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.iter().find(|table| (&table.device, table.dtype, table.classes) == (&device, dtype, classes)) {
            return Ok(table.clone());
        }
        let table = Arc::new(Table::new(criterion, logits, classes)?);
        tables.truncate(KEPT - 1);
        tables.insert(0, table.clone());
        Ok(table)
    }
}
