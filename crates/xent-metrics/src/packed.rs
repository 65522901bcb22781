//! Long arrays in JSON: base64 of little-endian numbers, which is read back bit for bit.

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// A number that can be packed.
pub trait Pack: Sized {
    fn pack(numbers: &[Self]) -> Vec<u8>;
    fn unpack(bytes: &[u8]) -> Option<Vec<Self>>;
}

macro_rules! pack {
    ($($number:ty),*) => {$(
        impl Pack for $number {
            fn pack(numbers: &[Self]) -> Vec<u8> {
                numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
            }

            fn unpack(bytes: &[u8]) -> Option<Vec<Self>> {
                let (numbers, rest) = bytes.as_chunks::<{ size_of::<$number>() }>();
                rest.is_empty().then(|| numbers.iter().map(|bytes| <$number>::from_le_bytes(*bytes)).collect())
            }
        }
    )*};
}
pack!(u32, u64, f32, f64, u128);

pub fn serialize<T: Pack, S: Serializer>(numbers: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    // Written directly to the serializer, without the whole text in memory.
    serializer.collect_str(&Base64Display::new(&T::pack(numbers), &STANDARD))
}

pub fn deserialize<'de, T: Pack, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let bytes = {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)?
    };
    T::unpack(&bytes).ok_or_else(|| {
        D::Error::custom("an array whose length is not a multiple of the size of its numbers")
    })
}
