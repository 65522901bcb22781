//! The table by class ([`ClassTable`]) on a device: uploaded once for each criterion, number of
//! classes, device and dtype. No other file of this folder makes tensors from host data.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use xent::rules::{ClassTable, Column, SharedPrior, TargetKind};
use xent::{Criterion, InputError, Prior};

use super::ops::Value;
use crate::autodiff;

/// How many tables a criterion keeps. More are made only if K, the device or the dtype keeps
/// changing.
pub(super) const KEPT: usize = 8;

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
    /// v, `[1, K]`; `None` is 1 on every class.
    pub(super) v: Option<Tensor<2>>,
    /// U, `[K, K]`, if the v of a row follows from its label.
    pub(super) by_true_class: Option<Tensor<2>>,
    /// 0 to K − 1, `[1, K]`.
    pub(super) numbers: Tensor<2, Int>,
    /// `[1, 1]`, uploaded because not every shading language can write them.
    pub(super) nan: Tensor<2>,
    pub(super) infinity: Tensor<2>,
}

impl Table {
    fn new<const D: usize>(
        criterion: &Criterion,
        logits: &Tensor<D>,
        classes: usize,
    ) -> Result<Self, InputError> {
        let host = ClassTable::new(criterion, classes, TargetKind::Labels)?;
        let (device, dtype) = place(logits);
        // Graphics devices that claim f64 may have wrong logarithms in it: ln 1 was −88 on Mesa's
        // lavapipe.
        let wide = if autodiff::has_engine(logits) { DType::F64 } else { dtype };
        let index = if device.supports_dtype(DType::I64) { DType::I64 } else { DType::I32 };
        let upload = |numbers: &[f64], rows: usize, dtype: DType| {
            let data = TensorData::new(numbers.to_vec(), [rows, numbers.len() / rows])
                .convert_dtype(dtype);
            Tensor::<2>::from_data(data, (&device, dtype))
        };
        let column = |column: Column<'_>| match column {
            Column::Same(number) => Value::Same(number),
            Column::Each(numbers) => Value::Each(upload(&numbers, 1, wide)),
        };
        Ok(Self {
            term: column(host.term()),
            whole: column(host.whole()),
            sigma: column(host.sigma()),
            pi: column(host.pi()),
            v: match host.prior() {
                SharedPrior::Vector(v) => Some(upload(v, 1, dtype)),
                _ => None,
            },
            by_true_class: match &criterion.config().prior {
                Prior::ByTrueClass(matrix) => Some(upload(matrix.entries(), classes, dtype)),
                _ => None,
            },
            numbers: Tensor::arange(0..classes as i64, (&device, index)).reshape([1, classes]),
            nan: upload(&[f64::NAN], 1, wide),
            infinity: upload(&[f64::INFINITY], 1, wide),
            device,
            classes,
            dtype,
            wide,
            index,
        })
    }

    /// A vector over the classes with the class weights that act on terms. `None` is 1 on every
    /// class.
    pub(super) fn weighed(&self, vector: Option<&Tensor<2>>) -> Option<Tensor<2>> {
        match (vector, &self.term) {
            (vector, Value::Same(_)) => vector.cloned(),
            (None, Value::Each(weights)) => Some(weights.clone().cast(self.dtype)),
            (Some(vector), Value::Each(weights)) => {
                Some(vector.clone() * weights.clone().cast(self.dtype))
            }
        }
    }
}

/// The device that computes, and the dtype of what is `[N, K]`.
fn place<const D: usize>(logits: &Tensor<D>) -> (Device, DType) {
    (logits.device().inner(), if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 })
}

/// The tables that a criterion has on devices already.
#[derive(Debug, Default)]
pub(crate) struct Tables(pub(super) Mutex<Vec<Arc<Table>>>);

impl Tables {
    /// The table for logits of `classes` classes.
    ///
    /// # Errors
    /// [`InputError`] if the criterion is for another number of classes.
    pub(super) fn get<const D: usize>(
        &self,
        criterion: &Criterion,
        logits: &Tensor<D>,
        classes: usize,
    ) -> Result<Arc<Table>, InputError> {
        let (device, dtype) = place(logits);
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables
            .iter()
            .find(|table| (&table.device, table.dtype, table.classes) == (&device, dtype, classes))
        {
            return Ok(table.clone());
        }
        let table = Arc::new(Table::new(criterion, logits, classes)?);
        tables.truncate(KEPT - 1);
        tables.insert(0, table.clone());
        Ok(table)
    }
}
