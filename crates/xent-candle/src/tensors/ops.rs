//! Small operations that the formulas are written in.
//!
//! Tensors are `[N, K]`, columns `[N, 1]` (or `[N, 2]` for two hot classes), rows `[1, K]` or
//! single numbers `[1, 1]`, and broadcast against each other. Masks are u8, 1 for true. A number
//! that stands beside a tensor is an argument of a kernel or is filled in on the device, and never
//! uploaded.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;

/// A number as `[1, 1]`.
pub(super) fn number(value: f64, dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(match dtype {
        DType::F64 => Tensor::full(value, (1, 1), device)?,
        _ => Tensor::full(value as f32, (1, 1), device)?,
    })
}

fn zero(like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros((1, 1), like.dtype(), like.device())?)
}

/// `yes` where `mask` is true, else `no`. Not a product with the mask: what is not selected may be
/// NaN.
pub(super) fn select(mask: &Tensor, yes: &Tensor, no: &Tensor) -> Result<Tensor> {
    let shape = mask
        .shape()
        .broadcast_shape_binary_op(yes.shape(), "select")?
        .broadcast_shape_binary_op(no.shape(), "select")?;
    Ok(mask
        .broadcast_as(&shape)?
        .where_cond(&yes.broadcast_as(&shape)?, &no.broadcast_as(&shape)?)?)
}

/// `tensor`, and `value` where `mask` is true.
pub(super) fn fill_where(mask: &Tensor, value: f64, tensor: &Tensor) -> Result<Tensor> {
    select(mask, &number(value, tensor.dtype(), tensor.device())?, tensor)
}

/// `tensor`, and 0 where `mask` is not true.
pub(super) fn zero_unless(mask: &Tensor, tensor: &Tensor) -> Result<Tensor> {
    select(mask, tensor, &zero(tensor)?)
}

/// Where a tensor of any dtype is 0: for a mask, its negation.
pub(super) fn is_zero(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.broadcast_eq(&zero(tensor)?)?)
}

/// Where a tensor of any dtype is not 0.
pub(super) fn is_nonzero(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.broadcast_ne(&zero(tensor)?)?)
}

pub(super) fn is_positive(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.broadcast_gt(&zero(tensor)?)?)
}

/// Where a number is neither NaN nor infinite: only then is it 0 away from itself.
pub(super) fn is_finite(tensor: &Tensor) -> Result<Tensor> {
    is_zero(&tensor.sub(tensor)?)
}

/// Where a number is in [0, `most`].
pub(super) fn is_within(tensor: &Tensor, most: f64) -> Result<Tensor> {
    let most = number(most, tensor.dtype(), tensor.device())?;
    Ok((tensor.broadcast_ge(&zero(tensor)?)? * tensor.broadcast_le(&most)?)?)
}

/// Where either mask is true; a missing one is nowhere true.
pub(super) fn either(a: Option<&Tensor>, b: &Tensor) -> Result<Tensor> {
    Ok(a.map_or_else(|| Ok(b.clone()), |a| a.broadcast_maximum(b))?)
}

/// ln(1 + x) of x ≥ 0, which candle lacks: ln of the rounded 1 + x, corrected for what rounding
/// lost (Kahan).
pub(super) fn log1p(x: &Tensor) -> Result<Tensor> {
    let rounded = (x + 1.0)?;
    let gained = (&rounded - 1.0)?;
    select(&is_zero(&gained)?, x, &((rounded.log()? * x)? / gained)?)
}

/// The sum of each row, `[N, 1]`. candle's CPU adds one after another, so there blocks are added up
/// first, lest rounding errors grow with K.
pub(super) fn sum(values: &Tensor) -> Result<Tensor> {
    const BLOCK: usize = 64;
    let (rows, classes) = values.dims2()?;
    let blocks = classes / BLOCK;
    if blocks < 2 || !values.device().is_cpu() {
        // A copy: callers write to what they summed.
        return Ok(if classes == 1 { values.copy()? } else { values.sum_keepdim(1)? });
    }
    let whole = values
        .narrow(1, 0, blocks * BLOCK)?
        .contiguous()?
        .reshape((rows, blocks, BLOCK))?
        .sum(2)?;
    match classes % BLOCK {
        0 => sum(&whole),
        left => sum(&Tensor::cat(
            &[&whole, &values.narrow(1, classes - left, left)?.contiguous()?.sum_keepdim(1)?],
            1,
        )?),
    }
}

