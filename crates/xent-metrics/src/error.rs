//! What can be wrong with rows and evaluations.

/// Rows that cannot be added.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InputError {
    /// The numbers of logits and labels do not match.
    #[error("{logits} logits for {labels} labels of {classes} classes, expected {}", labels * classes)]
    Lengths {
        /// The number of logits.
        logits: usize,
        /// The number of labels.
        labels: usize,
        /// K.
        classes: usize,
    },
    /// A label is neither a class nor ignored.
    #[error("{file}: row {row} has the label {label}, expected a class from 0 to {} or an ignored index{}", classes - 1, if *label == *classes as i64 { "; classes are counted from 0" } else { "" })]
    Label {
        /// The file.
        file: String,
        /// The row in the file.
        row: u64,
        /// The label.
        label: i64,
        /// K.
        classes: usize,
    },
    /// A row of logits does not define probabilities.
    #[error(
        "{file}: row {row}, class {class}: the logit is {value}, expected finite numbers, or −∞ for some classes of a row"
    )]
    NotFinite {
        /// The file.
        file: String,
        /// The row in the file.
        row: u64,
        /// The class.
        class: usize,
        /// The logit.
        value: f64,
    },
}

/// Evaluations, or passes over the same rows, that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The settings differ.
    #[error(
        "their settings differ: classes, bins, ignored labels, temperature and the budget of sampled logits must be the same"
    )]
    Settings,
    /// A second pass over the rows found others than the first.
    #[error("its rows changed while they were read")]
    Rows,
}
