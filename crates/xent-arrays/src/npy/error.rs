//! What can be wrong with a `.npy` file. No message carries more than a few of the file's own
//! bytes, and those escaped.

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Something whose size is not known beforehand.
    #[error("it is a folder, pipe or device, expected a regular file, whose size can be checked against its header")]
    NotRegular,
    /// Another format.
    #[error("it begins with '{}', expected the .npy format's '\\x93NUMPY'", .0.escape_ascii())]
    Magic(Vec<u8>),
    /// A format of the future.
    #[error(".npy version {0}.{1}, expected 1.0, 2.0 or 3.0")]
    Version(u8, u8),
    /// The file ends before its header does.
    #[error("the file ends after {size} bytes, inside the header, which needs {needed}")]
    ShortHeader {
        /// Bytes in the file.
        size: u64,
        /// Bytes up to the end of the part that is missing.
        needed: u64,
    },
    /// A header that no array needs.
    #[error("a header of {0} bytes, expected at most {most}", most = super::LONGEST_HEADER)]
    LongHeader(u64),
    /// Not the dictionary that the format prescribes.
    #[error("byte {at} of the header is {found}, expected {expected}")]
    Syntax {
        /// Position in the header.
        at: usize,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A key that the format does not have.
    #[error("the header has the key '{0}', expected 'descr', 'fortran_order' and 'shape' alone")]
    UnknownKey(String),
    /// A key that comes twice.
    #[error("the header has the key '{0}' twice, expected it once")]
    DuplicateKey(&'static str),
    /// A key that does not come.
    #[error("the header lacks the key '{0}'")]
    MissingKey(&'static str),
    /// A type of entries that is not a plain number's.
    #[error("dtype '{descr}' ({what}), expected int, uint or float of 8 to 64 bits, bool, or bfloat16 (V2)")]
    Dtype {
        /// The type as the header has it, shortened.
        descr: String,
        /// What kind of type that is.
        what: &'static str,
    },
    /// More axes than NumPy can hold.
    #[error("a shape with more than {most} axes", most = super::MOST_AXES)]
    Axes,
    /// A shape whose bytes cannot be counted.
    #[error("shape {0} has more bytes than any file")]
    Overflow(String),
    /// Shape and file contradict one another.
    #[error("shape {shape} of {dtype} has {expected} bytes, but {found} follow the header")]
    Size {
        /// The shape.
        shape: String,
        /// The type of its entries.
        dtype: &'static str,
        /// Bytes that the shape needs.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// A truth value that is neither.
    #[error("entry {entry} of the bool array is byte {byte}, expected 0 or 1")]
    Bool {
        /// Position in the file's order.
        entry: usize,
        /// What stands there.
        byte: u8,
    },
    /// The array is larger than memory.
    #[error("no memory for {0} bytes")]
    Memory(u64),
}
