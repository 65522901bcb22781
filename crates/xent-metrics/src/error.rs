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
    #[error("their settings differ: the {name} of the other is {found}, expected {expected}")]
    Settings {
        /// The first setting that differs.
        name: &'static str,
        /// Its value in the evaluation that was to be added.
        found: String,
        /// Its value in this one.
        expected: String,
    },
    /// A second pass over the rows found others than the first.
    #[error("its rows changed while they were read")]
    Rows,
}

/// Settings that no evaluation can have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// K is too small or too large.
    #[error("{found} classes, expected at least 2 and at most {most}")]
    Classes {
        /// K.
        found: usize,
        /// The largest K.
        most: usize,
    },
    /// There is no memory for an evaluation of so many classes.
    #[error("not enough memory for {classes} classes, about {bytes} bytes")]
    Memory {
        /// K.
        classes: usize,
        /// What an evaluation takes.
        bytes: usize,
    },
    /// A number is out of its range.
    #[error("{name} is {found}, expected {expected}")]
    Number {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: f64,
        /// Its range.
        expected: &'static str,
    },
}

/// Bytes that are no evaluations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartialError {
    /// Another version of the format.
    #[error("its format is '{found}', expected '{expected}'")]
    Format {
        /// What it says of itself.
        found: String,
        /// The format that is read here.
        expected: &'static str,
    },
    /// There is no model in it.
    #[error("it has no models, expected at least one")]
    NoModels,
    /// Something else, or damaged.
    #[error("not an evaluation that xent wrote, or damaged: {0}")]
    Contents(String),
}
