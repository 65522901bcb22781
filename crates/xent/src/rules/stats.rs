//! What a backend computes from a row of logits, or from a piece of one. Statistics of pieces
//! merge.

/// Sums over a row weighted by a vector v: the prior or a dense target, after class weights. All
/// terms are ≥ 0, so nothing cancels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Functional {
    /// Σ v_k·(max − z_k) over the classes that are not masked.
    pub shifted: f64,
    /// Σ v_k over the classes that are not masked.
    pub mass: f64,
    /// Σ v_k over the masked classes; 0 for a prior that masks renormalise.
    pub masked_mass: f64,
    /// The number of masked classes with v_k > 0; 0 for a prior that masks renormalise.
    pub masked: usize,
}

impl Functional {
    /// Adds the sums of other classes, relative to the same maximum.
    #[inline(always)]
    pub fn add(&mut self, part: Self) {
        self.shifted += part.shifted;
        self.mass += part.mass;
        self.masked_mass += part.masked_mass;
        self.masked += part.masked;
    }

    /// Raises the maximum.
    #[inline(always)]
    fn raise(&mut self, by: f64) {
        if self.mass > 0.0 {
            self.shifted += self.mass * by;
        }
    }
}

/// What a backend computes from a row of transformed logits z, or from some of its classes.
///
/// Statistics of pieces of a row [`merge`](Self::merge) into those of the row, wherever they were
/// computed. Sums are plain f64, because they have terms ≥ 0 only, and few: some dozens of blocks,
/// then a few pieces.
///
/// ```
/// use xent::rules::RowStats;
/// // z = (1, 3, 2) in two pieces: e^(1−3) + e^(2−3) beside the largest.
/// let (first, second) = (RowStats::new(1.0, 0, 0.0), RowStats::new(3.0, 0, (-1.0f64).exp()));
/// let row = RowStats::EMPTY.merge(first).merge(second.offset_classes(1));
/// assert_eq!((row.max, row.argmax), (3.0, 1));
/// assert!((row.rest - ((-2.0f64).exp() + (-1.0f64).exp())).abs() < 1e-15);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RowStats {
    /// max z; −∞ if every class is masked, or if there is none.
    pub max: f64,
    /// The first class that reaches it.
    pub argmax: usize,
    /// Σ e^(z_k − max) over all classes but `argmax`. NaN if there is a NaN in the row.
    pub rest: f64,
    /// z at the classes of [`RowPlan::hot`](super::RowPlan::hot); meaningless for those in another
    /// piece.
    pub hot: [f64; 2],
    /// Which of the hot classes are in this piece.
    pub has_hot: [bool; 2],
    /// Sums weighted by v of the prior.
    pub prior: Functional,
    /// Σ v before class weights over the classes that are not masked, and over those that are. Read
    /// only if masks renormalise the prior.
    pub open_prior: f64,
    /// See `open_prior`.
    pub closed_prior: f64,
    /// Sums weighted by a dense target, after class weights.
    pub target: Functional,
    /// The largest entry of a dense target before class weights; −∞ if there is none.
    pub target_max: f64,
    /// The first class that has it.
    pub target_argmax: usize,
}

impl RowStats {
    /// The statistics of no classes, the neutral element of [`merge`](Self::merge).
    pub const EMPTY: Self = Self {
        max: f64::NEG_INFINITY,
        argmax: 0,
        rest: 0.0,
        hot: [0.0; 2],
        has_hot: [false; 2],
        prior: NOTHING,
        open_prior: 0.0,
        closed_prior: 0.0,
        target: NOTHING,
        target_max: f64::NEG_INFINITY,
        target_argmax: 0,
    };

    /// Statistics with only these known so far.
    pub fn new(max: f64, argmax: usize, rest: f64) -> Self {
        Self { max, argmax, rest, ..Self::EMPTY }
    }

    /// Sets z at the j-th hot class. `j` is 0 or 1.
    #[must_use]
    pub fn with_hot(mut self, j: usize, z: f64) -> Self {
        self.put_hot(j, z);
        self
    }

    /// Sets z at the j-th hot class, which is in this piece.
    #[inline(always)]
    pub(crate) fn put_hot(&mut self, j: usize, z: f64) {
        (self.hot[j], self.has_hot[j]) = (z, true);
    }

    /// Shifts class indices by `first`, for a backend that numbers the classes of a piece from 0.
    #[must_use]
    pub fn offset_classes(self, first: usize) -> Self {
        Self { argmax: self.argmax + first, target_argmax: self.target_argmax + first, ..self }
    }

    /// Sets a new largest logit. Call it before adding the sums of its block, which are relative to
    /// it.
    #[inline(always)]
    pub fn raise(&mut self, max: f64, argmax: usize) {
        if self.max > f64::NEG_INFINITY {
            let by = max - self.max;
            self.rest = (self.rest + 1.0) * (-by).exp();
            self.prior.raise(by);
            self.target.raise(by);
        }
        (self.max, self.argmax) = (max, argmax);
    }

    /// Updates the largest entry of a dense target, and its class.
    #[inline(always)]
    pub(crate) fn raise_target(&mut self, value: f64, class: impl Fn() -> usize) {
        if value > self.target_max {
            (self.target_max, self.target_argmax) = (value, class());
        }
    }

    /// Merges the statistics of the classes that follow. The bits depend on how a row is divided
    /// and on the order of merging, so both must follow from K alone.
    #[must_use]
    #[inline(always)]
    pub fn merge(mut self, mut next: Self) -> Self {
        if next.max > self.max {
            self.raise(next.max, next.argmax);
        } else if next.max > f64::NEG_INFINITY {
            next.raise(self.max, 0);
        }
        self.rest += next.rest;
        self.prior.add(next.prior);
        self.target.add(next.target);
        self.open_prior += next.open_prior;
        self.closed_prior += next.closed_prior;
        self.raise_target(next.target_max, || next.target_argmax);
        for j in 0..2 {
            if next.has_hot[j] {
                self.put_hot(j, next.hot[j]);
            }
        }
        self
    }
}

const NOTHING: Functional = Functional { shifted: 0.0, mass: 0.0, masked_mass: 0.0, masked: 0 };
