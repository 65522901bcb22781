//! On any device: candle's own operations, from end to end. Only [`Evaluation::output`] brings
//! numbers to the host, and after the first call with a criterion and a number of classes only the
//! batch goes to the device.
//!
//! ```text
//! table       what the criterion says of K classes: made once for a device and kept
//! rows        the batch: labels, ε, weights → coefficients of each row, by gathers from the table
//! statistics  the logits: e^(z − m) and its sum, z at the hot classes, sums against the prior and targets
//! fold        columns of coefficients and statistics → loss, parts, coefficients of the gradient
//! gradient    in backward: on_exp·e^(z − m) − γ·v − τ·t − Σ β_j δ_j, with the upstream gradient in the coefficients
//! ```
//!
//! What is one number per row is computed in f64 where the device has it. What would be an error on
//! the CPU engine is NaN in its row, because no value is read.
//!
//! # Passes over `[N, K]`
//!
//! candle runs one kernel for each operation, so the time is that of reading and writing `[N, K]`.
//! The plain loss of f32 logits (labels, uniform prior) takes five kernels forward and two
//! backward, with seven reads and four writes in total. Counted from the code, not measured:
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
//! Hot classes are written in place, one or two elements for each row. Options add kernels:
//!
//! | | forward | backward |
//! |---|---|---|
//! | half-precision logits, or classes on another axis than the last | 1 | 1 |
//! | temperature | 1 | |
//! | softcap | 5, that of a temperature included | 1, and 2 for the slope |
//! | rows that can be ignored | | 1 |
//! | allowed classes | 1 | 1, the same as for ignored rows |
//! | class weights, or a fixed prior | 1, and 1 more for entries of 0 | 1 |
//! | excluded classes | 1 | 1 |
//! | masks that renormalise the prior | 4 | 1 |
//! | dense targets | 6 | 2 |
//! | a dense target's wrong classes, the prior by true class | 2 to 8 | 1 |
//! | the floor (KL divergence, output) of dense targets and of the prior by true class | about 15 | |
//!
//! On the CPU a number of classes that is no multiple of 64 costs each sum a copy.

mod fold;
mod gradient;
mod ops;
mod rows;
mod statistics;
mod table;

use std::sync::Arc;

