//! What the loss needs of each row of transformed logits. SEMANTICS.md S1 and S4.

use burn::tensor::{Bool, DType, Int, Tensor};

use super::ops::{constant, finite, first_of, minus_infinite, select, sum, zero_where};
use super::target::{Setting, Target};
use crate::CrossEntropyConfig;
use crate::batch::GivenAllowed;
use crate::shape::LogitsShape;

/// The logits as softmax sees them, `[N, K]`, and where classes are masked.
pub(super) struct Transformed {
    pub(super) z: Tensor<2>,
    pub(super) masked: Tensor<2, Bool>,
    /// Where the mask of allowed classes says no, `[1, K]` or `[N, K]`.
    pub(super) forbidden: Option<Tensor<2, Bool>>,
}

impl Transformed {
    pub(super) fn new<const D: usize>(
        logits: Tensor<D>,
        allowed: Option<Tensor<2, Bool>>,
        ignored: &Tensor<2, Bool>,
        config: &CrossEntropyConfig,
        shape: &LogitsShape,
        setting: &Setting,
    ) -> Self {
        let mut z = zero_where(ignored, &shape.rows_of(logits).cast(setting.dtype));
        if config.temperature != 1.0 {
            z = z / config.temperature;
        }
        if let Some(cap) = config.softcap {
            z = select(&minus_infinite(&z), &z, &((z.clone() / cap).tanh() * cap));
        }
        let forbidden = allowed.map(|allowed| allowed.bool_not());
        if let Some(forbidden) = &forbidden {
            z = select(forbidden, &constant(f64::NEG_INFINITY, setting.dtype, &setting.device), &z);
        }
        Self { masked: minus_infinite(&z), z, forbidden }
    }

    /// The mask of allowed classes in the shape in which it is used.
    pub(super) fn allowed<const D: usize>(given: &GivenAllowed<D>, shape: &LogitsShape, setting: &Setting) -> Tensor<2, Bool> {
        match given {
            GivenAllowed::Shared(mask) => mask.clone().to_device(&setting.device).reshape([1, setting.classes]),
            GivenAllowed::PerRow(mask) => shape.rows_of(mask.clone().to_device(&setting.device)),
        }
    }
}

/// One number a row, `[N, 1]`, what becomes of the loss in the wider dtype.
pub(super) struct Statistics {
    /// m, 0 in rows without one.
    pub(super) max: Tensor<2>,
    pub(super) argmax: Tensor<2, Int>,
    /// `Σ e^{z − m}` over all classes but the first with z = m.
    pub(super) rest: Tensor<2>,
    /// Rows whose loss is NaN: for their logits, or for a target that cannot be used.
    pub(super) nan: Tensor<2, Bool>,
    /// m − z, `[N, K]`, 0 where masked.
    below: Tensor<2>,
    masked: Tensor<2, Bool>,
    wide: DType,
}

/// `Σ v_k` and `Σ v_k (m − z_k)` of a vector over the classes.
pub(super) struct Sums {
    pub(super) mass: Tensor<2>,
    pub(super) shifted: Tensor<2>,
}

impl Statistics {
    pub(super) fn new(transformed: &Transformed, target: &Target, setting: &Setting) -> Self {
        let Transformed { z, masked, .. } = transformed;
        let numbers = Tensor::<1, Int>::arange(0..setting.classes as i64, (&setting.device, setting.index)).reshape([1, setting.classes]);
        let (argmax, max) = first_of(z, &numbers);
        let below = z.clone() - max.clone();
        let at_first = numbers.expand([setting.rows, setting.classes]).equal(argmax.clone().expand([setting.rows, setting.classes]));
        let rest = sum(&zero_where(&at_first, &below.clone().exp()));
        let good = finite(&max).bool_and(finite(&rest));
        let nan = good.bool_not().bool_or(target.unusable.clone()).bool_and(target.ignored.clone().bool_not());
        Self {
            max: zero_where(&nan, &max),
            argmax,
            rest: zero_where(&nan, &rest).cast(setting.wide),
            below: zero_where(masked, &zero_where(&nan, &-below)),
            masked: masked.clone(),
            nan,
            wide: setting.wide,
        }
    }

    /// The sums of a weighed vector, `[1, K]` or `[N, K]`. A masked class with mass makes the second +∞.
    pub(super) fn sums(&self, vector: &Tensor<2>) -> Sums {
        let [rows, _] = self.below.dims();
        let mass = sum(vector).cast(self.wide).expand([rows, 1]);
        let infinite = vector.clone().greater_elem(0.0).expand(self.masked.dims()).bool_and(self.masked.clone()).any_dim(1);
        let shifted = sum(&(self.below.clone() * vector.clone())).cast(self.wide);
        Sums { mass, shifted: select(&infinite, &self.infinity(), &shifted) }
    }

    /// The same of masses `[N, H]` on the classes `[N, H]` of each row.
    pub(super) fn sums_at(&self, classes: &Tensor<2, Int>, mass: &Tensor<2>) -> Sums {
        let below = self.below.clone().gather(1, classes.clone()).cast(self.wide);
        let masked = select(&self.masked, &self.below.ones_like(), &self.below.zeros_like()).gather(1, classes.clone()).greater_elem(0.5);
        let infinite = mass.clone().greater_elem(0.0).bool_and(masked).any_dim(1);
        let shifted = (below * mass.clone()).sum_dim(1);
        Sums { mass: mass.clone().sum_dim(1), shifted: select(&infinite, &self.infinity(), &shifted) }
    }

    fn infinity(&self) -> Tensor<2> {
        constant(f64::INFINITY, self.wide, &self.max.device())
    }
}
