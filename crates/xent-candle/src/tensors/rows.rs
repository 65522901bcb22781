//! What a batch says of each row before its logits are read, by gathers from the table: targets, ε,
//! weights, ignored rows, and rows that cannot be used. SEMANTICS.md S2 to S6.

use candle_core::{DType, Tensor};
use xent::host::LogitsShape;
use xent::{Config, Denominator};

use super::ops::{
    PerRow, either, fill_where, is_finite, is_nonzero, is_within, is_zero, select, sum, total,
    zero_unless,
};
use super::table::{Prior, Setting, Table, Vector};
use crate::batch::{GivenBatch, Labels, Lambda, rows_of};
use crate::error::Result;
use crate::transfer::bring;

/// The coefficients of rows: columns.
#[derive(Debug)]
pub(super) struct RowCoefficients {
    /// The mask of ignored rows.
    pub(super) ignored: Option<Tensor>,
    /// The mask of rows whose targets or numbers are outside their range.
    pub(super) unusable: Tensor,
    pub(super) target: Target,
    /// Σ t after class weights.
    pub(super) target_mass: PerRow,
    pub(super) epsilon: PerRow,
    /// r.
    pub(super) weight: PerRow,
    /// W.
    pub(super) whole: PerRow,
    /// `None` where every ε is 0.
    pub(super) prior: Option<RowPrior>,
    pub(super) denominators: Denominators,
}

/// Targets before smoothing.
#[derive(Debug)]
pub(super) enum Target {
    Labels(Hot),
    /// t, and t after class weights.
    Dense(Tensor, Vector),
}

/// Hot classes: `[N, 1]`, or `[N, 2]` for two labels.
#[derive(Debug)]
pub(super) struct Hot {
    pub(super) class: Tensor,
    /// s.
    pub(super) share: PerRow,
    /// [`term`](super::table::Table::term) of the class.
    pub(super) term: PerRow,
    /// 1, but 0 for a second label that is the first one again.
    own: PerRow,
}

/// What rows are smoothed with.
#[derive(Debug)]
pub(super) struct RowPrior {
    pub(super) sigma: PerRow,
    /// v after class weights; and before, where they change it.
    pub(super) v: Vector,
    pub(super) plain: Option<Vector>,
    /// Σ v after class weights, and before.
    pub(super) mass: PerRow,
    pub(super) plain_mass: PerRow,
    /// Σ v ln v after class weights; `None` where rows share no v.
    pub(super) xlogx: Option<f64>,
    /// v at the hot classes before class weights; 0 for a second label that is the first one again.
    pub(super) at_hot: PerRow,
    /// π, before class weights.
    pub(super) pi: PerRow,
}

/// What means divide by (S6): single numbers.
#[derive(Debug)]
pub(super) struct Denominators {
    /// D.
    pub(super) loss: PerRow,
    /// That of z-loss, which class weights do not enter.
    pub(super) z_loss: PerRow,
}

