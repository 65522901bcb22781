//! The entries of an array, in the type that they have in the file.

use std::io::{Read, Write};

use half::{bf16, f16};

use crate::error::Problem;

/// Bytes that are decoded at a time; a multiple of every entry's size.
pub(super) const PART: usize = 1 << 16;

/// Order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// An entry that a file can hold.
pub trait Entry: Copy {
    /// The position of the first byte that no entry has.
    fn invalid(_bytes: &[u8]) -> Option<usize> {
        None
    }
    /// Appends the entries that `bytes` holds; a rest shorter than an entry is left.
    fn decode(bytes: &[u8], order: ByteOrder, into: &mut Vec<Self>);
    /// Appends the entries' bytes, little-endian.
    fn encode(entries: &[Self], into: &mut Vec<u8>);
}

impl Entry for bool {
    fn invalid(bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|byte| *byte > 1)
    }
    fn decode(bytes: &[u8], _order: ByteOrder, into: &mut Vec<Self>) {
        into.extend(bytes.iter().map(|byte| *byte == 1));
    }
    fn encode(entries: &[Self], into: &mut Vec<u8>) {
        into.extend(entries.iter().map(|entry| u8::from(*entry)));
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Entry for $number {
            fn decode(bytes: &[u8], order: ByteOrder, into: &mut Vec<Self>) {
                let (numbers, _) = bytes.as_chunks::<{ size_of::<$number>() }>();
                match order {
                    ByteOrder::Little => into.extend(numbers.iter().map(|bytes| <$number>::from_le_bytes(*bytes))),
                    ByteOrder::Big => into.extend(numbers.iter().map(|bytes| <$number>::from_be_bytes(*bytes))),
                }
            }
            fn encode(entries: &[Self], into: &mut Vec<u8>) {
                into.extend(entries.iter().flat_map(|number| number.to_le_bytes()));
            }
        }
    )*};
}
numbers!(i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64);

fn write_pieces<E: Entry>(entries: &[E], out: &mut dyn Write) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for piece in entries.chunks(1 << 13) {
        bytes.clear();
        E::encode(piece, &mut bytes);
        out.write_all(&bytes)?;
    }
    Ok(())
}

macro_rules! entry_types {
    ($($variant:ident($entry:ty) $name:literal $code:literal $doc:literal;)*) => {
        /// The type of an array's entries.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Dtype {$(
            #[doc = $doc]
            $variant,
        )*}

        impl Dtype {
            /// Every type.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// From the letters and digits of a `descr`, those after the byte order.
            pub fn from_code(code: &str) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// What a `descr` has after the byte order.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// NumPy's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Bytes per entry.
            pub fn size(self) -> usize {
                match self {
                    $(Self::$variant => size_of::<$entry>(),)*
                }
            }
        }

        /// The entries of an array, in the file's order.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Values {$(
            #[doc = $doc]
            $variant(Vec<$entry>),
        )*}

        impl Values {
            /// The type of the entries.
            pub fn dtype(&self) -> Dtype {
                match self {
                    $(Self::$variant(_) => Dtype::$variant,)*
                }
            }

            /// The number of entries.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(entries) => entries.len(),)*
                }
            }

            /// Whether there are no entries.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Reads `entries` entries, whose bytes are known to exist.
            pub(crate) fn read(reader: &mut impl Read, dtype: Dtype, entries: usize, order: ByteOrder) -> Result<Self, Problem> {
                Ok(match dtype {
                    $(Dtype::$variant => Self::$variant(read(reader, entries, order)?),)*
                })
            }

            /// Writes the entries' bytes, little-endian, piece by piece.
            pub fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
                match self {
                    $(Self::$variant(entries) => write_pieces(entries, out),)*
                }
            }

            /// The entries at `positions`, in that order. The positions must exist.
            pub fn gather(&self, positions: impl Iterator<Item = usize>) -> Self {
                match self {
                    $(Self::$variant(entries) => Self::$variant(positions.map(|position| entries[position]).collect()),)*
                }
            }
        }
    };
}
entry_types! {
    Bool(bool) "bool" "b1" "True or False";
    I8(i8) "int8" "i1" "8 bits, signed";
    I16(i16) "int16" "i2" "16 bits, signed";
    I32(i32) "int32" "i4" "32 bits, signed";
    I64(i64) "int64" "i8" "64 bits, signed";
    U8(u8) "uint8" "u1" "8 bits";
    U16(u16) "uint16" "u2" "16 bits";
    U32(u32) "uint32" "u4" "32 bits";
    U64(u64) "uint64" "u8" "64 bits";
    F16(f16) "float16" "f2" "IEEE half precision";
    Bf16(bf16) "bfloat16" "V2" "The upper half of a float32";
    F32(f32) "float32" "f4" "IEEE single precision";
    F64(f64) "float64" "f8" "IEEE double precision";
}

impl Dtype {
    /// Whether the entries are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }
}

impl Values {
    /// Integers of any type, without loss; `None` for floats and truth values.
    pub fn integers(&self) -> Option<Vec<i128>> {
        Some(match self {
            Self::I8(entries) => widened(entries),
            Self::I16(entries) => widened(entries),
            Self::I32(entries) => widened(entries),
            Self::I64(entries) => widened(entries),
            Self::U8(entries) => widened(entries),
            Self::U16(entries) => widened(entries),
            Self::U32(entries) => widened(entries),
            Self::U64(entries) => widened(entries),
            Self::Bool(_) | Self::F16(_) | Self::Bf16(_) | Self::F32(_) | Self::F64(_) => {
                return None;
            }
        })
    }
}

fn widened<T: Copy + Into<i128>>(entries: &[T]) -> Vec<i128> {
    entries.iter().map(|entry| (*entry).into()).collect()
}

fn read<T: Entry>(
    reader: &mut impl Read,
    entries: usize,
    order: ByteOrder,
) -> Result<Vec<T>, Problem> {
    let mut left = entries * size_of::<T>();
    let mut decoded = Vec::new();
    decoded
        .try_reserve_exact(entries)
        .map_err(|_| Problem(format!("not enough memory for {left} bytes")))?;
    let mut part = vec![0; left.min(PART)];
    while left > 0 {
        let bytes = &mut part[..left.min(PART)];
        reader.read_exact(bytes)?;
        if let Some(at) = T::invalid(bytes) {
            return Err(Problem(format!(
                "entry {} of the bool array is byte {}, expected 0 or 1",
                decoded.len() + at,
                bytes[at]
            )));
        }
        T::decode(bytes, order, &mut decoded);
        left -= bytes.len();
    }
    Ok(decoded)
}
