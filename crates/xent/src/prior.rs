//! u, the distribution that smoothing mixes into the target. See SEMANTICS.md S3.

use crate::{ConfigError, Numbers, Result};

/// Where smoothing puts its mass ε.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Prior {
    /// `uniform`: ε/K on every class, including the true one. Szegedy et al. 2015, PyTorch, Keras,
    /// optax.
    #[default]
    Uniform,
    /// `wrong_classes`: ε/(K−1) on every class except the true one, which keeps 1−ε. Used by the
    /// KL-divergence criteria of OpenNMT and fairseq.
    #[cfg_attr(feature = "serde", serde(alias = "wrong-classes", alias = "others"))]
    WrongClasses,
    /// `excluding`: as [`WrongClasses`](Self::WrongClasses), but also nothing on these classes, for
    /// example padding.
    Excluding(Vec<usize>),
    /// `fixed`: ε·u for a given distribution u, one probability per class, for example the label
    /// frequencies (unigram smoothing).
    Fixed(Vec<f64>),
    /// `by_true_class`: ε·U[c, :] in rows of true class c.
    #[cfg_attr(feature = "serde", serde(alias = "by-true-class"))]
    ByTrueClass(PriorMatrix),
}

/// The kind of a [`Prior`], without its data. For command lines and bindings, which receive the
/// data separately.
///
/// ```
/// use xent::{Prior, PriorKind};
/// assert_eq!(Prior::fixed(&[0.25f32, 0.75]).kind().to_string(), "fixed");
/// assert_eq!("others".parse::<PriorKind>()?, PriorKind::WrongClasses);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PriorKind {
    /// [`Prior::Uniform`].
    #[default]
    Uniform,
    /// [`Prior::WrongClasses`].
    WrongClasses,
    /// [`Prior::Excluding`].
    Excluding,
    /// [`Prior::Fixed`].
    Fixed,
    /// [`Prior::ByTrueClass`].
    ByTrueClass,
}

/// A K×K matrix of priors, one row for each true class.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "stored::Matrix")
)]
pub struct PriorMatrix {
    classes: usize,
    entries: Vec<f64>,
}

impl PriorMatrix {
    /// From K·K entries in row-major order, each row a distribution over the classes.
    ///
    /// ```
    /// use xent::PriorMatrix;
    /// let error = PriorMatrix::new(2, &[0.5, 0.5, 0.9, 0.2]).unwrap_err();
    /// assert_eq!(error.to_string(), "row 1 of the prior matrix sums to 1.1, expected 1 (within 1e-4)");
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the number of entries is not K·K, an entry is
    /// negative, NaN or infinite, or a row does not sum to 1 within 1e-4.
    pub fn new<'a>(classes: usize, entries: impl Into<Numbers<'a>>) -> Result<Self> {
        let entries = entries.into().into_vec();
        if classes == 0 || classes.checked_mul(classes) != Some(entries.len()) {
            return Err(ConfigError::Length {
                name: "the prior matrix",
                len: entries.len(),
                expected: "K·K, a row for each of K ≥ 1 classes",
            }
            .into());
        }
        check_entries("the prior matrix", &entries)?;
        for (class, row) in entries.chunks_exact(classes).enumerate() {
            check_sum(|| format!("row {class} of the prior matrix"), row)?;
        }
        Ok(Self { classes, entries })
    }

    /// K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The K·K entries, row by row.
    pub fn entries(&self) -> &[f64] {
        &self.entries
    }

    /// The prior for true class `class`, which is less than K.
    pub(crate) fn row(&self, class: usize) -> &[f64] {
        &self.entries[class * self.classes..][..self.classes]
    }
}

impl Prior {
    /// [`Prior::Fixed`] from one number per class, `f32` or `f64`.
    pub fn fixed<'a>(u: impl Into<Numbers<'a>>) -> Self {
        Self::Fixed(u.into().into_vec())
    }

    /// The kind of this prior.
    pub fn kind(&self) -> PriorKind {
        match self {
            Self::Uniform => PriorKind::Uniform,
            Self::WrongClasses => PriorKind::WrongClasses,
            Self::Excluding(_) => PriorKind::Excluding,
            Self::Fixed(_) => PriorKind::Fixed,
            Self::ByTrueClass(_) => PriorKind::ByTrueClass,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Fixed(u) if u.is_empty() => {
                Err(ConfigError::Length { name: "the prior", len: 0, expected: "one per class" })
            }
            Self::Fixed(u) => {
                check_entries("prior", u)?;
                check_sum(|| "the prior".to_owned(), u)
            }
            Self::Uniform | Self::WrongClasses | Self::Excluding(_) | Self::ByTrueClass(_) => {
                Ok(())
            }
        }
    }
}

fn check_entries(name: &'static str, entries: &[f64]) -> Result<(), ConfigError> {
    match entries.iter().position(|u| !(u.is_finite() && *u >= 0.0)) {
        Some(index) => Err(ConfigError::Entry {
            name,
            index,
            value: entries[index],
            expected: "a finite number ≥ 0",
        }),
        None => Ok(()),
    }
}

fn check_sum(name: impl FnOnce() -> String, entries: &[f64]) -> Result<(), ConfigError> {
    let sum: f64 = entries.iter().sum();
    if (sum - 1.0).abs() <= 1e-4 { Ok(()) } else { Err(ConfigError::Sum { name: name(), sum }) }
}

/// A stored matrix is validated like a new one.
#[cfg(feature = "serde")]
mod stored {
    use super::PriorMatrix;
    use crate::Error;

    #[derive(serde::Deserialize)]
    pub(super) struct Matrix {
        classes: usize,
        entries: Vec<f64>,
    }

    impl TryFrom<Matrix> for PriorMatrix {
        type Error = Error;

        fn try_from(stored: Matrix) -> Result<Self, Error> {
            Self::new(stored.classes, stored.entries)
        }
    }
}
