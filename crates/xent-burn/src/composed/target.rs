//! What a batch says of each row before its logits are read: targets, ε, weights, and which rows are ignored or cannot be used. SEMANTICS.md S2 to S6.

use burn::tensor::{Bool, DType, Device, Int, Tensor};
use xent::{ClassWeighting, Denominator};

use super::ops::{constant, largest, row, select, sum, zero_where};
use crate::batch::{DeviceBatch, GivenLambda, GivenTargets, PerRow, names};
use crate::shape::LogitsShape;
use crate::{CrossEntropyConfig, Result, engine};

/// In which dtypes, and where: what is one number a row and class, what is one number a row, indices.
pub(super) struct Setting {
    pub(super) dtype: DType,
    pub(super) wide: DType,
    pub(super) index: DType,
    pub(super) device: Device,
    pub(super) rows: usize,
    pub(super) classes: usize,
}

impl Setting {
    pub(super) fn new<const D: usize>(logits: &Tensor<D>, shape: &LogitsShape) -> Self {
        let device = logits.device().inner();
        let dtype = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        // Graphics devices that say they have f64 may take its logarithms wrongly: ln 1 was −88 on Mesa's lavapipe.
        let wide = if engine::runs_on(logits) { DType::F64 } else { dtype };
        let index = if device.supports_dtype(DType::I64) { DType::I64 } else { DType::I32 };
        Self { dtype, wide, index, device, rows: shape.rows(), classes: shape.classes() }
    }

    pub(super) fn number(&self, value: f64) -> Tensor<2> {
        constant(value, self.wide, &self.device)
    }

    pub(super) fn none(&self) -> Tensor<2, Bool> {
        Tensor::full([self.rows, 1], false, &self.device)
    }
}

pub(super) struct Target {
    /// `[N, 1]`.
    pub(super) ignored: Tensor<2, Bool>,
    /// Kept rows whose targets or numbers are outside their range, `[N, 1]`.
    pub(super) unusable: Tensor<2, Bool>,
    pub(super) hot: Option<Hot>,
    /// Probabilities `[N, K]`, 0 in ignored rows.
    pub(super) dense: Option<Tensor<2>>,
    /// `[N, 1]` or `[1, 1]`; none where nothing is smoothed.
    pub(super) epsilon: Option<Tensor<2>>,
    pub(super) row_weights: Option<Tensor<2>>,
    /// `[1, K]`.
    pub(super) class_weights: Option<Tensor<2>>,
    pub(super) per_row: bool,
}

/// Classes with a share of a row, `[N, 1]` or `[N, 2]`.
pub(super) struct Hot {
    pub(super) class: Tensor<2, Int>,
    pub(super) share: Tensor<2>,
}

impl Target {
    pub(super) fn new<const D: usize>(config: &CrossEntropyConfig, batch: &DeviceBatch<D>, shape: &LogitsShape, setting: &Setting) -> Result<Self> {
        let mut reader = Reader { shape, setting, ignored: setting.none(), bad: setting.none() };
        if let Some(mask) = &batch.ignored {
            reader.ignored = mask.of(names::IGNORED, shape)?.to_device(&setting.device).reshape([setting.rows, 1]);
        }
        let mut dense = None;
        let hot = match &batch.targets {
            GivenTargets::Classes(classes) => {
                let class = reader.labels(names::CLASSES, classes, config)?;
                Some(Hot { share: setting.number(1.0).expand([setting.rows, 1]), class })
            }
            GivenTargets::Mix(mix) => {
                let class = Tensor::cat(vec![reader.labels(names::FIRST, &mix.a, config)?, reader.labels(names::SECOND, &mix.b, config)?], 1);
                let lambda = match &mix.lambda {
                    GivenLambda::Scalar(lambda) => reader.within(setting.number(*lambda).expand([setting.rows, 1]), 1.0),
                    GivenLambda::Rows(lambda) => reader.numbers(names::LAMBDA, lambda, 1.0)?,
                };
                Some(Hot { share: Tensor::cat(vec![lambda.clone(), -lambda + 1.0], 1), class })
            }
            GivenTargets::Probabilities(probabilities) => {
                shape.expect_logits(names::PROBABILITIES, &probabilities.dims())?;
                dense = Some(shape.rows_of(probabilities.clone().to_device(&setting.device)).cast(setting.dtype));
                None
            }
        };
        let epsilon = match &batch.epsilon {
            Some(epsilon) => Some(reader.numbers(names::EPSILON, epsilon, 1.0)?),
            None if config.label_smoothing == 0.0 => None,
            None => Some(setting.number(config.label_smoothing)),
        };
        let row_weights = batch.row_weights.as_ref().map(|weights| reader.numbers(names::ROW_WEIGHTS, weights, largest(setting.wide))).transpose()?;
        let Reader { ignored, mut bad, .. } = reader;
        let dense = dense.map(|t| {
            let t = zero_where(&ignored, &t);
            let good = t.clone().greater_equal_elem(0.0).bool_and(t.clone().lower_equal_elem(largest(setting.dtype)));
            bad = bad.clone().bool_or(good.bool_not().any_dim(1));
            t
        });
        Ok(Self {
            unusable: bad.bool_and(ignored.clone().bool_not()),
            hot: hot.map(|hot| Hot { class: select(&ignored, &hot.class.zeros_like(), &hot.class), ..hot }),
            dense,
            epsilon,
            row_weights,
            class_weights: config.class_weights.as_ref().map(|weights| row(weights, setting.dtype, &setting.device)),
            per_row: config.class_weighting == ClassWeighting::PerRow,
            ignored,
        })
    }

