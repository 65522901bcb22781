//! U(t), what smoothing mixes in. SEMANTICS.md S3 and S7.

use burn::tensor::{Bool, Tensor};
use xent::{Masked, Prior, PriorMatrix};

use super::ops::{floats, row, sum, zero_where};
use super::target::{Setting, Target};
use crate::{CrossEntropyConfig, Result};

/// The prior before class weights: `scale·v`. Apart, so that v is made of whole numbers where it can be: their sums are exact.
pub(super) struct Mixed {
    /// `[1, K]` where all rows share it, else `[N, K]`.
    pub(super) vector: Tensor<2>,
    /// `[1, 1]` or `[N, 1]`, in the wider dtype.
    pub(super) scale: Tensor<2>,
    /// Rows `[N, 1]` whose prior has no class left: they are not smoothed.
    pub(super) nowhere: Option<Tensor<2, Bool>>,
}

impl Mixed {
    pub(super) fn new(config: &CrossEntropyConfig, target: &Target, masked: &Tensor<2, Bool>, setting: &Setting) -> Result<Self> {
        let (vector, scale) = vector(&config.prior, target, setting)?;
        let scale = setting.number(scale);
        if config.masked == Masked::PyTorch {
            return Ok(Self { vector, scale, nowhere: None });
        }
        let open = zero_where(masked, &vector);
        let left = sum(&open).cast(setting.wide);
        let nowhere = left.clone().equal_elem(0.0);
        let scale = zero_where(&nowhere, &(scale * sum(&vector).cast(setting.wide) / left));
        Ok(Self { vector: open, scale, nowhere: Some(nowhere) })
    }
}

fn vector(prior: &Prior, target: &Target, setting: &Setting) -> Result<(Tensor<2>, f64)> {
    let classes = setting.classes;
    Ok(match prior {
        Prior::Uniform => (row(&vec![1.0; classes], setting.dtype, &setting.device), 1.0 / classes as f64),
        Prior::Fixed(u) => (row(u, setting.dtype, &setting.device), 1.0),
        Prior::WrongClasses => others(&[], target, setting),
        Prior::Excluding(excluded) => others(excluded, target, setting),
        Prior::ByTrueClass(matrix) => (by_true_class(matrix, target, setting), 1.0),
        other => return Err(crate::Error::Call(format!("burn's operations do not know the prior {other:?}"))),
    })
}

/// The same to every class but the true one and the excluded ones; to the true one where there is no other (S3.6).
fn others(excluded: &[usize], target: &Target, setting: &Setting) -> (Tensor<2>, f64) {
    let classes = setting.classes;
    let mut outside = vec![1.0; classes];
    for &class in excluded {
        outside[class] = 0.0;
    }
    let left = outside.iter().sum::<f64>();
    let upload = |of: &dyn Fn(f64) -> f64| row(&outside.iter().map(|&outside| of(left - outside)).collect::<Vec<_>>(), setting.dtype, &setting.device);
    let scale = 1.0 / (left - 1.0).max(1.0);
    let each = upload(&|room| if room == 0.0 { 0.0 } else { 1.0 / room / scale });
    let alone = upload(&|room| if room == 0.0 { 1.0 / scale } else { 0.0 });
    let t = target.dense(setting);
    let given = t.clone() * each;
    ((sum(&given) - given) * row(&outside, setting.dtype, &setting.device) + t * alone, scale)
}

fn by_true_class(matrix: &PriorMatrix, target: &Target, setting: &Setting) -> Tensor<2> {
    let classes = setting.classes;
    let matrix = floats(matrix.entries(), [classes, classes], setting.dtype, &setting.device);
    let Some(hot) = &target.hot else { return target.dense(setting).matmul(matrix) };
    let rows = |j: usize| {
        let class = hot.class.clone().narrow(1, j, 1).reshape([setting.rows]);
        matrix.clone().select(0, class) * hot.share.clone().narrow(1, j, 1).cast(setting.dtype)
    };
    (1..hot.class.dims()[1]).map(rows).fold(rows(0), |sum, term| sum + term)
}
