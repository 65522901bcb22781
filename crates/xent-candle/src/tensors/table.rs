//! The [`ClassTable`] on a device: all that a criterion says of K classes, uploaded once.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::shape::ShapeWithOneHole;
use candle_core::{DType, Device, Tensor};
use xent::Criterion;
use xent::rules::{self, ClassTable, Column, TargetKind};

use super::ops::{PerRow, is_positive, zero_unless};
use crate::error::Result;
use crate::transfer::upload;

/// The dtypes and the device of a call.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// Of what is `[N, K]`.
    pub(super) dtype: DType,
    /// Of what is one number per row. Metal has no f64.
    pub(super) wide: DType,
    pub(super) device: Device,
    /// K.
    pub(super) classes: usize,
    pub(super) kind: TargetKind,
}

impl Setting {
    pub(super) fn new(logits: &Tensor, classes: usize, kind: TargetKind) -> Self {
        let dtype = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let device = logits.device().clone();
        let wide = if device.is_metal() { dtype } else { DType::F64 };
        Self { dtype, wide, device, classes, kind }
    }

    fn is(&self, other: &Self) -> bool {
        (self.dtype, self.classes, self.kind) == (other.dtype, other.classes, other.kind)
            && self.device.same_device(&other.device)
    }
}

/// The tables of a criterion, made when they are first asked for.
#[derive(Debug, Default)]
pub(crate) struct Tables(Mutex<Vec<Arc<Table>>>);

impl Tables {
    /// How many are kept: a criterion hardly ever meets more than one number of classes.
    const KEPT: usize = 8;

    pub(super) fn get(&self, criterion: &Criterion, setting: &Setting) -> Result<Arc<Table>> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.iter().find(|table| table.setting.is(setting)) {
            return Ok(table.clone());
        }
        let table = Arc::new(Table::new(criterion, setting)?);
        if tables.len() == Self::KEPT {
            tables.remove(0);
        }
        tables.push(table.clone());
        Ok(table)
    }
}

/// A [`ClassTable`] on a device.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) setting: Setting,
    pub(super) term: ByClass,
    pub(super) whole: ByClass,
    pub(super) sigma: ByClass,
    pub(super) pi: ByClass,
    pub(super) prior: Prior,
    /// The class weights as a row, where they multiply terms, and where they multiply whole rows.
    pub(super) term_row: Option<Tensor>,
    pub(super) whole_row: Option<Tensor>,
    /// 0, 1, … K − 1 as a row.
    pub(super) numbers: Tensor,
}

/// v, or how each row's own v follows from its target.
#[derive(Debug)]
pub(super) enum Prior {
    Shared(SharedPrior),
    /// The matrix U, `[K, K]`.
    ByTrueClass(Tensor),
    /// The wrong classes of a dense target.
    WrongClasses {
        /// The classes that are not excluded, a row; `None` where all are.
        open: Option<Tensor>,
        /// How many classes the mass of an open true class spreads over, and that of an excluded
        /// one.
        spread: [usize; 2],
    },
}

/// A v that rows share.
#[derive(Debug)]
pub(super) struct SharedPrior {
    /// v of a class, before class weights.
    pub(super) at: ByClass,
    /// Before class weights, and after.
    pub(super) plain: Vector,
    pub(super) weighted: Vector,
    /// Σ v before class weights, and after.
    pub(super) plain_mass: f64,
    pub(super) mass: f64,
    /// Σ v ln v, after class weights.
    pub(super) xlogx: f64,
}

impl Table {
    fn new(criterion: &Criterion, setting: &Setting) -> Result<Self> {
        let classes = setting.classes;
        let table = ClassTable::new(criterion, classes, setting.kind).map_err(xent::Error::from)?;
        let Ok(last) = u32::try_from(classes) else {
            return Err(candle_core::Error::msg(format!(
                "{classes} classes, expected at most {} for candle's operations",
                u32::MAX
            ))
            .into());
        };
        Ok(Self {
            term: ByClass::new(table.term(), setting)?,
            whole: ByClass::new(table.whole(), setting)?,
            sigma: ByClass::new(table.sigma(), setting)?,
            pi: ByClass::new(table.pi(), setting)?,
            prior: Prior::new(criterion, &table, setting)?,
            term_row: row(&table.term(), setting)?,
            whole_row: row(&table.whole(), setting)?,
            numbers: upload((0..last).collect(), (1, classes), &setting.device)?,
            setting: setting.clone(),
        })
    }
}

impl Prior {
    fn new(criterion: &Criterion, table: &ClassTable<'_>, setting: &Setting) -> Result<Self> {
        let classes = setting.classes;
        let v = match (table.prior(), &criterion.config().prior) {
            (rules::SharedPrior::Uniform, _) => Column::Same(1.0),
            (rules::SharedPrior::Vector(v), _) => Column::Each(Cow::Borrowed(v)),
            (rules::SharedPrior::PerRow, xent::Prior::ByTrueClass(matrix)) => {
                return Ok(Self::ByTrueClass(floats(
                    matrix.entries(),
                    (classes, classes),
                    setting.dtype,
                    &setting.device,
                )?));
            }
            (rules::SharedPrior::PerRow, _) => {
                let mut open = vec![1; classes];
                table.excluded().iter().for_each(|&class| open[class] = 0);
                let open = if table.excluded().is_empty() {
                    None
                } else {
                    Some(upload::<u8>(open, (1, classes), &setting.device)?)
                };
                return Ok(Self::WrongClasses {
                    open,
                    spread: [table.spreads_over(false), table.spreads_over(true)],
                });
            }
        };
        let plain: Vec<f64> = (0..classes).map(|class| v.at(class)).collect();
        let weighted: Vec<f64> = (0..classes).map(|class| table.prior_at(class)).collect();
        Ok(Self::Shared(SharedPrior {
            at: ByClass::new(v, setting)?,
            plain: Vector::shared(&plain, setting)?,
            weighted: Vector::shared(&weighted, setting)?,
            plain_mass: plain.iter().sum(),
            mass: table.prior_mass(),
            xlogx: weighted.iter().map(|&v| if v > 0.0 { v * v.ln() } else { 0.0 }).sum(),
        }))
    }
}

