//! Values of options that several subcommands parse and check.

use std::str::FromStr;

use clap::ValueEnum;
use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use xent_arrays::Place;
use xent_metrics::UniformPrior;

use crate::error::{Error, Result};

/// The most seeds, epochs, rows in a batch or units in a layer; more is taken for a typing error.
const MOST: usize = 1_000_000;

/// The most threads; more than machines have cores is a mistake that would take minutes to start.
pub const MOST_THREADS: usize = 1024;

/// Parses a number of threads.
pub fn threads(text: &str) -> std::result::Result<usize, String> {
    count_up_to(text, MOST_THREADS)
}

/// Parses a number from 0 to 1.
pub fn share(text: &str) -> std::result::Result<f64, String> {
    match text.trim().parse::<f64>() {
        // −0 becomes 0, because it would print as another number.
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value + 0.0),
        _ => Err("expected a number from 0 to 1".to_string()),
    }
}

/// Parses a finite number above 0.
pub fn positive(text: &str) -> std::result::Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a finite number above 0".to_string()),
    }
}

/// Parses a whole number from 1 to a million.
pub fn count(text: &str) -> std::result::Result<usize, String> {
    count_up_to(text, MOST)
}

/// Parses a whole number from 1 to `most`.
pub fn count_up_to(text: &str, most: usize) -> std::result::Result<usize, String> {
    match text.trim().parse() {
        Ok(value) if (1..=most).contains(&value) => Ok(value),
        _ => Err(format!("expected a whole number from 1 to {most}")),
    }
}

/// Parses a choice by its word in xent. Help shows that word alone; aliases, and hyphens for
/// underscores, are accepted, too.
pub fn words<T>(
    choices: &'static [T],
    words: fn(&T) -> (&'static str, &'static [&'static str]),
) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = xent::Error> + Clone + Send + Sync + 'static,
{
    let value = move |choice| {
        let (word, aliases) = words(choice);
        PossibleValue::new(word).aliases(aliases).alias(word.replace('_', "-"))
    };
    PossibleValuesParser::new(choices.iter().map(value)).try_map(|word| word.parse::<T>())
}

/// Parses the place of an array or of a column, whose file's name may be no text.
pub fn place() -> impl TypedValueParser<Value = Place> {
    OsStringValueParser::new().map(|text| Place::from(text.as_os_str()))
}

/// Parses one of the two priors that spread ε evenly.
pub fn uniform_prior() -> impl TypedValueParser<Value = UniformPrior> {
    words(UniformPrior::ALL, |prior| (prior.kind().word(), prior.kind().aliases()))
}

/// The word by which a choice is given and printed.
pub fn word(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
}

/// The first value that an earlier one equals.
pub fn repeated<T: PartialEq>(values: &[T]) -> Option<&T> {
    values
        .iter()
        .enumerate()
        .find(|(index, value)| values[..*index].contains(value))
        .map(|(_, value)| value)
}

/// Checks that a list has no value twice.
pub fn once<T: PartialEq>(option: &str, values: &[T], name: impl Fn(&T) -> String) -> Result<()> {
    repeated(values).map_or(Ok(()), |value| {
        Err(Error::input(format!("--{option} names {} twice", name(value))))
    })
}

/// The number of cores that this program may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
