//! The evaluation of some rows as a file that merges with others.

use std::collections::HashMap;
use std::path::Path;

use xent_metrics::{Evaluated, PartialError, read_partial, write_partial};

use crate::args::repeated;
use crate::error::{Error, Result};
use crate::output::Destination;

/// Writes a file.
pub fn write(destination: Destination, models: &[Evaluated]) -> Result<()> {
    destination.write(|writer| write_partial(writer, models))
}

/// Reads files and merges them, one after the other, so that at most two are in memory. Models
/// without names of their own are the same if they are at the same place.
///
/// # Errors
/// A file was not written by --partial, or is of other models or settings, or of rows that another
/// file has, too.
pub fn merge(paths: &[impl AsRef<Path>]) -> Result<Vec<Evaluated>> {
    let mut merged: Vec<Evaluated> = Vec::new();
    let mut names: Vec<Vec<String>> = Vec::new();
    let mut rows_before: HashMap<(usize, u64), &Path> = HashMap::new();
    for path in paths {
        let path = path.as_ref();
        let models = read(path)?;
        if merged.is_empty() {
            names = vec![Vec::new(); models.len()];
        } else {
            expect_same(&merged, &models).map_err(|message| Error::in_file(path, message))?;
        }
        let mut rows = Vec::new();
        for (place, model) in models.iter().enumerate() {
            names[place].push(model.name.clone());
            for (source, read) in
                model.evaluation.sources().iter().filter(|(_, read)| read.hash > 0)
            {
                if let Some(before) = rows_before.get(&(place, read.hash)) {
                    return Err(Error::in_file(
                        path,
                        format!(
                            "it has the rows of {source}, which are in {}, too; expected each once",
                            before.display()
                        ),
                    ));
                }
                rows.push((place, read.hash));
            }
        }
        rows_before.extend(rows.into_iter().map(|rows| (rows, path)));
        if merged.is_empty() {
            merged = models;
            continue;
        }
        for (model, other) in merged.iter_mut().zip(models) {
            model
                .evaluation
                .merge(&other.evaluation)
                .map_err(|error| Error::in_file(path, error))?;
        }
    }
    for (model, names) in merged.iter_mut().zip(&names) {
        model.name = pattern(names);
    }
    let names: Vec<&str> = merged.iter().map(|model| model.name.as_str()).collect();
    match repeated(&names) {
        Some(name) => Err(Error::input(format!(
            "two models are named {name}; --names beside --partial tells them apart"
        ))),
        None => Ok(merged),
    }
}

/// Checks that files are of the same models.
fn expect_same(before: &[Evaluated], models: &[Evaluated]) -> std::result::Result<(), String> {
    let differ = |(a, b): (&Evaluated, &Evaluated)| (a.named || b.named) && a.name != b.name;
    if before.len() == models.len() && !before.iter().zip(models).any(differ) {
        return Ok(());
    }
    let names = |models: &[Evaluated]| {
        models.iter().map(|model| model.name.clone()).collect::<Vec<_>>().join(", ")
    };
    Err(format!("it is of {}, expected {} as before", names(models), names(before)))
}

/// The pattern of names that differ in one place, as one run over all of these files has it.
fn pattern(names: &[String]) -> String {
    let first = names.first().map_or("", String::as_str);
    if names.iter().all(|name| name == first) {
        return first.to_string();
    }
    let alike = |a: &mut dyn Iterator<Item = char>, b: &mut dyn Iterator<Item = char>| {
        a.zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>()
    };
    let start = names.iter().map(|name| alike(&mut first.chars(), &mut name.chars())).min();
    let start = start.unwrap_or(0);
    let end = names
        .iter()
        .map(|name| alike(&mut first[start..].chars().rev(), &mut name[start..].chars().rev()));
    let end = end.min().unwrap_or(0);
    let digit = |c: char| c.is_ascii_digit();
    let (before, after) = (&first[..start], &first[first.len() - end..]);
    format!("{}*{}", before.trim_end_matches(digit), after.trim_start_matches(digit))
}

fn read(path: &Path) -> Result<Vec<Evaluated>> {
    let text = std::fs::read(path).map_err(|error| Error::reading(path, error))?;
    read_partial(&text).map_err(|error| match error {
        PartialError::Contents(error) => {
            Error::reading(path, format!("not written by --partial: {error}"))
        }
        error => Error::reading(path, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_pattern_are_called_by_it() {
        let of =
            |names: &[&str]| pattern(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["a/z_0.npy", "a/z_1.npy"]), "a/z_*.npy");
        assert_eq!(of(&["a/z_10.npy", "a/z_0.npy", "a/z_20.npy"]), "a/z_*.npy");
        assert_eq!(of(&["n1/z.npy", "n12/z.npy"]), "n*/z.npy");
        assert_eq!(of(&["z.npy", "z.npy"]), "z.npy");
        assert_eq!(of(&["a", "b"]), "*");
        assert_eq!(of(&["aa", "aaa"]), "aa*");
        assert_eq!(of(&["ü1", "ü2", "ö1"]), "*");
    }
}
