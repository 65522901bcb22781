//! What can be wrong with a `.npy` file. No message carries more than a few of the file's own
//! bytes, and those escaped.

/// The reason why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The system reports an error.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The path is something whose size is not known beforehand.
    #[error(
        "it is a folder, pipe or device, expected a regular file, whose size can be checked against its header"
    )]
    NotRegular,
    /// The file has another format.
    #[error("it begins with '{}', expected the .npy format's '\\x93NUMPY'", .0.escape_ascii())]
    Magic(Vec<u8>),
    /// The version of the format is unknown.
    #[error(".npy version {0}.{1}, expected 1.0, 2.0 or 3.0")]
    Version(u8, u8),
    /// The file ends before its header does.
    #[error("the file ends after {size} bytes, inside the header, which needs {needed}")]
    ShortHeader {
        /// Bytes in the file.
        size: u64,
        /// Bytes up to the end of the missing part.
        needed: u64,
    },
    /// The header is longer than any array needs.
    #[error("a header of {0} bytes, expected at most {most}", most = super::LONGEST_HEADER)]
    LongHeader(u64),
    /// The header is not the dictionary that the format prescribes.
    #[error("byte {at} of the header is {found}, expected {expected}")]
    Syntax {
        /// The position in the header.
        at: usize,
        /// What is there.
        found: String,
        /// What should be there.
        expected: &'static str,
    },
    /// The header has a key that the format does not define.
    #[error("the header has the key '{0}', expected only 'descr', 'fortran_order' and 'shape'")]
    UnknownKey(String),
    /// The header has a key twice.
    #[error("the header has the key '{0}' twice, expected it once")]
    DuplicateKey(&'static str),
    /// The header lacks a key.
    #[error("the header lacks the key '{0}'")]
    MissingKey(&'static str),
    /// The entries are not plain numbers.
    #[error(
        "dtype '{descr}' ({what}), expected int, uint or float of 8 to 64 bits, bool, or bfloat16 (V2)"
    )]
    Dtype {
        /// The type in the header, shortened.
        descr: String,
        /// The kind of this type.
        what: &'static str,
    },
    /// The shape has more axes than NumPy supports.
    #[error("a shape with more than {most} axes", most = super::MOST_AXES)]
    Axes,
    /// The number of bytes of the shape overflows.
    #[error("shape {0} has more bytes than any file")]
    Overflow(String),
    /// The shape contradicts the size of the file.
    #[error("shape {shape} of {dtype} has {expected} bytes, but {found} follow the header")]
    Size {
        /// The shape.
        shape: String,
        /// The type of the entries.
        dtype: &'static str,
        /// Bytes that the shape needs.
        expected: u64,
        /// Bytes that exist.
        found: u64,
    },
    /// A truth value is neither 0 nor 1.
    #[error("entry {entry} of the bool array is byte {byte}, expected 0 or 1")]
    Bool {
        /// The position in the file's order.
        entry: usize,
        /// What is there.
        byte: u8,
    },
    /// The array is larger than memory.
    #[error("no memory for {0} bytes")]
    Memory(u64),
}