impl RowCoefficients {
    pub(super) fn new(
        config: &Config,
        batch: &GivenBatch<'_>,
        shape: &LogitsShape,
        table: &Table,
    ) -> Result<Self> {
        let setting = &table.setting;
        let mut reader = Reader {
            setting,
            ignored: None,
            unusable: Tensor::zeros((shape.rows(), 1), DType::U8, &setting.device)?,
        };
        if let Some(mask) = batch.ignored_rows {
            reader.ignored = Some(is_nonzero(&reader.column(mask, mask.dtype())?)?);
        }
        let target = reader.target(&batch.labels, config, shape, table)?;
        let epsilon = reader.numbers(batch.label_smoothing, config.label_smoothing, 1.0)?;
        let largest = if setting.wide == DType::F64 { f64::MAX } else { f64::from(f32::MAX) };
        let weight = reader.numbers(batch.row_weights, 1.0, largest)?;
        let (target_mass, whole) = target.masses(table)?;
        if let (Target::Dense(t, _), PerRow::Each(mass)) = (&target, &target_mass) {
            // NaN and ∞ come out in the sum.
            reader.mark(&is_finite(mass)?)?;
            reader.mark(&is_within(&t.min_keepdim(1)?, f64::INFINITY)?)?;
        }
        let Reader { ignored, unusable, .. } = reader;
        let prior = match epsilon {
            PerRow::Same(0.0) => None,
            _ => Some(RowPrior::new(&target, table)?),
        };
        let kept = match &ignored {
            Some(ignored) if config.denominator != Denominator::Rows => PerRow::Each(
                total(&ignored.to_dtype(setting.wide)?)?.affine(-1.0, shape.rows() as f64)?,
            ),
            _ => PerRow::Same(shape.rows() as f64),
        };
        // A target's average of the class weights: T where they multiply terms, W where they
        // multiply rows.
        let average = match &target {
            Target::Labels(_) => whole.times(&target_mass)?,
            Target::Dense(..) => whole.clone(),
        };
        let denominators = match (batch.denominator, average) {
            (Some(given), _) => {
                Denominators { loss: PerRow::Same(given), z_loss: PerRow::Same(given) }
            }
            (None, PerRow::Each(weights)) if config.denominator == Denominator::PyTorch => {
                let counted = fill_where(&either(ignored.as_ref(), &unusable)?, 0.0, &weights)?;
                Denominators { loss: PerRow::Each(total(&counted)?), z_loss: kept }
            }
            _ => Denominators { loss: kept.clone(), z_loss: kept },
        };
        Ok(Self {
            ignored,
            unusable,
            target,
            target_mass,
            epsilon,
            weight,
            whole,
            prior,
            denominators,
        })
    }
}

impl Target {
    /// Σ t after class weights, and W.
    fn masses(&self, table: &Table) -> Result<(PerRow, PerRow)> {
        let wide = |tensor: &Tensor| {
            Ok::<_, crate::Error>(PerRow::Each(sum(tensor)?.to_dtype(table.setting.wide)?))
        };
        Ok(match self {
            Self::Labels(hot) => {
                // Shares sum to 1.
                let sum = |by_class: PerRow| match by_class {
                    PerRow::Same(number) => Ok(PerRow::Same(number)),
                    by_class => hot.share.times(&by_class)?.sum(),
                };
                (sum(hot.term.clone())?, sum(table.whole.at(&hot.class)?)?)
            }
            Self::Dense(t, weighted) => {
                let whole = match &table.whole_row {
                    Some(weights) => wide(&t.broadcast_mul(weights)?)?,
                    None => PerRow::ONE,
                };
                (wide(&weighted.entries(&table.setting)?)?, whole)
            }
        })
    }
}

impl Hot {
    /// s·term: what the target puts on each class.
    pub(super) fn hard(&self) -> Result<PerRow> {
        self.share.times(&self.term)
    }

    /// The class with the largest share, the first on ties, `[N, 1]`.
    pub(super) fn largest(&self) -> Result<Tensor> {
        match &self.share {
            PerRow::Same(_) => Ok(self.class.clone()),
            PerRow::Each(share) => {
                let (first, second) = (share.narrow(1, 0, 1)?, share.narrow(1, 1, 1)?);
                select(
                    &first.broadcast_ge(&second)?,
                    &self.class.narrow(1, 0, 1)?,
                    &self.class.narrow(1, 1, 1)?,
                )
            }
        }
    }
}

