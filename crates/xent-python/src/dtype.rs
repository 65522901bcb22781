//! The number types that arrays may have.

use half::{bf16, f16};

use crate::dlpack::DataType;

/// A type that an array's elements can be read as.
///
/// # Safety
/// Every bit pattern of `DTYPE` is a value of the type, which has the same size and alignment.
pub(crate) unsafe trait Number: Copy + Send + Sync + 'static {
    const DTYPE: Dtype;
}

macro_rules! dtypes {
    ($($dtype:ident = $name:literal, $code:literal, $bits:literal $(, $number:ty)?;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Dtype {
            $($dtype,)*
        }

        impl Dtype {
            pub(crate) fn new(DataType { code, bits, lanes }: DataType) -> Option<Self> {
                match (code, bits, lanes) {
                    $(($code, $bits, 1) => Some(Self::$dtype),)*
                    _ => None,
                }
            }

            /// In bytes.
            pub(crate) fn size(self) -> usize {
                match self {
                    $(Self::$dtype => $bits / 8,)*
                }
            }
        }

        impl std::fmt::Display for Dtype {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$dtype => $name,)*
                })
            }
        }

        $($(
            // SAFETY: a plain number.
            unsafe impl Number for $number {
                const DTYPE: Dtype = Dtype::$dtype;
            }
        )?)*
    };
}
// With DLPack's code and the number of bits.
dtypes! {
    I8 = "int8", 0, 8, i8;
    I16 = "int16", 0, 16, i16;
    I32 = "int32", 0, 32, i32;
    I64 = "int64", 0, 64, i64;
    U8 = "uint8", 1, 8, u8;
    U16 = "uint16", 1, 16, u16;
    U32 = "uint32", 1, 32, u32;
    U64 = "uint64", 1, 64, u64;
    F16 = "float16", 2, 16, f16;
    F32 = "float32", 2, 32, f32;
    F64 = "float64", 2, 64, f64;
    Bf16 = "bfloat16", 4, 16, bf16;
    Bool = "bool", 6, 8;
}

impl Dtype {
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }
}

/// Runs one expression for whichever float type a dtype is; leaves the function with a TypeError
/// for any other.
macro_rules! with_float {
    ($name:expr, $dtype:expr, $float:ident => $body:expr) => {
        with_float!(@ $name, $dtype, $float => $body; F32 = f32, F64 = f64, F16 = half::f16, Bf16 = half::bf16)
    };
    (@ $name:expr, $dtype:expr, $float:ident => $body:expr; $($variant:ident = $number:ty),*) => {
        match $dtype {
            $($crate::dtype::Dtype::$variant => {
                type $float = $number;
                $body
            })*
            other => return Err($crate::error::type_error(format!("{} has dtype {other}, expected float16, bfloat16, float32 or float64", $name))),
        }
    };
}
pub(crate) use with_float;
