//! The words of every option, in one place, for `Display`, `FromStr`, serde, command lines and
//! bindings.

use crate::{
    ClassWeighting, ConfigError, Denominator, EmptyMean, Error, Form, Masked, PriorKind, Reduction,
};

/// Gives the enum of an option its words: a canonical one, which is printed, and its aliases.
macro_rules! words {
    ($name:ident, $option:literal: $($variant:ident = $word:literal $(| $alias:literal)*),+ $(,)?) => {
        impl $name {
            /// All values, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The canonical word, which `Display` prints and `FromStr` parses.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The other words that `FromStr` parses to this value.
            pub const fn aliases(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$($alias),*],)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        /// Parses the canonical word or an alias. `-` and `_` are the same.
        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self, Error> {
                let means = |choice: &Self| [choice.word()].iter().chain(choice.aliases()).any(|known| same(known, word));
                Self::ALL.iter().copied().find(means).ok_or_else(|| unknown($option, word, Self::ALL.iter().map(|choice| choice.word())))
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                stored::word(deserializer, $option)
            }
        }
    };
}

words!(ClassWeighting, "class weighting": PerClass = "per_class" | "pytorch" | "class", PerRow = "per_row" | "row");
words!(Masked, "masked": PyTorch = "pytorch", Renormalise = "renormalise" | "renormalize");
words!(Form, "form": CrossEntropy = "cross_entropy" | "ce", KlDivergence = "kl_divergence" | "kl");
words!(Reduction, "reduction": None = "none", Sum = "sum", Mean = "mean");
words!(Denominator, "denominator": PyTorch = "pytorch", KeptRows = "kept_rows" | "kept", Rows = "rows" | "all");
words!(EmptyMean, "empty mean": Nan = "nan", Zero = "zero", Error = "error");
words!(PriorKind, "prior":
    Uniform = "uniform",
    WrongClasses = "wrong_classes" | "others",
    Excluding = "excluding",
    Fixed = "fixed",
    ByTrueClass = "by_true_class",
);

/// Whether `word` is the known one, written with `-` or `_`.
fn same(known: &str, word: &str) -> bool {
    known.len() == word.len()
        && known
            .bytes()
            .zip(word.bytes())
            .all(|(known, byte)| known == byte || (known == b'_' && byte == b'-'))
}

fn unknown(option: &'static str, word: &str, known: impl Iterator<Item = &'static str>) -> Error {
    let known: Vec<String> = known.map(|known| format!("'{known}'")).collect();
    ConfigError::Word { option, word: word.to_owned(), expected: known.join(", ") }.into()
}

#[cfg(feature = "serde")]
mod stored {
    use std::fmt;
    use std::marker::PhantomData;
    use std::str::FromStr;

    use serde::de::{Deserializer, Error, Visitor};

    /// Reads a word where it lies.
    pub(super) fn word<'de, T: FromStr<Err = crate::Error>, D: Deserializer<'de>>(
        deserializer: D,
        option: &'static str,
    ) -> Result<T, D::Error> {
        deserializer.deserialize_str(Word(option, PhantomData))
    }

    struct Word<T>(&'static str, PhantomData<T>);

    impl<T: FromStr<Err = crate::Error>> Visitor<'_> for Word<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a word for the option {}", self.0)
        }

        fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
            word.parse().map_err(E::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words are what they were read from, and no two choices share one.
    macro_rules! round_trip {
        ($name:ident) => {{
            let mut seen: Vec<&str> = Vec::new();
            for &choice in $name::ALL {
                assert_eq!(choice.to_string(), choice.word());
                for word in [choice.word()].iter().chain(choice.aliases()) {
                    assert_eq!(word.parse::<$name>().unwrap(), choice);
                    assert_eq!(word.replace('_', "-").parse::<$name>().unwrap(), choice);
                    assert!(!seen.contains(word), "{word} twice in {}", stringify!($name));
                    seen.push(word);
                }
            }
            for word in ["", "nonsense", "Mean", " mean", "mea", "meann"] {
                let message = word.parse::<$name>().unwrap_err().to_string();
                let listed = $name::ALL
                    .iter()
                    .all(|choice| message.contains(&format!("'{}'", choice.word())));
                assert!(
                    listed && message.contains(&format!("is '{word}', expected ")),
                    "{message}"
                );
            }
        }};
    }

    #[test]
    fn every_word_is_read_back() {
        round_trip!(ClassWeighting);
        round_trip!(Masked);
        round_trip!(Form);
        round_trip!(Reduction);
        round_trip!(Denominator);
        round_trip!(EmptyMean);
        round_trip!(PriorKind);
    }

    #[test]
    fn what_is_parsed_and_printed() {
        assert_eq!("kept-rows".parse::<Denominator>().unwrap(), Denominator::KeptRows);
        assert_eq!("kl".parse::<Form>().unwrap().to_string(), "kl_divergence");
        assert_eq!("others".parse::<PriorKind>().unwrap(), PriorKind::WrongClasses);
        assert_eq!("renormalize".parse::<Masked>().unwrap(), Masked::Renormalise);
        assert_eq!(format!("[{:>5}]", Reduction::Sum), "[  sum]");
        let error = "average".parse::<Reduction>().unwrap_err();
        assert_eq!(error.to_string(), "reduction is 'average', expected 'none', 'sum', 'mean'");
        assert_eq!(
            "tokens".parse::<Denominator>().unwrap_err().to_string(),
            "denominator is 'tokens', expected 'pytorch', 'kept_rows', 'rows'"
        );
    }
}