/// A column of the table.
#[derive(Debug)]
pub(super) enum ByClass {
    Same(f64),
    /// `[K]`.
    Each(Tensor),
}

impl ByClass {
    fn new(column: Column<'_>, setting: &Setting) -> Result<Self> {
        Ok(match column {
            Column::Same(number) => Self::Same(number),
            Column::Each(numbers) => {
                Self::Each(floats(&numbers, setting.classes, setting.wide, &setting.device)?)
            }
        })
    }

    /// The number of every class, if it is the same.
    pub(super) fn same(&self) -> Option<f64> {
        match self {
            Self::Same(number) => Some(*number),
            Self::Each(_) => None,
        }
    }

    /// The numbers of classes `[N, H]`.
    pub(super) fn at(&self, classes: &Tensor) -> Result<PerRow> {
        Ok(match self {
            Self::Same(number) => PerRow::Same(*number),
            Self::Each(column) => PerRow::Each(
                column.index_select(&classes.flatten_all()?, 0)?.reshape(classes.shape())?,
            ),
        })
    }
}

/// A vector over the classes with entries ≥ 0, a row or `[N, K]`. What is 1, or positive
/// everywhere, is not multiplied and not looked at.
#[derive(Debug, Clone)]
pub(super) struct Vector {
    /// The entries; `None` where all that are positive are 1.
    values: Option<Tensor>,
    /// Where they are positive; `None` where all are.
    positive: Option<Tensor>,
}

impl Vector {
    fn shared(numbers: &[f64], setting: &Setting) -> Result<Self> {
        // As the device has them: what rounds to 0 is 0 there.
        let rounded: Vec<f64> = match setting.dtype {
            DType::F64 => numbers.to_owned(),
            _ => numbers.iter().map(|&number| f64::from(number as f32)).collect(),
        };
        let row = || floats(&rounded, (1, numbers.len()), setting.dtype, &setting.device);
        let values = if rounded.iter().all(|&number| number == 0.0 || number == 1.0) {
            None
        } else {
            Some(row()?)
        };
        let positive = if rounded.iter().all(|&number| number > 0.0) {
            None
        } else {
            Some(is_positive(&row()?)?)
        };
        Ok(Self { values, positive })
    }

    /// Of entries that only the device knows.
    pub(super) fn new(values: Tensor) -> Result<Self> {
        Ok(Self { positive: Some(is_positive(&values)?), values: Some(values) })
    }

    /// The entries, to be broadcast.
    pub(super) fn entries(&self, setting: &Setting) -> Result<Tensor> {
        match (&self.values, &self.positive) {
            (Some(values), _) => Ok(values.clone()),
            (None, Some(positive)) => Ok(positive.to_dtype(setting.dtype)?),
            (None, None) => PerRow::ONE.tensor(setting.dtype, &setting.device),
        }
    }

    /// Its entries times those of `[N, K]`; 0 where its own are, even beside ∞.
    pub(super) fn times(&self, tensor: Tensor) -> Result<Tensor> {
        let tensor = match &self.positive {
            Some(positive) => zero_unless(positive, &tensor)?,
            None => tensor,
        };
        Ok(match &self.values {
            Some(values) => tensor.broadcast_mul(values)?,
            None => tensor,
        })
    }

    /// Its entries times a number of each row, to be broadcast. For finite numbers.
    pub(super) fn scaled(&self, column: &Tensor) -> Result<Tensor> {
        Ok(match (&self.values, &self.positive) {
            (Some(values), _) => values.to_dtype(column.dtype())?.broadcast_mul(column)?,
            (None, Some(positive)) => positive.to_dtype(column.dtype())?.broadcast_mul(column)?,
            (None, None) => column.clone(),
        })
    }

    /// The entries of one vector per row at classes `[N, H]`.
    pub(super) fn at(&self, classes: &Tensor, setting: &Setting) -> Result<PerRow> {
        Ok(PerRow::Each(self.entries(setting)?.gather(classes, 1)?.to_dtype(setting.wide)?))
    }
}

/// A column of the table as a row `[1, K]` for what is `[N, K]`; `None` where it is the same for
/// all.
fn row(column: &Column<'_>, setting: &Setting) -> Result<Option<Tensor>> {
    match column {
        Column::Same(_) => Ok(None),
        Column::Each(numbers) => {
            floats(numbers, (1, setting.classes), setting.dtype, &setting.device).map(Some)
        }
    }
}

/// Numbers of the host as a tensor, each rounded once.
fn floats(
    numbers: &[f64],
    shape: impl ShapeWithOneHole,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    match dtype {
        DType::F64 => upload(numbers.to_owned(), shape, device),
        _ => upload(numbers.iter().map(|&number| number as f32).collect(), shape, device),
    }
}
