//! One call of the loss as plain data: everything that goes in.

use serde::{Deserialize, Serialize};

use crate::dtype::{Dtype, IndexDtype};
use crate::layout::Layout;
use crate::number;

/// One call of the loss. A default case is empty; [`Case::rows`] makes a small one, and struct
/// update syntax sets the rest.
///
/// ```
/// use xent_spec::{Case, Reduction, RowValue};
///
/// let case = Case {
///     epsilon: RowValue::Shared(0.1),
///     reduction: Reduction::Sum,
///     ..Case::rows(&[&[2.0, -1.0, 0.5], &[0.0, 1.0, -2.0]], &[0, 1])
/// };
/// assert_eq!((case.row_count(), case.class_count()), (2, 3));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Case {
    /// Says in a failure message which case it was.
    pub name: String,
    /// The format of logits and gradient. Every logit is a value of it.
    pub dtype: Dtype,
    /// The logits' shape, class axis included.
    pub shape: Vec<usize>,
    /// Which axis of `shape` counts the classes. Rows are numbered in C order of the other axes.
    pub axis: usize,
    /// The logits in C order of `shape`.
    #[serde(with = "number::list")]
    pub logits: Vec<f64>,
    /// How the backend is to find the logits in memory; no result depends on it.
    pub layout: Layout,
    /// What each row should have been.
    pub targets: Targets,
    /// ε (S3).
    pub epsilon: RowValue,
    /// U (S3).
    pub prior: Prior,
    /// w, one a class (S4.2).
    #[serde(with = "optional_list", skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Vec<f64>>,
    /// How class weights act (S4.2).
    pub class_weighting: ClassWeighting,
    /// r, one a row (S4.6).
    #[serde(with = "optional_list", skip_serializing_if = "Option::is_none")]
    pub row_weights: Option<Vec<f64>>,
    /// Class indices that mean "no label" (S5).
    pub ignore_index: Vec<i64>,
    /// One a row, true where the row is ignored (S5); empty: none is.
    pub ignored_rows: Vec<bool>,
    /// Which classes may be predicted (S1).
    pub allowed: Allowed,
    /// What masked classes do to the prior and the gradient (S7).
    pub masked: Masked,
    /// How rows become the reported loss (S6).
    pub reduction: Reduction,
    /// What the mean divides by (S6).
    pub denominator: Denominator,
    /// What a mean over nothing is (S6).
    pub empty_mean: EmptyMean,
    /// Cross-entropy, or its excess over the floor (S4.4).
    pub form: Form,
    /// λ_z (S4.5); 0: none.
    pub z_loss: f64,
    /// c (S1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f64>,
    /// T (S1); default none, which is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// dL/dloss (S9): one number, or under [`Reduction::None`] one a row.
    pub upstream: Upstream,
}

/// One number for all rows, or one a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RowValue {
    /// The same for all rows.
    Shared(#[serde(with = "number")] f64),
    /// One a row.
    Each(#[serde(with = "number::list")] Vec<f64>),
}

impl RowValue {
    /// The value of row `row`.
    pub fn of(&self, row: usize) -> f64 {
        match self {
            RowValue::Shared(value) => *value,
            RowValue::Each(values) => values[row],
        }
    }

    /// The values written down: one, or one a row.
    pub fn values(&self) -> &[f64] {
        match self {
            RowValue::Shared(value) => std::slice::from_ref(value),
            RowValue::Each(values) => values,
        }
    }
}

/// ε, by default 0.
impl Default for RowValue {
    fn default() -> Self {
        RowValue::Shared(0.0)
    }
}

/// The gradient that arrives from above, by default 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Upstream(pub RowValue);

impl Default for Upstream {
    fn default() -> Self {
        Upstream(RowValue::Shared(1.0))
    }
}

impl Upstream {
    /// Whether it is 1 for every row.
    pub fn is_unit(&self) -> bool {
        self.0.values().iter().all(|&value| value == 1.0)
    }
}

/// What each row should have been (S2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Targets {
    /// One class index a row.
    Classes {
        /// Their format.
        dtype: IndexDtype,
        /// One a row.
        labels: Vec<i64>,
    },
    /// `λ·δ_a + (1−λ)·δ_b`.
    TwoLabels {
        /// The format of both.
        dtype: IndexDtype,
        /// One a row.
        a: Vec<i64>,
        /// One a row.
        b: Vec<i64>,
        /// The share of `a`.
        lambda: RowValue,
    },
    /// A distribution a row.
    Probabilities {
        /// Their format.
        dtype: Dtype,
        /// `[N, K]`, a row's classes side by side.
        #[serde(with = "number::list")]
        values: Vec<f64>,
    },
}

impl Default for Targets {
    fn default() -> Self {
        Targets::classes(&[])
    }
}

impl Targets {
    /// Class indices in i64.
    pub fn classes(labels: &[i64]) -> Targets {
        Targets::Classes { dtype: IndexDtype::I64, labels: labels.to_vec() }
    }

    /// Two labels in i64 with one λ.
    pub fn two_labels(a: &[i64], b: &[i64], lambda: f64) -> Targets {
        Targets::TwoLabels {
            dtype: IndexDtype::I64,
            a: a.to_vec(),
            b: b.to_vec(),
            lambda: RowValue::Shared(lambda),
        }
    }

    /// Distributions in f64, row after row.
    pub fn probabilities(values: &[f64]) -> Targets {
        Targets::Probabilities { dtype: Dtype::F64, values: values.to_vec() }
    }
}

