//! Numbers that JSON does not have.

use serde::{Serialize, Serializer};

/// A number that may be infinite: in JSON, `"infinite"` or `"-infinite"`; NaN is `null`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Extended(#[serde(serialize_with = "extended")] pub f64);

/// Writes a number as [`Extended`] does.
pub fn extended<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *number {
        number if number.is_finite() => serializer.serialize_f64(number),
        number if number.is_nan() => serializer.serialize_none(),
        number => serializer.serialize_str(if number > 0.0 { "infinite" } else { "-infinite" }),
    }
}

/// The same for a number that may be absent.
pub fn optional<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    number.map(Extended).serialize(serializer)
}
