//! Numbers that JSON does not have.

use serde::{Serialize, Serializer};

/// A number that JSON may not have: the strings `"Infinity"`, `"-Infinity"` and `"NaN"` there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Extended(#[serde(serialize_with = "extended")] pub f64);

impl Extended {
    /// The string, for a number that is not finite.
    pub fn name(self) -> Option<&'static str> {
        match self.0 {
            number if number.is_finite() => None,
            number if number.is_nan() => Some("NaN"),
            number => Some(if number > 0.0 { "Infinity" } else { "-Infinity" }),
        }
    }
}

/// Writes a number as [`Extended`] does.
pub fn extended<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match Extended(*number).name() {
        None => serializer.serialize_f64(*number),
        Some(name) => serializer.serialize_str(name),
    }
}

/// The same for a number that may be absent.
pub fn optional<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    number.map(Extended).serialize(serializer)
}
