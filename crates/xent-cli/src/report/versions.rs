//! The versions that a report was made with.

use serde::Serialize;

mod built {
    #![allow(dead_code, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/built.rs"));
}

/// Versions that can change the numbers.
#[derive(Debug, Clone, Serialize)]
pub struct Versions {
    /// This program.
    pub xent: &'static str,
    /// candle.
    pub candle: &'static str,
    /// The compiler.
    pub rustc: &'static str,
    /// The target and profile of the build.
    pub target: String,
    /// `debug` or `release`.
    #[serde(skip)]
    pub build: &'static str,
}

impl Versions {
    /// The versions of this build.
    pub fn of_this_build() -> Self {
        let candle = built::DEPENDENCIES
            .iter()
            .find(|(name, _)| *name == "candle-core")
            .map_or("unknown", |(_, version)| version);
        let target = format!(
            "{} ({}/{}, {} build)",
            built::TARGET,
            built::CFG_OS,
            built::CFG_TARGET_ARCH,
            built::PROFILE
        );
        Self {
            xent: built::PKG_VERSION,
            candle,
            rustc: built::RUSTC_VERSION,
            target,
            build: built::PROFILE,
        }
    }

    /// Each version with its name.
    pub fn lines(&self) -> [(&'static str, &str); 4] {
        [
            ("xent", self.xent),
            ("candle", self.candle),
            ("compiler", self.rustc),
            ("target", &self.target),
        ]
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_versions_are_known() {
        let versions = super::Versions::of_this_build();
        assert!(versions.candle.starts_with("0."), "{}", versions.candle);
        assert!(versions.rustc.starts_with("rustc 1."), "{}", versions.rustc);
    }
}