/// Where smoothing moves a target's mass to (S3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prior {
    /// All classes alike (S3.1).
    #[default]
    Uniform,
    /// All classes but the true one (S3.2).
    WrongClasses,
    /// All classes but the true one and these (S3.3).
    Excluding(Vec<usize>),
    /// A distribution over the classes (S3.4).
    Fixed(#[serde(with = "number::list")] Vec<f64>),
    /// `[K, K]`, a distribution for each true class (S3.5).
    ByTrueClass(#[serde(with = "number::list")] Vec<f64>),
}

/// How class weights act (S4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeighting {
    /// On each class's term, as PyTorch does.
    #[default]
    PerClass,
    /// On the row as a whole.
    PerRow,
}

/// Which classes may be predicted (S1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// Every class.
    #[default]
    All,
    /// `[K]`, true where allowed, for all rows.
    Shared(Vec<bool>),
    /// `[N, K]`, true where allowed.
    Each(Vec<bool>),
}

/// What masked classes do to prior and gradient (S7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Masked {
    /// Nothing but having no probability.
    #[default]
    PyTorch,
    /// They pass their prior mass on to the other classes.
    Renormalise,
}

/// How rows become the reported loss (S6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// One value a row.
    None,
    /// Their sum.
    Sum,
    /// Their sum over the denominator.
    #[default]
    Mean,
}

/// What the mean divides by (S6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denominator {
    /// The kept rows' weights w̄; for probabilities their number.
    #[default]
    #[serde(rename = "pytorch")]
    PyTorch,
    /// The number of kept rows.
    KeptRows,
    /// The number of all rows.
    Rows,
    /// This number.
    Given(#[serde(with = "number")] f64),
}

/// What a mean over nothing is (S6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyMean {
    /// NaN.
    #[default]
    Nan,
    /// 0.
    Zero,
    /// Refused.
    Error,
}

/// Which loss (S4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Cross-entropy.
    #[default]
    CrossEntropy,
    /// Its excess over the entropy floor.
    KlDivergence,
}

impl Case {
    /// Rows side by side with one class index each: f64, `[N, K]`, every option at its default.
    pub fn rows(logits: &[&[f64]], labels: &[i64]) -> Case {
        let classes = logits.first().map_or(1, |row| row.len());
        Case {
            shape: vec![logits.len(), classes],
            axis: 1,
            logits: logits.concat(),
            targets: Targets::classes(labels),
            ..Case::default()
        }
    }

    /// K.
    pub fn class_count(&self) -> usize {
        self.shape.get(self.axis).copied().unwrap_or(0)
    }

    /// N.
    pub fn row_count(&self) -> usize {
        self.shape
            .iter()
            .enumerate()
            .filter(|&(axis, _)| axis != self.axis)
            .map(|(_, &extent)| extent)
            .product()
    }

    /// The number, in C order of `shape`, of the logit of `class` in `row`.
    pub fn position(&self, row: usize, class: usize) -> usize {
        let inner: usize = self.shape[self.axis + 1..].iter().product();
        (row / inner * self.class_count() + class) * inner + row % inner
    }

    /// The logits of one row.
    pub fn row(&self, row: usize) -> Vec<f64> {
        (0..self.class_count()).map(|class| self.logits[self.position(row, class)]).collect()
    }

    /// The logits as the layout places them, `unused` in every other place.
    pub fn buffer(&self, unused: f64) -> Vec<f64> {
        let mut buffer = vec![unused; self.layout.buffer_len(&self.shape)];
        for (position, &logit) in self.logits.iter().enumerate() {
            buffer[self.layout.place(&self.shape, position)] = logit;
        }
        buffer
    }

    /// Whether the allowed-class mask lets `row` predict `class`.
    pub fn allows(&self, row: usize, class: usize) -> bool {
        match &self.allowed {
            Allowed::All => true,
            Allowed::Shared(classes) => classes[class],
            Allowed::Each(rows) => rows[row * self.class_count() + class],
        }
    }
}

mod optional_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct List(#[serde(with = "crate::number::list")] Vec<f64>);

    pub(super) fn serialize<S: Serializer>(
        values: &Option<Vec<f64>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        values.clone().map(List).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<f64>>, D::Error> {
        Ok(Option::<List>::deserialize(deserializer)?.map(|list| list.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_every_number() {
        let case = Case {
            dtype: Dtype::F32,
            epsilon: RowValue::Each(vec![0.1, f64::NAN]),
            class_weights: Some(vec![f64::INFINITY, 0.1 + 0.2, 1e-310]),
            prior: Prior::Fixed(vec![0.5, 0.25, 0.25]),
            denominator: Denominator::Given(7.5),
            softcap: Some(30.0),
            ..Case::rows(
                &[&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY], &[0.1, -0.0, 1e-300]],
                &[i64::MIN, 2],
            )
        };
        let text = serde_json::to_string(&case).unwrap();
        let back: Case = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert!(back.logits[0].is_nan() && back.epsilon.of(1).is_nan());
        assert_eq!(back.logits[1..], case.logits[1..]);
        assert_eq!(back.class_weights, case.class_weights);
        assert!(serde_json::from_str::<Case>(r#"{"logits": ["one"]}"#).is_err());
        assert!(serde_json::from_str::<Case>(r#"{"logit": [1]}"#).is_err());
    }

    #[test]
    fn rows_are_numbered_without_the_class_axis() {
        let case = Case {
            shape: vec![2, 3, 2],
            axis: 1,
            logits: (0..12).map(f64::from).collect(),
            ..Case::default()
        };
        assert_eq!((case.row_count(), case.class_count()), (4, 3));
        assert_eq!(case.row(0), [0.0, 2.0, 4.0]);
        assert_eq!(case.row(3), [7.0, 9.0, 11.0]);
    }
}