use candle_core::Tensor;
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
pub(crate) use table::Tables;
use table::{Setting, Table};

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
    pub(crate) fn new(
        criterion: &'a Criterion,
        tables: &Tables,
        batch: &GivenBatch<'_>,
        shape: &'a LogitsShape,
        logits: &'a Tensor,
    ) -> Result<Self> {
        let config = criterion.config();
        let kind = if batch.probabilities().is_some() {
            TargetKind::Probabilities
        } else {
            TargetKind::Labels
        };
        let table = tables.get(criterion, &Setting::new(logits, shape.classes(), kind))?;
        let setting = &table.setting;
        let rows = RowCoefficients::new(config, batch, shape, &table)?;
        let allowed = match batch.allowed_classes {
            Some(mask) => {
                let mask = bring(mask, mask.dtype(), &setting.device)?;
                let mask = if mask.dims() == shape.dims() {
                    rows_of(shape, &mask)?
                } else {
                    mask.reshape((1, ()))?
                };
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
        let dims = if self.config.reduction == Reduction::None {
            self.shape.row_dims()
        } else {
            Vec::new()
        };
        let loss = loss.to_dtype(self.table.setting.dtype)?.reshape(dims)?;
        attach(
            self.logits,
            loss,
            if self.logits.track_op() { Some(self.gradient()?) } else { None },
        )
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
        let part = |value: &PerRow| {
            Ok::<_, crate::Error>(reduced(numbers(
                &self.reduced(&self.weighed(value)?, denominator)?,
            )?))
        };
        let label = match &rows.target {
            Target::Labels(hot) => hot.largest()?,
            Target::Dense(t, _) => first_largest(t, &table.numbers)?,
        };
        let true_rows = |mask: &Tensor| {
            Ok::<_, crate::Error>(read_back::<u8>(mask)?.into_iter().map(|row| row > 0))
        };
        let hit = first_largest(&self.transformed.z, &table.numbers)?.broadcast_eq(&label)?;
        let correct = hit.broadcast_gt(&either(rows.ignored.as_ref(), &statistics.nan)?)?;
        let z_loss = self.z_loss()?;
        let finite = (is_finite(&self.cross_entropy()?)? * is_finite(&z_loss)?)?;
        let mut bad =
            true_rows(&is_zero(&finite)?)?.enumerate().filter(|&(_, bad)| bad).map(|(row, _)| row);

        // All that xent says of no rows is replaced.
        let mut output = Config::new().build()?.forward(&Rows::new(&[0.0f64; 0], 1)?, &[0u8; 0])?;
        output.loss = reduced(numbers(loss)?);
        output.nll = part(&folded.nll)?;
        output.smoothing = part(&folded.smoothing)?;
        output.z_loss = reduced(numbers(&self.reduced(&z_loss, &rows.denominators.z_loss)?)?);
        output.floor = part(&self.folded.floor(rows, statistics, &table.setting)?)?;
        output.lse = numbers(&self.row(&PerRow::Each(statistics.lse.clone()))?)?;
        output.correct = true_rows(&correct)?.filter(|&correct| correct).count();
        output.denominator =
            read_back(&denominator.tensor(table.setting.wide, &table.setting.device)?)?[0];
        output.rows = self.shape.rows();
        output.ignored = rows.ignored.as_ref().map_or(Ok(0), |mask| {
            Ok::<_, crate::Error>(true_rows(mask)?.filter(|&row| row).count())
        })?;
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
                    Some(empty) => fill_where(
                        &empty,
                        if self.config.empty_mean == EmptyMean::Zero { 0.0 } else { f64::NAN },
                        &mean,
                    ),
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
        let mut factor = rows.weight.over(&PerRow::Same(config.temperature))?;
        let (mut on_lse, mut dead) = (PerRow::Same(2.0 * config.z_loss), rows.ignored.clone());
        if config.reduction == Reduction::Mean {
            let mut divisor = rows.denominators.loss.clone();
            if config.z_loss > 0.0 {
                on_lse = on_lse.times(&divisor.over(&rows.denominators.z_loss)?)?;
            }
            if let Some(empty) = self.empty()? {
                divisor = divisor.fill_where(&empty, f64::NAN, *wide)?;
                if config.empty_mean == EmptyMean::Zero {
                    dead = Some(either(dead.as_ref(), &empty)?);
                }
            }
            factor = factor.over(&divisor)?;
        }
        let alpha = folded.mass.plus(&on_lse.times(&PerRow::Each(statistics.lse.clone()))?)?;
        let on_exp = alpha.times(&factor)?.over(&PerRow::Each(statistics.exp_sum.clone()))?;
        let slope = match &self.transformed.tanh {
            Some(tanh) => Some(tanh.sqr()?.affine(-1.0, 1.0)?),
            None => None,
        };
        let masked = match &statistics.masked {
            Some(masked) => Some((
                masked.clone(),
                fill_where(&statistics.nan, f64::NAN, &PerRow::Same(0.0).tensor(*dtype, device)?)?,
            )),
            None => None,
        };
        Ok(Gradient {
            shape: self.shape.clone(),
            setting: table.setting.clone(),
            exp: statistics.exp.clone(),
            on_exp: on_exp.fill_where(&statistics.nan, f64::NAN, *wide)?,
            target: folded.target.times(&factor)?,
            slope,
            masked,
            allowed: self.allowed.clone(),
            dead,
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};
    use xent::{ClassWeighting, Form, Masked, Prior, PriorMatrix};

    use super::*;
    use crate::CrossEntropy;
    use crate::transfer::Counts;
    use crate::transfer::tests::take_counts;

    fn configs() -> Vec<Config> {
        let third =
            PriorMatrix::new(3, &[0.25, 0.25, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.6]).unwrap();
        let smoothed = || Config::new().label_smoothing(0.1);
        vec![
            Config::new(),
            smoothed().softcap(5.0).temperature(2.0).z_loss(0.1).form(Form::KlDivergence),
            smoothed().class_weights(&[1.0, 2.0, 0.0]).z_loss(0.1),
            smoothed()
                .class_weights(&[1.0, 2.0, 0.0])
                .class_weighting(ClassWeighting::PerRow)
                .reduction(Reduction::None),
            smoothed()
                .prior(Prior::WrongClasses)
                .masked(Masked::Renormalise)
                .empty_mean(EmptyMean::Zero),
            smoothed().prior(Prior::Excluding(vec![1])).form(Form::KlDivergence),
            smoothed().prior(Prior::Fixed(vec![0.5, 0.5, 0.0])).masked(Masked::Renormalise),
            smoothed().prior(Prior::ByTrueClass(third)).form(Form::KlDivergence),
        ]
    }

    type Forward<'a> = &'a dyn Fn() -> Result<Tensor>;

    /// Nothing is read back, and after the first call nothing is uploaded; each tensor of the batch
    /// is brought once.
    #[test]
    fn all_stays_on_the_device() {
        let device = &Device::Cpu;
        let logits = Var::zeros((2, 3), DType::F32, device).unwrap();
        let labels = Tensor::new(&[0i64, 2], device).unwrap();
        let probabilities = Tensor::new(&[[0.5f32, 0.5, 0.0], [0.0, 0.25, 0.75]], device).unwrap();
        let numbers = Tensor::new(&[0.5f64, 0.25], device).unwrap();
        let mask = Tensor::new(&[0u8, 1], device).unwrap();
        let allowed = Tensor::new(&[1u8, 1, 0], device).unwrap();
        for (index, config) in configs().into_iter().enumerate() {
            let criterion = CrossEntropy::new(config.clone()).unwrap().composed(true);
            let ignoring = CrossEntropy::new(config.ignore_index(2)).unwrap().composed(true);
            let plain = || criterion.on(&logits, &labels);
            let calls: [(&str, usize, Forward<'_>); 4] = [
                ("labels", 1, &|| ignoring.forward(&logits, &labels)),
                ("probabilities", 1, &|| criterion.forward(&logits, &probabilities)),
                ("options", 5, &|| {
                    plain()
                        .row_weights(&numbers)
                        .label_smoothing_rows(&numbers)
                        .ignored_rows(&mask)
                        .allowed_classes(&allowed)
                        .forward()
                }),
                ("two labels", 3, &|| {
                    plain().mixed_with(&labels, &numbers).denominator(3.0).forward()
                }),
            ];
            for (name, brought, call) in calls {
                call().unwrap();
                take_counts();
                for _ in 0..2 {
                    call().unwrap().sum_all().unwrap().backward().unwrap();
                    assert_eq!(
                        take_counts(),
                        Counts { uploads: 0, brought, read_back: 0 },
                        "configuration {index}, {name}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_table_is_uploaded_once() {
        let device = &Device::Cpu;
        let [logits, wide] =
            [DType::F32, DType::F64].map(|dtype| Tensor::zeros((2, 3), dtype, device).unwrap());
        let labels = Tensor::new(&[0i64, 2], device).unwrap();
        let criterion =
            CrossEntropy::new(Config::new().label_smoothing(0.1).class_weights(&[1.0, 2.0, 3.0]))
                .unwrap()
                .composed(true);
        let uploads = |criterion: &CrossEntropy, logits: &Tensor, targets: &Tensor| {
            criterion.forward(logits, targets).unwrap();
            take_counts().uploads
        };
        assert!(uploads(&criterion, &logits, &labels) > 0);
        assert_eq!(uploads(&criterion.clone(), &logits, &labels), 0);
        assert!(uploads(&criterion, &wide, &labels) > 0);
        assert!(uploads(&criterion, &logits, &logits) > 0);
        assert!(uploads(&criterion.clone().class_axis(0), &logits.t().unwrap(), &labels) == 0);
        assert_eq!(uploads(&criterion, &logits, &labels), 0);
    }

    /// Only the output and a checked call read back.
    #[test]
    fn what_waits_for_the_device() {
        let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let labels = Tensor::new(&[0i64, 2], &Device::Cpu).unwrap();
        let criterion = CrossEntropy::new(Config::new()).unwrap().composed(true);
        criterion.on(&logits, &labels).forward_with_output().unwrap();
        assert!(take_counts().read_back > 0);
        criterion.checked(true).forward(&logits, &labels).unwrap();
        assert_eq!(take_counts().read_back, 1);
    }

    /// The functions of candle that copy between host and device, and those that may: a comparison
    /// with a number uploads it.
    #[test]
    fn nothing_copies_but_through_transfer() {
        let sources = [
            include_str!("fold.rs"),
            include_str!("gradient.rs"),
            include_str!("ops.rs"),
            include_str!("rows.rs"),
            include_str!("statistics.rs"),
            include_str!("table.rs"),
            include_str!("mod.rs"),
            include_str!("../attach.rs"),
        ];
        let copies = [
            "Tensor::new(",
            "from_vec",
            "from_slice",
            "from_iter",
            "arange",
            "to_vec",
            "to_scalar",
            "to_device",
            "rand",
            "eye(",
            "tril2",
            "triu2",
            "cumsum",
        ];
        let compares = ["eq", "ne", "lt", "gt", "le", "ge", "maximum", "minimum", "clamp", "cmp"]
            .map(|name| format!(".{name}("));
        for source in sources {
            let code = source.split("#[cfg(test)]").next().unwrap();
            for name in copies.into_iter().chain(compares.iter().map(String::as_str)) {
                assert!(!code.contains(name), "{name} in\n{code}");
            }
        }
    }
}
