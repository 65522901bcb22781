//! A data set in memory.

/// The features of all rows, row after row.
#[derive(Debug, Clone, PartialEq)]
pub enum Features {
    /// Pixels, 0 to `full_scale`; a network sees them divided by it.
    Bytes {
        /// `[rows, width]`.
        values: Vec<u8>,
        /// The value that becomes 1.
        full_scale: f32,
    },
    /// Numbers.
    Reals {
        /// `[rows, width]`.
        values: Vec<f64>,
        /// One entry per column: whether a network sees it with mean 0 and standard deviation 1
        /// (over the training rows) or unchanged.
        standardise: Vec<bool>,
    },
}

/// Rows, each with a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// A description with the source, in a sentence or two.
    pub about: String,
    /// Number of features of a row.
    pub width: usize,
    /// The features.
    pub features: Features,
    /// The class of each row.
    pub labels: Vec<u32>,
    /// The names of the classes, at least two.
    pub classes: Vec<String>,
    /// The first row of the test part, if the data came with one.
    pub given_test: Option<usize>,
    /// p(class | features), `[rows, classes]`, if it is known.
    pub truth: Option<Vec<f64>>,
}

/// Sorts the distinct names (as numbers if all are numbers) and returns each row's index among
/// them, and the sorted names.
pub fn number_classes(names: &[String]) -> (Vec<u32>, Vec<String>) {
    let mut classes: Vec<String> =
        names.iter().collect::<std::collections::HashSet<_>>().into_iter().cloned().collect();
    if classes.iter().all(|name| name.parse::<f64>().is_ok_and(f64::is_finite)) {
        let number = |name: &String| name.parse::<f64>().unwrap_or(f64::NAN);
        classes.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b)));
    } else {
        classes.sort();
    }
    let index: std::collections::HashMap<&str, u32> =
        classes.iter().zip(0..).map(|(name, k)| (name.as_str(), k)).collect();
    let labels = names.iter().map(|name| index[name.as_str()]).collect();
    (labels, classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbered_as_numbers_or_as_texts() {
        let names = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        assert_eq!(
            number_classes(&names(&["10", "9", "9", "-1"])),
            (vec![2, 1, 1, 0], names(&["-1", "9", "10"]))
        );
        assert_eq!(
            number_classes(&names(&["b", "10", "9"])),
            (vec![2, 0, 1], names(&["10", "9", "b"]))
        );
    }
}