/// The sum of a column, `[1, 1]`.
pub(super) fn total(column: &Tensor) -> Result<Tensor> {
    sum(&column.reshape((1, ()))?)
}

/// The first class at which each row has its largest value, `[N, 1]`. `numbers` counts the classes.
pub(super) fn first_largest(values: &Tensor, numbers: &Tensor) -> Result<Tensor> {
    let at_largest = values.broadcast_eq(&values.max_keepdim(1)?)?;
    let nowhere = Tensor::full(u32::MAX, (1, 1), values.device())?;
    Ok(select(&at_largest, numbers, &nowhere)?.min_keepdim(1)?)
}

/// A number of each row, or of each hot class of a row: a plain number while all are the same, so
/// that what an option does not change costs nothing.
#[derive(Debug, Clone)]
pub(super) enum PerRow {
    Same(f64),
    /// A column.
    Each(Tensor),
}

impl PerRow {
    pub(super) const ONE: Self = Self::Same(1.0);

    pub(super) fn plus(&self, other: &Self) -> Result<Self> {
        Ok(match (self, other) {
            (Self::Same(a), Self::Same(b)) => Self::Same(a + b),
            (Self::Same(0.0), each) | (each, Self::Same(0.0)) => each.clone(),
            (Self::Same(a), Self::Each(b)) | (Self::Each(b), Self::Same(a)) => {
                Self::Each((b + *a)?)
            }
            (Self::Each(a), Self::Each(b)) => Self::Each(a.broadcast_add(b)?),
        })
    }

    pub(super) fn times(&self, other: &Self) -> Result<Self> {
        Ok(match (self, other) {
            (Self::Same(a), Self::Same(b)) => Self::Same(a * b),
            (Self::Same(0.0), _) | (_, Self::Same(0.0)) => Self::Same(0.0),
            (Self::Same(1.0), each) | (each, Self::Same(1.0)) => each.clone(),
            (Self::Same(a), Self::Each(b)) | (Self::Each(b), Self::Same(a)) => {
                Self::Each((b * *a)?)
            }
            (Self::Each(a), Self::Each(b)) => Self::Each(a.broadcast_mul(b)?),
        })
    }

    /// The product, which is 0 where `self` is, even beside ∞.
    pub(super) fn times_or_zero(&self, other: &Self) -> Result<Self> {
        match (self, self.times(other)?) {
            (Self::Each(a), Self::Each(product)) => {
                Ok(Self::Each(fill_where(&is_zero(a)?, 0.0, &product)?))
            }
            (_, product) => Ok(product),
        }
    }

    pub(super) fn over(&self, other: &Self) -> Result<Self> {
        Ok(match (self, other) {
            (Self::Same(a), Self::Same(b)) => Self::Same(a / b),
            (each, Self::Same(1.0)) => each.clone(),
            (Self::Each(a), Self::Same(b)) => Self::Each((a / *b)?),
            (Self::Same(a), Self::Each(b)) => Self::Each((b.recip()? * *a)?),
            (Self::Each(a), Self::Each(b)) => Self::Each(a.broadcast_div(b)?),
        })
    }

    /// 1 − the number.
    pub(super) fn complement(&self) -> Result<Self> {
        self.map(|number| 1.0 - number, |column| Ok(column.affine(-1.0, 1.0)?))
    }

    /// 0 where the number is below: rounding may leave less than 0 of a difference that is not
    /// negative.
    pub(super) fn at_least_zero(&self) -> Result<Self> {
        self.map(|number| number.max(0.0), |column| Ok(column.relu()?))
    }

    /// The sum over a row's hot classes.
    pub(super) fn sum(&self) -> Result<Self> {
        self.map(|number| number, sum)
    }

    /// `value` where `mask` is true.
    pub(super) fn fill_where(&self, mask: &Tensor, value: f64, wide: DType) -> Result<Self> {
        Ok(Self::Each(fill_where(mask, value, &self.tensor(wide, mask.device())?)?))
    }

