//! JSON numbers that may also be `"nan"`, `"inf"` or `"-inf"`, which JSON itself cannot write.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Finite(f64),
    Named(String),
}

impl From<f64> for Written {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Written::Finite(value)
        } else if value.is_nan() {
            Written::Named("nan".into())
        } else if value > 0.0 {
            Written::Named("inf".into())
        } else {
            Written::Named("-inf".into())
        }
    }
}

impl TryFrom<Written> for f64 {
    type Error = String;

    fn try_from(written: Written) -> Result<f64, String> {
        match written {
            Written::Finite(value) => Ok(value),
            Written::Named(name) => match name.as_str() {
                "nan" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                _ => Err(format!("expected a number, \"nan\", \"inf\" or \"-inf\", got {name:?}")),
            },
        }
    }
}

pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Written::from(*value).serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    f64::try_from(Written::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The same for a list.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        values: &[f64],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|&value| Written::from(value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<f64>, D::Error> {
        Vec::<Written>::deserialize(deserializer)?
            .into_iter()
            .map(|written| f64::try_from(written).map_err(D::Error::custom))
            .collect()
    }
}
