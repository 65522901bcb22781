//! What a backend reads off a row of logits.

/// Sums over a row against a vector v (the prior or a dense target, weighted): all ≥ 0, so that nothing cancels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Functional {
    /// Σ v_k·(max − z_k) over the classes that are not masked.
    pub shifted: f64,
    /// Σ v_k over the classes that are not masked.
    pub mass: f64,
    /// Σ v_k over the masked classes; left out where masks renormalise the prior.
    pub masked_mass: f64,
    /// How many masked classes have v_k > 0; 0 where masks renormalise the prior.
    pub masked: usize,
}

/// What a backend reads off a row of transformed logits z.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowStats {
    /// max z.
    pub max: f64,
    /// The first class that reaches it.
    pub argmax: usize,
    /// Σ e^(z_k − max) over all classes but `argmax`. NaN if there is a NaN in the row.
    pub rest: f64,
    /// ln(1 + rest).
    pub log1p_rest: f64,
    /// z at [`RowPlan::hot`](super::RowPlan::hot)'s classes.
    pub hot: [f64; 2],
    /// Against the prior's v.
    pub prior: Functional,
    /// Σ of v before class weights over the classes that are not masked, and over those that are; only looked at where masks renormalise the prior.
    pub open_prior: f64,
    /// See `open_prior`.
    pub closed_prior: f64,
    /// Against a dense target, weighted.
    pub target: Functional,
    /// The first class at which a dense target is largest.
    pub target_argmax: usize,
}

impl RowStats {
    /// Statistics that are 0 but for these and what follows from them.
    ///
    /// ```
    /// use xent::plan::RowStats;
    /// let stats = RowStats { hot: [1.0, 0.0], ..RowStats::new(3.0, 2, 0.5) };
    /// assert_eq!(stats.log1p_rest, 1.5f64.ln());
    /// ```
    pub fn new(max: f64, argmax: usize, rest: f64) -> Self {
        Self {
            max,
            argmax,
            rest,
            log1p_rest: rest.ln_1p(),
            hot: [0.0; 2],
            prior: Functional::default(),
            open_prior: 0.0,
            closed_prior: 0.0,
            target: Functional::default(),
            target_argmax: 0,
        }
    }
}
