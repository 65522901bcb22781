//! PyTorch's answers, as `golden/make_golden.py` wrote them.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::case::Case;
use crate::number;

/// A case and what PyTorch says to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// What went in, in f64.
    pub case: Case,
    /// The loss as reduced.
    #[serde(with = "number::list")]
    pub loss: Vec<f64>,
    /// The gradient in C order of the case's shape.
    #[serde(with = "number::list")]
    pub grad: Vec<f64>,
}

/// Every recorded case.
pub static GOLDEN: LazyLock<Vec<Golden>> = LazyLock::new(|| {
    let parse = |(number, line)| {
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("pytorch.jsonl, line {}: {error}", number + 1))
    };
    include_str!("../golden/pytorch.jsonl").lines().enumerate().skip(1).map(parse).collect()
});
