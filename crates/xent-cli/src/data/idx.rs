//! The IDX format of the MNIST files: big-endian magic `00 00 08 d` (unsigned bytes, d dimensions),
//! the dimensions, the values in C order.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::dataset::{Dataset, Features, number_classes};
use crate::error::{Error, Result};

/// Images: rows, height, width.
pub const IMAGES: usize = 3;
/// Labels: rows.
pub const LABELS: usize = 1;

/// A file that declares more bytes is rejected before any is read.
const LARGEST: u64 = 1 << 31;

/// What one file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    dimensions: Vec<usize>,
    values: Vec<u8>,
}

/// Decodes a gzipped or plain file in memory.
pub fn decode(name: &str, bytes: &[u8], rank: usize) -> Result<Idx> {
    read(name, bytes, bytes.starts_with(&[0x1f, 0x8b]), bytes.len() as u64, rank)
}

/// Reads a file; gzipped if its name ends in `.gz`.
fn read_file(path: &Path, rank: usize) -> Result<Idx> {
    let file = std::fs::File::open(path).map_err(|error| Error::reading(path, error))?;
    let size = file.metadata().map_err(|error| Error::reading(path, error))?.len();
    let gzipped = path.extension().is_some_and(|extension| extension == "gz");
    read(path.display(), std::io::BufReader::new(file), gzipped, size, rank)
}

fn read(
    name: impl std::fmt::Display,
    source: impl Read,
    gzipped: bool,
    size: u64,
    rank: usize,
) -> Result<Idx> {
    let idx = if gzipped {
        parse(GzDecoder::new(source), None, rank)
    } else {
        parse(source, Some(size), rank)
    };
    idx.map_err(|message| Error::input(format!("{name}: {message}")))
}

/// Trusts the header only as far as the bytes after it confirm it: `size`, if known, must be what
/// it declares, and never more than that is read.
fn parse(
    mut reader: impl Read,
    size: Option<u64>,
    rank: usize,
) -> std::result::Result<Idx, String> {
    let mut word = || -> std::result::Result<[u8; 4], String> {
        let mut bytes = [0; 4];
        reader
            .read_exact(&mut bytes)
            .map_err(|error| format!("no complete IDX header: {error}"))?;
        Ok(bytes)
    };
    let magic = word()?;
    let expected = [0, 0, 8, rank as u8];
    if magic != expected {
        return Err(format!(
            "starts with {magic:02x?}, expected {expected:02x?} (an IDX file of unsigned bytes with {rank} dimensions)"
        ));
    }
    let mut dimensions = Vec::with_capacity(rank);
    for _ in 0..rank {
        dimensions.push(u32::from_be_bytes(word()?) as usize);
    }
    let declared =
        dimensions.iter().try_fold(1u64, |product, &length| product.checked_mul(length as u64));
    let Some(declared) = declared.filter(|bytes| *bytes <= LARGEST) else {
        return Err(format!("declares {dimensions:?} values, expected at most {LARGEST} in all"));
    };
    let header = 4 * (1 + rank as u64);
    if let Some(size) = size
        && size != header + declared
    {
        return Err(format!(
            "{size} bytes, expected {} for the {dimensions:?} values that it declares",
            header + declared
        ));
    }
    let mut values = Vec::new();
    reader
        .take(declared + 1)
        .read_to_end(&mut values)
        .map_err(|error| format!("damaged: {error}"))?;
    match values.len() as u64 {
        length if length < declared => {
            Err(format!("ends after {length} values, expected {declared} ({dimensions:?})"))
        }
        length if length > declared => {
            Err(format!("continues after the {declared} values ({dimensions:?}) that it declares"))
        }
        _ => Ok(Idx { dimensions, values }),
    }
}

/// A data set of images and as many labels.
pub fn dataset(images: Idx, labels: Idx, full_scale: f32) -> Result<Dataset> {
    let width: usize = images.dimensions[1..].iter().product();
    if width == 0 {
        return Err(Error::input(format!(
            "images of {}×{} pixels",
            images.dimensions[1], images.dimensions[2]
        )));
    }
    let names: Vec<String> = labels.values.iter().map(u8::to_string).collect();
    let (labels, classes) = number_classes(&names);
    Ok(Dataset {
        about: format!(
            "{} images of {}×{} pixels.",
            images.dimensions[0], images.dimensions[1], images.dimensions[2]
        ),
        width,
        features: Features::Bytes { values: images.values, full_scale },
        labels,
        classes,
        given_test: None,
        truth: None,
    })
}

/// Reads `train-images…` and `train-labels…` and, if they exist, `t10k-images…` and `t10k-labels…`
/// as the test part.
pub fn read_folder(folder: &Path) -> Result<Dataset> {
    let Some((path, mut images, mut labels)) = read_part(folder, "train")? else {
        return Err(Error::input(format!(
            "{}: expected train-images-idx3-ubyte and train-labels-idx1-ubyte there (and t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte \
             for the test part), plain or .gz",
            folder.display()
        )));
    };
    let mut given_test = None;
    if let Some((test_path, test_images, test_labels)) = read_part(folder, "t10k")? {
        let (found, expected) = (&test_images.dimensions[1..], &images.dimensions[1..]);
        if found != expected {
            let message = format!(
                "{}: images of {found:?} pixels, expected {expected:?} as in {}",
                test_path.display(),
                path.display()
            );
            return Err(Error::input(message));
        }
        given_test = Some(labels.values.len());
        images.dimensions[0] += test_images.dimensions[0];
        images.values.extend(test_images.values);
        labels.values.extend(test_labels.values);
    }
    let mut dataset = dataset(images, labels, 255.0)?;
    dataset.given_test = given_test;
    Ok(dataset)
}

