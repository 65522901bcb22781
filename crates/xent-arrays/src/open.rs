//! From a file's name to its rows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::columns::Columns;
use crate::error::{ArrayError, Problem, excerpt};
use crate::npy::{self, Header, open_regular};
use crate::rows::{LabelRows, LogitRows};
use crate::stored::{Entries, StoredArray};
use crate::{csv, npz, parquet, safetensors};

/// An array in a file: `FILE`, or `FILE:NAME` where a file has several.
///
/// ```
/// let place: xent_arrays::Place = "run.npz:logits".parse().unwrap();
/// assert_eq!((place.file.to_str(), place.name.as_deref()), (Some("run.npz"), Some("logits")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// One of its arrays, tensors or columns.
    pub name: Option<String>,
}

const EXTENSIONS: [(&str, Format); 8] = [
    ("npy", Format::Npy),
    ("npz", Format::Npz),
    ("safetensors", Format::Safetensors),
    ("csv", Format::Csv),
    ("csv.gz", Format::Csv),
    ("tsv", Format::Csv),
    ("tsv.gz", Format::Csv),
    ("parquet", Format::Parquet),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Npy,
    Npz,
    Safetensors,
    Csv,
    Parquet,
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    /// Splits after the last `.npy:`, `.npz:` and so on.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = EXTENSIONS
            .iter()
            .filter_map(|(extension, _)| {
                text.rfind(&format!(".{extension}:")).map(|at| at + extension.len() + 1)
            })
            .max();
        Ok(match split {
            Some(at) => Self { file: text[..at].into(), name: Some(text[at + 1..].to_string()) },
            None => Self { file: text.into(), name: None },
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}:{name}", self.file.display()),
            None => write!(f, "{}", self.file.display()),
        }
    }
}

impl Place {
    fn format(&self) -> Result<Format, Problem> {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let known = EXTENSIONS.iter().find(|(extension, _)| {
            name.strip_suffix(extension).is_some_and(|stem| stem.ends_with('.'))
        });
        let ends = || {
            self.file.extension().map_or("nothing".to_string(), |extension| {
                format!("'.{}'", excerpt(&extension.to_string_lossy()))
            })
        };
        known.map(|(_, format)| *format).ok_or_else(|| {
            Problem(format!(
                "its name ends in {}, expected .npy, .npz, .safetensors, .csv, .tsv (or .gz of these) or .parquet",
                ends()
            ))
        })
    }

    /// Whether labels may be in the same file without being named.
    pub fn is_table(&self) -> bool {
        self.format().is_ok_and(|format| format != Format::Npy)
    }
}

/// Opens logits. `labels` says where the labels are: in a table, that column is never a class,
/// whichever file it is in. `columns` says which columns of a table are classes.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("z.csv");
/// std::fs::write(&file, "a,b,label\n1.5,0,0\n0,2,1\n")?;
/// let labels = format!("{}:label", file.display()).parse()?;
/// let mut logits = xent_arrays::open_logits(
///     &format!("{}", file.display()).parse()?,
///     Some(&labels),
///     &xent_arrays::Columns::default(),
/// )?;
/// assert_eq!((logits.classes(), logits.next(100)?.rows), (2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The file does not have the format that its name says, has no such array, or none that can be
/// logits.
pub fn open_logits(
    place: &Place,
    labels: Option<&Place>,
    columns: &Columns,
) -> Result<Box<dyn LogitRows>, ArrayError> {
    let name = place.name.as_deref();
    let path = place.file.as_path();
    let fits = |header: &Header| header.dtype.is_float() && header.shape.len() >= 2;
    let open = || match place.format()? {
        Format::Npy => npy_array(path, name)?.into_logits(),
        Format::Npz => npz::open(path, name, fits)?.into_logits(),
        Format::Safetensors => safetensors::open(path, name, fits)?.into_logits(),
        Format::Csv if name.is_some() => Err(Problem::unreadable(
            "CSV file",
            "its logits are several columns, so none can be named; --columns names them",
        )),
        Format::Csv => csv::open_logits(
            path,
            labels.and_then(|labels| labels.name.as_deref()),
            labels.is_some_and(|labels| same_file(&labels.file, path)),
            columns,
        ),
        Format::Parquet => parquet::open_logits(path, name),
    };
    open().map_err(|problem: Problem| problem.in_file(path))
}

/// Opens labels.
///
/// # Errors
/// The file does not have the format that its name says, has no such array, or none that can be
/// labels.
pub fn open_labels(place: &Place) -> Result<Box<dyn LabelRows>, ArrayError> {
    let name = place.name.as_deref();
    let path = place.file.as_path();
    let fits = |header: &Header| !header.dtype.is_float();
    let open = || match place.format()? {
        Format::Npy => npy_array(path, name)?.into_labels(),
        Format::Npz => npz::open(path, name, fits)?.into_labels(),
        Format::Safetensors => safetensors::open(path, name, fits)?.into_labels(),
        Format::Csv => csv::open_labels(path, name),
        Format::Parquet => parquet::open_labels(path, name),
    };
    open().map_err(|problem: Problem| problem.in_file(path))
}

/// Opens an array with one number per row, such as row weights, as rows of one number.
///
/// # Errors
/// The file does not have the format that its name says, has no such array, or none of floats with
/// one per row.
pub fn open_numbers(place: &Place) -> Result<Box<dyn LogitRows>, ArrayError> {
    let name = place.name.as_deref();
    let path = place.file.as_path();
    let fits = |header: &Header| header.dtype.is_float() && header.is_flat();
    let open = || match place.format()? {
        Format::Npy => npy_array(path, name)?.into_numbers(),
        Format::Npz => npz::open(path, name, fits)?.into_numbers(),
        Format::Safetensors => safetensors::open(path, name, fits)?.into_numbers(),
        Format::Csv => csv::open_numbers(path, name),
        Format::Parquet => Err(Problem::unreadable(
            "Parquet file",
            "one number per row is read from .npy, .npz, .safetensors, .csv and .tsv files",
        )),
    };
    open().map_err(|problem: Problem| problem.in_file(path))
}

/// Whether two paths, however they are spelt, lead to one file.
fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn npy_array(path: &Path, name: Option<&str>) -> Result<StoredArray, Problem> {
    if let Some(name) = name {
        return Err(Problem(format!(
            "a .npy file has one array without a name, but '{}' was requested",
            excerpt(name)
        )));
    }
    let (mut file, size) = open_regular(path)?;
    let header = npy::read_header(&mut file, size)?;
    let start = size - (header.entries()? * header.dtype.size()) as u64;
    Ok(StoredArray {
        file: path.to_path_buf(),
        name: "the array".to_string(),
        header,
        entries: Entries::File(file, start),
    })
}