    /// The weight of each class's own term, `[1, K]`.
    pub(super) fn per_class(&self) -> Option<&Tensor<2>> {
        self.class_weights.as_ref().filter(|_| !self.per_row)
    }

    /// A vector over the classes, weighed by class if weights enter so.
    pub(super) fn weighed(&self, vector: &Tensor<2>) -> Tensor<2> {
        match self.per_class() {
            Some(weights) => vector.clone() * weights.clone(),
            None => vector.clone(),
        }
    }

    /// t as `[N, K]`, in the dtype that computes.
    pub(super) fn dense(&self, setting: &Setting) -> Tensor<2> {
        match (&self.dense, &self.hot) {
            (Some(dense), _) => dense.clone(),
            (None, Some(hot)) => hot.scattered(&hot.share, setting, setting.dtype),
            (None, None) => Tensor::zeros([setting.rows, setting.classes], (&setting.device, setting.dtype)),
        }
    }

    /// `w̄ = Σ w_c t_c`, `[N, 1]`.
    pub(super) fn mean_weight(&self, wide: DType) -> Option<Tensor<2>> {
        let weights = self.class_weights.as_ref()?;
        Some(match (&self.hot, &self.dense) {
            (Some(hot), _) => (hot.of(weights).cast(wide) * hot.share.clone()).sum_dim(1),
            (None, Some(dense)) => sum(&(dense.clone() * weights.clone())).cast(wide),
            (None, None) => return None,
        })
    }

    /// D of S6, `[1, 1]`.
    pub(super) fn denominator(&self, config: &CrossEntropyConfig, given: Option<f64>, setting: &Setting) -> Tensor<2> {
        if let Some(given) = given {
            return setting.number(given);
        }
        let ones = setting.number(1.0).expand([setting.rows, 1]);
        let weights = match config.denominator {
            Denominator::Rows => return setting.number(setting.rows as f64),
            Denominator::PyTorch if self.hot.is_some() || self.per_row => self.mean_weight(setting.wide).unwrap_or(ones),
            _ => ones,
        };
        total(&zero_where(&self.ignored, &weights))
    }
}

impl Hot {
    /// The entries of a row `[1, K]` at each row's classes.
    pub(super) fn of(&self, row: &Tensor<2>) -> Tensor<2> {
        let [rows, hot] = self.class.dims();
        row.clone().select(1, self.class.clone().reshape([rows * hot])).reshape([rows, hot])
    }

    /// `[N, K]` with `values` at each row's classes, added where they are the same.
    pub(super) fn scattered(&self, values: &Tensor<2>, setting: &Setting, dtype: DType) -> Tensor<2> {
        let zeros = Tensor::<2>::zeros([setting.rows, setting.classes], (&setting.device, dtype));
        zeros.scatter(1, self.class.clone(), values.clone().cast(dtype), burn::tensor::IndexingUpdateOp::Add)
    }
}

/// The sum of a column, `[1, 1]`.
pub(super) fn total(column: &Tensor<2>) -> Tensor<2> {
    let rows = column.dims()[0];
    sum(&column.clone().reshape([1, rows]))
}

/// Reads a batch's tensors, and keeps count of rows that are ignored or bad.
struct Reader<'a> {
    shape: &'a LogitsShape,
    setting: &'a Setting,
    ignored: Tensor<2, Bool>,
    bad: Tensor<2, Bool>,
}

impl Reader<'_> {
    /// Class indices `[N, 1]`, 0 where they are none.
    fn labels(&mut self, name: &'static str, given: &PerRow<Int>, config: &CrossEntropyConfig) -> Result<Tensor<2, Int>> {
        let Setting { index, device, rows, classes, .. } = self.setting;
        let labels = given.of(name, self.shape)?.to_device(device).reshape([*rows, 1]).cast(*index);
        let held = |number: i64| *index == DType::I64 || i32::try_from(number).is_ok();
        for &ignore in config.ignore_indices.iter().filter(|&&ignore| held(ignore)) {
            self.ignored = self.ignored.clone().bool_or(labels.clone().equal_elem(ignore));
        }
        let outside = labels.clone().lower_elem(0).bool_or(labels.clone().greater_equal_elem(*classes as i64));
        self.bad = self.bad.clone().bool_or(outside.clone());
        Ok(select(&outside, &labels.zeros_like(), &labels))
    }

    fn numbers(&mut self, name: &'static str, given: &PerRow<burn::tensor::Float>, highest: f64) -> Result<Tensor<2>> {
        let column = given.of(name, self.shape)?.to_device(&self.setting.device).reshape([self.setting.rows, 1]).cast(self.setting.wide);
        Ok(self.within(column, highest))
    }

    /// A column whose numbers ought to be in [0, `highest`]; 0 where they are not.
    fn within(&mut self, column: Tensor<2>, highest: f64) -> Tensor<2> {
        let outside = column.clone().greater_equal_elem(0.0).bool_and(column.clone().lower_equal_elem(highest)).bool_not();
        self.bad = self.bad.clone().bool_or(outside.clone());
        zero_where(&outside, &column)
    }
}