    pub(super) fn map(
        &self,
        same: impl FnOnce(f64) -> f64,
        each: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        Ok(match self {
            Self::Same(number) => Self::Same(same(*number)),
            Self::Each(column) => Self::Each(each(column)?),
        })
    }

    /// A column, or `[1, 1]`.
    pub(super) fn tensor(&self, wide: DType, device: &Device) -> Result<Tensor> {
        match self {
            Self::Same(value) => number(*value, wide, device),
            Self::Each(column) => Ok(column.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::read_back;

    fn column(numbers: &[f64]) -> PerRow {
        PerRow::Each(Tensor::new(numbers, &Device::Cpu).unwrap().unsqueeze(1).unwrap())
    }

    fn numbers(value: &PerRow) -> Vec<f64> {
        read_back(&value.tensor(DType::F64, &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn plain_numbers_stay_plain() {
        let each = column(&[2.0, f64::INFINITY]);
        assert!(matches!(PerRow::Same(2.0).times(&PerRow::Same(3.0)).unwrap(), PerRow::Same(6.0)));
        assert!(matches!(PerRow::Same(0.0).times(&each).unwrap(), PerRow::Same(0.0)));
        assert_eq!(numbers(&PerRow::ONE.times(&each).unwrap()), [2.0, f64::INFINITY]);
        assert_eq!(numbers(&PerRow::Same(3.0).plus(&each).unwrap()), [5.0, f64::INFINITY]);
        assert_eq!(numbers(&PerRow::Same(3.0).over(&each).unwrap()), [1.5, 0.0]);
        assert_eq!(numbers(&each.complement().unwrap()), [-1.0, f64::NEG_INFINITY]);
    }

    #[test]
    fn nothing_times_infinity() {
        let (zero, infinite) = (column(&[0.0, 1.0]), column(&[f64::INFINITY; 2]));
        assert_eq!(numbers(&zero.times_or_zero(&infinite).unwrap()), [0.0, f64::INFINITY]);
        assert!(numbers(&zero.times(&infinite).unwrap())[0].is_nan());
    }

    #[test]
    fn small_logarithms() {
        for dtype in [DType::F32, DType::F64] {
            for x in [0.0, 1e-30, 1e-9, 1e-3, 0.5, 1.0, 1e4, 2e5] {
                let unit = if dtype == DType::F32 { 6e-8 } else { 1.2e-16 };
                let x = read_back::<f64>(&number(x, dtype, &Device::Cpu).unwrap()).unwrap()[0];
                let got =
                    read_back::<f64>(&log1p(&number(x, dtype, &Device::Cpu).unwrap()).unwrap())
                        .unwrap()[0];
                assert!((got - x.ln_1p()).abs() <= 4.0 * unit * x.ln_1p(), "{dtype:?}, {x}: {got}");
            }
            assert!(
                read_back::<f64>(&log1p(&number(f64::NAN, dtype, &Device::Cpu).unwrap()).unwrap())
                    .unwrap()[0]
                    .is_nan()
            );
        }
    }

    #[test]
    fn long_sums_are_as_good_as_short_ones() {
        for classes in [1, 63, 64, 128, 129, 50_257, 1 << 18] {
            let tenth = Tensor::full(0.1f32, (2, classes), &Device::Cpu).unwrap();
            for got in read_back::<f64>(&sum(&tenth).unwrap()).unwrap() {
                let expected = f64::from(0.1f32) * classes as f64;
                assert!((got / expected - 1.0).abs() < 2e-6, "{classes}: {got}");
            }
        }
    }

    #[test]
    fn the_first_of_equals() {
        let values =
            Tensor::new(&[[1f32, 3.0, 3.0], [2.0, 2.0, 1.0], [f32::NEG_INFINITY; 3]], &Device::Cpu)
                .unwrap();
        let numbers = Tensor::new(&[[0u32, 1, 2]], &Device::Cpu).unwrap();
        assert_eq!(
            read_back::<u32>(&first_largest(&values, &numbers).unwrap()).unwrap(),
            [1, 0, 0]
        );
    }
}
