//! On any device: candle's own operations, from end to end. No number comes to the host but through
//! [`Evaluation::output`], and after the first call with a criterion and a number of classes nothing goes
//! to the device but the batch itself.
//!
//! ```text
//! table       what the criterion says of K classes: made once for a device and kept
//! rows        the batch: labels, ε, weights → coefficients of each row, by gathers from the table
//! statistics  the logits: e^(z − m) and its sum, z at the hot classes, sums against the prior and targets
//! fold        columns of coefficients and statistics → loss, parts, coefficients of the gradient
//! gradient    in backward: on_exp·e^(z − m) − γ·v − τ·t − Σ β_j δ_j, with the upstream gradient in the coefficients
//! ```
//!
//! What is one number per row is computed in f64 where the device has it. What would be an error on the
//! CPU engine is NaN in its row, for nothing is looked at.
//!
//! # Passes over `[N, K]`
//!
//! candle runs one kernel for each operation, so the time is that of reading and writing `[N, K]`. The
//! plain loss of f32 logits (labels, uniform prior) is five kernels forward and two backward, seven reads
//! and four writes in all:
//!
//! | | reads | writes |
//! |---|---|---|
//! | argmax (its entry is the maximum) | 1 | |
//! | z − m | 1 | 1 |
//! | e^(z − m), kept for the gradient | 1 | 1 |
//! | Σ e^(z − m) | 1 | |
//! | Σ (m − z), if ε > 0 | 1 | |
//! | backward: on_exp·e^(z − m) | 1 | 1 |
//! | backward: − γ, if ε > 0 | 1 | 1 |
//!
//! Hot classes are written in place, which is one element for each row. Options add: half-precision
//! logits a cast either way (2 reads, 2 writes); rows that can be ignored, or allowed classes, a selection
//! backward (1, 1); a temperature a product (1, 1); allowed classes a selection forward (1, 1); class
//! weights or a prior with a vector its product forward and backward (2, 2); a softcap eight kernels, masks
//! that renormalise the prior eight, and dense targets seven to ten. On the CPU a number of classes that
//! is no multiple of 64 costs each sum a copy.

mod fold;
mod gradient;
mod ops;
mod rows;
mod statistics;
mod table;

use candle_core::{DType, Device, Tensor};
use xent::host::LogitsShape;
use xent::rules::TargetKind;
use xent::{Config, Criterion, EmptyMean, Form, Output, Reduced, Reduction, Rows};

use crate::attach::attach;
use crate::batch::{GivenBatch, rows_of};
use crate::error::Result;
use crate::transfer::{bring, read_back};
use fold::Folded;
use gradient::Gradient;
use ops::{PerRow, either, fill_where, first_largest, is_finite, is_nonzero, is_zero, total};
use rows::{RowCoefficients, Target};
use statistics::{Statistics, Transformed};
use std::sync::Arc;
use table::{Setting, Table};
pub(crate) use table::Tables;