/// The images of a part, with their path, and as many labels; none if there are no files of this
/// part.
fn read_part(folder: &Path, part: &str) -> Result<Option<(PathBuf, Idx, Idx)>> {
    let (images_path, labels_path) = match (
        find(folder, &format!("{part}-images"), IMAGES)?,
        find(folder, &format!("{part}-labels"), LABELS)?,
    ) {
        (None, None) => return Ok(None),
        (Some(images), Some(labels)) => (images, labels),
        (Some(found), None) | (None, Some(found)) => {
            return Err(Error::input(format!(
                "{}: found, but not its partner with the images or labels",
                found.display()
            )));
        }
    };
    let (images, labels) = (read_file(&images_path, IMAGES)?, read_file(&labels_path, LABELS)?);
    let counts = (images.dimensions[0], labels.dimensions[0]);
    if counts.0 != counts.1 {
        let (images, labels) = (images_path.display(), labels_path.display());
        return Err(Error::input(format!(
            "{images} holds {} images, but {labels} holds {} labels",
            counts.0, counts.1
        )));
    }
    Ok(Some((images_path, images, labels)))
}

/// The file of this name in one of its common spellings: `-idx3-ubyte` and `.idx3-ubyte`, plain and
/// gzipped.
fn find(folder: &Path, stem: &str, rank: usize) -> Result<Option<PathBuf>> {
    let spellings = ["-", "."].into_iter().flat_map(|separator| {
        ["", ".gz"].map(|gz| folder.join(format!("{stem}{separator}idx{rank}-ubyte{gz}")))
    });
    let mut found: Vec<PathBuf> = spellings.filter(|path| path.exists()).collect();
    let first = found.pop();
    match (first, found.pop()) {
        (Some(one), Some(other)) => Err(Error::input(format!(
            "both {} and {} are there; expected one of them",
            other.display(),
            one.display()
        ))),
        (first, _) => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        dimensions.iter().for_each(|length| bytes.extend(length.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn message(bytes: &[u8], rank: usize) -> String {
        decode("file", bytes, rank).unwrap_err().to_string()
    }

    #[test]
    fn plain_and_gzipped_are_read_alike() {
        let bytes = idx(&[2, 1, 2], &[1, 2, 3, 4]);
        let read = decode("file", &bytes, IMAGES).unwrap();
        assert_eq!(read, Idx { dimensions: vec![2, 1, 2], values: vec![1, 2, 3, 4] });
        assert_eq!(decode("file", &gz(&bytes), IMAGES).unwrap(), read);
    }

    #[test]
    fn a_header_is_not_believed() {
        assert_eq!(
            message(&idx(&[5], &[0; 4]), LABELS),
            "file: 12 bytes, expected 13 for the [5] values that it declares"
        );
        assert_eq!(
            message(&idx(&[3], &[0; 4]), LABELS),
            "file: 12 bytes, expected 11 for the [3] values that it declares"
        );
        assert_eq!(
            message(&gz(&idx(&[5], &[0; 4])), LABELS),
            "file: ends after 4 values, expected 5 ([5])"
        );
        assert_eq!(
            message(&gz(&idx(&[3], &[0; 4])), LABELS),
            "file: continues after the 3 values ([3]) that it declares"
        );
        let enormous = idx(&[u32::MAX, u32::MAX, u32::MAX], &[]);
        assert!(message(&enormous, IMAGES).contains("expected at most 2147483648 in all"));
        assert!(message(&idx(&[1], &[0]), IMAGES).contains("expected [00, 00, 08, 03]"));
        assert!(message(&[0, 0, 8], LABELS).contains("no complete IDX header"));
        let mut cut = gz(&idx(&[500], &[7; 500]));
        cut.truncate(20);
        assert!(message(&cut, LABELS).starts_with("file: "));
    }

    #[test]
    fn a_folder_has_its_own_test_part() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).unwrap();
        let failure = || read_folder(folder.path()).unwrap_err().to_string();
        assert!(failure().contains("expected train-images-idx3-ubyte"));
        write("train-images-idx3-ubyte.gz", gz(&idx(&[3, 1, 2], &[0, 255, 1, 2, 3, 4])));
        write("train-labels.idx1-ubyte", idx(&[2], &[7, 9]));
        assert!(failure().contains("holds 3 images, but") && failure().contains("holds 2 labels"));
        write("train-labels.idx1-ubyte", idx(&[3], &[7, 9, 7]));
        assert_eq!(read_folder(folder.path()).unwrap().given_test, None);
        write("t10k-images-idx3-ubyte", idx(&[1, 2, 1], &[5, 6]));
        assert!(failure().contains("not its partner"));
        write("t10k-labels-idx1-ubyte", idx(&[1], &[9]));
        assert!(failure().contains("images of [2, 1] pixels, expected [1, 2]"));
        write("t10k-images-idx3-ubyte", idx(&[1, 1, 2], &[5, 6]));
        let dataset = read_folder(folder.path()).unwrap();
        assert_eq!(
            (dataset.given_test, &dataset.labels[..], dataset.classes.len()),
            (Some(3), &[0, 1, 0, 1][..], 2)
        );
        write("t10k-images-idx3-ubyte.gz", vec![]);
        assert!(failure().contains("expected one of them"));
    }
}
