//! Which rows are kept, and what their targets are.

use std::ops::Range;

use crate::targets::{
    ClassIndices, Index, Lambda, Probabilities, with_indices, with_probabilities,
};
use crate::{AllowedClasses, Batch, Config, Element, Real, Rows, Targets};

/// The targets and masks of a batch, row by row. `classes` is K, and `here` are the classes that the
/// logits have: all of them, or those of a shard.
#[derive(Debug)]
pub(super) struct RowLabels<'a> {
    pub(super) batch: &'a Batch<'a>,
    /// The per-row options of the batch as slices: ε, weights, λ.
    pub(super) epsilons: Option<&'a [f64]>,
    pub(super) row_weights: Option<&'a [f64]>,
    pub(super) lambdas: Option<&'a [f64]>,
    pub(super) rows: usize,
    pub(super) classes: usize,
    pub(super) here: Range<usize>,
    /// The criterion's ignore indices, and those of them that are classes.
    pub(super) ignore: &'a [i64],
    ignored_classes: Vec<usize>,
    /// The batch's labels, if they are one class index per row.
    pub(super) single: Option<ClassIndices<'a>>,
    /// How many rows are ignored; known once the rows were checked.
    pub(super) ignored: usize,
}

impl<'a> RowLabels<'a> {
    pub(super) fn new(
        config: &'a Config,
        batch: &'a Batch<'a>,
        rows: usize,
        classes: usize,
        here: Range<usize>,
    ) -> Self {
        let is_class = |&index: &i64| usize::try_from(index).ok().filter(|&class| class < classes);
        let single = match batch.targets {
            Targets::Classes(labels) => Some(labels),
            _ => None,
        };
        Self {
            batch,
            epsilons: batch.epsilon.as_deref(),
            row_weights: batch.row_weights.as_deref(),
            lambdas: match &batch.targets {
                Targets::Mix { lambda: Lambda::Rows(lambda), .. } => Some(lambda),
                _ => None,
            },
            rows,
            classes,
            here,
            ignore: &config.ignore_indices,
            ignored_classes: config.ignore_indices.iter().filter_map(is_class).collect(),
            single,
            ignored: 0,
        }
    }

    /// The targets, if they are probabilities.
    pub(super) fn probabilities(&self) -> Option<&'a Probabilities<'a>> {
        match &self.batch.targets {
            Targets::Probabilities(probabilities) => Some(probabilities),
            _ => None,
        }
    }

    /// Whether every row whose label is a class is kept: there is no row mask, and no ignore index
    /// is a class.
    pub(super) fn keeps_every_class(&self) -> bool {
        self.batch.ignored.is_none() && self.ignored_classes.is_empty()
    }

    /// Whether a row whose label is a class is kept.
    #[inline]
    pub(super) fn keeps(&self, row: usize, class: usize) -> bool {
        !self.batch.ignored.is_some_and(|ignored| ignored[row])
            && (self.ignored_classes.is_empty() || !self.ignored_classes.contains(&class))
    }

    /// The class of a row with a class index; `None` if it is ignored.
    #[inline]
    pub(super) fn kept_class(&self, row: usize) -> Option<usize> {
        self.single.as_ref()?.class(row, self.classes).filter(|&class| self.keeps(row, class))
    }

    /// The classes of some rows, −1 where the index is not a class. The number of classes fits i32.
    #[inline]
    pub(super) fn classes_of(&self, rows: Range<usize>, out: &mut [i32]) {
        if let Some(labels) = &self.single {
            with_indices!(labels, labels => out.iter_mut().zip(&labels[rows]).for_each(|(out, label)| *out = label.class(self.classes).map_or(-1, |class| class as i32)));
        }
    }

    pub(super) fn is_ignored(&self, row: usize) -> bool {
        let by_index = |indices: &ClassIndices<'_>| {
            !self.ignore.is_empty() && self.ignore.contains(&indices.get(row))
        };
        self.batch.ignored.is_some_and(|ignored| ignored[row])
            || match &self.batch.targets {
                Targets::Classes(indices) => by_index(indices),
                Targets::Mix { a, b, .. } => by_index(a) || by_index(b),
                Targets::Probabilities(_) => false,
            }
    }

    /// The labels of a kept row and their shares; those with a share of 0 are left out.
    pub(super) fn shares(&self, row: usize) -> [Option<(usize, f64)>; 2] {
        match &self.batch.targets {
            Targets::Classes(indices) => [Some((indices.get(row) as usize, 1.0)), None],
            Targets::Mix { a, b, lambda } => {
                let (a, b) = (a.get(row) as usize, b.get(row) as usize);
                let lambda = match lambda {
                    Lambda::Scalar(lambda) => *lambda,
                    Lambda::Rows(rows) => rows[row],
                };
                match lambda {
                    1.0 => [Some((a, 1.0)), None],
                    0.0 => [Some((b, 1.0)), None],
                    _ if a == b => [Some((a, 1.0)), None],
                    _ => [Some((a, lambda)), Some((b, 1.0 - lambda))],
                }
            }
            Targets::Probabilities(_) => [None; 2],
        }
    }

    /// Σ t_c·weights[c] of a kept row with labels.
    pub(super) fn mean_of(&self, row: usize, weights: &[f64]) -> f64 {
        self.shares(row).iter().flatten().map(|&(class, share)| share * weights[class]).sum()
    }

    /// Writes t of classes `start..` of a kept row with probability targets, before class weights.
    pub(super) fn fill_target(&self, row: usize, start: usize, out: &mut [f64]) {
        if let Some(probabilities) = self.probabilities() {
            with_probabilities!(probabilities, rows => fill_probabilities(rows, row, start, out));
        }
    }

    /// Calls with each class and probability of a kept row of dense targets.
    pub(super) fn for_each_probability(&self, row: usize, mut call: impl FnMut(usize, f64)) {
        let mut block = [0.0; 256];
        let classes = self.probabilities().map_or(0, |_| self.classes);
        for start in (0..classes).step_by(block.len()) {
            let block = &mut block[..(classes - start).min(256)];
            self.fill_target(row, start, block);
            block.iter().enumerate().for_each(|(k, &probability)| call(start + k, probability));
        }
    }

    /// The allowed classes of a row, one entry per class of `here`; `None` if all are allowed.
    pub(super) fn allowed(&self, row: usize) -> Option<&'a [bool]> {
        match self.batch.allowed? {
            AllowedClasses::Shared(allowed) => Some(allowed),
            AllowedClasses::PerRow(allowed) => {
                Some(&allowed[row * self.here.len()..][..self.here.len()])
            }
        }
    }
}

fn fill_probabilities<P: Element>(rows: &Rows<'_, P>, row: usize, start: usize, out: &mut [f64]) {
    let layout = rows.layout();
    let first = layout.row_start(row) + start as isize * layout.class_stride;
    for (k, out) in out.iter_mut().enumerate() {
        *out = rows.data()[(first + k as isize * layout.class_stride) as usize].to_real().to_f64();
    }
}