/// A batch whose rows are folded.
pub(crate) struct Evaluation<'a> {
    config: &'a Config,
    shape: &'a LogitsShape,
    logits: &'a Tensor,
    table: Arc<Table>,
    allowed: Option<Tensor>,
    transformed: Transformed,
    rows: RowCoefficients,
    statistics: Statistics,
    folded: Folded,
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(criterion: &'a Criterion, tables: &Tables, batch: &GivenBatch<'_>, shape: &'a LogitsShape, logits: &'a Tensor) -> Result<Self> {
        let config = criterion.config();
        let kind = if batch.probabilities().is_some() { TargetKind::Probabilities } else { TargetKind::Labels };
        let table = tables.get(criterion, &Setting::new(logits, shape.classes(), kind))?;
        let setting = &table.setting;
        let rows = RowCoefficients::new(config, batch, shape, &table)?;
        let allowed = match batch.allowed_classes {
            Some(mask) => {
                let mask = bring(mask, mask.dtype(), &setting.device)?;
                let mask = if mask.dims() == shape.dims() { rows_of(shape, &mask)? } else { mask.reshape((1, ()))? };
                Some(is_nonzero(&mask)?)
            }
            None => None,
        };
        let transformed = Transformed::new(logits, allowed.as_ref(), config, shape, setting)?;
        let statistics = Statistics::new(&transformed.z, &rows, config, setting)?;
        let folded = Folded::new(&rows, &statistics, setting)?;
        Ok(Self { config, shape, logits, table, allowed, transformed, rows, statistics, folded })
    }

    /// The loss, which candle differentiates if the logits are tracked.
    pub(crate) fn loss(&self) -> Result<Tensor> {
        let mut loss = self.reduced(&self.cross_entropy()?, &self.rows.denominators.loss)?;
        if self.config.z_loss > 0.0 {
            loss = (loss + self.reduced(&self.z_loss()?, &self.rows.denominators.z_loss)?)?;
        }
        let dims = if self.config.reduction == Reduction::None { self.shape.row_dims() } else { Vec::new() };
        let loss = loss.to_dtype(self.table.setting.dtype)?.reshape(dims)?;
        attach(self.logits, loss, if self.logits.track_op() { Some(self.gradient()?) } else { None })
    }

    /// The loss and its parts as numbers.
    pub(crate) fn output(&self, loss: &Tensor) -> Result<Output<f64>> {
        let Self { config, table, rows, statistics, folded, .. } = self;
        let numbers = |tensor: &Tensor| read_back::<f64>(&tensor.to_dtype(table.setting.dtype)?);
        let reduced = |numbers: Vec<f64>| match (config.reduction, numbers.as_slice()) {
            (Reduction::Sum | Reduction::Mean, [number]) => Reduced::Scalar(*number),
            _ => Reduced::Rows(numbers),
        };
        let denominator = &rows.denominators.loss;
        let part = |value: &PerRow| Ok::<_, crate::Error>(reduced(numbers(&self.reduced(&self.weighed(value)?, denominator)?)?));
        let label = match &rows.target {
            Target::Labels(hot) => hot.largest()?,
            Target::Dense(t, _) => first_largest(t, &table.numbers)?,
        };
        let true_rows = |mask: &Tensor| Ok::<_, crate::Error>(read_back::<u8>(mask)?.into_iter().map(|row| row > 0));
        let out = either(rows.ignored.as_ref(), Some(&statistics.nan))?;
        let hit = first_largest(&self.transformed.z, &table.numbers)?.broadcast_eq(&label)?;
        let correct = out.map_or(Ok(hit.clone()), |out| hit.broadcast_gt(&out))?;
        let z_loss = self.z_loss()?;
        let finite = (is_finite(&self.cross_entropy()?)? * is_finite(&z_loss)?)?;
        let mut bad = true_rows(&is_zero(&finite)?)?.enumerate().filter(|&(_, bad)| bad).map(|(row, _)| row);

        // All that xent says of no rows is replaced.
        let mut output = Config::new().build()?.forward(&Rows::new(&[0.0f64; 0], 1)?, &[0u8; 0])?;
        output.loss = reduced(numbers(loss)?);
        output.nll = part(&folded.nll)?;
        output.smoothing = part(&folded.smoothing)?;
        output.z_loss = reduced(numbers(&self.reduced(&z_loss, &rows.denominators.z_loss)?)?);
        output.floor = part(&self.folded.floor(rows, statistics, &table.setting)?)?;
        output.lse = numbers(&self.row(&PerRow::Each(statistics.lse.clone()))?)?;
        output.correct = true_rows(&correct)?.filter(|&correct| correct).count();
        output.denominator = read_back(&denominator.tensor(table.setting.wide, &table.setting.device)?)?[0];
        output.rows = self.shape.rows();
        output.ignored = rows.ignored.as_ref().map_or(Ok(0), |mask| Ok::<_, crate::Error>(true_rows(mask)?.filter(|&row| row).count()))?;
        output.first_non_finite = bad.next();
        output.non_finite = bad.count() + usize::from(output.first_non_finite.is_some());
        Ok(output)
    }

    /// Each row's loss but for its z-loss.
    fn cross_entropy(&self) -> Result<Tensor> {
        let Self { folded, rows, statistics, .. } = self;
        let row = match self.config.form {
            Form::KlDivergence => {
                let floor = folded.floor(rows, statistics, &self.table.setting)?;
                folded.cross_entropy.plus(&floor.times(&PerRow::Same(-1.0))?)?
            }
            _ => folded.cross_entropy.clone(),
        };
        self.weighed(&row)
    }

    fn z_loss(&self) -> Result<Tensor> {
        let lse = PerRow::Each(self.statistics.lse.clone());
        self.weighed(&PerRow::Same(self.config.z_loss).times(&lse)?.times(&lse)?)
    }

    fn weighed(&self, value: &PerRow) -> Result<Tensor> {
        self.row(&value.times(&self.rows.weight)?)
    }

    /// A row's own number: 0 for ignored rows (S5), NaN where S8 says so.
    fn row(&self, value: &PerRow) -> Result<Tensor> {
        let Setting { wide, device, .. } = &self.table.setting;
        let row = fill_where(&self.statistics.nan, f64::NAN, &value.tensor(*wide, device)?)?;
        match &self.rows.ignored {
            Some(ignored) => fill_where(ignored, 0.0, &row),
            None => Ok(row),
        }
    }

    /// S6: a column, or a single number.
    fn reduced(&self, rows: &Tensor, denominator: &PerRow) -> Result<Tensor> {
        match self.config.reduction {
            Reduction::None => Ok(rows.clone()),
            Reduction::Mean => {
                let mean = PerRow::Each(total(rows)?).over(denominator)?;
                let mean = mean.tensor(rows.dtype(), rows.device())?;
                match self.empty()? {
                    Some(empty) => fill_where(&empty, if self.config.empty_mean == EmptyMean::Zero { 0.0 } else { f64::NAN }, &mean),
                    None => Ok(mean),
                }
            }
            _ => total(rows),
        }
    }

    /// Whether the denominator is 0, unless it is known not to be.
    fn empty(&self) -> Result<Option<Tensor>> {
        match &self.rows.denominators.loss {
            PerRow::Each(denominator) => Ok(Some(is_zero(denominator)?)),
            PerRow::Same(_) => Ok(None),
        }
    }

    fn gradient(&self) -> Result<Gradient> {
        let Self { config, table, rows, statistics, folded, .. } = self;
        let Setting { dtype, wide, device, .. } = &table.setting;
        let (mut factor, mut on_lse, mut dead) = (rows.weight.over(&PerRow::Same(config.temperature))?, PerRow::Same(2.0 * config.z_loss), rows.ignored.clone());
        if config.reduction == Reduction::Mean {
            let denominators = &rows.denominators;
            let mut divisor = denominators.loss.clone();
            on_lse = on_lse.times(&divisor.over(&denominators.z_loss)?)?;
            if let Some(empty) = self.empty()? {
                divisor = divisor.fill_where(&empty, f64::NAN, *wide)?;
                if config.empty_mean == EmptyMean::Zero {
                    dead = either(dead.as_ref(), Some(&empty))?;
                }
            }
            factor = factor.over(&divisor)?;
        }
        let alpha = folded.mass.plus(&on_lse.times(&PerRow::Each(statistics.lse.clone()))?)?;
        let on_exp = alpha.times(&factor)?.over(&PerRow::Each(statistics.exp_sum.clone()))?;
        let masked = match &statistics.masked {
            Some(masked) => Some((masked.clone(), fill_where(&statistics.nan, f64::NAN, &PerRow::Same(0.0).tensor(*dtype, device)?)?)),
            None => None,
        };
        Ok(Gradient {
            shape: self.shape.clone(),
            setting: table.setting.clone(),
            exp: statistics.exp.clone(),
            on_exp: on_exp.fill_where(&statistics.nan, f64::NAN, *wide)?,
            target: folded.target.times(&factor)?,
            slope: self.transformed.slope.clone(),
            masked,
            allowed: self.allowed.clone(),
            dead,
        })
    }
}