impl RowPrior {
    fn new(target: &Target, table: &Table) -> Result<Self> {
        let setting = &table.setting;
        let (plain, shared) = match &table.prior {
            Prior::Shared(shared) => (shared.plain.clone(), Some(shared)),
            Prior::ByTrueClass(matrix) => {
                (Vector::new(by_true_class(matrix, target, setting)?)?, None)
            }
            Prior::WrongClasses { open, spread } => match target {
                Target::Dense(t, _) => {
                    (Vector::new(wrong_classes(t, open.as_ref(), *spread)?)?, None)
                }
                Target::Labels(_) => unreachable!("labels share v"),
            },
        };
        let weighted = match (shared, &table.term_row) {
            (_, None) => None,
            (Some(shared), Some(_)) => Some(shared.weighted.clone()),
            (None, Some(weights)) => {
                Some(Vector::new(plain.entries(setting)?.broadcast_mul(weights)?)?)
            }
        };
        let sum = |vector: &Vector| {
            Ok::<_, crate::Error>(PerRow::Each(
                sum(&vector.entries(setting)?)?.to_dtype(setting.wide)?,
            ))
        };
        let (plain_mass, mass) = match (shared, &weighted) {
            (Some(shared), _) => (PerRow::Same(shared.plain_mass), PerRow::Same(shared.mass)),
            (None, Some(weighted)) => (sum(&plain)?, sum(weighted)?),
            (None, None) => {
                let mass = sum(&plain)?;
                (mass.clone(), mass)
            }
        };
        let sigma = match (table.sigma.same(), target) {
            (Some(sigma), _) => PerRow::Same(sigma),
            (None, Target::Labels(hot)) => hot.share.times(&table.sigma.at(&hot.class)?)?.sum()?,
            (None, Target::Dense(..)) => PerRow::ONE,
        };
        let (at_hot, pi) = match target {
            Target::Labels(hot) => {
                let v = shared.map_or_else(
                    || plain.at(&hot.class, setting),
                    |shared| shared.at.at(&hot.class),
                )?;
                (hot.own.times(&v)?, hot.share.times(&table.pi.at(&hot.class)?)?)
            }
            Target::Dense(..) => (PerRow::Same(0.0), PerRow::Same(0.0)),
        };
        let (v, plain) = match weighted {
            Some(weighted) => (weighted, Some(plain)),
            None => (plain, None),
        };
        Ok(Self {
            sigma,
            v,
            plain,
            mass,
            plain_mass,
            xlogx: shared.map(|shared| shared.xlogx),
            at_hot,
            pi,
        })
    }
}

/// Σ t_c·U[c, k], `[N, K]`.
fn by_true_class(matrix: &Tensor, target: &Target, setting: &Setting) -> Result<Tensor> {
    let hot = match target {
        Target::Labels(hot) => hot,
        Target::Dense(t, _) => return Ok(t.matmul(matrix)?),
    };
    let rows = |j: usize| matrix.index_select(&hot.class.narrow(1, j, 1)?.flatten_all()?, 0);
    match &hot.share {
        PerRow::Same(_) => Ok(rows(0)?),
        PerRow::Each(share) => {
            let share = |j: usize| share.narrow(1, j, 1)?.to_dtype(setting.dtype);
            Ok((rows(0)?.broadcast_mul(&share(0)?)? + rows(1)?.broadcast_mul(&share(1)?)?)?)
        }
    }
}

/// The mass of each class of t, spread over the open classes other than itself, `[N, K]`. `open` is
/// missing where no class is excluded; `spread` counts those classes for an open and an excluded
/// class.
fn wrong_classes(t: &Tensor, open: Option<&Tensor>, spread: [usize; 2]) -> Result<Tensor> {
    let over_open = |t: &Tensor| match spread[0] {
        // There is no other class: each keeps its own.
        0 => Ok::<_, crate::Error>(t.clone()),
        classes => Ok((sum(t)?.broadcast_sub(t)?.relu()? / classes as f64)?),
    };
    let Some(open) = open else { return over_open(t) };
    if spread[1] == 0 {
        return Ok(t.clone());
    }
    let of_open = zero_unless(open, t)?;
    let from_excluded = (sum(&zero_unless(&is_zero(open)?, t)?)? / spread[1] as f64)?;
    zero_unless(open, &over_open(&of_open)?.broadcast_add(&from_excluded)?)
}

