//! What can be wrong with rows and with evaluations.

/// Rows that cannot be taken in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InputError {
    /// Logits and labels do not belong together.
    #[error("{logits} logits for {labels} labels of {classes} classes, expected {}", labels * classes)]
    Lengths {
        /// How many logits.
        logits: usize,
        /// How many labels.
        labels: usize,
        /// K.
        classes: usize,
    },
    /// A label that is no class and is not ignored.
    #[error("{file}: row {row} has the label {label}, expected a class from 0 to {} or an ignored index", classes - 1)]
    Label {
        /// The file.
        file: String,
        /// Its row there.
        row: u64,
        /// The label.
        label: i64,
        /// K.
        classes: usize,
    },
    /// A row of logits that no probabilities follow from.
    #[error("{file}: row {row}, class {class}: the logit is {value}, expected finite numbers, or −∞ for some classes of a row")]
    NotFinite {
        /// The file.
        file: String,
        /// Its row there.
        row: u64,
        /// The class.
        class: usize,
        /// What stands there.
        value: f64,
    },
}

/// Evaluations that are not of the same thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Classes, binning, ignored labels, temperature or budget differ.
    #[error("their settings differ: classes, binning, ignored labels, temperature and the budget of kept logits have to be the same")]
    Settings,
}
