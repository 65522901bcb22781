//! From a file's name to its rows.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::axis::class_axis;
use crate::columns::{ClassNames, Columns};
use crate::error::{ArrayError, Problem, excerpt};
use crate::npy::{self, Array, Header, open_regular};
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

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(OsStr::new(text)))
    }
}

impl From<&OsStr> for Place {
    /// Splits after the last `.npy:`, `.npz:` and so on. What follows is text; a file may be called
    /// by any bytes.
    fn from(text: &OsStr) -> Self {
        let bytes = text.as_encoded_bytes();
        let ends = EXTENSIONS.iter().filter_map(|(extension, _)| {
            let end = format!(".{extension}:");
            let at = bytes.windows(end.len()).rposition(|window| window == end.as_bytes())?;
            Some(at + end.len())
        });
        let split = ends.max().and_then(|end| {
            Some((beginning(text, end - 1)?, std::str::from_utf8(&bytes[end..]).ok()?))
        });
        match split {
            Some((file, name)) => Self { file, name: Some(name.to_string()) },
            None => Self { file: text.into(), name: None },
        }
    }
}

#[cfg(unix)]
fn beginning(text: &OsStr, end: usize) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(OsStr::from_bytes(&text.as_bytes()[..end]).into())
}

/// None for names that are no text, which cannot be divided here.
#[cfg(not(unix))]
fn beginning(text: &OsStr, end: usize) -> Option<PathBuf> {
    text.to_str().map(|text| text[..end].into())
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

    /// Whether labels may be in the same file without being named. A file of another format is an
    /// error where it is opened.
    pub fn may_have_labels(&self) -> bool {
        !self.format().is_ok_and(|format| format == Format::Npy)
    }

    /// Whether the file has arrays.
    pub fn is_array(&self) -> bool {
        self.format().is_ok() && !self.is_table()
    }

    /// Whether the file is a table, whose columns may be classes.
    pub fn is_table(&self) -> bool {
        matches!(self.format(), Ok(Format::Csv | Format::Parquet))
    }
}

/// Opens logits. `labels` says where the labels are: in a table, that column is never a class,
/// whichever file it is in, and of an array the classes are on the axis that the labels lack.
/// `columns` says which columns of a table are classes, `axis` which axis of an array has them.
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
///     None,
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
    axis: Option<isize>,
) -> Result<Box<dyn LogitRows>, ArrayError> {
    let name = place.name.as_deref();
    let path = place.file.as_path();
    let label = labels.and_then(|labels| labels.name.as_deref());
    let here = labels.is_some_and(|labels| same_file(&labels.file, path));
    let open = || {
        if let Some(array) = array(place, is_logits)? {
            // Labels that cannot be opened are an error where they are read.
            let labels = labels.and_then(|labels| self::array(labels, is_labels).ok().flatten());
            let labels = labels.as_ref().map(|labels| labels.header.shape.as_slice());
            let axis = class_axis(&array.header.shape, labels, axis)?;
            return array.into_logits(axis);
        }
        if axis.is_some() {
            return Err(Problem(
                "--axis is for arrays (.npy, .npz and .safetensors files); the classes of a table are its columns".to_string(),
            ));
        }
        match (place.format()?, name) {
            (Format::Parquet, _) => parquet::open_logits(path, name, label, here, columns),
            (_, None) => csv::open_logits(path, label, here, columns),
            (_, Some(_)) => Err(Problem::unreadable(
                "CSV file",
                "its logits are several columns, so none can be named; --columns names them",
            )),
        }
    };
    open().map_err(|problem: Problem| problem.in_file(path))
}

/// Opens labels. In a table they may be the names of the classes.
///
/// # Errors
/// The file does not have the format that its name says, has no such array, or none that can be
/// labels.
pub fn open_labels(place: &Place, classes: &ClassNames) -> Result<Box<dyn LabelRows>, ArrayError> {
    let name = place.name.as_deref();
    let path = place.file.as_path();
    let open = || match array(place, is_labels)? {
        Some(array) => array.into_labels(),
        None if place.format()? == Format::Parquet => parquet::open_labels(path, name, classes),
        None => csv::open_labels(path, name, classes),
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
    let open = || match (array(place, fits)?, place.format()?) {
        (Some(array), _) => array.into_numbers(),
        (None, Format::Csv) => csv::open_numbers(path, name),
        (None, _) => Err(Problem::unreadable(
            "Parquet file",
            "one number per row is read from .npy, .npz, .safetensors, .csv and .tsv files",
        )),
    };
    open().map_err(|problem: Problem| problem.in_file(path))
}

/// Reads an array whole: the one that is named, or the only one in the file that `fits`. None for a
/// table.
///
/// # Errors
/// The file does not have the format that its name says, or has no such array.
pub fn read_array(place: &Place, fits: fn(&Header) -> bool) -> Result<Option<Array>, ArrayError> {
    let read = || array(place, fits)?.map(StoredArray::into_array).transpose();
    read().map_err(|problem: Problem| problem.in_file(&place.file))
}

fn is_logits(header: &Header) -> bool {
    header.dtype.is_float() && header.shape.len() >= 2
}

fn is_labels(header: &Header) -> bool {
    !header.dtype.is_float()
}

/// The array of a place, or the only one there that fits; none in a table.
fn array(place: &Place, fits: fn(&Header) -> bool) -> Result<Option<StoredArray>, Problem> {
    let (path, name) = (place.file.as_path(), place.name.as_deref());
    Ok(Some(match place.format()? {
        Format::Npy => npy_array(path, name)?,
        Format::Npz => npz::open(path, name, fits)?,
        Format::Safetensors => safetensors::open(path, name, fits)?,
        Format::Csv | Format::Parquet => return Ok(None),
    }))
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
