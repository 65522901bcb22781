//! The entries of an array, in the type that they have in the file.

use half::{bf16, f16};

/// Order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// Lowest first.
    Little,
    /// Highest first.
    Big,
}

/// A number that a file can hold.
pub trait Number: Copy {
    /// Appends the numbers that `bytes` holds; a rest shorter than a number is left.
    fn decode(bytes: &[u8], order: ByteOrder, into: &mut Vec<Self>);
    /// Appends the numbers' bytes, lowest first.
    fn encode(numbers: &[Self], into: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Number for $number {
            fn decode(bytes: &[u8], order: ByteOrder, into: &mut Vec<Self>) {
                let (numbers, _) = bytes.as_chunks::<{ size_of::<$number>() }>();
                match order {
                    ByteOrder::Little => into.extend(numbers.iter().map(|bytes| <$number>::from_le_bytes(*bytes))),
                    ByteOrder::Big => into.extend(numbers.iter().map(|bytes| <$number>::from_be_bytes(*bytes))),
                }
            }
            fn encode(numbers: &[Self], into: &mut Vec<u8>) {
                into.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
        }
    )*};
}
numbers!(i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64);

macro_rules! entry_types {
    ($($variant:ident($entry:ty) $name:literal $code:literal $doc:literal;)*) => {
        /// The type of an array's entries.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Dtype {$(
            #[doc = $doc]
            $variant,
        )*}

        impl Dtype {
            /// All of them.
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

            /// Bytes an entry.
            pub fn size(self) -> usize {
                match self {
                    $(Self::$variant => size_of::<$entry>(),)*
                }
            }
        }

        /// Entries, one after the other.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Values {$(
            #[doc = $doc]
            $variant(Vec<$entry>),
        )*}

        impl Values {
            /// Their type.
            pub fn dtype(&self) -> Dtype {
                match self {
                    $(Self::$variant(_) => Dtype::$variant,)*
                }
            }

            /// How many.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(entries) => entries.len(),)*
                }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Those at `positions`, in that order. The positions exist.
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
    /// Appends the entries' bytes, lowest first.
    pub fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Bool(entries) => into.extend(entries.iter().map(|&entry| u8::from(entry))),
            Self::I8(entries) => Number::encode(entries, into),
            Self::I16(entries) => Number::encode(entries, into),
            Self::I32(entries) => Number::encode(entries, into),
            Self::I64(entries) => Number::encode(entries, into),
            Self::U8(entries) => Number::encode(entries, into),
            Self::U16(entries) => Number::encode(entries, into),
            Self::U32(entries) => Number::encode(entries, into),
            Self::U64(entries) => Number::encode(entries, into),
            Self::F16(entries) => Number::encode(entries, into),
            Self::Bf16(entries) => Number::encode(entries, into),
            Self::F32(entries) => Number::encode(entries, into),
            Self::F64(entries) => Number::encode(entries, into),
        }
    }
}