/// Reads a batch's tensors, and notes which rows are ignored or cannot be used.
struct Reader<'a> {
    setting: &'a Setting,
    ignored: Option<Tensor>,
    unusable: Tensor,
}

impl Reader<'_> {
    fn target(
        &mut self,
        labels: &Labels<'_>,
        config: &Config,
        shape: &LogitsShape,
        table: &Table,
    ) -> Result<Target> {
        let (class, share, own) = match labels {
            Labels::One(probabilities) if probabilities.dtype().is_float() => {
                let t = rows_of(
                    shape,
                    &bring(probabilities, self.setting.dtype, &self.setting.device)?,
                )?;
                let weighted = table
                    .term_row
                    .as_ref()
                    .map_or(Ok(t.clone()), |weights| t.broadcast_mul(weights))?;
                return Ok(Target::Dense(t, Vector::new(weighted)?));
            }
            Labels::One(labels) => (self.classes(labels, config)?, PerRow::ONE, PerRow::ONE),
            Labels::Two { a, b, lambda } => {
                let (a, b) = (self.classes(a, config)?, self.classes(b, config)?);
                let lambda = match lambda {
                    Lambda::Scalar(lambda) => self.numbers(None, *lambda, 1.0)?,
                    Lambda::Rows(lambda) => self.numbers(Some(lambda), 0.0, 1.0)?,
                };
                let lambda = lambda
                    .tensor(self.setting.wide, &self.setting.device)?
                    .broadcast_as(a.shape())?;
                // One label given twice has the whole share.
                let same = a.broadcast_eq(&b)?;
                let first = fill_where(&same, 1.0, &lambda)?;
                let second = first.affine(-1.0, 1.0)?;
                let own = is_zero(&same)?.to_dtype(self.setting.wide)?;
                let pair = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 1);
                (
                    pair(&a, &b)?,
                    PerRow::Each(pair(&first, &second)?),
                    PerRow::Each(pair(&own.ones_like()?, &own)?),
                )
            }
        };
        let term = table.term.at(&class)?;
        Ok(Target::Labels(Hot { class, share, term, own }))
    }

    /// Class indices, some class where they are none.
    fn classes(&mut self, labels: &Tensor, config: &Config) -> Result<Tensor> {
        let labels = self.column(labels, DType::I64)?;
        let integer = |number: i64| Tensor::full(number, (1, 1), &self.setting.device);
        for &index in &config.ignore_indices {
            self.ignored =
                Some(either(self.ignored.as_ref(), &labels.broadcast_eq(&integer(index)?)?)?);
        }
        let classes = labels
            .broadcast_maximum(&integer(0)?)?
            .broadcast_minimum(&integer(self.setting.classes as i64 - 1)?)?;
        self.mark(&classes.broadcast_eq(&labels)?)?;
        Ok(classes.to_dtype(DType::U32)?)
    }

    /// Numbers in [0, `most`], 0 where they are outside; `otherwise` for all rows if there are
    /// none.
    fn numbers(&mut self, numbers: Option<&Tensor>, otherwise: f64, most: f64) -> Result<PerRow> {
        let Some(numbers) = numbers else { return Ok(PerRow::Same(otherwise)) };
        let numbers = self.column(numbers, self.setting.wide)?;
        let good = is_within(&numbers, most)?;
        self.mark(&good)?;
        Ok(PerRow::Each(zero_unless(&good, &numbers)?))
    }

    /// Notes the rows that are not good as unusable.
    fn mark(&mut self, good: &Tensor) -> Result<()> {
        self.unusable = either(Some(&self.unusable), &is_zero(good)?)?;
        Ok(())
    }

    fn column(&self, tensor: &Tensor, dtype: DType) -> Result<Tensor> {
        Ok(bring(tensor, dtype, &self.setting.device)?.reshape(((), 1))?)
    }
}
